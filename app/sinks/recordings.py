"""Recordings within a budget of disk: segments that never end, and a clip of each event."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from time import monotonic
from typing import Any

import cv2
import numpy as np

from ..config import ClipOptions, RecordOptions
from ..core.detections import Result
from ..core.errors import SinkError
from ..core.events import file_stem
from ..core.frame import SourceInfo, bgr_pixels
from ..core.interfaces import Sink
from ..core.packets import EncodedPacket, PacketTap
from ..core.stats import OutputMeter
from .budget import Budget
from .events import EventMessage
from .json_lines import unwritable
from .packets import CopyRecorder, Cutting, Uncopyable
from .rings import QUALITY, PacketRing, PictureRing
from .video import VideoFileSink, encode_jpeg

log = logging.getLogger(__name__)


def _limits(options: RecordOptions | ClipOptions) -> dict[str, Any]:
    """As Budget takes them."""
    return {
        "max_bytes": int(options.budget_mb * 1e6),
        "max_age_s": options.keep_hours * 3600,
        "keep_bytes": None if options.keep_mb is None else int(options.keep_mb * 1e6),
    }


class _Recorder:
    """What both kinds of recordings have: a folder, its budget, and the file that is written."""

    def __init__(
        self,
        options: RecordOptions | ClipOptions,
        meter: OutputMeter,
        *,
        prefix: str,
        others: str = "(?!)",
        make: Callable[[Path], Sink],
    ) -> None:
        assert options.path is not None
        self._meter, self._make = meter, make
        self._budget = Budget(
            folder=Path(options.path), prefix=prefix, others=others, **_limits(options)
        )
        self._source: SourceInfo | None = None
        self._labels: Sequence[str] = ()
        self._file: Sink | None = None
        self._path = Path()

    def keep(self, options: RecordOptions | ClipOptions) -> None:
        """Other limits from now on; any thread."""
        self._budget.limit(**_limits(options))

    def _claim(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Take the names and the folder; raises SinkError with the cure."""
        self._source, self._labels = source, labels
        self._budget.claim()

    def _begin_file(self) -> None:
        assert self._source is not None
        self._path = self._budget.new_path()
        file = self._make(self._path)
        file.open(self._source, self._labels)
        self._file = file

    def _end_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _note_trouble(self, error: SinkError, then: str = "") -> None:
        """Log the first fault in a row, and lose the file: a bad disk ends no run."""
        with suppress(SinkError):
            self._end_file()
        if not self._meter.trouble:
            log.warning("%s%s", error, then)
        self._meter.trouble = str(error)
        self._meter.dropped("disk")


LOOK_S = 1.0  # between looks at the size of the file
RETRY_S = 10.0  # between attempts after a fault


