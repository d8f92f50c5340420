"""A slow, hanging or failing sink leaves the pipeline alone."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Sequence

import pytest

import app.sinks.adapters as queued
from app.core.detections import Result
from app.core.errors import SinkError
from app.core.frame import SourceInfo
from app.core.stats import OutputMeter
from app.sinks.adapters import QueuedSink
from tests.fakes import FakeSink
from tests.sinks.kit import CAMERA, LABELS, found, gray, result

BOX = (0, 0.5, 0, 0, 5, 5)


class HeldSink(FakeSink):
    """Takes a frame only when let."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.let = threading.Semaphore(0), threading.Semaphore(0)

    def emit(self, each) -> None:
        self.entered.release()
        assert self.let.acquire(timeout=20)
        super().emit(each)


def test_all_arrives_in_order_on_another_thread_and_close_waits_for_it() -> None:
    inner, meter = FakeSink(), OutputMeter("record")
    sink = QueuedSink(inner, meter, capacity=100)
    sink.open(CAMERA, LABELS)
    for i in range(100):
        sink.emit(result(i, found(BOX)))
    sink.close()
    sink.close()
    assert inner.frames == list(range(100)) and inner.closed == 1
    assert meter.figures().delivered == 100 and not meter.figures().dropped


def test_a_slow_sink_loses_the_newest_and_each_loss_is_counted() -> None:
    inner, meter = HeldSink(), OutputMeter("record")
    sink = QueuedSink(inner, meter, capacity=2)
    sink.open(CAMERA, LABELS)
    sink.emit(result(0, found(BOX)))
    assert inner.entered.acquire(timeout=20)  # it holds frame 0
    for i in range(1, 6):
        sink.emit(result(i, found(BOX)))  # returns at once
    assert meter.figures().waiting == 2
    for _ in range(3):
        inner.let.release()
    sink.close()
    assert inner.frames == [0, 1, 2]
    assert meter.figures().dropped == {"queue full": 3}


def test_a_sink_that_hangs_holds_up_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queued, "CLOSE_S", 0.05)
    inner, meter = HeldSink(), OutputMeter("record")
    sink = QueuedSink(inner, meter)
    sink.open(CAMERA, LABELS)
    for i in range(3):
        sink.emit(result(i, found(BOX)))
    assert inner.entered.acquire(timeout=20)
    with pytest.raises(SinkError, match=r"'record' was not done .* 2 results behind"):
        sink.close()
    assert meter.figures().dropped == {"stopped": 2}
    inner.let.release()


def test_a_fault_is_raised_by_the_next_frame_or_at_the_end() -> None:
    inner = FakeSink(fail_at=0, error=SinkError("disk full"))
    sink = QueuedSink(inner, OutputMeter("record"))
    sink.open(CAMERA, LABELS)
    sink.emit(result(0, found(BOX)))
    with pytest.raises(SinkError, match="disk full"):
        sink.close()
    with pytest.raises(SinkError, match="disk full"):
        sink.emit(result(1, found(BOX)))
    assert inner.closed == 1


def test_a_frame_that_was_delivered_is_let_go() -> None:
    inner, pixels = HeldSink(), gray()
    sink = QueuedSink(inner, OutputMeter("record"))
    sink.open(CAMERA, LABELS)
    gone = weakref.ref(pixels)
    sink.emit(result(0, found(BOX), pixels))
    del pixels
    inner.let.release()
    inner.let.release()
    sink.emit(result(1, found(BOX)))
    sink.close()
    gc.collect()
    assert gone() is None


class Noting:
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self.seen.append(f"open {source.uri}")

    def emit(self, each: Result) -> None:
        self.seen.append(each.frame.index)

    def close(self) -> None:
        self.seen.append("close")


class Going(Noting):
    """Goes on with another source."""

    def update(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self.seen.append(f"update {source.uri}, {labels[0]}")


@pytest.mark.parametrize(
    ("inner", "told"),
    [(Noting(), ["close", "open b"]), (Going(), ["update b, dog"])],
    ids=["begins anew", "goes on"],
)
def test_another_source_is_told_in_turn_with_the_results(inner: Noting, told: list[str]) -> None:
    sink = QueuedSink(inner, OutputMeter("x"))
    sink.open(SourceInfo("a", live=True), ("cat",))
    sink.emit(result(0))
    sink.update(SourceInfo("b", live=True), ("dog",))
    sink.emit(result(1))
    sink.close()
    assert inner.seen == ["open a", 0, *told, 1, "close"]


def test_it_can_be_opened_again() -> None:
    inner = Noting()
    sink = QueuedSink(inner, OutputMeter("x"))
    for i in range(2):
        sink.open(SourceInfo("a", live=True), LABELS)
        sink.emit(result(i))
        sink.close()
    assert inner.seen == ["open a", 0, "close", "open a", 1, "close"]
