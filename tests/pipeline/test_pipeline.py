"""The pipeline: order, drops, ends and errors, with every part a fake that can be told to fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from app.core.errors import ReaderGone, SinkError, SourceError
from app.core.frame import Frame, SourceInfo
from app.core.interfaces import SourceListener, TellsItsState
from app.core.stats import PipelineStats
from app.pipeline.handoff import Policy
from app.pipeline.pipeline import Pipeline
from tests.fakes import FakeBackend, FakeSink, FakeSource


def build(
    source: Any,
    sinks: Sequence[Any] = (),
    *,
    policy: Policy = Policy.LOSSLESS,
    backend: Callable[..., FakeBackend] = FakeBackend,
    **options: Any,
) -> tuple[Pipeline, list[FakeBackend]]:
    made: list[FakeBackend] = []

    def factory(wake: Callable[[], None]) -> FakeBackend:
        made.append(backend(wake))
        return made[0]

    return Pipeline(source, factory, sinks, labels=("a",), policy=policy, **options), made


def finish(pipeline: Pipeline) -> PipelineStats:
    pipeline.start()
    for _ in range(300):
        if pipeline.wait(0.1):
            return pipeline.join()
    raise AssertionError("the pipeline did not end")


def settled(stats: PipelineStats) -> bool:
    return stats.captured == stats.processed + sum(stats.dropped.values())


def test_lossless_delivers_every_frame_in_order_with_its_own_boxes() -> None:
    source, sink = FakeSource(200), FakeSink()
    stats = finish(build(source, [sink])[0])
    assert sink.frames == sink.classes == list(range(200))
    assert stats.processed == 200 and not stats.dropped and settled(stats)
    assert source.closed and sink.closed == 1


def test_slots_that_finish_out_of_order_are_delivered_in_order() -> None:
    waiting: list[Callable[[], None]] = []

    def run(frame: Frame, done: Callable[[], None]) -> None:
        if frame.index % 2 == 0 and frame.index < 98:  # waits for the odd one after it
            waiting.append(done)
        else:
            done()
            while waiting:
                waiting.pop()()

    sink = FakeSink()
    finish(build(FakeSource(99), [sink], backend=lambda wake: FakeBackend(wake, run=run))[0])
    assert sink.frames == sink.classes == list(range(99))


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_slots_are_a_ceiling_of_frames_in_flight(slots: int) -> None:
    def run(frame: Frame, done: Callable[[], None]) -> None:
        threading.Timer(0.001, done).start()

    pipeline, made = build(
        FakeSource(40), backend=lambda wake: FakeBackend(wake, slots=slots, run=run)
    )
    finish(pipeline)
    assert made[0].most_in_flight == slots


def test_latest_drops_what_it_has_no_time_for_and_counts_it() -> None:
    gate = threading.Event()

    def run(frame: Frame, done: Callable[[], None]) -> None:
        threading.Thread(target=lambda: (gate.wait(10), done())).start()

    def pace(index: int) -> None:
        if index == 50:
            gate.set()

    sink = FakeSink()
    pipeline, made = build(
        FakeSource(50, live=True, pace=pace),
        [sink],
        policy=Policy.LATEST,
        backend=lambda wake: FakeBackend(wake, run=run),
    )
    stats = finish(pipeline)
    assert sink.frames == sorted(sink.frames) and sink.frames[-1] == 49, "the newest is processed"
    assert stats.captured == 50 and stats.dropped["replaced"] > 40 and settled(stats)
    assert made[0].most_in_flight <= 2


def test_frames_older_than_the_budget_are_dropped_as_stale() -> None:
    gate = threading.Event()
    started = [threading.Event(), threading.Event()]

    def run(frame: Frame, done: Callable[[], None]) -> None:
        if frame.index < 2:
            started[frame.index].set()
        threading.Thread(target=lambda: (gate.wait(10), done())).start()

    def pace(index: int) -> None:
        if index in (1, 2):
            assert started[index - 1].wait(10)
        if index == 3:  # 0 and 1 are in flight; 2 waits until it is too old
            threading.Event().wait(0.3)
            gate.set()
            while not stats().dropped:
                threading.Event().wait(0.01)

    sink = FakeSink()
    pipeline, _ = build(
        FakeSource(4, live=True, pace=pace),
        [sink],
        policy=Policy.LATEST,
        backend=lambda wake: FakeBackend(wake, run=run),
        max_age_ms=100,
    )
    stats = pipeline.stats
    final = finish(pipeline)
    assert sink.frames == [0, 1, 3] and final.dropped == {"stale": 1} and settled(final)


def test_frames_that_the_source_passed_over_are_counted() -> None:
    class Gappy(FakeSource):
        def read(self, timeout_s: float) -> Frame | None:
            frame = super().read(timeout_s)
            return frame and replace(frame, index=frame.index * 3)

    stats = finish(build(Gappy(10))[0])
    assert stats.processed == 10 and stats.dropped == {"skipped": 18} and settled(stats)


def test_max_frames_ends_the_run() -> None:
    sink = FakeSink()
    stats = finish(build(FakeSource(1000), [sink], max_frames=7)[0])
    assert sink.frames == list(range(7)) and stats.processed == 7 and settled(stats)


def test_stop_delivers_what_is_in_flight_and_closes_everything() -> None:
    source, sink = FakeSource(10**9), FakeSink()
    pipeline, made = build(source, [sink])
    pipeline.start()
    while len(sink.frames) < 10:
        pipeline.wait(0.01)
    pipeline.stop()
    stats = pipeline.join()
    assert sink.frames == list(range(len(sink.frames))) and settled(stats)
    assert source.closed and sink.closed == 1 and made[0].left and made[0].in_flight == 0


def test_each_part_stays_on_its_own_thread() -> None:
    source = FakeSource(5)
    pipeline, made = build(source)
    finish(pipeline)
    assert source.threads == {"capture"}
    assert made[0].threads == ["pipeline", "pipeline"]


def test_a_source_error_comes_after_the_frames_before_it() -> None:
    source = FakeSource(100, fail_at=30, error=SourceError("cut"))
    sink = FakeSink()
    with pytest.raises(SourceError, match="cut"):
        finish(build(source, [sink])[0])
    assert sink.frames == list(range(30)) and source.closed and sink.closed == 1


def test_a_source_that_does_not_open_ends_the_run() -> None:
    sink = FakeSink()
    with pytest.raises(SourceError, match="no camera"):
        finish(build(FakeSource(1, open_error=SourceError("no camera")), [sink])[0])
    assert sink.opened is None


def test_a_backend_error_stops_the_source() -> None:
    source, sink = FakeSource(10**9), FakeSink()
    with pytest.raises(RuntimeError, match="network"):
        finish(build(source, [sink], backend=lambda wake: FakeBackend(wake, fail_at=5))[0])
    assert sink.frames == [0, 1, 2, 3, 4] and source.closed and sink.closed == 1


def test_the_state_tells_that_only_the_engine_is_awaited() -> None:
    """An engine may take minutes to build; what it remarks is known at the end."""
    built = threading.Event()

    class Slow(FakeBackend):
        def __enter__(self) -> FakeBackend:
            assert built.wait(10)
            return super().__enter__()

    pipeline, _ = build(FakeSource(20), backend=Slow)
    pipeline.start()
    for _ in range(200):
        if pipeline.stats().state != "opening":
            break
        pipeline.wait(0.05)
    assert pipeline.stats().state == "building"
    built.set()
    while not pipeline.wait(0.1):
        pass
    assert pipeline.join().state != "building"
    assert pipeline.backend_remarks == ("nothing much",)


def test_a_source_that_tells_its_state_is_heard() -> None:
    """What it says stands; "live" is not put over it when it opens."""

    class Telling(FakeSource):
        def listen(self, listener: SourceListener) -> None:
            self.listener = listener

        def open(self) -> SourceInfo:
            assert self.listener is not None  # told before it opens
            return super().open()

        def read(self, timeout_s: float) -> Frame | None:
            frame = super().read(timeout_s)
            if frame is not None and frame.index == 5:
                self.listener.state_changed("stalled", "no frame")
                self.listener.noticed("stalls")
            if frame is not None and frame.index == 6:
                states.append(pipeline.status().state)
            return frame

    states: list[str] = []
    pipeline = build(Telling(20, live=True))[0]
    stats = finish(pipeline)
    assert states == ["stalled"] and stats.events == {"stalls": 1}
    assert stats.state == "ended", "it is over, and neither live nor stalled"
    assert isinstance(Telling(1), TellsItsState) and not isinstance(FakeSource(1), TellsItsState)


def test_a_backend_that_does_not_start_ends_the_run() -> None:
    source = FakeSource(10**9)
    with pytest.raises(RuntimeError, match="weights"):
        finish(
            build(
                source, backend=lambda wake: FakeBackend(wake, enter_error=RuntimeError("weights"))
            )[0]
        )
    assert source.closed


def test_a_sink_error_stops_the_run_and_closes_all_sinks() -> None:
    good, bad = FakeSink(), FakeSink(fail_at=3, error=SinkError("disk full"))
    with pytest.raises(SinkError, match="disk full"):
        finish(build(FakeSource(10**9), [good, bad])[0])
    assert good.closed == bad.closed == 1


def test_a_sink_that_fails_to_close_does_not_hide_the_first_error_nor_keep_others_open() -> None:
    class Unclosable(FakeSink):
        def close(self) -> None:
            super().close()
            raise SinkError("cannot finish")

    good, bad = FakeSink(), Unclosable(fail_at=3, error=SinkError("disk full"))
    with pytest.raises(SinkError, match="disk full"):
        finish(build(FakeSource(10**9), [good, bad])[0])
    assert good.closed == bad.closed == 1
    with pytest.raises(SinkError, match="cannot finish"):
        finish(build(FakeSource(3), [Unclosable()])[0])


def test_a_reader_that_left_is_a_clean_end() -> None:
    sink = FakeSink(fail_at=3, error=ReaderGone("the reader left"))
    stats = finish(build(FakeSource(10**9), [sink])[0])
    assert sink.frames == [0, 1, 2] and sink.closed == 1
    assert stats.captured == 4 + sum(stats.dropped.values()), "frame 3 was processed, not taken"


def test_the_first_error_wins() -> None:
    pipeline, _ = build(FakeSource(10**9))
    pipeline.start()
    pipeline.fail(SourceError("first"))
    pipeline.fail(SourceError("second"))
    with pytest.raises(SourceError, match="first"):
        pipeline.join()


def test_a_driver_that_never_returns_is_told_and_left_behind() -> None:
    forever = threading.Event()

    def pace(index: int) -> None:
        if index == 2:
            forever.wait(60)

    sink = FakeSink()
    try:
        with pytest.raises(SourceError, match="has not returned"):
            finish(
                build(
                    FakeSource(10, live=True, pace=pace),
                    [sink],
                    policy=Policy.LATEST,
                    stall_s=0.3,
                )[0]
            )
    finally:
        forever.set()
    assert sink.frames[-1] == 1


def test_waiting_for_room_is_not_taken_for_a_dead_source() -> None:
    class SlowSink(FakeSink):
        def emit(self, result: Any) -> None:
            threading.Event().wait(0.5)
            super().emit(result)

    sink = SlowSink()
    finish(build(FakeSource(5, live=True), [sink], stall_s=0.2)[0])
    assert sink.frames == [0, 1, 2, 3, 4]


def test_an_output_that_takes_nothing_does_not_hold_up_a_stop() -> None:
    release, entered = threading.Event(), threading.Event()

    class Stuck(FakeSink):
        def emit(self, result: Any) -> None:
            entered.set()
            release.wait(30)

    pipeline, _ = build(FakeSource(10**9), [Stuck()])
    pipeline.start()
    try:
        assert entered.wait(10)
        pipeline.stop()
        with pytest.raises(SinkError, match="does not take"):
            pipeline.join()
    finally:
        release.set()


def test_a_fault_behind_the_last_frame_wanted_is_no_fault() -> None:
    source = FakeSource(100, fail_at=12, error=SourceError("cut"))
    stats = finish(build(source, max_frames=10)[0])
    assert stats.processed == 10


def test_ages_and_stages_are_measured() -> None:
    stats = finish(build(FakeSource(20))[0])
    assert 0 < stats.age_ms[0] <= stats.age_ms[1] <= stats.age_ms[2]
    assert {"read", "network", "sinks"} <= set(stats.stages_ms)
    assert stats.overall_fps > 0
