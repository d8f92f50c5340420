"""Protocols of the parts that take a place in the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from .detections import Detections, Result
from .events import Event, Fired
from .frame import Frame, SourceInfo
from .states import SourceStatus


class FrameSource(Protocol):
    """Frames from a camera, stream or file. Opened, read and closed on the capture thread."""

    def open(self) -> SourceInfo:
        """Open; raises SourceError with the cure. Called once."""

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, or None if none came in time.

        Raises SourceEnded after the last frame, SourceError on a fault. A source that cannot
        bound its wait (V4L2 may block for 10 s) blocks only the thread that called it.
        """

    def close(self) -> None:
        """Let go of everything; idempotent; never raises."""


@runtime_checkable
class Seekable(Protocol):
    """A source of a recording in which one may move. Called on the thread that reads."""

    @property
    def can_seek(self) -> bool:
        """Known once it is open."""

    def seek(self, media_ns: int) -> None:
        """The next frame read is the one shown at this position, or the nearest that there is."""


@runtime_checkable
class Paceable(Protocol):
    """A recording that is played at its own pace. Set on the thread that reads."""

    speed: float
    """Times as fast as it was recorded, above 0. Whenever it is set, the next frame is due."""


class SourceListener(Protocol):
    """Hears how a source is; called on the thread that reads it."""

    def state_changed(self, state: str, why: str) -> None:
        """``state``: one of states.STATES; ``why`` is for people."""

    def noticed(self, event: str) -> None:
        """Something to be counted: "losses", "reconnects", "stalls", …"""


@runtime_checkable
class TellsItsState(Protocol):
    """A source that outlives its faults, and so has more to say than that it is open."""

    def listen(self, listener: SourceListener) -> None:
        """Tell this one from now on; called before ``open``."""


# in source pixels; stage times in ns, none of a frame that was not timed
Answer = tuple[Detections, Mapping[str, int]]


class Slot(Protocol):
    """The buffers and the worker of up to ``capacity`` frames in flight; pipeline thread only."""

    @property
    def capacity(self) -> int:
        """The most frames that it takes at once: 1 or more."""

    def enqueue(self, frames: Sequence[Frame]) -> None:
        """Start work on 1 to ``capacity`` frames, each of a size of its own; return at once.

        The slot must be idle.
        """

    def ready(self) -> bool:
        """True when ``collect`` would not block: all frames are done."""

    def collect(self) -> Sequence[Answer]:
        """Wait for the enqueued frames; an answer for each in turn, or the error of any.

        Stage times of frames that went together are shared out evenly.
        """


@runtime_checkable
class Fitted(Protocol):
    """A slot that makes something for each size of frame, which takes a while the first time."""

    def prepare(self, wh_px: tuple[int, int], pixel_aspect: float = 1.0) -> None:
        """For frames of this size; the slot must be idle. Raises KestrelError."""


EngineKind = Literal[
    "cpu",
    "openvino",
    "openvino:GPU",  # of Intel
    "openvino:NPU",
    "cuda",
    "tensorrt",
    "ort-cuda",
    "ort-tensorrt",
]
CPU_ENGINES: tuple[EngineKind, ...] = ("cpu", "openvino")
GPU_ENGINES: tuple[EngineKind, ...] = ("cuda", "tensorrt", "ort-cuda", "ort-tensorrt")
# to these another input size is another network, which TensorRT builds for minutes
WHOLE_INPUT: tuple[EngineKind, ...] = ("tensorrt", "ort-cuda", "ort-tensorrt")


class Backend(Protocol):
    """An engine and its slots. Created, entered, used and left on the pipeline thread."""

    @property
    def kind(self) -> EngineKind:
        """Which engine it is."""

    @property
    def slots(self) -> Sequence[Slot]:
        """Ceiling of frames in flight."""

    @property
    def description(self) -> str:
        """For the log and the HUD: engine, device, threads."""

    @property
    def remarks(self) -> Sequence[str]:
        """For the report at the end: what the engine chose and measured while it ran."""


@runtime_checkable
class Tunable(Protocol):
    """A backend whose thresholds may be changed while it runs; others are built anew for it."""

    def tune(self, *, score: float, iou: float) -> None:
        """From the next frame on; any thread."""


class Canary(Protocol):
    """A known frame between the others, to see that the engine still works; pipeline thread."""

    on_gpu: bool  # whether the engine computes there; set once it is known

    def due(self) -> Frame | None:
        """The frame, with a negative index, when it is time for it."""

    def judge(self, detections: Detections) -> None:
        """What it gave, which no sink sees; raises DeviceError or ModelError if that is wrong."""

    def tune(self, *, score: float, iou: float) -> None:
        """The engine has got other thresholds, just now; any thread."""


