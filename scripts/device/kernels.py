"""How near is the preprocessing kernel to what the GPU's memory allows?"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import numpy as np
from numpy.typing import NDArray

from app.core.frame import BT601
from app.core.letterbox import place
from app.cuda.context import GpuContext
from app.cuda.graph import CudaGraph, Mark
from app.cuda.kernels import load_kernel, load_module
from app.cuda.slot import SIGNATURE, yuv_numbers

WARM = 40  # launches before what counts: clocks rise under load
SECTOR = 32  # bytes: the least that memory gives
SOURCE_WH, OUT_WH = (1920, 1080), (640, 640)
COPY_BYTES = 512 << 20
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
    stream = driver.Stream()
    sources = [driver.mem_alloc(FRAME_BYTES) for _ in range(buffers)]
    outs = [driver.mem_alloc(OUT_BYTES) for _ in range(buffers)]
    for source in sources:
        driver.memset_d8(source, 99, FRAME_BYTES)
    p = place(SOURCE_WH, OUT_WH)
    numbers = (
        *(*SOURCE_WH, SOURCE_WH[0] * 3, 0, *OUT_WH, p.x, p.y, p.w, p.h, 0),
        *(np.float32(v) for v in (1 / 64,) * 3 + (-1.78125,) * 3 + (114,)),
        *yuv_numbers(BT601),
    )
    grid = (-(-OUT_WH[0] // 32), -(-OUT_WH[1] // 8))

    a, b = driver.mem_alloc(COPY_BYTES), driver.mem_alloc(COPY_BYTES)

    def launch() -> None:
        for source, out in zip(sources, outs, strict=True):
            kernel(grid, (32, 8, 1), stream, source, out, *numbers)

    def copy() -> None:
        driver.memcpy_dtod_async(b, a, COPY_BYTES, stream)

    def seconds(work: Callable[[], None]) -> float:
        """As one graph: launched one by one, the host's pace would be measured."""

        def marked(mark: Mark) -> None:
            mark(0)
            work()
            mark(1)

        graph = CudaGraph(context, stream, marked, marks=2)
        times = []
        for _ in range(rounds + WARM):
            graph.launch()
            graph.wait()
            times.append(graph.between_ns(0, 1) / 1e9)
        graph.close()
        return float(median(times[WARM:]))

    bandwidth = 2 * COPY_BYTES / seconds(copy)
    kernel_s = seconds(launch) / buffers
    for memory in (*sources, *outs, a, b):
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
