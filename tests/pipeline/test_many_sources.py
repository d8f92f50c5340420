"""Several sources in one pipeline: whose turn it is, batches, faults, and figures of each."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from app.core.detections import Result
from app.core.errors import SourceError
from app.core.frame import Frame, SourceInfo
from app.core.stats import Meter
from app.pipeline.capture import SourceGroup, StreamSpec
from app.pipeline.handoff import Policy
from app.pipeline.pipeline import Pipeline
from tests.fakes import FakeBackend, FakeSink, FakeSource
from tests.pipeline.test_pipeline import finish


class Keeper:
    """A sink that keeps (name of the source, index) and that of the frame."""

    def __init__(self, into: list[tuple[str, int, int]]) -> None:
        self._into, self._name = into, ""

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self._name = source.name

    def emit(self, result: Result) -> None:
        self._into.append((self._name, result.frame.index, result.frame.lane))

    def close(self) -> None:
        """Nothing to do."""


def build(sources: Mapping[str, Any], **options: Any) -> tuple[Pipeline, list[Any]]:
    got: list[tuple[str, int, int]] = []
    lanes = [StreamSpec(source, [Keeper(got)], name) for name, source in sources.items()]
    options = {"policy": Policy.LOSSLESS, "make_backend": FakeBackend, **options}
    first = lanes[0]
    pipeline = Pipeline(
        first.source,
        sinks=first.sinks,
        name=first.name,
        labels=("a",),
        more=lanes[1:],
        **options,
    )
    return pipeline, got


def test_each_frame_reaches_the_sinks_of_its_own_source_in_order() -> None:
    pipeline, got = build({"a": FakeSource(40), "b": FakeSource(25), "c": FakeSource(1)})
    stats = finish(pipeline)
    for number, (name, count) in enumerate((("a", 40), ("b", 25), ("c", 1))):
        assert [g[1:] for g in got if g[0] == name] == [(i, number) for i in range(count)]
    counts = {name: each.processed for name, each in stats.sources.items()}
    assert counts == {"a": 40, "b": 25, "c": 1}
    assert stats.processed == stats.captured == 66
    assert all(each.captured == each.processed for each in stats.sources.values())


def test_turns_go_round_while_all_have_frames() -> None:
    """One that floods gets no more than its share."""
    lanes = [StreamSpec(FakeSource(9), [], name) for name in "abc"]
    intake = SourceGroup(lanes, Policy.LOSSLESS, meter=Meter(), stall_s=1)
    pixels = np.zeros((2, 2, 3), np.uint8)

    def put(lane: int, *indices: int) -> None:
        for index in indices:
            assert intake.streams[lane].handoff.put(Frame(pixels, index, index, lane=lane), 1)

    def take(count: int) -> list[tuple[int, int]]:
        frames = [intake.take() for _ in range(count)]
        return [(frame.lane, frame.index) for frame in frames if frame is not None]

    for lane in range(3):
        intake.streams[lane].meter.state = "live"
        put(lane, 7, 8)
    assert intake.waiting() == (3, 3, 7)
    assert take(6) == [(0, 7), (1, 7), (2, 7), (0, 8), (1, 8), (2, 8)]
    put(1, 9, 10)
    assert take(1) == [(1, 9)]
    put(0, 9)
    assert take(3) == [(0, 9), (1, 10)], "it goes on behind the one that was served last"
    intake.streams[2].meter.state = "reconnecting"
    assert intake.waiting() == (0, 2, 0), "nobody waits for the frames of one that is away"


def test_one_source_that_fails_leaves_the_others_running_and_is_told_at_the_end() -> None:
    broken = FakeSource(50, fail_at=3, error=SourceError("unplugged"))
    pipeline, got = build({"good": FakeSource(40), "bad": broken})
    with pytest.raises(SourceError, match="unplugged"):
        finish(pipeline)
    assert Counter(g[0] for g in got) == {"good": 40, "bad": 3}
    stats = pipeline.stats()
    assert stats.sources["bad"].state == "failed" and stats.sources["good"].state == "ended"
    assert "unplugged" in stats.sources["bad"].cause
    assert stats.state == "ended", "of several the state is that of the one that is best off"


def test_a_source_that_cannot_be_opened_does_not_keep_the_others_waiting() -> None:
    never = FakeSource(1, open_error=SourceError("no such camera"))
    pipeline, got = build({"never": never, "good": FakeSource(10)})
    with pytest.raises(SourceError, match="no such camera"):
        finish(pipeline)
    assert [g[0] for g in got] == ["good"] * 10


def test_a_read_that_never_returns_ends_its_own_source_only() -> None:
    free = threading.Event()
    stuck = FakeSource(5, live=True, pace=lambda i: free.wait(30) and None if i == 2 else None)
    pipeline, got = build({"stuck": stuck, "good": FakeSource(10)}, stall_s=0.3)
    try:
        with pytest.raises(SourceError, match="has not returned"):
            finish(pipeline)
    finally:
        free.set()
    assert Counter(g[0] for g in got) == {"good": 10, "stuck": 2}


def test_max_frames_counts_all_sources_together() -> None:
    pipeline, got = build({"a": FakeSource(100), "b": FakeSource(100)}, max_frames=15)
    assert finish(pipeline).processed == len(got) == 15


def test_frames_of_several_sources_go_through_together_and_come_apart_again() -> None:
    made: list[FakeBackend] = []

    def backend(wake: Callable[[], None]) -> FakeBackend:
        made.append(FakeBackend(wake, slots=1, capacity=4))
        return made[0]

    sources = {name: FakeSource(20) for name in "abcdef"}
    pipeline, got = build(sources, make_backend=backend)
    stats = finish(pipeline)
    assert stats.processed == len(got) == 120
    for number, name in enumerate("abcdef"):
        assert [g[1:] for g in got if g[0] == name] == [(i, number) for i in range(20)]
    sizes = Counter(len(batch) for batch in made[0].batches)
    assert max(sizes) == 4 and sizes[4] > 10, sizes


def test_a_batch_never_takes_more_than_the_frames_that_are_still_wanted() -> None:
    sources = {name: FakeSource(20) for name in "abcdef"}
    make = partial(FakeBackend, slots=1, capacity=4)
    pipeline, got = build(sources, make_backend=make, max_frames=10)
    assert finish(pipeline).processed == len(got) == 10


def test_shared_sinks_open_once_and_close_with_the_last() -> None:
    from app.sinks.adapters import Shared

    inner = FakeSink()
    shared = Shared(inner)
    lanes = [StreamSpec(FakeSource(5), [shared], name) for name in "abc"]
    pipeline = Pipeline(
        lanes[0].source,
        FakeBackend,
        lanes[0].sinks,
        name="a",
        labels=("a",),
        policy=Policy.LOSSLESS,
        more=lanes[1:],
    )
    finish(pipeline)
    assert len(inner.frames) == 15 and inner.closed == 1
