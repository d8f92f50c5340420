"""Parts around what moves and what was found: whole, in their own pixels, few, and enough."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from app.config import Config, MotionOptions
from app.core.detections import Detections
from app.core.errors import ConfigError
from app.core.frame import Frame
from app.inference.regions import MOST, Regions
from app.inference.slices import SlicedSlot, Tile
from tests.inference.test_slices import SIDE, SPEC, Oracle, located

WH, INPUT = (1600, 900), (SIDE, SIDE)
PERIOD_NS = 100_000_000


def frame_at(i: int, regions: list | None, wh: tuple[int, int] = WH) -> Frame:
    return Frame(np.zeros((wh[1], wh[0], 3), np.uint8), i, i * PERIOD_NS, regions=regions)


def found_at(*boxes: tuple) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(count, 0.8, np.float32),
        np.zeros(count, np.int32),
    )


def holds(tiles: list[Tile], box: tuple) -> bool:
    return any(
        t[0] <= box[0] and t[1] <= box[1] and t[2] >= box[2] and t[3] >= box[3] for t in tiles
    )


boxes = st.lists(
    st.tuples(
        st.integers(0, 1560), st.integers(0, 860), st.integers(4, 300), st.integers(4, 300)
    ).map(lambda b: (b[0], b[1], min(WH[0], b[0] + b[2]), min(WH[1], b[1] + b[3]))),
    min_size=1,
    max_size=12,
)


@given(moving=boxes)
@settings(deadline=None)
def test_a_few_parts_hold_all_that_moves(moving) -> None:
    whole, tiles = Regions().plan(frame_at(0, moving), INPUT)
    assert whole, "nobody has looked at the frame before"
    assert 1 <= len(tiles) <= MOST
    for x0, y0, x1, y1 in tiles:
        assert 0 <= x0 < x1 <= WH[0] and 0 <= y0 < y1 <= WH[1]
        assert all(value % 2 == 0 for value in (x0, y0, x1, y1))
    assert all(holds(tiles, box) for box in moving)


def test_a_crowd_is_brought_together_soon() -> None:
    crowd = [(i % 40 * 40, i // 40 * 70, i % 40 * 40 + 20, i // 40 * 70 + 40) for i in range(480)]
    began_s = time.monotonic()
    _, tiles = Regions().plan(frame_at(0, crowd), INPUT)
    assert time.monotonic() - began_s < 1.0, "not one for each pair of 480"
    assert len(tiles) <= MOST and all(holds(tiles, box) for box in crowd)


def test_what_is_small_keeps_its_pixels_and_what_is_near_goes_together() -> None:
    plan = Regions()
    _, (tile,) = plan.plan(frame_at(0, [(700, 400, 730, 470)]), INPUT)
    assert max(tile[2] - tile[0], tile[3] - tile[1]) == SIDE
    assert min(tile[2] - tile[0], tile[3] - tile[1]) < SIDE / 2
    _, tiles = plan.plan(frame_at(1, [(700, 400, 730, 470), (760, 410, 790, 480)]), INPUT)
    assert len(tiles) == 1
    _, tiles = plan.plan(frame_at(2, [(100, 100, 130, 170), (1400, 700, 1430, 770)]), INPUT)
    assert len(tiles) == 2


def test_the_whole_frame_comes_at_its_rate_and_for_what_is_large_or_cut() -> None:
    plan = Regions(every_s=1.0)
    small = [(700, 400, 730, 470)]
    wholes = [plan.plan(frame_at(i, small), INPUT)[0] for i in range(25)]
    assert [i for i, whole in enumerate(wholes) if whole] == [0, 10, 20]
    assert plan.plan(frame_at(25, [(0, 0, 900, 500)]), INPUT) == (True, [])
    frame = frame_at(26, small)
    whole, tiles = plan.plan(frame, INPUT)
    assert not whole
    width = tiles[0][2] - tiles[0][0]
    plan.found(frame, found_at(), [(tiles[0], found_at((width - 40, 10, width, 60)))], whole=False)
    assert plan.plan(frame_at(27, small), INPUT)[0]
    assert not plan.plan(frame_at(28, small), INPUT)[0]


def test_what_was_found_is_looked_at_for_a_second_without_motion() -> None:
    plan = Regions(every_s=1.0)
    box = (300.0, 300.0, 330.0, 380.0)
    plan.found(frame_at(0, []), found_at(box), (), whole=True)
    plan.plan(frame_at(0, []), INPUT)
    whole, tiles = plan.plan(frame_at(5, []), INPUT)
    assert not whole and holds(tiles, box)
    whole, tiles = plan.plan(frame_at(9, []), INPUT)
    assert not whole and holds(tiles, box)
    assert plan.plan(frame_at(12, []), INPUT) == (True, [])


def test_frames_that_nobody_has_looked_at_small_ones_and_other_sources_are_whole() -> None:
    plan = Regions()
    assert plan.plan(frame_at(0, None), INPUT) == (True, [])
    assert plan.plan(frame_at(0, [(1, 1, 50, 50)], wh=(320, 240)), INPUT) == (True, [])
    plan.plan(frame_at(1, [(700, 400, 730, 470)]), INPUT)
    assert plan.plan(replace(frame_at(2, [(700, 400, 730, 470)]), lane=1), INPUT)[0]


def test_a_small_thing_is_found_once_whole_and_where_it_is() -> None:
    box = (900, 500, 920, 550, 0)
    oracle = Oracle([box], least_px=12)
    slot, large = SlicedSlot(oracle, Regions(), SPEC), located(*WH)
    counts = []
    for i in range(6):
        moving = [box[:4]] if i in (1, 2) else []  # it stands still after that
        slot.enqueue([replace(large, index=i, captured_ns=i * PERIOD_NS, regions=moving)])
        ((found, _),) = slot.collect()
        counts.append(len(found))
        if len(found):
            assert np.allclose(found.xyxy[0], box[:4])
    assert counts == [0, 1, 1, 1, 1, 1], "in the whole frame it is too small"
    assert oracle.pieces == 6, "one part a frame, but the first, which is whole"


def test_regions_need_the_gate_and_no_slices() -> None:
    with pytest.raises(ConfigError, match="leave on"):
        MotionOptions(on=False, regions=True)
    with pytest.raises(ConfigError, match="exclude"):
        Config(slices="2x2", motion=MotionOptions(regions=True))
