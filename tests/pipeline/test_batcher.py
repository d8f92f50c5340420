"""Waiting for the frames of other sources: how long, and when no longer."""

from __future__ import annotations

from hypothesis import given, strategies as st

from app.pipeline.loop import PATIENCE_NS, DynamicBatcher

MS = 1_000_000


def wait(
    batcher: DynamicBatcher, waiting: int, going: int = 8, *, oldest_ms: int = 0, now_ms: int = 0
) -> int:
    return batcher.wait_ns(
        waiting=waiting, going=going, oldest_ns=oldest_ms * MS, now_ns=now_ms * MS
    )


def test_it_starts_at_once_when_the_batch_is_full_or_nobody_else_is_left() -> None:
    assert wait(DynamicBatcher(4, budget_ns=None), 4) == 0
    assert wait(DynamicBatcher(4, budget_ns=None), 2, going=2) == 0
    assert wait(DynamicBatcher(4, budget_ns=None), 1, going=0) == 0, (
        "the last frame of an ended source"
    )


def test_it_waits_as_long_as_its_patience_and_then_starts_with_what_there_is() -> None:
    batcher = DynamicBatcher(4, budget_ns=None)
    assert wait(batcher, 1, now_ms=100) == PATIENCE_NS
    assert wait(batcher, 2, now_ms=104) == PATIENCE_NS - 4 * MS
    assert wait(batcher, 2, now_ms=110) == 0
    assert wait(batcher, 1, now_ms=120) == PATIENCE_NS, "the next batch has its own patience"


def test_it_never_waits_longer_than_the_oldest_frame_can_afford() -> None:
    batcher = DynamicBatcher(4, budget_ns=50 * MS)
    batcher.served(20 * MS)
    # captured at 0, budget 50, two services of 20: it has to start at 10
    assert wait(batcher, 1, oldest_ms=0, now_ms=6) == 4 * MS
    assert wait(batcher, 1, oldest_ms=0, now_ms=10) == 0
    assert wait(DynamicBatcher(4, budget_ns=1), 1, now_ms=6) == 0


@given(
    st.integers(1, 16),
    st.integers(1, 16),
    st.integers(0, 1000),
    st.one_of(st.none(), st.integers(1, 10**9)),
)
def test_the_wait_is_bounded_whatever_comes(
    size: int, waiting: int, now_ms: int, budget: int | None
) -> None:
    assert 0 <= wait(DynamicBatcher(size, budget_ns=budget), waiting, now_ms=now_ms) <= PATIENCE_NS
