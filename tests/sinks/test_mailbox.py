"""The mailbox keeps the newest result and nothing else, or, lossless, loses none."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import replace

from app.core.detections import Result
from app.core.errors import ReaderGone
from app.core.events import Event
from app.sinks.adapters import MOST_EVENTS, ResultMailbox
from tests.sinks.kit import CAMERA, LABELS, gray, result


def test_newest_result_replaces_what_nobody_fetched() -> None:
    sink = ResultMailbox()
    sink.open(CAMERA, LABELS)
    assert sink.take() is None
    for i in range(3):
        sink.emit(result(i))
    newest = sink.take()
    assert newest is not None and newest.frame.index == 2
    assert sink.take() is None and sink.count == 3


def test_last_result_can_be_fetched_after_the_end() -> None:
    sink = ResultMailbox()
    sink.emit(result(7))
    sink.close()
    last = sink.take()
    assert last is not None and last.frame.index == 7


def test_replaced_frame_is_let_go() -> None:
    sink, pixels = ResultMailbox(), gray()
    gone = weakref.ref(pixels)
    sink.emit(result(0, pixels=pixels))
    del pixels
    sink.emit(result(1))
    gc.collect()
    assert gone() is None


def test_reader_in_another_thread_sees_rising_frames_and_the_last() -> None:
    sink, seen, pixels = ResultMailbox(), [], gray()
    results = [result(i, pixels=pixels) for i in range(2000)]
    ended = threading.Event()

    def read() -> None:
        while True:
            last_round = ended.is_set()
            taken = sink.take()
            if taken is not None:
                seen.append(taken.frame.index)
            elif last_round:
                return

    reader = threading.Thread(target=read)
    reader.start()
    for each in results:
        sink.emit(each)
    ended.set()
    reader.join(10)
    assert seen == sorted(set(seen)) and seen[-1] == 1999 and sink.count == 2000


def test_lossless_each_result_waits_for_the_one_before_until_the_reader_leaves() -> None:
    sink, seen, refused = ResultMailbox(lossless=True), [], []
    sink.open(CAMERA, LABELS)

    def emit() -> None:
        try:
            for i in range(100):
                sink.emit(result(i))
        except ReaderGone as error:
            refused.append(error)

    writer = threading.Thread(target=emit)
    writer.start()
    while len(seen) < 50:
        taken = sink.take(10)
        assert taken is not None
        seen.append(taken.frame.index)
    sink.leave()
    writer.join(10)
    assert seen == list(range(50)) and refused and sink.unread == 0


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
