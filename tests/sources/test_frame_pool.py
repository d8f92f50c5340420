"""The pool recycles what nobody holds, and never what somebody holds."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, strategies as st

from app.core.frame import Frame, FramePool

SHAPE = (4, 6, 3)


def memory(pixels: np.ndarray) -> int:
    return pixels.__array_interface__["data"][0]


def test_dropped_array_is_handed_out_again():
    pool = FramePool()
    first = pool.acquire(SHAPE)
    where = memory(first)
    assert (first.shape, first.dtype, first.flags.c_contiguous) == (SHAPE, np.uint8, True)
    del first
    assert memory(pool.acquire(SHAPE)) == where


@pytest.mark.parametrize(
    "hold",
    [
        lambda a: a,
        lambda a: a[1:3, ::2],
        lambda a: a.reshape(-1)[3:].T,
        lambda a: Frame(a, 0, 0),
        lambda a: memoryview(a),
        lambda a: np.frombuffer(a, np.uint8),
        lambda a: {"deep": [a.swapaxes(0, 1)]},
    ],
)
def test_array_stays_held_as_long_as_anything_looks_at_it(hold):
    pool = FramePool(capacity=2)
    pixels = pool.acquire(SHAPE)
    where = memory(pixels)
    holder = hold(pixels)
    del pixels
    assert all(memory(pool.acquire(SHAPE)) != where for _ in range(5))
    del holder
    assert memory(pool.acquire(SHAPE)) == where


@given(st.lists(st.tuples(st.sampled_from(["take", "drop", "reshape"]), st.integers(0, 20))))
def test_never_hands_out_an_array_that_someone_holds(steps):
    pool, held, shape = FramePool(capacity=3), [], SHAPE
    for what, number in steps:
        if what == "take":
            fresh = pool.acquire(shape)
            assert fresh.shape == shape
            assert not any(np.shares_memory(fresh, other) for other, _ in held)
            fresh[...] = number
            held.append((fresh, number))
            del fresh
        elif what == "drop" and held:
            held.pop(number % len(held))
        elif what == "reshape":
            shape = (1 + number % 3, 2, 3)
        assert all((pixels == value).all() for pixels, value in held)


def test_steady_state_uses_no_more_arrays_than_are_held_at_once():
    pool, held, seen = FramePool(), [], set()
    for _ in range(100):
        held.append(pool.acquire(SHAPE))
        seen.add(memory(held[-1]))
        del held[:-3]
    assert len(seen) <= 4


def test_more_holders_than_capacity_get_fresh_arrays():
    pool = FramePool(capacity=2)
    held = [pool.acquire(SHAPE) for _ in range(5)]
    assert len({memory(pixels) for pixels in held}) == 5


def test_views_dropped_on_another_thread_are_recycled():
    pool, box = FramePool(capacity=1), []
    box.append(pool.acquire(SHAPE))
    where = memory(box[0])
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()
    assert memory(pool.acquire(SHAPE)) == where


def test_capacity_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        FramePool(capacity=0)
