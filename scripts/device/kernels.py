"""How near is the preprocessing kernel to what the GPU's memory allows?"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import numpy as np
from numpy.typing import NDArray

from app.gpu.context import GpuContext
from app.gpu.kernel_files import load_kernel, load_module
from app.letterbox import place

SECTOR = 32  # bytes: the least that memory gives
SIGNATURE = "PP" + "i" * 11 + "f" * 7
SOURCE_WH, OUT_WH = (1920, 1080), (640, 640)
FRAME_BYTES, OUT_BYTES = SOURCE_WH[0] * SOURCE_WH[1] * 3, OUT_WH[0] * OUT_WH[1] * 3 * 2


def measure_preprocess(*, buffers: int = 24, rounds: int = 7) -> dict[str, float]:
    """1920×1080 BGR to 640×640 in half precision, over more memory than any cache holds.

    ``must_mb``: the sectors of the source that the kernel has to read, and its output.
    """
    with GpuContext() as context:
        kernel_s, bandwidth = _times(context, buffers, rounds)
    must = read_bytes() + OUT_BYTES
    return {
        "kernel_us": kernel_s * 1e6,
        "must_mb": must / 1e6,
        "copy_gb_s": bandwidth / 1e9,
        "share_of_copy": must / kernel_s / bandwidth,
    }


def _times(context: GpuContext, buffers: int, rounds: int) -> tuple[float, float]:
    """Seconds of one launch, and bytes a second, read and written, of a copy on the device."""
    driver = context.driver
    module = load_module(context, "preprocess", defines=["HALF"])
    kernel = load_kernel(module, "preprocess", SIGNATURE)
    stream, first, last = driver.Stream(), driver.Event(), driver.Event()
    sources = [driver.mem_alloc(FRAME_BYTES) for _ in range(buffers)]
    outs = [driver.mem_alloc(OUT_BYTES) for _ in range(buffers)]
    for source in sources:
        driver.memset_d8(source, 99, FRAME_BYTES)
    p = place(SOURCE_WH, OUT_WH)
    numbers = (
        *(*SOURCE_WH, SOURCE_WH[0] * 3, 0, *OUT_WH, p.x, p.y, p.w, p.h, 0),
        *(np.float32(v) for v in (1 / 64,) * 3 + (-1.78125,) * 3 + (114,)),
    )
    grid = (-(-OUT_WH[0] // 32), -(-OUT_WH[1] // 8))

    def launch() -> None:
        for source, out in zip(sources, outs, strict=True):
            kernel(grid, (32, 8, 1), stream, source, out, *numbers)

    def copy() -> None:
        for a, b in zip(sources[::2], sources[1::2], strict=True):
            driver.memcpy_dtod_async(b, a, FRAME_BYTES, stream)

    def seconds(work: Callable[[], None]) -> float:
        times = []
        work()
        for _ in range(rounds):
            first.record(stream)
            work()
            last.record(stream)
            last.synchronize()
            times.append(first.time_till(last) / 1e3)
        return float(median(times))

    kernel_s = seconds(launch) / buffers
    bandwidth = 2 * FRAME_BYTES * (buffers // 2) / seconds(copy)
    for memory in (*sources, *outs):
        memory.free()
    return kernel_s, bandwidth


def read_bytes() -> int:
    """Bytes of the source in sectors that some output pixel needs."""
    p = place(SOURCE_WH, OUT_WH)

    def taps(source: int, target: int) -> NDArray[np.int64]:
        at = (np.arange(target) + 0.5) * source / target - 0.5
        at = np.clip(at, 0, source - 1).astype(np.int64)
        return np.unique(np.concatenate([at, np.minimum(at + 1, source - 1)]))

    columns, rows = taps(SOURCE_WH[0], p.w), taps(SOURCE_WH[1], p.h)
    touched = np.unique(np.concatenate([columns * 3 + i for i in range(3)]) // SECTOR)
    return len(rows) * len(touched) * SECTOR
