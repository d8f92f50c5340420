"""A stand-in for a run: notes what the window asks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from app.core.errors import ConfigError
from app.core.filters import Filters
from app.core.frame import SourceInfo
from app.session.state import Catalogue, Choice, Figures, Offer, SessionState, SourceState
from app.sinks.adapters import ResultMailbox
from tests.sinks.kit import CAMERA, LABELS

CLIP_INFO = SourceInfo("clip.mp4", live=True, wh_px=(320, 240), fps=25.0, frame_count=250)
RUNNING = SessionState(
    source=SourceState(
        uri="clip.mp4",
        label="clip.mp4",
        phase="live",
        info=CLIP_INFO,
        recording=True,
        seekable=True,
        paceable=True,
        position_ns=2_000_000_000,
        duration_ns=10_000_000_000,
    ),
    running=Choice(None, "auto"),
    model_name="small",
    engine_text="cpu (fake)",
    labels=LABELS,
    score=0.35,
    iou=0.45,
    default_score=0.35,
    default_iou=0.45,
    figures=Figures(fps=25.0, capture_fps=25.0, age_p50_ms=7.0, age_p95_ms=12.0),
)
CATALOGUE = Catalogue(
    cameras=(
        Offer(
            "Front camera", "camera:0", more=(Offer("640 × 480  YUYV", "camera:0?size=640x480"),)
        ),
        Offer("Back camera", "camera:2"),
    ),
    models=(Offer("small", "small", "3 classes"), Offer("large", "large", "80 classes")),
    engines=(Offer("auto", "auto"), Offer("cpu", "cpu"), Offer("cuda", "cuda")),
)


class FakeShapes:
    """What a run holds of zones and lines; ``write`` refuses what ``refusal`` says."""

    def __init__(self) -> None:
        self.tables: dict[str, list[dict]] = {"zone": [], "line": []}
        self.file: Path | None = None
        self.refusal = ""

    def read(self, source: str = "") -> dict[str, list[dict]]:
        return self.tables

    def write(self, tables, source: str = "") -> None:
        if self.refusal:
            raise ConfigError(self.refusal)
        self.tables = {kind: list(rows) for kind, rows in tables.items()}

    def save(self, file: Path | None = None) -> Path:
        raise NotImplementedError


class FakeFilters:
    """The filters of a run whose model has LABELS."""

    def __init__(self) -> None:
        self.now = Filters()

    def read(self, source: str = "") -> dict:
        return self.now.table()

    def write(self, table, source: str = "") -> None:
        self.now = self.now.changed(table).check(LABELS, "small")


class FakeController:
    """Notes what it is asked for, and does of it what shows at once."""

    def __init__(
        self,
        state: SessionState = RUNNING,
        given: frozenset[str] = frozenset(),
        name: str = "",
    ) -> None:
        self.now, self.given, self.name = state, given, name
        self.asked: list[tuple] = []
        self.has_outputs = False
        self.latest = ResultMailbox()
        self.latest.open(CAMERA, LABELS)
        self.offers = CATALOGUE
        self.shapes = FakeShapes()
        self.filters = FakeFilters()

    def state(self) -> SessionState:
        return self.now

    def take(self):
        return self.latest.take_labelled()

    def set_source(self, **changes) -> None:
        self.now = replace(self.now, source=replace(self.now.source, **changes))

    def set(self, **changes) -> None:
        self.now = replace(self.now, **changes)

    def last(self, name: str) -> tuple:
        return next(each for each in reversed(self.asked) if each[0] == name)

    def was_asked(self, name: str) -> bool:
        return any(each[0] == name for each in self.asked)

    def show_source(self, uri: str) -> None:
        self.asked.append(("show_source", uri))

    def reopen(self) -> None:
        self.asked.append(("reopen",))

    def pause(self, paused: bool) -> None:
        self.asked.append(("pause", paused))
        self.set_source(paused=paused)

    def step(self) -> None:
        self.asked.append(("step",))
        self.set_source(paused=True)

    def seek(self, position_ns: int) -> None:
        self.asked.append(("seek", position_ns))

    def set_speed(self, speed: float) -> None:
        self.asked.append(("set_speed", speed))
        self.set_source(speed=speed)

    def set_loop(self, loop: bool) -> None:
        self.asked.append(("set_loop", loop))
        self.set_source(loop=loop)

    def choose(self, choice: Choice) -> None:
        self.asked.append(("choose", choice))

    def cancel(self) -> None:
        self.asked.append(("cancel",))

    def set_thresholds(self, score: float, iou: float) -> None:
        self.asked.append(("set_thresholds", score, iou))
        self.set(score=score, iou=iou)

    def hide(self, labels: frozenset[str]) -> None:
        self.asked.append(("hide", labels))

    def record(self, path: str) -> None:
        self.asked.append(("record", path))
        self.set(recording_to=path)

    def snapshot(self, stem: str, shown, model: str) -> None:
        self.asked.append(("snapshot", stem, shown, model))

    def save_shapes(self, path: str) -> None:
        self.asked.append(("save_shapes", path))

    def catalogue(self) -> Catalogue:
        return self.offers

    def refresh(self) -> None:
        self.asked.append(("refresh",))
