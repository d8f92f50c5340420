"""The best picture of each track, one bounded JPEG, in a folder within a budget."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ..config import EventOptions
from ..core.detections import Result
from ..core.errors import SinkError
from ..core.events import Event, Fired
from ..core.frame import Frame, SourceInfo, bgr_pixels
from ..core.interfaces import Updatable
from ..core.stats import OutputMeter
from .json_lines import unwritable
from .video import encode_jpeg

log = logging.getLogger(__name__)

MOST_TRACKS = 256  # of which a picture is held; the longest unseen goes first
MOST_FRAMES = 4  # that wait for their crops to be taken
BETTER = 1.1  # by so much score × area must grow before a crop is looked at
MARGIN = 0.1  # of the box, around it
LONGEST_PX, QUALITY, LOOK_PX = 480, 85, 128
REWRITE_S = 1.0  # at least between two writings of a track's file
ENFORCE_S = 60.0  # between looks at the folder's size
STOP_S = 1.5
_OURS = re.compile(r"\d{8}T\d{6}_[0-9A-Z]{26}_best\.jpg")


@dataclass(slots=True)
class _Best:
    """What is known of a track."""

    value: float = 0.0  # score × area × sharpness of the picture
    jpeg: NDArray[np.uint8] | None = None
    name: str = ""  # of its file, once an event has told it
    # its box in parts of the picture, and the time of that in the recorded stream
    beside: tuple[NDArray[np.float64], int] | None = None
    unwritten: bool = False
    written_s: float = 0.0


class _Job(NamedTuple):
    """A frame in which tracks look better, and what has become of tracks since the one before."""

    frame: Frame | None
    boxes: list[tuple[int, float, tuple[float, ...]]]  # track id, score × area, xyxy
    names: list[tuple[int, str]]
    gone: list[int]


class PicturesBeside(Protocol):
    """Another stream of the same camera, of which pictures are taken."""

    def place(self, frame: Frame) -> int | None:
        """The time in it of a frame of the stream looked at; None while unknown."""

    def picture(self, at_ns: int) -> Frame | None:
        """Its frame of this time; None where that is not there."""


class SnapshotSink(Updatable):
    """Keeps for each track the crop with the highest score × area × sharpness.

    The pipeline thread only compares score × area; crops are taken, judged and encoded on a thread
    of its own, in a replay (``waits``) at once. Where that thread is behind, a crop is left for a
    later frame. A track's file is written when an event names it, and again when there is a better
    picture, at most once a second; sharpness is the standard deviation of the crop's Laplacian.
    With ``beside`` the picture that is written is taken of that stream, at the same moment.
    """

    def __init__(
        self,
        options: EventOptions,
        meter: OutputMeter,
        *,
        waits: bool,
        beside: PicturesBeside | None = None,
    ) -> None:
        assert options.snapshots is not None
        self._beside = beside
        self._root, self._options, self._meter = Path(options.snapshots), options, meter
        self._waits = waits
        self._gates: OrderedDict[int, float] = OrderedDict()  # score × area of the last crop
        self._tracks: dict[int, _Best] = {}  # of its own thread; the longest unseen first
        self._jobs: deque[_Job] = deque()
        self._frames = 0  # among the jobs
        self._changed = threading.Condition()
        self._closing, self._until_s = False, 0.0
        self._thread: threading.Thread | None = None
        self._enforced_s = float("-inf")

    # -- pipeline thread --------------------------------------------------------------------------

    def keep(self, options: EventOptions) -> None:
        """Other limits from now on; any thread."""
        self._options = options

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Make the folder; raises SinkError with the cure."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            probe = self._root / ".kestrel"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise unwritable(
                f"cannot write snapshots to {self._root}", error, self._root
            ) from error
        if not self._waits:
            self._thread = threading.Thread(
                target=self._run, name=f"output-{self._meter.name}", daemon=True
            )
            self._thread.start()

    def emit(self, result: Result) -> None:
        """Hand over what is better than before; never waits but in a replay."""
        boxes, ids = [], result.detections.track_ids
        if ids is not None and self._frames < MOST_FRAMES and (ids >= 0).any():
            found = result.detections
            wh = found.xyxy[:, 2:] - found.xyxy[:, :2]
            keys = (found.scores * wh[:, 0] * wh[:, 1]).tolist()
            for i, track_id in enumerate(ids.tolist()):
                if track_id < 0:
                    continue
                if keys[i] > BETTER * self._gates.get(track_id, 0.0):
                    self._gates[track_id] = keys[i]
                    self._gates.move_to_end(track_id)
                    boxes.append((track_id, keys[i], tuple(found.xyxy[i].tolist())))
            while len(self._gates) > MOST_TRACKS:
                self._gates.popitem(last=False)
        self._pass_on(result.frame if boxes else None, boxes, result.events, result.fired)

    def happened(self, events: Sequence[Event], fired: Sequence[Fired]) -> None:
        self._pass_on(None, [], events, fired)

    def close(self) -> None:
        """Write what is not written yet; bounded."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._until_s = time.monotonic() + STOP_S / 3
            with self._changed:
                self._closing = True
                self._changed.notify()
            thread.join(STOP_S)
            if thread.is_alive():
                raise SinkError(
                    f"the snapshots in {self._root} were not all written within {STOP_S:g} s of "
                    "the end; check the disk"
                )
        elif self._waits:
            self._write_all()

    def _pass_on(
        self,
        frame: Frame | None,
        boxes: list[tuple[int, float, tuple[float, ...]]],
        events: Sequence[Event],
        fired: Sequence[Fired],
    ) -> None:
        every = [*events, *(each.event for each in fired)]
        names = [(e.track_id, e.snapshot) for e in every if e.snapshot and e.track_id is not None]
        gone = [e.track_id for e in events if e.type == "gone" and e.track_id is not None]
        for track_id in gone:
            self._gates.pop(track_id, None)
        if not (boxes or names or gone):
            return
        job = _Job(frame, boxes, names, gone)
        if self._waits:
            self._do(job)
            return
        with self._changed:
            self._jobs.append(job)
            self._frames += job.frame is not None
            self._changed.notify()

    # -- its own thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closing, REWRITE_S)
                job = self._jobs.popleft() if self._jobs else None
                if job is None and self._closing:
                    break
                if job is not None and job.frame is not None:
                    self._frames -= 1
            if job is not None:
                self._do(job)
            else:
                self._write_due()
        self._write_all()

    def _do(self, job: _Job) -> None:
        pixels = None if job.frame is None else bgr_pixels(job.frame)
        for track_id, key, box in job.boxes:
            best = self._tracks[track_id] = self._tracks.pop(track_id, _Best())
            crop = None if pixels is None else crop_of(pixels, box)
            if pixels is None or crop is None:
                continue
            value = key * sharpness(crop)
            if value > best.value or best.jpeg is None:
                best.value, best.unwritten = value, True
                picture = bounded(crop)
                jpeg = encode_jpeg(picture, QUALITY)
                best.jpeg = with_box(jpeg, _within(box, pixels, picture))
                at_ns = None
                if self._beside is not None and job.frame is not None:
                    at_ns = self._beside.place(job.frame)
                height, width = pixels.shape[:2]
                parts = np.array(box) / (width, height, width, height)
                best.beside = None if at_ns is None else (parts, at_ns)
        for track_id, name in job.names:
            best = self._tracks.setdefault(track_id, _Best())
            best.name = best.name or name
        for track_id in job.gone:
            self._forget(track_id)
        while len(self._tracks) > MOST_TRACKS:
            self._forget(next(iter(self._tracks)))
        self._write_due()

    def _forget(self, track_id: int) -> None:
        best = self._tracks.pop(track_id, None)
        if best is None:
            return
        if best.name and best.jpeg is None:
            self._meter.dropped("no picture")
        self._write(best)

    def _write_due(self) -> None:
        now_s = time.monotonic()
        for best in list(self._tracks.values()):
            if best.unwritten and now_s - best.written_s >= REWRITE_S:
                self._write(best)

    def _write_all(self) -> None:
        for track_id in list(self._tracks):
            self._forget(track_id)
        self._enforce()

    def _write(self, best: _Best) -> None:
        """Whole or not at all: who hears of the event may read the file at any time."""
        if not best.name or not best.unwritten or best.jpeg is None:
            return
        self._take_beside(best)
        path = self._root / best.name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_bytes(best.jpeg.tobytes())
            part.replace(path)
        except OSError as error:
            if not self._meter.trouble:
                log.warning("cannot write the snapshot %s: %s", path, error.strerror or error)
            self._meter.trouble = f"cannot write {path}: {error.strerror or error}"
            self._meter.dropped("disk")
        else:
            self._meter.trouble = ""
            if not best.written_s:
                self._meter.delivered()
        best.unwritten, best.written_s = False, time.monotonic()
        if best.written_s - self._enforced_s > ENFORCE_S:
            self._enforce()

    def _take_beside(self, best: _Best) -> None:
        """The same moment of the recorded stream, if it has it."""
        late = self._closing and time.monotonic() > self._until_s
        if self._beside is None or best.beside is None or late:
            return
        (parts, at_ns), best.beside = best.beside, None
        frame = self._beside.picture(at_ns)
        if frame is None:
            log.debug("%s is of the stream looked at; the recorded one lacks it", best.name)
            return
        pixels = bgr_pixels(frame)
        height, width = pixels.shape[:2]
        box = (parts * (width, height, width, height)).tolist()
        if (crop := crop_of(pixels, box)) is not None:
            picture = bounded(crop)
            best.jpeg = with_box(encode_jpeg(picture, QUALITY), _within(box, pixels, picture))

    def _enforce(self) -> None:
        """The oldest go until the rest keeps within age and size."""
        self._enforced_s = time.monotonic()
        found = []
        for path in self._root.rglob("*.jpg"):
            with suppress(OSError):
                if _OURS.fullmatch(path.name):
                    status = path.stat()
                    found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        oldest_s = time.time() - self._options.snapshots_hours * 3600
        for written_s, size, path in sorted(found):
            if total <= self._options.snapshots_mb * 1e6 and written_s >= oldest_s:
                break
            with suppress(OSError):
                path.unlink()
            total -= size


