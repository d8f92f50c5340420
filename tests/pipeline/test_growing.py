"""Sources that come and go while a pipeline runs, and what a lease lets through."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from app.core.detections import Result
from app.core.frame import SourceInfo
from app.pipeline.capture import StreamSpec
from app.pipeline.handoff import Policy
from app.pipeline.pipeline import Pipeline
from app.sources.pattern import PatternOptions, PatternSource
from tests.fakes import FakeBackend
from tests.sinks.mqtt.broker import until


class Keeper:
    """A sink that keeps the leases of what it got."""

    def __init__(self) -> None:
        self.leases: list[int | None] = []
        self.is_open, self.thread = False, ""

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self.is_open = True

    def emit(self, result: Result) -> None:
        self.leases.append(result.lease)
        self.thread = threading.current_thread().name

    def close(self) -> None:
        self.is_open = False


def growing(**options: Any) -> Pipeline:
    return Pipeline(None, FakeBackend, (), policy=Policy.LATEST, grows=True, **options)


def camera(name: str, keeper: Keeper, **options: Any) -> StreamSpec:
    source = PatternSource(PatternOptions((64, 64), fps=50), live=True)
    return StreamSpec(source, [keeper], name, **options)


def test_a_source_that_is_added_delivers_and_one_that_is_removed_closes_its_sinks() -> None:
    pipeline, first, second = growing(), Keeper(), Keeper()
    pipeline.start()
    one = pipeline.add(camera("one", first))
    until(lambda: len(first.leases) > 3)
    pipeline.add(camera("two", second))
    until(lambda: len(second.leases) > 3)
    pipeline.remove(one)
    until(lambda: not pipeline.has(one))
    assert not first.is_open and second.is_open
    count, of_second = len(first.leases), len(second.leases)
    until(lambda: len(second.leases) > of_second + 3)
    assert len(first.leases) == count
    assert first.thread == second.thread
    pipeline.stop()
    stats = pipeline.join()
    assert not second.is_open
    assert stats.processed >= count


def test_a_run_without_sources_goes_on() -> None:
    pipeline = growing()
    pipeline.start()
    assert not pipeline.wait(0.3)
    keeper = Keeper()
    stream = pipeline.add(camera("one", keeper))
    until(lambda: bool(keeper.leases))
    pipeline.remove(stream)
    until(lambda: not pipeline.has(stream))
    assert not pipeline.wait(0.3)
    pipeline.stop()
    pipeline.join()


def test_nothing_is_delivered_without_a_lease_and_all_that_is_names_it() -> None:
    pipeline, keeper = growing(), Keeper()
    lease: list[int | None] = [None]
    pipeline.start()
    stream = pipeline.add(camera("one", keeper, lease=lambda: lease[0]))
    until(lambda: stream.meter.snapshot().dropped.get("fenced", 0) > 3)
    assert not keeper.leases
    lease[0] = 7
    until(lambda: bool(keeper.leases))
    lease[0] = None
    count = len(keeper.leases)
    dropped = stream.meter.snapshot().dropped["fenced"]
    until(lambda: stream.meter.snapshot().dropped["fenced"] > dropped + 3)
    assert len(keeper.leases) <= count + 1
    assert set(keeper.leases) == {7}
    pipeline.stop()
    pipeline.join()
