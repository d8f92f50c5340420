"""State of a run as immutable values for a window, and the store every thread may read."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ..pipeline.player import SourceState as SourceState

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Offer:
    """One thing to choose: what it is called, and what choosing it means."""

    title: str
    value: str  # a source's URI, a model's or engine's name
    detail: str = ""
    refused: str = ""  # why it cannot be chosen on this machine
    more: tuple[Offer, ...] = ()  # finer choices of the same thing, such as a camera's formats
    classes: int = 0  # of a model that knows several
    to_fetch: bool = False  # a model whose weights are not on this machine


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All that this machine offers."""

    cameras: tuple[Offer, ...] = ()
    models: tuple[Offer, ...] = ()
    engines: tuple[Offer, ...] = ()


Severity = Literal["info", "warning", "error"]


Tell = Callable[[str, Severity, str], None]  # text, severity, the file that it is about or ""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which model on which engine; ``model`` None is the shelf's default."""

    model: str | None = None
    engine: str = "auto"


@dataclass(frozen=True, slots=True)
class Figures:
    """What the run measures. Ages and stages cover the last few seconds; NaN where none."""

    fps: float = 0.0
    capture_fps: float = 0.0
    age_p50_ms: float = float("nan")
    age_p95_ms: float = float("nan")
    stages_ms: Mapping[str, float] = field(default_factory=dict)  # medians
    captured: int = 0
    processed: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)  # by reason


@dataclass(frozen=True, slots=True)
class MachineLoad:
    """What the machine tells of itself. None: it does not tell; never a stand-in such as 0."""

    cpu_percent: float | None = None  # of all cores
    memory_mb: float | None = None  # resident, of this process
    gpu_percent: float | None = None
    gpu_memory_mb: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    power_covers: str = ""  # what is in it: whole board, GPU, processors


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell once. A higher number is newer."""

    number: int
    severity: Severity
    text: str
    path: str = ""  # of the file that it tells about


@dataclass(frozen=True, slots=True)
class SessionState:
    """Everything at one moment."""

    source: SourceState = field(default_factory=SourceState)
    running: Choice | None = None  # what makes the results; None until the first engine is up
    model_name: str = ""
    engine_text: str = ""  # engine, device and threads, as the engine describes itself
    labels: Sequence[str] = ()
    score: float | None = None
    iou: float | None = None
    default_score: float | None = None  # the model's own
    default_iou: float | None = None
    building: Choice | None = None  # what is being prepared beside it
    building_since_ns: int = 0
    building_text: str = ""  # the latest word of what is being done
    failure: str = ""  # why nothing is being detected, with the cure; "" while all is well
    recording_to: str = ""
    figures: Figures = field(default_factory=Figures)
    machine: MachineLoad = field(default_factory=MachineLoad)
    notice: Notice | None = None
    ended: bool = False  # the run is over: close the window


class StateStore:
    """The state, replaced as a whole: who reads it never waits, and never sees half a change."""

    def __init__(self, state: SessionState) -> None:
        self._lock = threading.Lock()
        self.state = state

    def note(self, **changes: object) -> None:
        """This holds from now on; any thread."""
        with self._lock:
            self.state = replace(self.state, **changes)  # type: ignore[arg-type]

    def tell(self, text: str, severity: Severity = "warning", path: str = "") -> None:
        """Put a notice up, about the file at ``path`` if there is one; any thread."""
        log.log(logging.INFO if severity == "info" else logging.WARNING, "%s", text)
        with self._lock:
            number = self.state.notice.number + 1 if self.state.notice else 1
            self.state = replace(self.state, notice=Notice(number, severity, text, path))


class LastWord(logging.Handler):
    """What is logged while something is being built is what is being done."""

    def __init__(self, store: StateStore) -> None:
        super().__init__(logging.INFO)
        self._store = store

    def emit(self, record: logging.LogRecord) -> None:
        if self._store.state.building is not None:
            self._store.note(building_text=record.getMessage())
