"""One still picture: what its header says, and its pixels as 8-bit BGR.

OpenCV decodes what it was built for, Pillow the rest where it is installed. The size is read from
the header first: a file of some kilobytes can hold a picture of gigabytes.
"""

from __future__ import annotations

import functools
import re
import struct
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import SourceError
from .base import load_cv2

# Suffix of a still picture -> the one by which OpenCV knows its format ("": it does not), and the
# package that brings it to Pillow
_KINDS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), (".jpg", "pillow")),
    **{suffix: (suffix, "pillow") for suffix in (".png", ".bmp", ".dib", ".webp", ".avif")},
    **{suffix: (suffix, "pillow") for suffix in (".tif", ".tiff", ".jp2", ".pfm", ".ras")},
    **{suffix: (suffix, "pillow") for suffix in (".pgm", ".ppm", ".pbm", ".pnm")},
    **dict.fromkeys((".j2k", ".j2c", ".jpf", ".jpx"), (".jp2", "pillow")),
    **dict.fromkeys((".tga", ".qoi", ".pcx"), ("", "pillow")),
    **{suffix: (suffix, "") for suffix in (".hdr", ".pic", ".exr", ".pam", ".sr")},
    **dict.fromkeys((".heic", ".heif"), ("", "pillow-heif")),
    ".jxl": (".jxl", "pillow-jxl-plugin"),
}
_PLUGINS = ("pillow_heif", "pillow_avif", "pillow_jxl")
DEEP_WHITES = (1023, 4095, 65535)  # of 10, 12 and 16 bits


@functools.cache
def _pillow() -> tuple[Any, dict[str, str]] | None:
    """(PIL.Image, its formats by suffix, of pictures alone), None where it is not installed."""
    try:
        from PIL import Image
    except ImportError:
        return None
    for plugin in _PLUGINS:
        with suppress(ImportError):
            module = __import__(plugin)
            if plugin == "pillow_heif":
                module.register_heif_opener()
    Image.init()
    known = Image.registered_extensions().items()
    # only those of the table: Pillow runs Ghostscript for others
    return Image, {end: name for end, name in known if end in _KINDS and name in Image.OPEN}


@functools.cache
def picture_suffixes() -> frozenset[str]:
    """Suffixes, in lower case and with their dot, of the pictures that can be read here."""
    pillow = _pillow()
    by_pillow = pillow[1] if pillow else {}
    return frozenset(
        s for s, (known_as, _) in _KINDS.items() if s in by_pillow or _is_known(known_as)
    )


def _is_known(suffix: str) -> bool:
    """Whether OpenCV writes this format, which it tells; those that it reads are the same."""
    cv2 = load_cv2()
    try:
        return bool(suffix and cv2.haveImageWriter(f"x{suffix}"))
    except cv2.error:  # OpenEXR, built in and switched off
        return False


def is_picture(path: Path) -> bool:
    """Whether its suffix is that of a still picture, of a kind that can be read here or not."""
    return path.suffix.lower() in _KINDS


def missing_reader(suffix: str) -> str | None:
    """What to install for a picture of a known kind that cannot be read here; None for others."""
    suffix = suffix.lower()
    if suffix not in _KINDS or suffix in picture_suffixes():
        return None
    package = _KINDS[suffix][1]
    return f"pip install {package}" if package else "convert it to PNG or JPEG"


class Header(NamedTuple):
    """What a picture says of itself before it is decoded."""

    wh_px: tuple[int, int]
    white: int | None = None  # the value of white where the format tells it
    turn: int = 1  # EXIF orientation that OpenCV leaves to us, 1 to 8
    frames: int = 1  # above 1: an animation
    clip: bool = False  # an animation that FFmpeg plays


def read_header(data: bytes) -> Header | None:
    """The header of any format that OpenCV reads; None where it is damaged or another format."""
    with suppress(struct.error, ValueError, IndexError):
        for magic, parse in _PARSERS:
            if re.match(magic, data, re.DOTALL):
                return parse(data)
    return None


def _png(data: bytes) -> Header:
    chunk, at = b"", 8
    while at + 8 <= len(data) and chunk not in (b"acTL", b"IDAT"):
        length, chunk = struct.unpack_from(">I4s", data, at)
        at += 12 + length
    width_px, height_px = struct.unpack_from(">II", data, 16)
    return Header((width_px, height_px), clip=chunk == b"acTL")


