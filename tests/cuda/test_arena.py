"""Buffers that live at the same time never overlap, and little memory is wasted."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from app.cuda.native.autotune import shared_sums
from app.cuda.native.ir import Conv, Unary, View, read_static_graph, row_major
from app.cuda.native.lower import Program, lower
from app.cuda.native.schedule import ALIGNMENT, plan
from tests.cuda.step_twins import execute
from tests.shelf_kit import asset


def chain(sizes):
    """x -> b1 -> b2 …, each a copy of the first elements."""
    views = [View(i, (n,), row_major((n,))) for i, n in enumerate(sizes)]
    steps = tuple(
        Unary(
            View(a.buffer, (min(a.size, b.size),), (1,)),
            View(b.buffer, (min(a.size, b.size),), (1,)),
        )
        for a, b in pairwise(views)
    )
    return Program(steps, tuple(sizes), {}, views[0], (views[-1],))


def test_a_chain_needs_two_places_besides_its_ends():
    arena = plan(chain([64, 640, 640, 640, 640, 640, 64]))
    assert arena.size == 4 * (64 + 2 * 640 + 64)
    assert all(offset % ALIGNMENT == 0 for offset in arena.offsets)


def test_input_and_outputs_are_shared_with_nothing():
    arena = plan(chain([64] * 6))
    first, *between, last = arena.offsets
    assert first not in between
    assert last not in between
    assert first != last


@pytest.mark.parametrize("name", ["yunet_n_320_320", "fastestdet_352"])
def test_a_real_network_computes_the_same_inside_the_arena(name):
    side = 320 if "320" in name else 352
    program = lower(read_static_graph(asset(name), (side, side)))
    assert plan(program).size < 0.3 * 4 * sum(program.buffers)
    dense = [s for s in program.steps if isinstance(s, Conv) and s.kernel != "depthwise"]
    steps = (replace(s, parts=3) if any(s is one for one in dense) else s for s in program.steps)
    program = replace(program, steps=tuple(steps))
    arena = plan(program)
    memory = np.full(arena.size // 4, np.nan, np.float32)
    apart = [np.full(n, np.nan, np.float32) for n in program.buffers]

    def views(view, whole):
        whole = whole and view.buffer not in program.constants
        start = memory[arena.offsets[view.buffer] // 4 :] if whole else apart[view.buffer]
        start = start[view.offset :]
        return np.lib.stride_tricks.as_strided(start, view.shape, [s * 4 for s in view.strides])

    x = np.random.default_rng(0).random((1, 3, side, side), np.float32)
    for whole in (True, False):
        for index, values in program.constants.items():
            views(View(index, values.shape, (1,)), whole)[...] = values
        views(program.input, whole)[...] = x
        for wave, sums in zip(arena.waves, arena.sums, strict=True):
            floats, counters = shared_sums([s for s in wave if isinstance(s, Conv)])
            memory[sums // 4 :][:floats] = np.nan  # as if sums were shared
            assert 4 * counters <= arena.lasting_size - arena.counters
            for step in wave:
                execute(step, lambda v, w=whole: views(v, w))
    for output in program.outputs:
        assert (views(output, True) == views(output, False)).all()
