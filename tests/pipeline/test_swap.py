"""Source and engine of a running pipeline are swapped between two frames."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from app.core.errors import ModelError, SinkError
from app.core.frame import Frame
from app.pipeline.engine import EngineSpec
from app.pipeline.handoff import Policy
from app.pipeline.pipeline import Pipeline
from app.pipeline.player import Opening
from tests.fakes import FakeBackend, FakeSink, FakeSource
from tests.session.kit import ToldSource, until


class Output(FakeSink):
    """Goes on with another source or model."""

    def update(self, source, labels) -> None:
        self.opened = source


def engine(make: Callable[..., FakeBackend] = FakeBackend, **more) -> Callable[[], EngineSpec]:
    return lambda: EngineSpec(lambda wake: make(wake, **more), ("thing",))


class Run:
    """A pipeline that waits for what is swapped in."""

    def __init__(self, **options) -> None:
        self.sink = Output()
        sinks = options.pop("sinks", [self.sink])
        self.pipeline = Pipeline(None, None, sinks, policy=Policy.LATEST, stays=True, **options)
        self.pipeline.start()
        self.source = ToldSource()

    def show(self, source: ToldSource) -> None:
        self.source = source
        self.pipeline.swap_source(source.uri, lambda: Opening(source, source.uri, False))

    def flow(self, count: int = 1) -> None:
        for _ in range(count):
            before = len(self.sink.frames)
            self.source.let(1)
            until(lambda before=before: len(self.sink.frames) > before)

    def turn(self, worker) -> None:
        until(lambda: self.pipeline.engine is worker)


@pytest.fixture
def runs() -> Iterator[Callable[..., Run]]:
    made: list[Run] = []

    def make(**options) -> Run:
        made.append(Run(**options))
        return made[-1]

    yield make
    for run in made:
        run.pipeline.stop()
        run.pipeline.join()
    until(lambda: not [each for each in threading.enumerate() if each.name == "pipeline"])


def test_a_pipeline_that_was_given_both_takes_another_engine() -> None:
    gate, sink = threading.Event(), Output()

    def pace(index: int) -> None:
        if index == 20:
            assert gate.wait(20)

    left: list[FakeBackend] = []

    def first(wake: Callable[[], None]) -> FakeBackend:
        left.append(FakeBackend(wake))
        return left[-1]

    pipeline = Pipeline(
        FakeSource(40, pace=pace), first, [sink], labels=("a",), policy=Policy.LOSSLESS
    )
    pipeline.start()
    until(lambda: len(sink.frames) == 20)
    worker = pipeline.swap_engine(engine())
    until(lambda: pipeline.engine is worker)
    gate.set()
    until(lambda: pipeline.wait(0))
    assert pipeline.join().processed == 40
    assert sink.frames == list(range(40)) and sink.closed == 1 and left[0].left


def test_an_engine_that_cannot_be_built_leaves_the_present_one_at_work(runs) -> None:
    run = runs()
    run.show(ToldSource())
    present = run.pipeline.swap_engine(engine())
    run.turn(present)
    broken = run.pipeline.swap_engine(engine(enter_error=ModelError("bad weights")))
    until(lambda: broken.error is not None)
    run.flow(3)
    assert run.pipeline.engine is present and run.sink.frames == [0, 1, 2]


def test_a_swap_that_is_cancelled_never_takes_its_turn(runs) -> None:
    run, built = runs(), threading.Event()
    run.show(ToldSource())
    present = run.pipeline.swap_engine(engine())
    run.turn(present)

    class Slow(FakeBackend):
        def __enter__(self) -> FakeBackend:
            assert built.wait(20)
            return super().__enter__()

    slow = run.pipeline.swap_engine(engine(Slow))
    run.pipeline.cancel_swap()
    built.set()
    until(lambda: not slow.is_alive())
    run.flow(2)
    assert run.pipeline.engine is present and not slow.turn.is_set()


def test_an_engine_that_is_stuck_is_left_behind_and_reaches_no_sink_later(runs) -> None:
    run = runs()
    held: list[Callable[[], None]] = []

    def hold(frame: Frame, done: Callable[[], None]) -> None:
        held.append(done)

    run.show(ToldSource())
    stuck = run.pipeline.swap_engine(engine(run=hold))
    run.turn(stuck)
    run.source.let(1)
    until(lambda: held)
    fresh = run.pipeline.swap_engine(engine())
    run.turn(fresh)
    run.flow(2)
    for done in held:
        done()
    until(lambda: not stuck.is_alive())
    run.flow(1)
    assert run.sink.frames == [1, 2, 3] and stuck.error is None


def test_an_output_that_is_stuck_is_never_given_results_by_two_engines(runs) -> None:
    freed, at_work = threading.Event(), []

    class Stuck(Output):
        def emit(self, result) -> None:
            at_work.append(threading.current_thread())
            assert freed.wait(30)
            super().emit(result)

    sink = Stuck()
    run = runs(sinks=[sink])
    run.show(ToldSource())
    old = run.pipeline.swap_engine(engine())
    run.turn(old)
    run.source.let(1)
    until(lambda: at_work)
    new = run.pipeline.swap_engine(engine())
    assert not new.turn.wait(2.5), "longer than an engine is waited for"
    run.source.let(1)
    assert at_work == [old]
    freed.set()
    run.turn(new)
    until(lambda: len(sink.frames) == 2)


def test_max_frames_counts_over_engines_and_ends_the_run(runs) -> None:
    run = runs(max_frames=3)
    run.show(ToldSource())
    run.turn(run.pipeline.swap_engine(engine()))
    run.flow(2)
    run.turn(run.pipeline.swap_engine(engine()))
    run.flow(1)
    until(lambda: run.pipeline.wait(0))
    assert run.sink.frames == [0, 1, 2] and run.sink.closed == 1


def test_an_engine_that_fails_is_waited_for_and_old_frames_are_not_kept(runs) -> None:
    run = runs()
    run.show(ToldSource())
    bad = run.pipeline.swap_engine(engine(fail_at=1, error=RuntimeError("fell off the bus")))
    run.turn(bad)
    run.flow(1)
    run.source.let(1)
    until(lambda: not bad.is_alive())
    assert "fell off" in str(bad.error) and run.pipeline.engine is None
    assert not run.pipeline.wait(0) and run.sink.closed == 0
    run.source.let(3)
    until(lambda: run.source.next == 5)  # nobody looks: these are thrown away
    run.turn(run.pipeline.swap_engine(engine()))
    run.source.let(1)
    until(lambda: len(run.sink.frames) == 2)
    assert run.sink.frames == [0, 2], "numbered on behind the one that was lost with the engine"


def test_sources_are_swapped_under_one_engine_and_sinks_are_told(runs) -> None:
    run = runs()
    run.turn(run.pipeline.swap_engine(engine()))
    sources = [ToldSource(name) for name in ("one", "two", "three")]
    for source in sources:
        run.show(source)
        run.flow(2)
        assert run.sink.opened is not None and run.sink.opened.uri == source.uri
    assert run.sink.frames == list(range(6))
    assert [run.pipeline.info_of(i).uri for i in (0, 2, 5)] == ["one", "two", "three"]
    until(lambda: sources[0].closed == sources[1].closed == 1)
    assert run.pipeline.counts().captured == 6 and not run.pipeline.counts().dropped


def test_finish_delivers_what_waits_and_ends_the_run(runs) -> None:
    run = runs()
    run.show(ToldSource())
    run.turn(run.pipeline.swap_engine(engine()))
    run.flow(2)
    run.pipeline.finish()
    until(lambda: run.pipeline.wait(0))
    assert run.sink.closed == 1


def test_sinks_are_closed_even_if_no_engine_ever_came(runs) -> None:
    opened = FakeSink()
    run = runs(sinks=[opened])
    run.show(ToldSource())
    run.pipeline.stop()
    run.pipeline.join()
    assert opened.closed == 0 and opened.opened is None, "it was never opened"


def test_faults_of_sinks_are_told_and_kept(runs) -> None:
    told: list[str] = []
    full, good = FakeSink(fail_at=1, error=SinkError("disk full")), FakeSink()
    run = runs(sinks=[full, good], on_fault=lambda error: told.append(str(error)))
    run.sink = good
    run.show(ToldSource())
    run.turn(run.pipeline.swap_engine(engine()))
    run.flow(3)
    assert told == ["disk full"] and full.frames == [0] and full.closed == 1
    assert [str(each) for each in run.pipeline.faults] == told