def _jpeg(data: bytes) -> Header | None:
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF or 0xD0 <= marker <= 0xD8:  # fill bytes, and markers without content
            at += 1 if marker == 0xFF else 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height_px, width_px = struct.unpack_from(">HH", data, at + 5)
            # without its end it is cut off, and older OpenCV fills it with gray
            return Header((width_px, height_px)) if data.rfind(b"\xff\xd9") > at else None
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _webp(data: bytes) -> Header | None:
    kind = data[12:16]
    if kind == b"VP8 ":
        width_px, height_px = struct.unpack_from("<HH", data, 26)
        return Header((width_px & 0x3FFF, height_px & 0x3FFF))
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return Header(((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
    if kind != b"VP8X":
        return None
    wh_px = tuple(1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
    frames, turn, at = 0, 1, 30
    while at + 8 <= len(data):
        chunk, length = struct.unpack_from("<4sI", data, at)
        frames += chunk == b"ANMF"
        if chunk == b"EXIF":
            turn = _exif_turn(data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    return Header((wh_px[0], wh_px[1]), turn=turn, frames=max(1, frames))


def _tiff_tags(data: bytes) -> dict[int, int]:
    """The first value of each tag of the first page; BigTIFF has wider fields."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    head, entry, size = ("Q", "HHQ", 20) if big else ("H", "HHI", 12)
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + head, data, at)
    at += 8 if big else 2
    tags = {}
    for _ in range(min(count, 4096)):
        tag, kind, _ = struct.unpack_from(order + entry, data, at)
        form = {3: "H", 4: "I", 16: "Q"}.get(kind)
        if form:
            (tags[tag],) = struct.unpack_from(order + form, data, at + size - (8 if big else 4))
        at += size
    return tags


def _tiff(data: bytes) -> Header:
    tags = _tiff_tags(data)
    return Header((tags.get(256, 0), tags.get(257, 0)))


def _exif_turn(data: bytes) -> int:
    turn = 1
    with suppress(struct.error):
        turn = _tiff_tags(data.removeprefix(b"Exif\0\0")).get(0x0112, 1)
    return turn if 1 <= turn <= 8 else 1


def _heif(data: bytes) -> Header | None:
    """AVIF (ISO 23008-12): the largest item is the picture, or the grid that it is made of."""
    if b"avis" in data[8:12]:
        return Header((1, 1), clip=True)  # FFmpeg's limit holds
    head = data[: 1 << 20]
    sizes = [struct.unpack_from(">II", head, m.end() + 4) for m in re.finditer(b"ispe", head)]
    if not sizes:
        return None
    bits = re.search(rb"pixi....[\x01-\x04](.)", head, re.DOTALL)
    turned, mirrored = re.search(b"irot(.)", head, re.DOTALL), re.search(b"imir(.)", head, re.S)
    quarter = turned[1][0] & 3 if turned else 0  # anticlockwise
    # first turned, then mirrored: 0 top to bottom, 1 left to right
    mirror = mirrored[1][0] & 1 if mirrored else None
    turn = {None: (1, 8, 3, 6), 0: (4, 5, 2, 7), 1: (2, 7, 4, 5)}[mirror][quarter]
    white = (1 << bits[1][0]) - 1 if bits and 8 < bits[1][0] <= 16 else None
    width_px, height_px = max(sizes, key=lambda wh: wh[0] * wh[1])
    return Header((width_px, height_px), white=white, turn=turn)


def _jp2(data: bytes) -> Header:
    at = data.index(b"\xff\x4f\xff\x51") + 8  # SIZ: the reference grid, the picture's place on it
    x1, y1, x0, y0 = struct.unpack_from(">4I", data, at)
    bits = (data[at + 34] & 0x7F) + 1
    return Header((x1 - x0, y1 - y0), white=(1 << bits) - 1 if bits <= 16 else None)


def _netpbm(data: bytes) -> Header:
    comments = re.sub(rb"#[^\n]*", b" ", data[:4096])
    if data[:2] == b"P7":
        fields = dict(re.findall(rb"(WIDTH|HEIGHT|MAXVAL)\s+(\d{1,9})", comments))
        numbers = [int(fields[name]) for name in (b"WIDTH", b"HEIGHT", b"MAXVAL") if name in fields]
    else:
        numbers = [int(number) for number in comments[2:].split()[:3] if number[:9].isdigit()]
    white = numbers[2] if len(numbers) > 2 and data[1:2] not in b"14Ff" else None
    return Header((numbers[0], numbers[1]), white=white)


def _radiance(data: bytes) -> Header | None:
    found = re.search(rb"[-+]([XY]) (\d{1,9}) [-+][XY] (\d{1,9})\n", data[:65536])
    if found is None:
        return None
    first, second = int(found[2]), int(found[3])
    return Header((first, second) if found[1] == b"X" else (second, first))


def _exr(data: bytes) -> Header:
    at = data.index(b"dataWindow\0box2i\0") + 21
    x0, y0, x1, y1 = struct.unpack_from("<4i", data, at)
    return Header((x1 - x0 + 1, y1 - y0 + 1))


def _numbers_at(form: str, at: int) -> Callable[[bytes], Header]:
    def parse(data: bytes) -> Header:
        width_px, height_px = struct.unpack_from(form, data, at)
        return Header((abs(width_px), abs(height_px)))

    return parse


_PARSERS: tuple[tuple[bytes, Callable[[bytes], Header | None]], ...] = (
    (rb"\xff\xd8\xff", _jpeg),
    (rb"\x89PNG\r\n\x1a\n", _png),
    (rb"RIFF....WEBP", _webp),
    (rb"II[*+]\0|MM\0[*+]", _tiff),
    (rb"....ftyp", _heif),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", _jp2),
    (rb"BM.{12}\x0c\0\0\0", _numbers_at("<HH", 18)),
    (rb"BM", _numbers_at("<ii", 18)),
    (rb"P[1-7Ff]\s", _netpbm),
    (rb"#\?(RADIANCE|RGBE)", _radiance),
    (rb"\x76\x2f\x31\x01", _exr),
    (rb"\x59\xa6\x6a\x95", _numbers_at(">II", 4)),
)


class DecodedFile(NamedTuple):
    """Pixels as decoded, upright: (H, W, 3) BGR of 8 or 16 bits or float32, linear light."""

    pixels: NDArray[Any]
    white: int | None  # the value of white, where the format tells it


def read_file(path: Path, max_megapixels: float) -> bytes:
    """The whole file; raises SourceError with the cure, also where it is too large to be one."""
    try:
        size = path.stat().st_size
        if size > 64e6 + max_megapixels * 16e6:
            raise SourceError(f"{path} has {size} bytes, too many for a picture: remove it")
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}; see 'ls -l'") from error


def check_size(wh_px: tuple[int, int], path: Path, max_megapixels: float) -> None:
    """Raises SourceError for a picture above the limit."""
    megapixels = wh_px[0] * wh_px[1] / 1e6
    if megapixels > max_megapixels:
        raise SourceError(
            f"{path} has {wh_px[0]}x{wh_px[1]} pixels, {megapixels:.0f} million and above the "
            f"limit of {max_megapixels:g}: make it smaller, or raise max_megapixels"
        )


def decode(data: bytes, path: Path, max_megapixels: float) -> DecodedFile:
    """The picture in ``data``; ``path`` is named in the SourceError where there is none."""
    header = read_header(data)
    pixels: NDArray[Any] | None = None
    if header is not None:
        check_size(header.wh_px, path, max_megapixels)
        pixels = _by_opencv(data)
        if pixels is not None:
            # 16 bits are often told where the sensor has fewer: the values say more
            white = None if header.white == DEEP_WHITES[-1] else header.white
            return DecodedFile(turned(pixels, header.turn), white)
    pixels = _by_pillow(data, path, max_megapixels)
    if pixels is None:
        cure = missing_reader(path.suffix) or "repair or remove it"
        what = (
            "is damaged, or no picture that can be read"
            if data
            else "is empty (0 bytes), no picture"
        )
        raise SourceError(f"{path} {what}: {cure}")
    return DecodedFile(pixels, None)


def _by_opencv(data: bytes) -> NDArray[Any] | None:
    cv2 = load_cv2()
    buffer = np.frombuffer(data, np.uint8)
    deep = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    if data[:4] == b"RIFF":
        deep |= cv2.IMREAD_IGNORE_ORIENTATION  # some releases turn WebP and others do not
    for flags in (deep, cv2.IMREAD_UNCHANGED):  # which alone reads a TIFF of floats
        with suppress(cv2.error):  # not imread: it dies of a name that is not UTF-8
            pixels: NDArray[Any] | None = cv2.imdecode(buffer, flags)
            if pixels is not None:
                return pixels
    return None


def _by_pillow(data: bytes, path: Path, max_megapixels: float) -> NDArray[Any] | None:
    pillow = _pillow()
    if pillow is None:
        return None
    import io

    from PIL import ImageOps

    image_module, formats = pillow
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own limit; ours follows
            image = image_module.open(io.BytesIO(data), formats=sorted(set(formats.values())))
            check_size(image.size, path, max_megapixels)
            image = ImageOps.exif_transpose(image)
            deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
            pixels = np.asarray(image if deep else image.convert("RGB"))
    except SourceError:
        raise
    except Exception:  # its plugins raise whatever comes to them
        return None
    if deep:
        return pixels.astype(np.float32 if image.mode == "F" else np.uint16)
    return np.ascontiguousarray(pixels[:, :, ::-1])


def turned(pixels: NDArray[Any], turn: int) -> NDArray[Any]:
    """Upright by an EXIF orientation (Exif 2.32, tag 0x0112)."""
    if turn >= 5:
        pixels = pixels.swapaxes(0, 1)
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def eight_bits(pixels: NDArray[Any], white: int | None) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR; transparency is left out.

    Floats are linear light and are brought to a screen's range (Reinhard et al., 2002).
    """
    cv2 = load_cv2()
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = np.ascontiguousarray(pixels[:, :, :3])
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    if pixels.dtype.kind == "f":
        light = np.nan_to_num(pixels.astype(np.float32), posinf=0).clip(0)
        pixels = cv2.createTonemapReinhard(2.2).process(light)
        return np.asarray((np.nan_to_num(pixels).clip(0, 1) * 255).round(), np.uint8)
    top = white or (255 if pixels.dtype == np.uint8 else 65535)
    if pixels.dtype == np.uint8 and top == 255:
        return np.ascontiguousarray(pixels, np.uint8)
    if pixels.dtype not in (np.uint8, np.uint16):
        pixels = pixels.clip(0).astype(np.float32)
    return np.asarray(cv2.convertScaleAbs(pixels, alpha=255 / top), np.uint8)