def crop_of(pixels: NDArray[np.uint8], box: Sequence[float]) -> NDArray[np.uint8] | None:
    """A view of the box (xyxy, pixels) with a margin, inside the frame; None where nothing is."""
    left, top, right, bottom = _around(pixels, box)
    if right - left < 2 or bottom - top < 2:
        return None
    return pixels[top:bottom, left:right]


def _around(pixels: NDArray[np.uint8], box: Sequence[float]) -> tuple[int, int, int, int]:
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = box
    dx, dy = MARGIN * (x1 - x0), MARGIN * (y1 - y0)
    left, top = max(0, int(x0 - dx)), max(0, int(y0 - dy))
    return left, top, min(width, round(x1 + dx)), min(height, round(y1 + dy))


def _within(
    box: Sequence[float], pixels: NDArray[np.uint8], picture: NDArray[np.uint8]
) -> list[float]:
    """The box of the frame in pixels of its ``crop_of``, after ``bounded``."""
    height, width = pixels.shape[:2]
    left, top, right, _ = _around(pixels, box)
    scale = picture.shape[1] / (right - left)
    x0, y0, x1, y1 = (max(0.0, box[0]), max(0.0, box[1]), min(width, box[2]), min(height, box[3]))
    placed = (x0 - left, y0 - top, x1 - left, y1 - top)
    return [round(float(value) * scale, 2) for value in placed]