class SegmentsSink(_Recorder):
    """Video in a folder, a new file every so many minutes or megabytes.

    Where ``tap`` has a stream's packets, these are copied, with boxes beside (see CopyRecorder).
    Else results are encoded with all drawn in.

    The oldest files are removed to keep within age and budget. A full or vanished disk ends no
    run: frames are counted as lost and a new file is tried every 10 s.
    """

    def __init__(
        self,
        options: RecordOptions,
        meter: OutputMeter,
        *,
        tap: PacketTap | None = None,
        make: Callable[[Path], Sink] = VideoFileSink,
        clock_s: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(options, meter, prefix="kestrel", make=make)
        self._options, self._clock_s = options, clock_s
        self._began_s = self._look_s = self._retry_s = 0.0
        self._tap = tap or PacketTap()
        self._copy = CopyRecorder(
            Cutting(self._next_path, lambda: self._is_full(clock_s()), self._ended),
            overwrite=True,  # names are new
        )

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Make the folder and try a file in it; raises SinkError."""
        self._claim(source, labels)
        self._copy.open(source, labels)
        try:
            if self._tap.head is None:
                self._begin()
        except SinkError:
            self._budget.release()
            raise

    def emit(self, result: Result) -> None:
        """Write into the present file, or into the next one; never raises for a bad disk."""
        now_s = self._clock_s()
        self._take_packets(now_s)
        copies = self._tap.head is not None
        try:
            if copies:
                self._end_file()  # of a source that gave none before
                self._copy.note(self._tap.placed(result))
                return
            if self._file is not None and self._is_full(now_s):
                self._end()
            if self._file is None:
                if now_s < self._retry_s:
                    self._meter.dropped("disk")
                    return
                self._begin()
            assert self._file is not None
            self._file.emit(result)
        except SinkError as error:
            self._fail(error, now_s)

    def idle(self) -> None:
        self._take_packets(self._clock_s())

    def close(self) -> None:
        self._take_packets(self._clock_s())
        with suppress(SinkError):
            self._copy.close()
        with suppress(SinkError):
            self._end()
        self._budget.release()

    def _ended(self) -> None:
        self._budget.enforce()

    def _take_packets(self, now_s: float) -> None:
        for item in self._tap.take():
            if isinstance(item, EncodedPacket) and now_s < self._retry_s:
                self._meter.dropped("disk")
                continue
            try:
                self._copy.write(item)
            except Uncopyable as error:
                log.warning("%s; encoding instead", error)
                self._tap.begin(None)
                break
            except SinkError as error:
                self._fail(error, now_s)
        self._meter.dropped("slow disk", self._tap.dropped())

    def _fail(self, error: SinkError, now_s: float) -> None:
        self._note_trouble(error, f"; trying again every {RETRY_S:g} s")
        self._budget.enforce()
        # another disk user may have taken the room that the budget promised
        room = error.disk_full and self._budget.make_room()
        self._retry_s = now_s + (LOOK_S if room else RETRY_S)

    def _next_path(self) -> Path:
        self._path = self._budget.new_path()
        self._note_begun()
        return self._path

    def _begin(self) -> None:
        self._begin_file()
        self._note_begun()

    def _note_begun(self) -> None:
        self._began_s = self._look_s = self._clock_s()
        if self._meter.trouble:
            log.info("recording again, to %s", self._path)
            self._meter.trouble = ""

    def _end(self) -> None:
        try:
            self._end_file()
        finally:
            self._budget.enforce()

    def _is_full(self, now_s: float) -> bool:
        if now_s - self._began_s >= self._options.segment_minutes * 60:
            return True
        if now_s - self._look_s < LOOK_S:
            return False
        self._look_s = now_s
        self._budget.enforce(spare=self._path)
        try:
            return self._path.stat().st_size >= self._options.segment_mb * 1e6
        except OSError:  # somebody moved it
            return True


MOST_EVENTS = 1000  # told of one clip
THUMBNAIL_PX = 480


def clip_stem(told: Mapping[str, Any]) -> str | None:
    """``20260131T120004_01KG…``, of the files of an event's clip; None without time and id.

    ``told``: the event's JSON object. ``clip`` in it, once somebody has chosen a name, goes first.
    """
    if named := told.get("clip"):
        return PurePath(named).stem
    if not told.get("time") or not told.get("id"):
        return None
    return file_stem(str(told["time"]), str(told["id"]))


class ClipSink(_Recorder):
    """A video from ``before_s`` before something appears to ``after_s`` after it has gone.

    Of a moment, which a rule chose, the clip goes to ``after_s`` after it. Events that overlap
    share the clip of the first. Beside it are ``NAME.jpg``, a thumbnail, and ``NAME.json``, its
    events. Where ``tap`` has packets they are copied (PacketRing), else pictures are encoded.

    ``notice`` takes events on any thread; all else runs on the thread of the queue that this sink
    is behind.
    """

    def __init__(
        self,
        options: ClipOptions,
        meter: OutputMeter,
        *,
        tap: PacketTap | None = None,
        make: Callable[[Path], Sink] = VideoFileSink,
    ) -> None:
        others = r"\d{8}T\d{6}_[0-9A-Za-z-]{1,64}"
        super().__init__(options, meter, prefix="clip", others=others, make=make)
        self._options, self._tap = options, tap
        before_ns, most_bytes = int(options.before_s * 1e9), options.memory_mb * 1e6
        self._pictures = PictureRing(before_ns, most_bytes, make=make)
        self._packets = None if tap is None else PacketRing(before_ns, most_bytes, tap)
        self._ring: PictureRing | PacketRing = self._pictures
        self._events: deque[EventMessage] = deque()
        self._in_view: set[str] = set()
        self._goes_on = False
        self._told: list[dict[str, Any]] = []  # events of the clip
        self._until_ns: int | None = None  # None: while something is in view
        self._began_ns = self._now_ns = 0

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self._claim(source, labels)
        self._pictures.open(source, labels)
        if self._packets is not None:
            self._packets.open(source, labels)
        self._budget.enforce()

    def notice(self, event: EventMessage) -> None:
        self._events.append(event)

    def emit(self, result: Result) -> None:
        copies = self._tap is not None and self._tap.head is not None
        ring = self._packets if copies and self._packets is not None else self._pictures
        if ring is not self._ring:
            self._end()
            self._ring = ring
        before_ns, now_ns = self._now_ns, ring.add(result)
        if self._goes_on and ring is self._packets and now_ns < self._began_ns:
            # the stream was lost and its clock begins anew: so does the clip's, which goes on
            self._began_ns -= before_ns - now_ns
            if self._until_ns is not None:
                self._until_ns -= before_ns - now_ns
        self._now_ns = now_ns
        while self._events:
            self._follow(self._events.popleft(), result)
        if not self._goes_on:
            ring.shorten(now_ns)
            return
        if not self._try(ring.go_on):
            self._goes_on = False
            with suppress(SinkError):
                ring.end(now_ns)
            return
        longest_ns = self._began_ns + int(self._options.max_s * 1e9)
        until_ns = longest_ns if self._until_ns is None else min(self._until_ns, longest_ns)
        if now_ns >= until_ns or now_ns < self._began_ns:  # or a looped clip restarts
            self._end()

    def close(self) -> None:
        self._end()
        self._budget.release()

    def _follow(self, event: EventMessage, result: Result) -> None:
        if event.kind == "other":
            return
        if event.kind == "appear":
            self._in_view.add(event.subject)
        elif event.kind == "disappear":
            self._in_view.discard(event.subject)
        told = json.loads(event.text)
        if event.kind != "disappear":
            stem = clip_stem(told)
            if self._goes_on and "clip" in told and stem != self._path.stem:
                self._end()  # who names the clips begins a new one here
            if not self._goes_on:
                self._begin(stem, result)
        if self._goes_on and len(self._told) < MOST_EVENTS:
            self._told.append(told)
        after_ns = int(self._options.after_s * 1e9)
        self._until_ns = None if self._in_view else self._now_ns + after_ns

    def _begin(self, stem: str | None, result: Result) -> None:
        self._ring.shorten(self._now_ns)
        path = self._budget.new_path() if stem is None else self._budget.folder / f"{stem}.mp4"
        self._budget.adopt(path)
        self._path, self._told, self._began_ns = path, [], self._now_ns
        try:
            self._ring.begin(path)
            self._goes_on = True
            path.with_suffix(".jpg").write_bytes(_thumbnail(result))
        except SinkError as error:
            self._note_trouble(error)
        except OSError as error:
            self._note_trouble(unwritable(f"cannot write a thumbnail of {path}", error, path))

    def _end(self) -> None:
        if not self._goes_on:
            return
        self._goes_on = False
        if self._try(self._ring.end):
            self._meter.trouble = ""
        if self._path.exists():
            self._describe()
        self._budget.enforce(spare=self._path)

    def _try(self, step: Callable[[int], None]) -> bool:
        try:
            step(self._now_ns)
        except SinkError as error:
            self._note_trouble(error)
            if isinstance(error, Uncopyable) and self._tap is not None:
                self._tap.begin(None)  # the next clip is encoded
            return False
        return True

    def _describe(self) -> None:
        files = {"video": ".mp4", "thumbnail": ".jpg", "boxes": ".jsonl"}
        names = {kind: self._path.with_suffix(ending) for kind, ending in files.items()}
        first = self._told[0] if self._told else {}
        told: dict[str, Any] = {
            **{key: first[key] for key in ("id", "label", "track_id", "time") if key in first},
            **{kind: path.name for kind, path in names.items() if path.exists()},
            "events": self._told,
        }
        try:
            self._path.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")
        except OSError as error:
            self._note_trouble(unwritable(f"cannot describe {self._path}", error, self._path))


def _thumbnail(result: Result) -> bytes:
    """The frame as JPEG, no longer than THUMBNAIL_PX."""
    pixels = bgr_pixels(result.frame)
    scale = min(1.0, THUMBNAIL_PX / max(pixels.shape[:2]))
    size = [max(1, round(side * scale)) for side in pixels.shape[1::-1]]
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return encode_jpeg(np.asarray(small, np.uint8), QUALITY).tobytes()
