"""Video files and network streams (FFmpeg through PyAV)."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ..core.errors import SourceEnded, SourceError
from ..core.frame import Frame, SourceInfo
from ..core.schemes import scheme_of
from .base import MediaClock, SourceOptions, load_av, usable_fps
from .decode import Deinterlacer, PictureCopier, upright_wh_px
from .diagnose import (
    bytes_missing,
    check_name,
    check_not_empty,
    no_frame,
    unreachable,
    unreadable_file,
)
from .hardware import ChosenDecoder
from .idle import IdleDecoder
from .packets import Copier, TakesPackets, stream_ns
from .protocols import open_network

log = logging.getLogger(__name__)

# A damaged place makes one read fail and the next succeed, so only a row of failures is an end.
FAILURES_THAT_END = 64
RATE_PICTURES = 3  # tell the rate where nothing else does
STEP_BACK_NS = 2_000_000_000  # a key frame that is shown too late: look for one before it


_NO_PICTURE = np.zeros((2, 2, 3), np.uint8)


class _Decoded(NamedTuple):
    picture: Any  # an av.VideoFrame
    media_ns: int | None  # None: live


class FfmpegSource:
    """Frames of a file (``remote`` False) or a URL, in order, each once.

    RTSP is live. HTTP is live unless the container tells a length. A live source that ends is a
    fault; a recording that ends early is one too, after its last good frame. Frames keep the
    decoder's planes where they can (see PictureCopier).
    """

    def __init__(
        self,
        where: str,
        *,
        label: str,
        remote: bool,
        options: SourceOptions,
        packets: TakesPackets | None = None,
    ) -> None:
        self._where = where if remote else str(Path(where).absolute())  # a colon is no scheme here
        self._label = label
        self._remote = remote
        self._options = options
        self._tap = packets
        self._copier: Copier | None = None
        self._copy = PictureCopier()
        self._look: tuple[object, ...] = ()
        self._changed = False
        self._container: Any = None
        self._stream: Any = None
        self._frames: Iterator[Any] = iter(())
        self._waiting: list[_Decoded] = []  # pictures decoded before they are read
        self._index = 0
        self._damage = ""  # the last one
        self._media_ns = 0
        self._ended = self._sought = False

    def open(self) -> SourceInfo:
        """Open file or stream; raises SourceError with the cure."""
        check_name(self._where, self._label)
        if not self._remote:
            check_not_empty(Path(self._where), self._label)
        self._open_container()
        self._info = self._describe()
        self._clock = MediaClock(fps=self._info.fps, label=self._label)
        self._info = self._first_pictures()
        return self._info

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame. FFmpeg bounds its wait itself, by ``read_timeout_s``."""
        if self._ended:
            raise SourceEnded
        if self._options.packets_only:
            return self._beat()
        if self._waiting:
            decoded = self._waiting.pop(0)
        else:
            picture = next(self._frames, None)
            if picture is None:
                self._finish()
            decoded = self._placed(picture)
        captured_ns = time.monotonic_ns()
        if self._idle.skipped:
            self._index, self._idle.skipped = self._index + self._idle.skipped, 0
        media_ns = decoded.media_ns
        self._media_ns = media_ns or 0
        copied = self._copy(decoded.picture, self._aspect_of(decoded.picture))
        frame = Frame(
            copied.pixels,
            self._index,
            captured_ns,
            media_ns,
            format=copied.format,
            colour=copied.colour,
            pixel_aspect=copied.pixel_aspect,
            stream_ns=stream_ns(decoded.picture),
        )
        self._index += 1
        self._tell_change(frame)
        return frame

    def _beat(self) -> Frame | None:
        """A frame without a picture for the next packet, which the tap has got."""
        packet = next(self._beats, None)
        if packet is None:
            self._finish()
        if not packet.size:
            return None
        time_ns = None if packet.dts is None else round(packet.dts * packet.time_base * 10**9)
        self._media_ns = self._clock.place(time_ns)
        media_ns = None if self._info.live else self._media_ns
        self._index += 1
        return Frame(_NO_PICTURE, self._index - 1, time.monotonic_ns(), media_ns)

    @property
    def can_rest(self) -> bool:
        """See motion_gate.Rests: not where only their count orders pictures, nor with hardware."""
        plain = not isinstance(self._codec, ChosenDecoder) or self._codec.is_plain
        return plain and self._clock.trusted and not self._options.deinterlace

    @property
    def resting(self) -> bool:
        """See motion_gate.Rests."""
        return self._idle.resting

    @property
    def looked(self) -> bool:
        """See motion_gate.Rests."""
        return self._idle.looked

    def rest(self) -> None:
        """See motion_gate.Rests."""
        self._idle.rest()

    def wake(self, *, back: bool) -> None:
        """See motion_gate.Rests."""
        self._idle.wake(back=back)
        if back:
            self._clock.jump()

    @property
    def can_seek(self) -> bool:
        """See interfaces.Seekable."""
        return not self._remote and self._container is not None

    def seek(self, media_ns: int) -> None:
        """See interfaces.Seekable: to a key frame before, then decode on to the frame."""
        self._sought = True
        back_ns = 0
        while True:
            start_ns = media_ns - back_ns
            from_start = start_ns <= 0 or not self._jump(start_ns)
            if from_start:
                self._start_over()
            shown: list[_Decoded] = []
            later: list[_Decoded] = []
            for picture in self._frames:
                placed = self._placed(picture)
                if (placed.media_ns or 0) > media_ns:
                    later = [placed]
                    break
                shown = [placed]
            self._waiting = shown + later
            if from_start or shown:
                return
            back_ns = max(STEP_BACK_NS, 2 * back_ns)

    def close(self) -> None:
        """Close file or connection."""
        self._frames, self._waiting, self._stream = iter(()), [], None
        container, self._container = self._container, None
        if container is not None:
            container.close()
        self._ended = True

    def _open_container(self) -> None:
        av, options = load_av(), self._options
        limit_s = options.open_timeout_s
        started_s = time.monotonic()
        try:
            told = self._ffmpeg_options()
            self._container = (
                open_network(self._where, label=self._label, options=options, more=told)
                if self._remote
                else av.open(self._where, options=told, metadata_errors="replace")
            )
        except (av.error.FFmpegError, MemoryError) as error:
            if not self._remote:
                raise unreadable_file(Path(self._where), self._label, error) from error
            waited_s = time.monotonic() - started_s
            raise unreachable(
                self._where, self._label, error, waited_s=waited_s, limit_s=limit_s
            ) from error
        stream = self._container.streams.best("video")
        if stream is None or stream.codec_context is None:
            raise SourceError(
                f"{self._label} has no video that FFmpeg can decode: check it with 'ffprobe'"
            )
        self._check_size(stream.width, stream.height)
        self._stream = stream
        self._first_aspect = stream.codec_context.sample_aspect_ratio
        self._copier = None if self._tap is None else Copier(stream, self._tap)
        self._aspect: Fraction | None = stream.sample_aspect_ratio
        motion = self._options.motion
        codec = self._codec = stream.codec_context
        if self._options.decode != "cpu" and not self._options.packets_only:
            codec = self._codec = ChosenDecoder(codec, self._options.decode, label=self._label)
        wake_s = 0.0 if motion is None else motion.wake_s
        self._idle = IdleDecoder(stream, codec, self._decode, wake_s=wake_s)
        self._frames, self._beats = self._decode_all(), self._packets()

    def _ffmpeg_options(self) -> dict[str, str]:
        options = {"max_pixels": str(self._options.max_pixels)}
        if self._remote:
            # the whole of an opening, and of a read, PyAV bounds; this also bounds a farewell
            name = "timeout" if self._where.startswith("rtsp") else "rw_timeout"
            options[name] = str(round(self._options.read_timeout_s * 1e6))
        return options

    def _placed(self, picture: Any) -> _Decoded:
        live = self._info.live
        return _Decoded(picture, None if live else self._clock.place(self._position_ns(picture)))

    def _first_pictures(self) -> SourceInfo:
        """What the headers leave open: the size, upright and without borders; the rate."""
        info = self._info
        if info.live and info.wh_px and info.fps:
            return info
        few = 1 if info.fps else RATE_PICTURES
        pictures, came_ns = [], []
        for picture in itertools.islice(self._frames, few):
            pictures.append(picture)
            came_ns.append(time.monotonic_ns())
        if not pictures:
            self._finish()
        fps = info.fps
        if len(pictures) > 1:
            own_ns = [self._position_ns(picture) or 0 for picture in pictures]
            # a stream of JPEGs has no times, and FFmpeg invents 25 frames/s for it
            took_ns = max(came_ns[-1] - came_ns[0] if info.live else 0, own_ns[-1] - own_ns[0])
            fps = usable_fps((len(pictures) - 1) * 1e9 / took_ns) if took_ns > 0 else None
        self._clock = MediaClock(fps=fps, label=self._label)
        self._waiting = [self._placed(picture) for picture in pictures]
        return replace(info, wh_px=upright_wh_px(pictures[0]), fps=fps)

    def _describe(self) -> SourceInfo:
        container, stream, codec = self._container, self._stream, self._stream.codec_context
        fps = _rate(stream)
        self._promised_s = _length_s(container, stream)
        count = stream.frames or round(self._promised_s * (fps or 0))
        scheme = scheme_of(self._where) if self._remote else None
        live = self._remote and (count <= 0 or (scheme is not None and scheme.live))
        self._idle.live = live
        threads = 1 if live else self._options.threads()
        codec.options = {"max_pixels": str(self._options.max_pixels)}
        codec.thread_count = self._options.threads()
        # threads that share one frame delay none; those that take a frame each delay by as many
        codec.thread_type = "SLICE" if live else "AUTO"
        if live:
            codec.flags |= load_av().codec.context.Flags.low_delay
        return SourceInfo(
            uri=self._label,
            live=live,
            wh_px=(stream.width, stream.height) if stream.width and stream.height else None,
            fps=fps,
            frame_count=count if count > 0 and not live else None,
            detail=f"FFmpeg, {codec.name}, decoder threads: {threads}",
        )

    def _decode_all(self) -> Iterator[Any]:
        """All pictures from where the container stands; damaged places are passed over."""
        deinterlacer = Deinterlacer() if self._options.deinterlace else None
        last_s = time.monotonic()
        for packet in self._packets():
            for frame in self._idle.pictures(packet):
                self._check_size(frame.width, frame.height)
                last_s = time.monotonic()
                if deinterlacer is None:
                    yield frame
                else:
                    yield from deinterlacer.feed(frame, self._stream.time_base)
            if self._remote and time.monotonic() - last_s > self._options.read_timeout_s:
                raise no_frame(self._label, self._options.read_timeout_s)
        if deinterlacer is not None:
            yield from deinterlacer.feed(None, self._stream.time_base)

    def _packets(self) -> Iterator[Any]:
        """The container's packets, last an empty one, which empties the decoder."""
        av = load_av()
        failures = 0
        while failures < FAILURES_THAT_END:
            try:
                for packet in self._container.demux(self._stream):
                    failures = 0
                    if self._copier is not None:
                        self._copier.put(packet)
                    yield packet
                return
            except av.error.ExitError:  # its time is over
                raise no_frame(self._label, self._options.read_timeout_s) from None
            except (av.error.InvalidDataError, av.error.BlockingIOError) as error:
                failures += 1
                self._note_damage(error)
            except (av.error.FFmpegError, MemoryError) as error:
                if self._info.live and isinstance(error, OSError):
                    return  # the other side has closed the connection: its end
                raise self._broken(error) from error

    def _decode(self, packet: Any) -> list[Any]:
        av = load_av()
        try:
            frames: list[Any] = self._codec.decode(packet)
        except av.error.EOFError:
            return []
        except (av.error.MemoryError, MemoryError) as error:
            raise self._broken(error) from error
        except av.error.FFmpegError as error:
            self._note_damage(error)
            return []
        return frames

    def _note_damage(self, error: Exception) -> None:
        # who comes late to a stream sees nothing until its next key frame, and that is no damage
        if self._index:
            level = logging.DEBUG if self._damage else logging.WARNING
            log.log(level, "%s: damaged near frame %d; going on", self._label, self._index)
        self._damage = _words(error)

    def _tell_change(self, frame: Frame) -> None:
        """Of size, shape or format in mid-stream; the first one at INFO."""
        look = (frame.wh_px, frame.format, frame.colour, frame.pixel_aspect)
        before, self._look = self._look, look
        if not before or before == look:
            return
        log.log(
            logging.DEBUG if self._changed else logging.INFO,
            "%s: from frame %d on pictures are %dx%d, %s in %s, each pixel %.3g times as wide as "
            "high",
            self._label,
            frame.index,
            *frame.wh_px,
            frame.format,
            frame.colour.matrix,
            frame.pixel_aspect,
        )
        self._changed = True

    def _broken(self, error: Exception) -> SourceError:
        self._ended = True
        if isinstance(error, MemoryError):
            return SourceError(
                f"decoding {self._label} needs more memory than its process may have: make its "
                "picture smaller, or raise max_megapixels"
            )
        return SourceError(
            f"{self._label} broke off after {self._index} frames ({_words(error)}): check the "
            "device and the connection"
        )

    def _check_size(self, width_px: int, height_px: int) -> None:
        if width_px * height_px > self._options.max_pixels:
            self._ended = True
            raise SourceError(
                f"{self._label} has pictures of {width_px}x{height_px}, above "
                f"{self._options.max_megapixels:g} megapixels: raise max_megapixels"
            )

    def _aspect_of(self, picture: Any) -> Fraction | None:
        """Of its pixels. The container's word goes before the codec's, until the latter changes."""
        codec = self._stream.codec_context
        if (codec.width, codec.height) == (picture.width, picture.height):
            aspect = codec.sample_aspect_ratio
            same = aspect == self._first_aspect
            self._aspect = self._stream.sample_aspect_ratio if same else aspect
        return self._aspect  # else the codec is ahead: it has seen another header by now

    def _position_ns(self, frame: Any) -> int | None:
        """The container's own time of a frame, None where it has none."""
        first, second = frame.pts, frame.dts
        if self._container.format.name == "avi":  # has no pts, and FFmpeg's guess is not in order
            first, second = second, first
        stamp = second if first is None else first
        return None if stamp is None else round(stamp * frame.time_base * 1_000_000_000)

    def _jump(self, start_ns: int) -> bool:
        """Go to the key frame before; False where this container, or its clock, cannot."""
        clock, time_base = self._clock, self._stream.time_base
        if not clock.trusted or clock.origin_ns is None:
            return False
        position = round((clock.origin_ns + start_ns) / 1_000_000_000 / time_base)
        try:
            self._container.seek(position, stream=self._stream)
        except load_av().error.FFmpegError:
            return False
        clock.jump()
        self._codec.flush_buffers()
        self._idle.reset()
        if self._copier is not None:
            self._copier.begin()
        self._frames = self._decode_all()
        return True

    def _start_over(self) -> None:
        self._frames = iter(())
        self._container.close()
        self._open_container()
        self._describe()
        self._clock.restart()

    def _finish(self) -> NoReturn:
        self._ended = True
        if self._info.live:
            raise SourceError(
                f"{self._label} ended after {self._index} frames: the other side closed the "
                "connection; check that the device still streams"
            )
        if self._index == 0 and not self._sought:
            codec = self._stream.codec_context.name
            why = f" ({self._damage})" if self._damage else ""
            # the decoder keeps a size above the limit to itself
            limit = f"{self._options.max_megapixels:g}"
            unsized = f" or, if its pictures are above {limit} megapixels, raise max_megapixels"
            raise SourceError(
                f"{self._label} has no frame that can be decoded as {codec}{why}: convert it to "
                f"MP4 (H.264){'' if self._stream.width else unsized}"
            )
        if self._sought:  # what was passed over is not missing
            raise SourceEnded
        raise self._cut_off() or SourceEnded

    def _cut_off(self) -> SourceError | None:
        """The error for a recording that ended before its time, None for a natural end."""
        lost = 0 if self._remote else bytes_missing(Path(self._where))
        count = self._info.frame_count or 0
        # Both must fall short: the count is a guess for variable rates, and counts frames that
        # a trimmed clip never shows.
        played_ns = self._media_ns + self._clock.period_ns
        promised_ns = self._promised_s * 1e9
        slack_ns = max(self._clock.period_ns, 0.01 * promised_ns) + 1e6
        short = count - self._index > max(1, 0.01 * count) and promised_ns - played_ns > slack_ns
        if not short and (count or not lost):
            return None
        missing = f", {lost} bytes are missing" if lost else ""
        frames = f"{self._index} of {count} frames" if count else f"{self._index} frames"
        return SourceError(
            f"{self._label} is broken or cut off: it ended after {frames}{missing}; "
            "copy or record it again"
        )


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _rate(stream: Any) -> float | None:
    """Frames a second, by container or codec; a container without times (raw H.264) invents it."""
    rates = [stream.average_rate, stream.codec_context.framerate]
    if stream.start_time is None:
        rates.reverse()
    usable = (usable_fps(float(rate or 0)) for rate in rates)
    return next(filter(None, usable), None)


def _length_s(container: Any, stream: Any) -> float:
    """How long the video is by its container; 0 where unknown."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    length_us = container.duration or 0
    if "matroska" in container.format.name:  # tells when it ends, also of a clock that starts late
        length_us -= container.start_time or 0
    return max(0, length_us) / 1e6