def with_box(jpeg: NDArray[np.uint8], box: Sequence[float]) -> NDArray[np.uint8]:
    """The JPEG file with the object's box (xyxy, pixels of the picture) as its comment."""
    text = json.dumps({"box": list(box)}).encode()
    comment = b"\xff\xd8\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
    return np.concatenate([np.frombuffer(comment, np.uint8), jpeg[2:]])


def box_of(jpeg: bytes) -> list[float] | None:
    """What ``with_box`` wrote; None where there is none."""
    if jpeg[:4] != b"\xff\xd8\xff\xfe":
        return None
    try:
        box = json.loads(jpeg[6 : 4 + int.from_bytes(jpeg[4:6], "big")])["box"]
        return [float(value) for value in box] if len(box) == 4 else None
    except (ValueError, TypeError, KeyError):
        return None


def bounded(crop: NDArray[np.uint8], longest_px: int = LONGEST_PX) -> NDArray[np.uint8]:
    """The same, at most so long on its longer side."""
    height, width = crop.shape[:2]
    scale = longest_px / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(crop)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8)


def sharpness(crop: NDArray[np.uint8]) -> float:
    """Standard deviation of the Laplacian of the crop's grey values, at ``LOOK_PX`` at most."""
    grey = cv2.cvtColor(bounded(crop, LOOK_PX), cv2.COLOR_BGR2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).std())
