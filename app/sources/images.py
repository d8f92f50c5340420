"""Pictures and clips that play one after the other: a folder, a pattern of names, a list."""

from __future__ import annotations

import glob
import logging
import os
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, SourceEnded, SourceError
from ..core.frame import Frame, SourceInfo
from ..core.interfaces import FrameSource
from .base import DEFAULT_FPS, SourceOptions, load_cv2
from .ffmpeg import FfmpegSource
from .motion_gate import MotionGate
from .picture import (
    DEEP_WHITES,
    check_size,
    decode,
    eight_bits,
    missing_reader,
    picture_suffixes,
    read_file,
    read_header,
    turned,
)

log = logging.getLogger(__name__)

FOLDER_FPS = 10.0
PICTURE_NS = round(1e9 / FOLDER_FPS)
CLIP_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "mts", "m2ts", "mpg", "mpeg", "vob"),
        *("wmv", "asf", "flv", "f4v", "3gp", "ogv", "mxf", "dv", "ivf", "y4m", "nut", "mjpg"),
        *("mjpeg", "h264", "264", "avc", "h265", "265", "hevc", "gif", "apng", "avifs"),
    )
)
MOST_NAMED = 20  # bad files that have a warning each; more are only counted
DEPTH_SAMPLES = 8  # pictures that are looked at to tell the depth of a folder
NEARLY_BLACK = 85  # of 255: no value of the picture is above it


def natural_key(name: str) -> list[Any]:
    """Sorts frame2 before frame10."""
    return [
        int(part) if i % 2 else part.casefold() for i, part in enumerate(re.split("([0-9]+)", name))
    ]


def is_playable(path: Path) -> bool:
    """Whether its suffix is that of a picture or a clip that can be read here."""
    suffix = path.suffix.lower()
    return suffix in picture_suffixes() or suffix in CLIP_SUFFIXES


def split_loop(text: str) -> tuple[str, bool]:
    """(text without it, whether ``?loop=1`` follows the path); a file of that very name wins.

    Raises ConfigError for another value than 0 or 1.
    """
    match = re.search(r"[?&]loop=([^&/]*)(&|$)", text)
    if match is None or is_there(Path(text)):
        return text, False
    if match[1] not in ("0", "1"):
        raise ConfigError(f"loop must be 0 or 1, is {match[1]!r}")
    before, after = text[: match.start()], text[match.end() :]
    return before + (text[match.start()] + after if after else ""), match[1] == "1"


def is_there(path: Path) -> bool:
    """False also for what cannot be a path: too long, or with a null character in it."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def absolute(text: str) -> str:
    """The same files, named from the root."""
    parts = [text] if is_there(Path(text)) else text.split("|")
    return "|".join(str(Path(part).absolute()) for part in parts)


def find(text: str) -> list[Path]:
    """The files that ``text`` means, in natural order; [] where there is none.

    A file or folder of that very name, several of them with ``|`` between, ``frame_%04d.png`` or
    a pattern such as ``photos/**/*.jpg``. Of a folder its own files, not those of its subfolders.
    Folders and patterns give what can be played, and no hidden file.
    """
    if is_there(Path(text)):
        path = Path(text)
        return _playable(path.iterdir()) if path.is_dir() else [path]
    parts = text.split("|")
    if len(parts) > 1 and all(is_there(Path(part)) for part in parts):
        return [Path(part) for part in parts]
    if re.search("%0?[0-9]*d", Path(text).name):
        return _numbered(Path(text))
    with suppress(OSError, ValueError):
        if glob.has_magic(text):
            found = glob.glob(text, recursive=True)  # noqa: PTH207  (Path's takes no absolute ones)
            return _playable(_once(map(Path, found)))
    return []


def _once(paths: Iterable[Path]) -> list[Path]:
    """Without those that a folder's link leads to a second time, as ``**`` follows links."""
    ways: dict[Path, Path] = {}
    for path in sorted(paths, key=lambda p: len(p.parts)):
        ways.setdefault(Path(os.path.realpath(path.parent), path.name), path)
    return list(ways.values())


def _playable(paths: Iterable[Path]) -> list[Path]:
    found = [p for p in paths if is_playable(p) and p.name[0] != "." and p.is_file()]
    return sorted(found, key=lambda p: (natural_key(str(p)), str(p)))


