"""When a lost source may be opened again (fake clock, openings that do not let go)."""

from __future__ import annotations

import random

import pytest
from fake_clock import FakeClock

from app.sources.reconnect import FIRST_WAIT_S, GOODBYE_S, MOST_LEFT_BEHIND, STEADY_NS, Retry


class Opening:
    """Left when asked to, gone when told so."""

    info = None

    def __init__(self) -> None:
        self.left = self.is_gone = False

    def take(self, timeout_s: float) -> None:
        raise AssertionError("nobody reads from it")

    def leave(self) -> None:
        self.left = True

    def gone(self, timeout_s: float = 0.0) -> bool:
        return self.is_gone


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def retry(clock: FakeClock) -> Retry:
    return Retry(4.0, clock.now_ns, random.Random(3))


def wait_s(retry: Retry, clock: FakeClock) -> float:
    return (retry.due_ns - clock.now_ns()) / 1e9


def test_waits_double_up_to_the_longest_and_are_shortened_by_half_at_most(retry, clock):
    waits = []
    for _ in range(40):
        retry.back_off()
        waits.append(wait_s(retry, clock))
    for failures, each in enumerate(waits):
        whole = min(FIRST_WAIT_S * 2**failures, 4.0)
        assert whole / 2 <= each <= whole
    assert len(set(waits)) > 35, "many clients must not come back as one"


@pytest.mark.parametrize("live_ns, shortest", [(STEADY_NS + 1, True), (STEADY_NS - 1, False)])
def test_only_a_source_that_was_live_for_a_while_begins_anew(retry, clock, live_ns, shortest):
    for _ in range(10):
        retry.back_off()
    live_since_ns = clock.now_ns()
    clock.sleep(live_ns / 1e9)
    retry.forgive(live_since_ns)
    retry.back_off()
    assert (wait_s(retry, clock) <= FIRST_WAIT_S) is shortest


def test_an_opening_that_closes_is_given_the_time_to(retry, clock):
    opening = Opening()
    retry.leave(opening)
    assert opening.left
    assert not retry.allows() and 0 < wait_s(retry, clock) < GOODBYE_S
    clock.sleep(wait_s(retry, clock))
    opening.is_gone = True
    assert retry.allows()


def test_one_that_hangs_holds_the_next_back_no_longer_than_a_goodbye(retry, clock):
    retry.leave(Opening())
    clock.sleep(GOODBYE_S)
    assert retry.allows()


def test_too_many_that_hang_hold_it_back_until_one_returns(retry, clock):
    openings = [Opening() for _ in range(MOST_LEFT_BEHIND)]
    for each in openings:
        retry.leave(each)
    clock.sleep(60.0)
    assert not retry.allows() and wait_s(retry, clock) == 4.0
    openings[1].is_gone = True
    assert not retry.allows(), "not before it is due"
    clock.sleep(4.0)
    assert retry.allows()


def test_a_recording_that_loops_waits_the_shortest_time(retry, clock):
    retry.back_off()
    retry.back_off()
    retry.start_over()
    assert wait_s(retry, clock) == pytest.approx(FIRST_WAIT_S)
