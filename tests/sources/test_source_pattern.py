"""The test pattern shows exactly the boxes that it says, at the pace that it says."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from fake_clock import FakeClock
from hypothesis import given, settings, strategies as st

from app.core.errors import SourceEnded
from app.sources.pattern import PatternOptions, PatternSource


def pattern(live=False, clock=None, **options):
    time = {"now_ns": clock.now_ns, "sleep": clock.sleep} if clock else {}
    return PatternSource(PatternOptions(**options), live=live, **time)


@settings(max_examples=40)
@given(
    width=st.integers(32, 300),
    height=st.integers(32, 300),
    boxes=st.integers(0, 3),
    seed=st.integers(0, 99),
    index=st.integers(0, 10_000),
)
def test_boxes_lie_where_the_pixels_show_them(width, height, boxes, seed, index):
    source = pattern(wh_px=(width, height), boxes=boxes, seed=seed)
    pixels, found = source.draw(index), source.pattern_boxes(index)
    assert found.shape == (boxes, 4) and found.dtype == np.float32
    coloured = pixels.max(axis=2).astype(int) - pixels.min(axis=2) > 60  # the ground is gray
    for x0, y0, x1, y1 in found.astype(int):
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        assert coloured[y0:y1, x0:x1].all()
        assert len(np.unique(pixels[y0:y1, x0:x1].reshape(-1, 3), axis=0)) == 1
        coloured[y0:y1, x0:x1] = False
    assert not coloured.any()


def test_same_seed_and_index_give_the_same_pixels():
    first, second = pattern(seed=5), pattern(seed=5)
    for index in (0, 1, 77):
        assert np.array_equal(first.draw(index), second.draw(index))
    assert not np.array_equal(first.draw(0), pattern(seed=6).draw(0))


def test_neighbouring_frames_differ():
    for boxes in (0, 3):
        source = pattern(wh_px=(33, 64), boxes=boxes)
        frames = [source.draw(i).copy() for i in range(50)]
        assert all((a != b).any() for a, b in itertools.pairwise(frames))


def test_replay_gives_every_frame_at_its_place(read_all):
    frames = read_all(pattern(frames=5, fps=40.0))
    assert [f.index for f in frames] == [0, 1, 2, 3, 4]
    assert [f.media_ns for f in frames] == [0, 25_000_000, 50_000_000, 75_000_000, 100_000_000]


def test_live_ticks_come_at_their_rate():
    clock = FakeClock()
    source = pattern(live=True, clock=clock, fps=10.0, frames=4)
    assert source.open().live
    stamps = []
    with pytest.raises(SourceEnded):
        while True:
            frame = source.read(1.0)
            if frame is not None:
                assert frame.media_ns is None
                stamps.append((frame.index, frame.captured_ns))
    start = stamps[0][1]
    assert stamps == [(i, start + i * 100_000_000) for i in range(4)]


def test_tick_that_is_not_due_in_time_gives_none():
    clock = FakeClock()
    source = pattern(live=True, clock=clock, fps=1.0)
    assert source.read(0.1).index == 0
    assert [source.read(0.25) for _ in range(3)] == [None, None, None]
    assert source.read(0.3).index == 1


def test_ticks_that_nobody_read_are_missed():
    clock = FakeClock()
    source = pattern(live=True, clock=clock, fps=10.0)
    assert source.read(0.0).index == 0
    clock.sleep(0.75)
    assert source.read(0.0).index == 7
    assert source.read(1.0).index == 8


def test_drawing_recycles_its_buffers():
    source = pattern()
    places = {source.read(0.0).pixels.__array_interface__["data"][0] for _ in range(20)}
    assert len(places) == 1


def test_ground_takes_little_memory_beside_itself():
    tracemalloc.start()
    source = pattern(wh_px=(2048, 1024))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * source.draw(0).nbytes


def test_ground_is_a_ramp_with_grain():
    pixels = pattern(wh_px=(300, 100), boxes=0).draw(0)[: 100 - 8].astype(int)
    ramp = np.linspace(30, 90, 300) + np.linspace(0, 30, 100)[:92, None]
    grain = pixels[..., 0] - ramp
    assert (pixels == pixels[..., :1]).all()
    assert -1 < grain.min() < 0 and 4 < grain.max() <= 5
