"""What follows the objects of a stream sees results before the sinks, and speaks between them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest

from app.core.detections import Result
from app.core.errors import SinkError, SourceError
from app.core.events import Event, EventType, Fired
from app.core.frame import Frame, SourceInfo
from app.core.interfaces import SourceListener
from app.core.states import SourceStatus
from app.pipeline.handoff import Policy
from app.pipeline.pipeline import Pipeline
from tests.fakes import FakeBackend, FakeSink, FakeSource

Told = tuple[Sequence[Event], Sequence[Fired]]


def event(kind: EventType) -> Event:
    return Event(type=kind, id="1", time="", source="fake:")


class FakeAnalyser:
    """An event for each frame, each change of the state, and the end."""

    def __init__(self) -> None:
        self.labels: Sequence[str] = ()
        self.lost = threading.Event()

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self.labels = labels

    def update(self, result: Result) -> Result:
        return replace(result, events=[event("appear")])

    def follow(self, status: SourceStatus) -> Told:
        if (status.state == "reconnecting") == self.lost.is_set():
            return (), ()
        if self.lost.is_set():
            self.lost.clear()
            return [event("source_back")], ()
        self.lost.set()
        return [event("source_lost")], ()

    def end(self, status: SourceStatus) -> Told:
        self.last = status
        return [event("ended")], ()


class EventSink(FakeSink):
    """Keeps the types of events, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def emit(self, result: Result) -> None:
        super().emit(result)
        self.happened(result.events, result.fired)

    def happened(self, events: Sequence[Event], fired: Sequence[Fired]) -> None:
        assert not self.closed
        self.told += [each.type for each in events]


class LostSource(FakeSource):
    """Is away before its third frame, until somebody has noticed it."""

    def __init__(self, noticed: threading.Event) -> None:
        super().__init__(4, live=True)
        self._noticed = noticed

    def listen(self, listener: SourceListener) -> None:
        self._listener = listener

    def open(self) -> SourceInfo:
        self._listener.state_changed("live", "")
        return super().open()

    def read(self, timeout_s: float) -> Frame | None:
        if self._next == 2:
            self._listener.state_changed("reconnecting", "the cable")
            assert self._noticed.wait(10)
            self._listener.state_changed("live", "")
        return super().read(timeout_s)


def run(source: FakeSource, analyser: FakeAnalyser | None, *sinks: FakeSink) -> Pipeline:
    pipeline = Pipeline(
        source, FakeBackend, sinks, labels=("a",), policy=Policy.LOSSLESS, analyser=analyser
    )
    pipeline.start()
    while not pipeline.wait(0.1):
        pass
    return pipeline


def test_sinks_get_what_the_analyser_makes_of_each_result_and_its_last_word() -> None:
    sink, deaf, analyser = EventSink(), FakeSink(), FakeAnalyser()
    run(FakeSource(3), analyser, sink, deaf).join()
    assert sink.told == ["appear"] * 3 + ["ended"] and sink.closed == 1
    assert deaf.frames == [0, 1, 2] and analyser.labels == ("a",)
    assert analyser.last.state == "ended"


def test_the_last_word_has_the_cause_of_a_source_that_failed() -> None:
    analyser = FakeAnalyser()
    broken = FakeSource(9, fail_at=3, error=SourceError("rtsp://u:pw@h is gone"))
    with pytest.raises(SourceError):
        run(broken, analyser, FakeSink()).join()
    assert analyser.last.state == "failed" and "is gone" in analyser.last.cause
    assert "pw" not in analyser.last.cause


def test_a_source_that_is_lost_is_told_while_no_frame_comes() -> None:
    sink, analyser = EventSink(), FakeAnalyser()
    run(LostSource(analyser.lost), analyser, sink).join()
    told = [each for each in sink.told if each != "appear"]
    assert told[0] == "source_lost" and told[-1] == "ended"
    assert set(told[1:-1]) <= {"source_back"}


def test_a_fault_of_a_sink_keeps_the_last_word_from_nobody() -> None:
    class Full(EventSink):
        def happened(self, events: Sequence[Event], fired: Sequence[Fired]) -> None:
            if events and events[0].type == "ended":
                raise SinkError("full")

    first, full = EventSink(), Full()
    pipeline = run(FakeSource(2), FakeAnalyser(), first, full)
    with pytest.raises(SinkError, match="full"):
        pipeline.join()
    assert first.told[-1] == "ended" and full.closed == 1


def test_without_an_analyser_results_are_as_the_engine_gave_them() -> None:
    sink = EventSink()
    run(FakeSource(3), None, sink).join()
    assert sink.frames == [0, 1, 2] and not sink.told