# Entered on the pipeline thread. The argument wakes that thread: a slot calls it, from any
# thread, when it has become ready.
BackendFactory = Callable[[Callable[[], None]], AbstractContextManager[Backend]]


class Sink(Protocol):
    """Takes results in order, on the pipeline thread.

    ``open`` runs before the first frame, so that an unwritable output is told at once; it may run
    on another thread than the rest. ``close`` is always called, also after a fault. A subclass may
    leave out both.
    """

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Get ready; raises SinkError with the cure."""
        return None

    def emit(self, result: Result) -> None:
        """Take one result. Raises SinkError on a fault, ReaderGone when its reader left."""

    def close(self) -> None:
        """Finish what was written so that it can be read; idempotent."""
        return None


@runtime_checkable
class Updatable(Protocol):
    """A sink that goes on when another source or model takes over, instead of a new start."""

    def update(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """What comes from now on is of these; between two results, on the emitting thread."""
        return None


@runtime_checkable
class TakesEvents(Protocol):
    """A sink that also takes what happens between two results, and at the end."""

    def happened(self, events: Sequence[Event], fired: Sequence[Fired]) -> None:
        """On the pipeline thread. What a frame brought is in its result, and not told here."""


class LiveShapes(Protocol):
    """Zones and lines of the sources of a run, which may be changed while it runs; any thread.

    Tables are those of the configuration: ``{"zone": [...], "line": [...]}``, each a row with name,
    points and so on. ``file``: where they are kept by themselves; None: nowhere.
    """

    @property
    def file(self) -> Path | None:
        """The configuration file of the run."""

    def read(self, source: str = "") -> dict[str, list[dict[str, Any]]]:
        """The tables of the source with this name."""

    def write(self, tables: Mapping[str, Any], source: str = "") -> None:
        """These instead, from the next frame on; raises ConfigError, and then nothing changes."""

    def save(self, file: Path | None = None) -> Path:
        """Write them into ``file``, else into that of the run; raises ConfigError."""


class LiveFilters(Protocol):
    """The filters of the sources of a run, which may be changed while it runs; any thread.

    Tables are as ``filters.Filters.table`` gives them.
    """

    def read(self, source: str = "") -> dict[str, Any]:
        """Those of the source with this name."""

    def write(self, table: Mapping[str, Any], source: str = "") -> None:
        """With these keys in place of its own, from the next frame on.

        Raises ConfigError, and then nothing changes.
        """


class Written(NamedTuple):
    """What a change of settings came to; keys are ``key`` or ``table.key``.

    ``overridden``: those over which a flag of the command line stands. ``told``: each change in
    words, for the log, without secrets.
    """

    changed: tuple[str, ...] = ()
    overridden: tuple[str, ...] = ()
    told: str = ""


class SettingFault(NamedTuple):
    """Why a change of settings was refused. ``key``: the one without which it would not be."""

    key: str | None
    reason: str
    cure: str


class SettingsRefused(Exception):
    """A change that was refused: ``why`` "stale" (the file is another one by now), "unwritable", or
    "wrong", with ``faults``. Nothing was written."""

    def __init__(self, why: Literal["stale", "unwritable", "wrong"], *faults: SettingFault) -> None:
        super().__init__(why)
        self.why, self.faults = why, faults


class LiveSettings(Protocol):
    """The settings of a run: what its file holds, and changes to that; any thread, may take long.

    Secrets, and credentials in addresses, are shown as ``***``; who sends them so leaves them.
    """

    @property
    def schema(self) -> Mapping[str, Any]:
        """JSON Schema of the values, each key with its help and limits."""

    def read(self) -> dict[str, Any]:
        """``etag``, ``file``, ``values`` of the file, ``in_force``, ``flags`` that stand over it,
        ``after_restart``: what is in the file and not in force."""

    def discover(self) -> list[dict[str, Any]]:
        """ONVIF cameras that answer in the networks of this machine, with their streams."""

    def write(self, changes: Mapping[str, Any], etag: str | None) -> Written:
        """Other values, null for none: all or nothing, in the file and, where that is possible, in
        the run; raises SettingsRefused. ``etag``: of the file that was read, None: whichever."""


class Analyser(Protocol):
    """Follows the objects of one stream; on the pipeline thread, before all sinks."""

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """What comes from now on is of these; raises ConfigError where the labels do not fit."""

    def update(self, result: Result) -> Result:
        """The same with track ids, zones, events and rules that fired."""

    def follow(self, status: SourceStatus) -> tuple[Sequence[Event], Sequence[Fired]]:
        """What it means that the source is so; mostly nothing. Its end comes after its frames."""

    def end(self, status: SourceStatus) -> tuple[Sequence[Event], Sequence[Fired]]:
        """What happens to everything in view when the run ends, its source being so."""
