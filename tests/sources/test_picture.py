"""Pictures are as bright, as upright and as large as their files say."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest

from app.core.errors import SourceError
from app.sources import picture
from app.sources.base import SourceOptions
from app.sources.images import FolderSource
from app.sources.picture import picture_suffixes, read_header

RAMP = np.add.outer(np.arange(64) * 2, np.arange(80)).astype(np.uint8)
COLOUR = np.dstack([RAMP, 255 - RAMP, RAMP // 2])


def frames_of(path, read_all, **options):
    return read_all(FolderSource(path, label=str(path), options=SourceOptions(**options)))


def write(path, pixels, *settings):
    assert cv2.imwrite(str(path), pixels, list(settings))


def encoded(suffix):
    """A picture of 80x64 pixels, by OpenCV or else by Pillow."""
    if cv2.haveImageWriter(f"x{suffix}"):
        pixels = COLOUR.astype(np.float32) / 255 if suffix in (".pfm", ".exr") else COLOUR
        pixels = (RAMP // 128) * 255 if suffix == ".pbm" else pixels
        pixels = RAMP if suffix == ".pgm" else pixels
        return cv2.imencode(suffix, pixels)[1].tobytes()
    image = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    try:
        image.fromarray(COLOUR).save(file, image.registered_extensions()[suffix])
    except OSError:
        pytest.skip("nobody writes it here")
    return file.getvalue()


@pytest.mark.parametrize("suffix", sorted(picture_suffixes()))
def test_every_kind_that_is_promised_is_read(tmp_path, read_all, suffix):
    (tmp_path / f"a{suffix}").write_bytes(encoded(suffix))
    (frame,) = frames_of(tmp_path, read_all)
    assert frame.wh_px == (80, 64) and frame.pixels.dtype == np.uint8
    assert frame.pixels.shape == (64, 80, 3)


@pytest.mark.parametrize("suffix", sorted(picture_suffixes()))
def test_picture_above_the_limit_is_refused(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes(encoded(suffix))
    options = SourceOptions(max_megapixels=0.0005)
    with pytest.raises(SourceError, match="max_megapixels"):
        FolderSource(tmp_path, label="x", options=options).open()


def test_huge_picture_in_a_small_file_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000)))):
        data += struct.pack(">I", len(content)) + kind + content
        data += struct.pack(">I", zlib.crc32(kind + content))
    (tmp_path / "a.png").write_bytes(data)
    monkeypatch.setattr(picture, "_by_opencv", lambda data: pytest.fail("it was decoded"))
    with pytest.raises(SourceError, match="40000x40000"):
        FolderSource(tmp_path, label="x").open()


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_deep_pictures_are_scaled_by_the_depth_of_their_values(tmp_path, read_all, bits, suffix):
    white = (1 << bits) - 1
    whole = np.linspace(0, 255, 640).round().astype(np.uint32).reshape(16, 40)
    for i, dark in enumerate((1, 2)):  # the second picture is half as bright
        deep = (whole * white // (255 * dark)).astype(np.uint16)
        write(tmp_path / f"{i}.{suffix}", deep)
    bright, dark = frames_of(tmp_path, read_all)
    assert np.abs(bright.pixels[..., 0].astype(int) - whole).max() <= 1
    assert np.abs(dark.pixels[..., 0].astype(int) - whole / 2).max() <= 1


def test_depth_is_told_of_the_whole_folder(tmp_path, read_all):
    """The first picture is dark, and others show that it is."""
    for i, value in enumerate((1000, 3000, 60_000)):
        write(tmp_path / f"{i}.png", np.full((8, 8), value, np.uint16))
    values = [f.pixels[0, 0, 0] for f in frames_of(tmp_path, read_all)]
    assert values == pytest.approx([1000 / 257, 3000 / 257, 60_000 / 257], abs=1)


def test_white_of_a_netpbm_file_is_its_own(tmp_path, read_all):
    (tmp_path / "a.pgm").write_bytes(b"P5\n# made here\n4 4\n100\n" + bytes([100] * 8 + [50] * 8))
    (tmp_path / "b.pgm").write_bytes(b"P5 4 4 4095\n" + struct.pack(">16H", *[2048] * 16))
    a, b = frames_of(tmp_path, read_all)
    assert (a.pixels[0, 0, 0], a.pixels[3, 3, 0]) == (255, 128)
    assert b.pixels[0, 0, 0] == pytest.approx(128, abs=1)


def test_very_dark_deep_pictures_are_told(tmp_path, read_all, caplog):
    for i in range(3):
        write(tmp_path / f"{i}.png", np.full((8, 8), 5000, np.uint16))
    frames_of(tmp_path, read_all)
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1


@pytest.mark.parametrize("depth", [8, 10, 12])
def test_avif_of_any_depth(tmp_path, read_all, depth):
    if ".avif" not in picture_suffixes() or not cv2.haveImageWriter("x.avif"):
        pytest.skip("this OpenCV has no AVIF")
    kind = np.uint8 if depth == 8 else np.uint16
    deep = (COLOUR.astype(np.uint32) * ((1 << depth) - 1) // 255).astype(kind)
    write(tmp_path / "a.avif", deep, cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 95)
    (frame,) = frames_of(tmp_path, read_all)
    assert np.abs(frame.pixels.astype(int) - COLOUR).mean() < 6


def test_floats_become_a_picture_that_can_be_seen(tmp_path, read_all):
    light = np.dstack([np.linspace(0, 40, 640, dtype=np.float32).reshape(16, 40)] * 3)
    write(tmp_path / "a.hdr", light)
    write(tmp_path / "b.tif", light)
    for frame in frames_of(tmp_path, read_all):
        assert frame.pixels.max() > 150 and frame.pixels.min() < 20
        assert (np.diff(frame.pixels[8, :, 0].astype(int)) >= 0).all()


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation_is_followed_in_every_kind(tmp_path, read_all, kind, turn):
    image = pytest.importorskip("PIL.Image")
    ops = pytest.importorskip("PIL.ImageOps")
    pixels = np.full((24, 40, 3), 30, np.uint8)
    pixels[:12, :20], pixels[12:, :20] = (230, 30, 30), (30, 30, 230)
    stored = image.fromarray(pixels)
    exif = stored.getexif()
    exif[0x0112] = turn
    suffix = {"JPEG": "jpg", "TIFF": "tif"}.get(kind, kind.lower())
    if f".{suffix}" not in picture_suffixes():
        pytest.skip("cannot be read here")
    stored.save(tmp_path / f"a.{suffix}", kind, exif=exif)
    stored.getexif()[0x0112] = turn
    (frame,) = frames_of(tmp_path, read_all)
    upright = np.asarray(ops.exif_transpose(stored))[:, :, ::-1]
    assert frame.pixels.shape == upright.shape
    assert np.abs(frame.pixels.astype(int) - upright).mean() < 12


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_transparency_is_left_out(tmp_path, read_all, suffix):
    pixels = np.full((8, 8, 4), 200, np.uint8)
    pixels[:, 4:, 3] = 0
    write(tmp_path / f"a.{suffix}", pixels)
    (frame,) = frames_of(tmp_path, read_all)
    assert (frame.pixels == 200).all()


@pytest.mark.parametrize("kind", ["webp", "png", "apng", "gif"])
def test_animation_has_all_its_frames_and_times(tmp_path, read_all, kind):
    image = pytest.importorskip("PIL.Image")
    if kind == "webp" and not hasattr(cv2, "imdecodeanimation"):
        pytest.skip("this OpenCV plays no WebP")
    pages = [image.fromarray(np.full((60, 80, 3), (40 * i, 0, 0), np.uint8)) for i in range(5)]
    path = tmp_path / f"a.{kind}"
    more = {"lossless": True} if kind == "webp" else {}
    pages[0].save(
        path, "PNG" if kind == "apng" else None, save_all=True, append_images=pages[1:],
        duration=[80, 120, 80, 80, 80], **more,
    )  # fmt: skip
    from app.sources.uri import make_source

    frames = read_all(make_source(str(path), realtime=False))
    assert [f.media_ns for f in frames] == [n * 10_000_000 for n in (0, 8, 20, 28, 36)]
    reds = [int(f.pixels[5, 5, 2]) for f in frames] if frames[0].format == "bgr8" else None
    assert reds is None or reds == pytest.approx([0, 40, 80, 120, 160], abs=3)


def test_long_animation_is_decoded_in_pieces(tmp_path, read_all, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    if not hasattr(cv2, "imdecodeanimation"):
        pytest.skip("this OpenCV plays no WebP")
    from app.sources import images

    pages = [image.fromarray(np.full((20, 20, 3), (20 * i, 0, 0), np.uint8)) for i in range(7)]
    path = tmp_path / "a.webp"
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=50, lossless=True)
    monkeypatch.setattr(images, "CHUNK_BYTES", 3 * 4 * 400)
    frames = frames_of(path, read_all)
    assert [int(f.pixels[0, 0, 2]) for f in frames] == [20 * i for i in range(7)]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "pgm", "hdr"])
def test_pillow_is_not_needed(tmp_path, read_all, monkeypatch, suffix):
    monkeypatch.setattr(picture, "_pillow", lambda: None)
    (tmp_path / f"a.{suffix}").write_bytes(encoded(f".{suffix}"))
    (tmp_path / f"b.{suffix}").write_bytes(b"nonsense")
    assert len(frames_of(tmp_path, read_all)) == 1


def test_kind_that_cannot_be_read_here_names_what_brings_it(tmp_path):
    if ".heic" in picture_suffixes():
        pytest.skip("it can be read")
    from app.sources.uri import make_source

    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    for place in (tmp_path, tmp_path / "a.heic"):
        with pytest.raises(SourceError, match="pip install pillow-heif"):
            make_source(str(place), realtime=False).open()


@pytest.mark.parametrize("suffix", sorted(picture_suffixes()))
def test_header_of_damaged_files_never_raises(suffix):
    data = encoded(suffix)
    rng = np.random.default_rng(1)
    for _ in range(200):
        spoilt = bytearray(data[: rng.integers(0, len(data) + 1)])
        for at in rng.integers(0, max(1, len(spoilt)), 3):
            spoilt[at : at + 1] = bytes([rng.integers(0, 256)])
        read_header(bytes(spoilt))
