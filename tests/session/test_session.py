"""Engines take over between frames, give way when they fail, and end in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from app.config import Config
from app.core.errors import DeviceError, ModelError, ReaderGone, SinkError
from app.core.frame import Frame
from app.pipeline.capture import StreamSpec
from app.session.engine_switch import Prepared
from app.session.recording import RecordingSink
from app.session.session import Session, SessionSource
from app.session.state import Choice
from tests.fakes import FakeBackend, FakeSink
from tests.session.kit import Shop, ToldSource, until


class TunableBackend(FakeBackend):
    """Takes thresholds while it runs."""

    tuned: tuple[float, float] | None = None

    def tune(self, *, score: float, iou: float) -> None:
        self.tuned = score, iou


class Bench:
    """A session over told sources; ``engines`` says what each choice of a model does."""

    def __init__(self, *, stay: bool = True, config: Config | None = None, kept=()) -> None:
        self.source = ToldSource("cam")
        self.other = ToldSource("other")
        self.shop = Shop(cam=self.source, other=self.other)
        self.shown = FakeSink()
        self.asked: list[tuple] = []
        self.built: list[FakeBackend] = []
        self.engines: dict[str | None, Callable[[], FakeBackend]] = {}
        self.prepare_error: dict[str | None, Exception] = {}
        self.gate: dict[str | None, threading.Event] = {}
        self.canary: Canary | None = None
        self.recording = RecordingSink(lambda path: FakeSink(), lambda text, how, path: None)
        stream = StreamSpec(None, [self.shown, *kept])
        self.session = Session(
            [SessionSource(self.shop, stream, self.recording)],
            self.prepare,
            choice=Choice(),
            config=config or Config(),
            stay=stay,
        )

    def prepare(self, choice: Choice, score, iou) -> Prepared:
        self.asked.append((choice, score, iou))
        if choice.model in self.gate:
            assert self.gate[choice.model].wait(20)
        if choice.model in self.prepare_error:
            raise self.prepare_error[choice.model]

        def factory(wake):
            kind = self.engines.get(choice.model, lambda wake: FakeBackend(wake))
            backend = kind(wake)
            backend.description = f"{choice.model} on {choice.engine}"
            self.built.append(backend)
            return backend

        labels = (f"{choice.model}-label",)
        name, score, iou = str(choice.model), score or 0.35, iou or 0.45
        return Prepared(factory, name, labels, score, iou, 0.35, 0.45, self.canary)

    def start(self) -> Bench:
        self.session.start("cam")
        until(lambda: self.state.running is not None)
        return self

    @property
    def state(self):
        return self.session.state()

    def flow(self, count: int = 1, source: ToldSource | None = None) -> None:
        """So many frames, each of them all the way."""
        for _ in range(count):
            before = len(self.shown.frames)
            (source or self.source).let(1)
            until(lambda before=before: len(self.shown.frames) > before)


@pytest.fixture
def benches() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**options) -> Bench:
        made.append(Bench(**options))
        return made[-1]

    yield make
    for bench in made:
        for gate in bench.gate.values():
            gate.set()
        bench.session.stop()
        assert bench.session.join(10)
        assert all(backend.left for backend in bench.built)


def test_results_flow_and_the_state_tells(benches) -> None:
    bench = benches().start()
    bench.flow(3)
    assert bench.shown.frames == [0, 1, 2]
    until(lambda: bench.state.figures.processed == 3)
    assert bench.state.model_name == "None" and bench.state.engine_text == "None on auto"
    assert bench.state.labels == ("None-label",) and bench.state.score == 0.35


def test_new_model_takes_over_between_frames_and_none_is_lost(benches) -> None:
    bench = benches().start()
    bench.flow(2)
    gate = bench.gate["large"] = threading.Event()
    bench.session.choose(Choice("large", "cpu"))
    until(lambda: bench.state.building == Choice("large", "cpu"))
    bench.flow(3)  # the old one goes on meanwhile
    assert bench.state.running == Choice()
    gate.set()
    until(lambda: bench.state.running == Choice("large", "cpu"))
    bench.flow(2)
    assert bench.shown.frames == list(range(7))
    assert bench.built[0].left and not bench.built[1].left
    until(lambda: bench.state.figures.processed == 7)
    assert bench.source.opened == 1, "the source was opened again for it"


@pytest.mark.parametrize("where", ["prepare", "enter"])
def test_model_that_fails_leaves_the_running_one_alone(benches, where: str) -> None:
    bench = benches().start()
    error = ModelError("weights are damaged: fetch them")
    if where == "prepare":
        bench.prepare_error["bad"] = error
    else:
        bench.engines["bad"] = lambda wake: FakeBackend(wake, enter_error=error)
    bench.session.choose(Choice("bad", "auto"))
    until(lambda: bench.state.notice is not None)
    assert "fetch them" in bench.state.notice.text and "going on" in bench.state.notice.text
    assert bench.state.running == Choice() and bench.state.building is None
    bench.flow(2)
    if where == "enter":
        bench.built[1].left = True  # it was never entered


def test_first_model_that_fails_is_told_with_its_cure_and_another_can_be_chosen(benches) -> None:
    bench = benches()
    bench.prepare_error[None] = ModelError("no model: add one")
    bench.session.start("cam")
    until(lambda: bench.state.failure)
    assert bench.state.failure == "no model: add one"
    bench.session.choose(Choice("good", "cpu"))
    until(lambda: bench.state.running == Choice("good", "cpu"))
    assert bench.state.failure == "" and bench.session.error is None
    bench.flow(1)


def test_choice_of_the_last_time_that_fails_at_the_start_gives_way_to_the_first(benches) -> None:
    bench = benches()
    bench.prepare_error["gone"] = ModelError("gone is no model")
    bench.session.choose(Choice("gone", "auto"))
    bench.start()
    assert bench.state.running == Choice()
    assert "gone is no model" in bench.state.notice.text


def test_newer_choice_replaces_one_that_is_being_built(benches) -> None:
    bench = benches().start()
    gate = bench.gate["slow"] = threading.Event()
    bench.session.choose(Choice("slow", "auto"))
    until(lambda: bench.state.building == Choice("slow", "auto"))
    bench.session.choose(Choice("quick", "auto"))
    until(lambda: bench.state.running == Choice("quick", "auto"))
    gate.set()
    time.sleep(0.2)
    assert bench.state.running == Choice("quick", "auto")


def test_switch_can_be_cancelled(benches) -> None:
    bench = benches().start()
    bench.gate["slow"] = threading.Event()
    bench.session.choose(Choice("slow", "auto"))
    until(lambda: bench.state.building is not None)
    bench.session.cancel()
    until(lambda: bench.state.building is None)
    bench.flow(1)


def test_gpu_that_fails_under_way_gives_way_to_the_cpu_and_it_is_told(benches) -> None:
    bench = benches()
    error = DeviceError("the GPU fell off the bus: see dmesg")

    def broken_on_gpu(wake):
        return FakeBackend(
            wake, fail_at=1 if bench.asked[-1][0].engine == "cuda" else None, error=error
        )

    bench.engines["m"] = broken_on_gpu
    bench.start()
    bench.session.choose(Choice("m", "cuda"))
    until(lambda: bench.state.running == Choice("m", "cuda"))
    bench.flow(1)
    bench.source.let(1)
    until(lambda: bench.state.running == Choice("m", "cpu"))
    assert "fell off the bus" in bench.state.notice.text and "CPU" in bench.state.notice.text
    bench.flow(1)
    assert bench.session.error is None


def test_model_that_fails_under_way_is_told_and_the_session_lives(benches) -> None:
    bench = benches()
    bench.engines[None] = lambda wake: FakeBackend(wake, fail_at=1, error=ModelError("bad shape"))
    bench.start()
    bench.flow(1)
    bench.source.let(1)
    until(lambda: bench.state.failure == "bad shape")
    assert bench.session.error is not None and bench.session.error.exit_code == 4
    bench.session.choose(Choice("good", "auto"))
    until(lambda: bench.state.running == Choice("good", "auto"))
    bench.flow(1)


def test_thresholds_change_in_place_where_the_engine_can(benches) -> None:
    bench = benches()
    bench.engines[None] = TunableBackend
    bench.start()
    bench.session.set_thresholds(0.6, 0.5)
    until(lambda: bench.built[0].tuned == (0.6, 0.5))
    assert bench.state.score == 0.6 and len(bench.built) == 1


def test_thresholds_build_an_engine_anew_that_cannot(benches) -> None:
    bench = benches().start()
    bench.session.set_thresholds(0.6, 0.5)
    until(lambda: len(bench.built) == 2 and bench.state.building is None)
    assert bench.asked[-1] == (Choice(), 0.6, 0.5) and bench.state.iou == 0.5


def test_another_model_gets_its_own_thresholds(benches) -> None:
    bench = benches(config=Config(score=0.7)).start()
    assert bench.asked[0][1] == 0.7
    bench.session.choose(Choice("other", "auto"))
    until(lambda: bench.state.running == Choice("other", "auto"))
    assert bench.asked[-1][1:] == (None, None)


def test_outputs_of_the_command_line_are_opened_once(benches) -> None:
    output = FakeSink()
    bench = benches(kept=[output]).start()
    opened: list[str] = []
    output.update = lambda source, labels: opened.append(f"{source.uri} {labels[0]}")
    bench.flow(2)
    bench.session.choose(Choice("large", "auto"))
    until(lambda: bench.state.running == Choice("large", "auto"))
    bench.flow(1)
    bench.session.sources[0].show("other")
    bench.flow(1, bench.other)
    assert output.frames == [0, 1, 2, 3] and output.closed == 0
    assert opened == ["cam large-label", "other large-label"]
    bench.session.stop()
    assert bench.session.join(10)
    assert output.closed == 1


def test_output_that_fails_is_told_and_the_window_goes_on(benches) -> None:
    output = FakeSink(fail_at=1, error=SinkError("the disk is full"))
    bench = benches(kept=[output]).start()
    bench.flow(4)
    assert bench.state.notice.text == "the disk is full" and output.frames == [0]
    bench.session.stop()
    assert bench.session.join(10)
    assert isinstance(bench.session.error, SinkError), "the exit code tells of it"


def test_reader_that_leaves_ends_the_run(benches) -> None:
    bench = benches(kept=[FakeSink(fail_at=1, error=ReaderGone("gone"))]).start()
    bench.flow(1)
    bench.source.let(1)
    until(lambda: bench.state.ended)
    assert bench.session.error is None


def test_max_frames_counts_over_engines(benches) -> None:
    bench = benches(config=Config(max_frames=4)).start()
    bench.flow(2)
    bench.session.choose(Choice("large", "auto"))
    until(lambda: bench.state.running == Choice("large", "auto"))
    until(lambda: bench.source.let(1) or bench.state.ended)
    assert len(bench.shown.frames) == 4
    assert bench.session.stats().processed == 4


def test_end_of_the_recording_ends_a_run_that_does_not_stay(benches) -> None:
    bench = benches(stay=False)
    bench.source._count = 3
    bench.shop.recordings.add("cam")
    bench.source.let(3)
    bench.session.start("cam")
    until(lambda: bench.state.ended)
    assert bench.shown.frames[-1] == 2, "the last frame was delivered"


def test_engine_that_never_returns_does_not_keep_the_session_from_answering(benches) -> None:
    bench = benches()
    held: list[Callable[[], None]] = []
    bench.engines[None] = lambda wake: FakeBackend(wake, run=lambda frame, done: held.append(done))
    bench.start()
    bench.source.let(1)
    until(lambda: held)
    began_s = time.monotonic()
    bench.session.state(), bench.session.stop()
    assert time.monotonic() - began_s < 10
    held[0]()


def test_recording_follows_its_switch_and_survives_a_change_of_model(benches, tmp_path) -> None:
    bench = benches()
    files: list[FakeSink] = []
    said: list[str] = []

    def make(path: str) -> FakeSink:
        files.append(FakeSink())
        files[-1].update = lambda source, labels: None
        return files[-1]

    recording = bench.recording
    recording._make, recording._tell = make, lambda text, how, path: said.append(text)
    bench.start()
    bench.flow(1)
    path = str(tmp_path / "new" / "a.mp4")
    recording.switch(path)
    until(lambda: files)
    bench.flow(2)
    bench.session.choose(Choice("large", "auto"))
    until(lambda: bench.state.running == Choice("large", "auto"))
    bench.flow(1)
    recording.switch("")
    until(lambda: said)
    bench.flow(1)
    assert files[0].frames == [1, 2, 3] and files[0].closed == 1
    assert said == [f"Recorded {path}"] and bench.state.recording_to == ""


def test_source_whose_driver_hangs_is_left_behind_in_time(benches) -> None:
    bench = benches().start()
    bench.flow(1)
    bench.source.hang.set()
    until(lambda: bench.source.hangs)
    bench.session.stop()
    began_s = time.monotonic()
    assert bench.session.join(10)
    assert time.monotonic() - began_s < 10 and bench.shown.closed == 1
    bench.source.hang.clear()


class Canary:
    """Between any two frames; ``error`` is what its next answer raises."""

    def __init__(self) -> None:
        self.turn, self.judged, self.tuned = 0, 0, []
        self.error: Exception | None = None
        self.on_gpu = False

    def due(self):
        self.turn += 1
        return Frame(np.zeros((3, 4, 3), np.uint8), -1, 0) if self.turn % 2 else None

    def judge(self, detections) -> None:
        self.judged += 1
        if self.error is not None:
            raise self.error

    def tune(self, *, score: float, iou: float) -> None:
        self.tuned.append((score, iou))


def test_canary_goes_along_and_hears_of_thresholds(benches) -> None:
    bench = benches()
    bench.engines[None] = TunableBackend
    canary = bench.canary = Canary()
    bench.start()
    bench.flow(2)
    until(lambda: canary.judged)
    assert bench.shown.frames == [0, 1], "the window saw the canary's picture"
    bench.session.set_thresholds(0.6, 0.5)
    until(lambda: canary.tuned == [(0.6, 0.5)])


def test_gpu_that_computes_wrongly_gives_way_to_the_cpu(benches) -> None:
    bench = benches()
    canary = bench.canary = Canary()
    bench.start()
    bench.flow(1)
    canary.error = DeviceError("canary: the GPU computes wrongly")
    bench.source.let(2)
    until(lambda: bench.state.notice is not None)
    assert "computes wrongly" in bench.state.notice.text and "CPU" in bench.state.notice.text
    canary.error = None
    until(lambda: bench.state.running == Choice(None, "cpu"))
    bench.flow(1)


def test_age_limit_can_be_changed_while_it_runs(benches) -> None:
    bench = benches()
    bench.engines[None] = TunableBackend
    bench.start()
    assert bench.session.tune(score=0.6, iou=0.5, max_age_ms=0.000001)
    until(lambda: bench.state.score == 0.6)
    until(lambda: bench.source.let(1) or bench.state.figures.dropped.get("stale"))


@pytest.mark.parametrize("held", ["paused", "ended"])
@pytest.mark.parametrize("change", ["thresholds", "model", "filter"])
def test_frame_that_stands_is_seen_anew_after_a_change(benches, held: str, change: str) -> None:
    bench = benches()
    bench.engines[None] = TunableBackend
    bench.source._count = 3
    bench.shop.recordings.add("cam")
    bench.start()
    bench.flow(2)
    if held == "paused":
        bench.session.sources[0].pause(True)
    else:
        bench.flow(1)
        bench.source.let(1)
        until(lambda: bench.state.source.phase == "ended")
    before = len(bench.shown.frames)
    if change == "thresholds":
        bench.session.set_thresholds(0.7, 0.45)
    elif change == "model":
        bench.session.choose(Choice("large", "cpu"))
    else:
        bench.session.refilter()
    until(lambda: len(bench.shown.frames) > before)
    assert bench.shown.frames == list(range(before + 1)), "numbers go on"
    assert bench.source.next == before, "no frame was read for it"
    if change == "model":
        assert bench.state.model_name == "large"
    if held == "paused":
        bench.session.sources[0].pause(False)
        bench.flow(1)
        assert bench.shown.frames == list(range(before + 2))


def test_flowing_frames_are_not_seen_twice(benches) -> None:
    bench = benches()
    bench.engines[None] = TunableBackend
    bench.start()
    bench.flow(2)
    bench.session.set_thresholds(0.7, 0.45)
    until(lambda: bench.built[0].tuned == (0.7, 0.45))
    bench.flow(2)
    assert bench.shown.frames == [0, 1, 2, 3]
