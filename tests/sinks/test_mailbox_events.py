"""The mailbox of a loop that is slower than the stream: results are lost, events are not."""

from __future__ import annotations

from dataclasses import replace

from app.core.detections import Result
from app.core.events import Event
from app.sinks.adapters import MOST_EVENTS, ResultMailbox
from tests.sinks.kit import CAMERA, LABELS, result


def happened(index: int, *ids: str) -> Result:
    events = [Event(type="appear", id=each, time="", source="") for each in ids]
    return replace(result(index), events=events)


def test_events_of_results_that_nobody_read_come_with_the_next() -> None:
    mailbox = ResultMailbox(lossless=False)
    mailbox.open(CAMERA, LABELS)
    for index, ids in enumerate((("a",), (), ("b", "c"))):
        mailbox.emit(happened(index, *ids))
    got = mailbox.take(0)
    assert got is not None and got.frame.index == 2 and mailbox.unread == 2
    assert [event.id for event in got.events] == ["a", "b", "c"]


def test_a_loop_that_never_reads_costs_no_more_memory_than_that() -> None:
    mailbox = ResultMailbox(lossless=False)
    mailbox.open(CAMERA, LABELS)
    for index in range(MOST_EVENTS + 10):
        mailbox.emit(happened(index, str(index)))
    got = mailbox.take(0)
    assert got is not None and len(got.events) == MOST_EVENTS
    assert got.events[-1].id == str(MOST_EVENTS + 9)
