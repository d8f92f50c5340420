"""The hand-off: newest wins when live, nothing is lost in a replay."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
from hypothesis import given, strategies as st

from app.core.frame import Frame
from app.pipeline.handoff import Handoff, Policy, SingleWaiterCondition


def frame(index: int) -> Frame:
    return Frame(np.zeros((1, 1, 3), np.uint8), index, 0)


def drops() -> tuple[Counter[str], Handoff, Handoff]:
    counter: Counter[str] = Counter()

    def count(reason: str) -> None:
        counter[reason] += 1

    return counter, Handoff(Policy.LATEST, on_drop=count), Handoff(Policy.LOSSLESS, on_drop=count)


@given(st.lists(st.booleans(), max_size=60))
def test_latest_gives_the_newest_and_counts_every_drop(steps: list[bool]) -> None:
    counter, latest, _ = drops()
    put, got = 0, []
    for is_put in steps:
        if is_put:
            assert latest.put(frame(put), 0), "a live producer never waits"
            put += 1
        elif taken := latest.take():
            assert taken.index == put - 1, "it is the newest"
            got.append(taken.index)
    waiting = latest.take()
    assert len(got) + (waiting is not None) + counter["replaced"] == put


def test_lossless_waits_for_room_and_says_so() -> None:
    counter, _, lossless = drops()
    assert lossless.put(frame(0), 0) and lossless.put(frame(1), 0)
    assert not lossless.put(frame(2), 0.01)
    first = lossless.take()
    assert first is not None and first.index == 0
    assert lossless.put(frame(2), 0)
    assert [f.index for f in iter(lossless.take, None)] == [1, 2]
    assert not counter


def test_lossless_keeps_order_between_two_threads() -> None:
    gate, got = SingleWaiterCondition(), list[int]()
    lossless = Handoff(Policy.LOSSLESS, on_drop=lambda reason: None, gate=gate)

    def produce() -> None:
        for i in range(500):
            while not lossless.put(frame(i), 0.05):
                pass
        lossless.end()

    thread = threading.Thread(target=produce)
    thread.start()
    while not lossless.drained():
        gate.wait(lambda: lossless.stirs, 5)
        if taken := lossless.take():
            got.append(taken.index)
    thread.join()
    assert got == list(range(500))


def test_a_slot_that_becomes_ready_wakes_the_consumer() -> None:
    gate, ready = SingleWaiterCondition(), threading.Event()

    def finish() -> None:
        ready.set()
        gate.wake()

    threading.Timer(0.02, finish).start()
    assert gate.wait(ready.is_set, 30) and ready.is_set()


def test_what_waits_at_a_stop_is_counted() -> None:
    counter, _, lossless = drops()
    lossless.put(frame(0), 0)
    lossless.put(frame(1), 0)
    lossless.abandon("stopped")
    assert lossless.put(frame(2), 0), "a producer that has not noticed yet is not held up"
    assert counter == {"stopped": 3} and lossless.take() is None


def test_a_wait_that_times_out_as_its_condition_comes_true_leaves_the_gate_closed() -> None:
    """Time-outs and notices meet in every order: no wait passes early, none breaks the gate."""
    gate, stop = SingleWaiterCondition(), threading.Event()

    def nudge() -> None:
        while not stop.is_set():
            gate.wake()

    thread = threading.Thread(target=nudge)
    thread.start()
    try:
        for i in range(2000):
            flags = iter([False])  # false at the first look, true at the next
            gate.wait(lambda flags=flags: next(flags, True), 0)
            if i % 100 == 0:
                looks: list[int] = []
                gate.wait(lambda looks=looks: bool(looks.append(1)) or len(looks) > 3, 5)
                assert len(looks) > 3, "passed before it was true"
    finally:
        stop.set()
        thread.join()
