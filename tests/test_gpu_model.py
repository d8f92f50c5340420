"""The paper model's arithmetic, on a plan and a device that can be worked out by hand."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from app.cuda.native.autotune import TILES, ConvTile, size_of
from app.cuda.native.ir import Conv, Unary, View, row_major
from app.cuda.native.lower import Program
from app.cuda.native.schedule import split
from scripts import gpu_model
from scripts.gpu_model import DEVICES, Device, launches_of, predict, work_of
from scripts.kernel_table import Kernel, occupancy_percent

# 10 multiprocessors of 1 GHz, 10 TFLOPS and 100 GB/s that are reached as MEMORY_SHARE says
DEVICE = Device("made up", "sm_87", 10, 1000, 10.0, 100.0, 2.0, "none")
KERNEL = Kernel(
    "conv", "HALF_IN+HALF_OUT", "dense_16x64", "sm_87", 64, 8192, 0, 900, 160, 4, 3, 128, 50
)


@pytest.fixture
def program(monkeypatch):
    """A 3×3 convolution of 8 to 16 channels on 16×16 pixels, and an activation after it."""
    monkeypatch.setattr(gpu_model, "compiled", lambda arch, tile, kernel, eight: KERNEL)
    views = [View(i, (1, c, 16, 16), row_major((1, c, 16, 16))) for i, c in enumerate((8, 16, 16))]
    weight = np.zeros((16, 8, 3, 3), np.float32)
    conv = Conv(views[0], views[1], weight, np.zeros(16, np.float32), (1, 1), (1, 1), (1, 1), 1)
    steps = (conv, Unary(views[1], views[2]))
    return Program(steps, (2048, 4096, 4096), {}, views[0], (views[2],), frozenset({0, 1, 2}))


def test_bytes_operations_and_blocks_of_a_step(program):
    conv, unary = (work_of(step, program) for step in program.steps)
    assert conv.nbytes == 2 * (8 * 256 + 16 * 256 + 16 * 72) + 4 * 16
    assert conv.operations == 2 * 16 * 72 * 256
    assert (conv.output, conv.depth, conv.parts) == ((16, 256, 1), 72, 1)
    assert (unary.nbytes, unary.operations, unary.folded) == (2 * 2 * 16 * 256, 0, True)


def test_a_launch_takes_its_waves_or_its_bytes_whichever_is_longer(program, monkeypatch):
    monkeypatch.setattr(gpu_model, "STAGES", 1)
    conv, unary = (work_of(step, program) for step in program.steps)
    p = predict([[conv], [unary]], DEVICE)
    # 4 blocks of 16x64 on 10 multiprocessors: one wave, 3 steps of K, each as long as a load
    waits_us = 3 * gpu_model.LOAD_CYCLES / 1000
    bytes_us = unary.nbytes / (100e3 * gpu_model.MEMORY_SHARE)
    assert p.ms * 1e3 == pytest.approx(2 + waits_us + 2 + bytes_us)
    bound_us = 2 + conv.nbytes / (100e3 * gpu_model.MEMORY_SHARE)
    assert p.bound_ms * 1e3 == pytest.approx(bound_us)
    assert p.launches == 2 and p.gflop == pytest.approx(conv.operations / 1e9)
    monkeypatch.setattr(gpu_model, "STAGES", 100)  # never waits for a load: 160 instructions a step
    quick = predict([[conv]], DEVICE)
    assert quick.ms * 1e3 == pytest.approx(2 + max(3 * 160 / 1000, bound_us - 2))


def test_steps_of_one_launch_share_its_start_and_its_blocks(program, monkeypatch):
    conv, _ = (work_of(step, program) for step in program.steps)
    alone, together = predict([[conv], [conv]], DEVICE), predict([[conv, conv]], DEVICE)
    waits_ms = 3 * gpu_model.LOAD_CYCLES / gpu_model.STAGES / 1e6
    assert alone.ms == pytest.approx(2 * (2e-3 + waits_ms))
    assert together.ms == pytest.approx(2e-3 + waits_ms)  # 8 blocks at once
    assert together.bound_ms == alone.bound_ms and together.gflop == alone.gflop


def test_the_tile_that_takes_least_time_is_taken(program, monkeypatch):
    conv, _ = (work_of(step, program) for step in program.steps)
    times = {tile: gpu_model._with_tile_s([conv], DEVICE, tile) for tile in TILES}
    slow = KERNEL._replace(step=160 * 1000)
    monkeypatch.setattr(
        gpu_model, "compiled", lambda arch, tile, *_: KERNEL if tile == ConvTile(16, 64) else slow
    )
    # the wider ones would be half empty
    assert gpu_model._blocks_s([conv], DEVICE) == times[ConvTile(16, 64)]
    wide = replace(conv, output=(64, 256, 1))
    assert gpu_model._blocks_s([wide], DEVICE) == gpu_model._with_tile_s(
        [wide], DEVICE, ConvTile(16, 64)
    )


def test_parts_of_sums_are_written_counted_and_read(program):
    conv, _ = (work_of(step, program) for step in program.steps)
    parts = replace(conv, output=(16, 256, 3), parts=3)  # 12 blocks on 10 multiprocessors
    step_us = 2 * 160 / 1000  # two blocks of four warps take turns, which is longer than a load
    cycles = 3 * gpu_model.LOAD_CYCLES + (2 + 3) * 16 * 64 * 4 / gpu_model.L2_BYTES
    found = gpu_model._with_tile_s([parts], DEVICE, ConvTile(16, 64))
    assert found * 1e6 == pytest.approx(1 * step_us + cycles / 1000)


@pytest.mark.parametrize("device", DEVICES, ids=[device.name for device in DEVICES])
def test_sums_are_shared_only_where_that_takes_less_time(device):
    """Of many sizes of convolutions; on the small devices nearly none."""
    gained = 0
    for out, inputs, side, window in product((16, 128, 256), (64, 256, 512), (10, 20, 40), (1, 3)):
        views = [
            View(i, (1, side, side, c), row_major((1, side, side, c))).permuted([0, 3, 1, 2])
            for i, c in enumerate((inputs, out))
        ]
        weight = np.zeros((out, inputs, window, window), np.float32)
        around = window // 2, window // 2
        conv = Conv(*views, weight, np.zeros(out, np.float32), (1, 1), around, (1, 1), 1)
        sizes = tuple(view.size for view in views)
        whole = Program((conv,), sizes, {}, views[0], (views[1],), frozenset({0, 1}))
        (shared,) = split([whole], device.multiprocessors)
        before, after = (predict(launches_of(p), device).ms for p in (whole, shared))
        parts = shared.steps[0].parts
        assert after < before if parts > 1 else after == before
        assert parts == 1 or TILES[-1].blocks(size_of(conv)) < device.multiprocessors
        gained += parts > 1
    assert gained if device.multiprocessors > 40 else gained < 5


@pytest.mark.parametrize(
    ("registers", "shared", "threads", "wanted"),
    [(32, 0, 256, 100), (64, 0, 256, 67), (40, 16 << 10, 128, 75), (255, 0, 256, 17)],
)
def test_occupancy_is_what_nvidias_calculator_says(registers, shared, threads, wanted):
    """Compute capability 8.7: 48 warps, 64 Ki registers, 164 KiB of shared memory."""
    how = {"registers": registers, "shared": shared, "threads": threads}
    assert occupancy_percent("sm_87", **how) == wanted