def _numbered(pattern: Path) -> list[Path]:
    """Files whose names ``pattern`` makes of a number, by that number."""
    before, _, after = re.split("(%0?[0-9]*d)", pattern.name, maxsplit=1)
    width = re.search("%0([0-9]+)d", pattern.name)
    digits = f"[0-9]{{{width[1]},}}" if width else "[0-9]+"
    name = re.compile(f"{re.escape(before)}({digits}){re.escape(after)}")
    with suppress(OSError):
        found = {p: name.fullmatch(p.name) for p in pattern.parent.iterdir()}
        return [p for _, p in sorted((int(m[1]), p) for p, m in found.items() if m)]
    return []


class FolderSource:
    """Pictures, ``FOLDER_FPS`` a second, and clips, one after the other.

    Index and media time go on from one to the next. What cannot be read is told, counted and left
    out; a picture's place in time then stays empty. Pictures become 8-bit BGR: those of 10 and 12
    bits are scaled by the depth that their values show, photographs are turned upright as their
    EXIF orientation says, transparency is left out. Sizes may differ. ``loop``: again and again.
    """

    def __init__(
        self,
        place: Path | str,
        *,
        label: str,
        options: SourceOptions | None = None,
        loop: bool = False,
    ) -> None:
        self._place = str(place)
        first, *others = label.split("|")
        self._label = f"{first} … {others[-1]}" if others else label
        self._options = options or SourceOptions()
        self._loop = loop
        self._paths: Sequence[Path] = ()
        self._next = 0  # of the paths
        self._index = self._pass_index = 0  # of the next frame; of the first one of this pass
        self._media_ns = 0  # of the next file's first frame
        self._clip: FrameSource | None = None
        self._clip_info: SourceInfo | None = None
        self._clip_ns = -1  # of its last frame, by its own clock
        self._first: NDArray[np.uint8] | None = None
        self._bad: dict[Path, str] = {}
        self._white = 0  # of 16-bit pictures; 0: not known yet
        self._told_black = False

    def open(self) -> SourceInfo:
        """List the files and open the first that can be; raises SourceError with the cure."""
        try:
            self._paths = find(self._place)
            if not self._paths:
                raise self._nothing()
        except OSError as error:
            raise SourceError(f"cannot list the folder {self._label}: {error.strerror}") from error
        while self._clip is None and self._first is None:
            if self._next == len(self._paths):
                self._end_of_pass()
            self._first = self._begin()
        return self._describe()

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame."""
        while True:
            if self._clip is not None:
                try:
                    return self._of_clip(self._clip, timeout_s)
                except SourceEnded:
                    pass
                except SourceError as error:
                    if len(self._paths) == 1 and not self._loop:
                        raise
                    self._note_bad(self._paths[self._next - 1], str(error))
                self._leave_clip()
            pixels, self._first = self._first, None
            if pixels is None:
                if self._next == len(self._paths):
                    self._end_of_pass()
                pixels = self._begin()
            if pixels is not None:
                frame = Frame(pixels, self._index, time.monotonic_ns(), self._media_ns)
                self._index += 1
                self._media_ns += PICTURE_NS
                return frame

    @property
    def can_seek(self) -> bool:
        """Only among pictures that stand still; see interfaces.Seekable."""
        uneven = self._loop or self._clip_info is not None
        return not uneven and not any(p.suffix.lower() in CLIP_SUFFIXES for p in self._paths)

    def seek(self, media_ns: int) -> None:
        """See interfaces.Seekable."""
        self._next = self._index = min(round(media_ns / PICTURE_NS), len(self._paths) - 1)
        self._media_ns = self._next * PICTURE_NS
        self._first = None

    def close(self) -> None:
        """Forget the files."""
        self._leave_clip()
        self._paths = ()
        self._first = None

    def _nothing(self) -> SourceError:
        place, label = Path(self._place), self._label
        if not place.is_dir():
            return SourceError(f"there is no picture or video {label}: check the path")
        suffixes = {p.suffix.lower() for p in place.iterdir()}
        cures = {f"; {s[1:]}: {cure}" for s in suffixes if (cure := missing_reader(s))}
        known = " ".join(sorted(s[1:] for s in picture_suffixes()))
        return SourceError(
            f"the folder {label} has no pictures ({known}) and no videos{''.join(sorted(cures))}"
        )

    def _describe(self) -> SourceInfo:
        """Of the whole, by what opened first."""
        count = len(self._paths)
        clips = sum(p.suffix.lower() in CLIP_SUFFIXES for p in self._paths)
        frames: int | None = None if clips else count
        if self._clip_info is not None:
            wh_px, fps = self._clip_info.wh_px, self._clip_info.fps
            frames = self._clip_info.frame_count if count == 1 else None
        else:
            assert self._first is not None
            wh_px, fps = (self._first.shape[1], self._first.shape[0]), FOLDER_FPS
        kinds = {"pictures": count - clips, "videos": clips}
        detail = " and ".join(f"{n} {kind}" for kind, n in kinds.items() if n)
        if clips and count > 1:
            log.info("%s: %s, one after the other by their names", self._label, detail)
        if count == 1 and self._clip_info is not None:
            detail = self._clip_info.detail
        elif not clips:
            detail = "pictures"
        if self._loop:
            detail, frames = f"{detail}, again and again", None
        stills = not clips and self._clip_info is None
        return SourceInfo(self._label, False, wh_px, fps, frames, detail, stills=stills)

    def _begin(self) -> NDArray[np.uint8] | None:
        """The next file's pixels; None for a clip, which is opened, and for a bad one."""
        path, most = self._paths[self._next], self._options.max_megapixels
        self._next += 1
        try:
            if path.suffix.lower() in CLIP_SUFFIXES:
                self._open_clip(self._ffmpeg(path))
                return None
            data = read_file(path, most)
            header = read_header(data)
            if header is not None and header.clip:
                self._open_clip(self._ffmpeg(path))
            elif header is not None and header.frames > 1:
                self._open_clip(AnimationSource(path, most))
            else:
                picture = decode(data, path, most)
                return self._eight_bits(picture.pixels, picture.white, path)
        except SourceError as error:
            self._note_bad(path, str(error))
            self._media_ns += PICTURE_NS
        return None

    def _ffmpeg(self, path: Path) -> FrameSource:
        """A clip; of pictures each is looked at, of clips what moves where that is asked for."""
        motion = self._options.motion
        clip = FfmpegSource(str(path), label=str(path), remote=False, options=self._options)
        return clip if motion is None else MotionGate(clip, motion, self._options.still)

    def _open_clip(self, clip: FrameSource) -> None:
        try:
            self._clip_info = clip.open()
        except SourceError:
            clip.close()
            raise
        self._clip, self._clip_ns = clip, -1

    def _of_clip(self, clip: FrameSource, timeout_s: float) -> Frame | None:
        frame = clip.read(timeout_s)
        if frame is None:
            return None
        self._clip_ns = frame.media_ns or 0
        self._index += 1 + frame.still
        media_ns = self._media_ns + self._clip_ns
        return replace(frame, index=self._index - 1, media_ns=media_ns)

    def _leave_clip(self) -> None:
        """The next file follows one period after the clip's last frame."""
        if self._clip is None or self._clip_info is None:
            return
        if self._clip_ns >= 0:
            self._media_ns += self._clip_ns + round(1e9 / (self._clip_info.fps or DEFAULT_FPS))
        self._clip.close()
        self._clip = None

    def _end_of_pass(self) -> None:
        """Raises SourceEnded, or SourceError where nothing could be read; else begins anew."""
        if self._index == self._pass_index:
            first = next(iter(self._bad.values()), f"{self._label} has no frame: convert it to MP4")
            if len(self._paths) == 1:
                raise SourceError(first)
            raise SourceError(f"none of {len(self._paths)} files could be read; the first: {first}")
        if not self._loop:
            if self._bad:
                count = f"{len(self._bad)} of {len(self._paths)}"
                log.warning("%s: %s files could not be read", self._label, count)
            raise SourceEnded
        self._next, self._pass_index = 0, self._index

    def _note_bad(self, path: Path, why: str) -> None:
        if path in self._bad:
            return
        self._bad[path] = why
        if len(self._paths) > 1 or self._index:  # else it is the error
            level = logging.WARNING if len(self._bad) <= MOST_NAMED else logging.DEBUG
            log.log(level, "%s; going on without it", why)

    def _eight_bits(self, pixels: NDArray[Any], white: int | None, path: Path) -> NDArray[np.uint8]:
        if pixels.dtype == np.uint16 and white is None:
            white = self._white_of(int(pixels.max(initial=0)), path)
        result = eight_bits(pixels, white)
        if pixels.dtype != np.uint8 and not self._told_black and result.max() < NEARLY_BLACK:
            self._told_black = True
            log.warning(
                "%s is nearly black: its highest value is %g of %g; where the sensor has fewer "
                "bits than the file, scale its values up", path, pixels.max(), white or 1
            )  # fmt: skip
        return result

    def _white_of(self, highest: int, path: Path) -> int:
        """The value of white of 16-bit pictures: of 10 or 12 bits where none has more."""
        if not self._white:
            step = max(1, len(self._paths) // DEPTH_SAMPLES)
            samples = [highest]
            for other in self._paths[::step][:DEPTH_SAMPLES]:
                with suppress(SourceError):
                    most = self._options.max_megapixels
                    pixels = decode(read_file(other, most), other, most).pixels
                    if other != path and pixels.dtype == np.uint16:
                        samples.append(int(pixels.max(initial=0)))
            self._white = _white_above(max(samples))
            if self._white < DEEP_WHITES[-1]:
                log.info(
                    "%s: no value of its 16-bit pictures is above %d: taken as %d bits",
                    self._label, self._white, self._white.bit_length(),
                )  # fmt: skip
        elif highest > self._white:
            self._white = _white_above(highest)
            log.warning(
                "%s has a value of %d: 16-bit pictures are taken as %d bits from here on",
                path, highest, self._white.bit_length(),
            )  # fmt: skip
        return self._white


def _white_above(highest: int) -> int:
    return next(white for white in DEEP_WHITES if highest <= white)


CHUNK_BYTES = 128_000_000  # of decoded frames that are held at a time
NO_DURATION_MS, USUAL_MS = 10, 100  # as browsers do: so short, or none, is 100 ms


class AnimationSource:
    """All frames of an animated WebP, by OpenCV 4.11 and newer; transparency is left out."""

    def __init__(self, path: Path, max_megapixels: float) -> None:
        self._path, self._most = path, max_megapixels
        self._data = b""
        self._count = self._index = self._media_ns = 0
        self._waiting: list[tuple[NDArray[np.uint8], int]] = []

    def open(self) -> SourceInfo:
        """Read the file and decode the first frames; raises SourceError with the cure."""
        cv2 = load_cv2()
        if not hasattr(cv2, "imdecodeanimation"):
            raise SourceError(
                f"{self._path} is an animation, which OpenCV {cv2.__version__} cannot play: "
                "install 4.11 or newer, or convert it to GIF or MP4"
            )
        self._data = read_file(self._path, self._most)
        header = read_header(self._data)
        if header is None:
            raise SourceError(f"{self._path} is no picture that can be read: repair or remove it")
        check_size(header.wh_px, self._path, self._most)
        self._turn, self._count = header.turn, header.frames
        self._at_once = max(1, CHUNK_BYTES // (4 * header.wh_px[0] * header.wh_px[1]))
        self._decode_more()
        pixels, lasts_ns = self._waiting[0]
        wh_px = (pixels.shape[1], pixels.shape[0])
        return SourceInfo(str(self._path), False, wh_px, 1e9 / lasts_ns, self._count, "animation")

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame."""
        if self._index == self._count:
            raise SourceEnded
        if not self._waiting:
            self._decode_more()
        pixels, lasts_ns = self._waiting.pop(0)
        frame = Frame(pixels, self._index, time.monotonic_ns(), self._media_ns)
        self._index += 1
        self._media_ns += lasts_ns
        return frame

    def close(self) -> None:
        """Forget the frames."""
        self._data, self._waiting = b"", []

    def _decode_more(self) -> None:
        cv2 = load_cv2()
        count = min(self._at_once, self._count - self._index)
        try:
            buffer = np.frombuffer(self._data, np.uint8)
            ok, animation = cv2.imdecodeanimation(buffer, self._index, count)
        except cv2.error:
            ok = False
        if not ok or not len(animation.frames):
            raise SourceError(
                f"{self._path} is broken or cut off after {self._index} of {self._count} frames: "
                "copy it again"
            )
        for pixels, lasts_ms in zip(animation.frames, animation.durations, strict=True):
            lasts_ns = int(lasts_ms if lasts_ms > NO_DURATION_MS else USUAL_MS) * 1_000_000
            self._waiting.append((eight_bits(turned(pixels, self._turn), None), lasts_ns))
