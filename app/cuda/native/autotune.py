"""Chooses the tile of each convolution: by rule, or measured once and remembered; and by rule how
many blocks share its sums."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from ...models.cache import write_whole
from ..context import GpuContext
from ..graph import CudaGraph, Mark
from ..kernels import cubin_dir, kernel_source
from .ir import Conv

log = logging.getLogger(__name__)

ROUNDS = 3  # the fastest counts
ROUND_MS = 0.5  # launches in a row until events can time them well, but no more than LAUNCHES
LAUNCHES = 20
# in K steps, 170 cycles or so, as scripts/gpu_model.py has them
K = 32  # values of each sum that a block loads at a time
ADD_UP = 14  # write, count, read what others wrote; with a margin
ADDED = 1333  # floats that a block writes or reads in the time of one


# output channels of a group, pixels, groups of all frames: so many for each part of a sum
Size = tuple[int, int, int]


class ConvTile(NamedTuple):
    """Output channels and pixels that one block of `conv` computes."""

    channels: int
    pixels: int

    def blocks(self, size: Size) -> int:
        """How many compute a convolution of this size."""
        channels, pixels, groups = size
        return -(-channels // self.channels) * -(-pixels // self.pixels) * groups


TILES = (
    ConvTile(64, 64),
    ConvTile(32, 64),
    ConvTile(32, 32),
    ConvTile(16, 64),
)  # that kernels/conv.cu has


class ConvAutotuner:
    """Chooses tiles; ``tune``: by measuring, where nothing is remembered of this device."""

    def __init__(self, context: GpuContext, *, tune: bool) -> None:
        self._context, self._tune = context, tune
        self._file = _file_for(context)
        self._known = _read(self._file) if tune else {}
        self._measured = 0

    def choose(
        self,
        sizes: Sequence[Size],
        signature: tuple[Any, ...],
        launch: Callable[[ConvTile], Any],
    ) -> ConvTile:
        """One for all convolutions of a launch. ``signature``: all on which the time depends.
        ``launch``: what puts them on a stream with a tile."""
        if not self._tune:
            return self._by_rule(sizes)
        key = hashlib.sha256(repr([*map(str, signature)]).encode()).hexdigest()[:16]
        if key not in self._known:
            self._known[key] = list(self._fastest(sensible(sizes), launch))
            self._measured += 1
        return ConvTile(*self._known[key])

    def keep(self) -> None:
        """Remember what was measured, for the next start."""
        if not self._measured:
            return
        log.info("measured the tiles of %d convolutions on this GPU", self._measured)
        self._measured = 0
        try:
            write_whole(self._file, json.dumps(self._known, indent=0).encode())
        except OSError as fault:
            log.warning("measured tiles cannot be kept in %s: %s", self._file, fault.strerror)

    def _by_rule(self, sizes: Sequence[Size]) -> ConvTile:
        """The largest tile that still gives every multiprocessor a block, or the smallest."""
        wanted, tiles = multiprocessors(self._context), sensible(sizes)
        enough = (tile for tile in tiles if sum(map(tile.blocks, sizes)) >= wanted)
        return next(enough, tiles[-1])

    def _fastest(self, tiles: list[ConvTile], launch: Callable[[ConvTile], Any]) -> ConvTile:
        if len(tiles) == 1:
            return tiles[0]
        stream = self._context.driver.Stream()

        def timed_ms(work: Callable[[Any], None], count: int) -> float:
            """As one graph: launched one by one, the host's pace would be measured."""

            def several(mark: Mark) -> None:
                mark(0)
                for _ in range(count):
                    work(stream)
                mark(1)

            graph = CudaGraph(self._context, stream, several, marks=2)
            times = []
            for _ in range(ROUNDS):
                graph.launch()
                graph.wait()
                times.append(graph.between_ns(0, 1) / 1e6 / count)
            graph.close()
            return min(times)

        works = {tile: launch(tile) for tile in tiles}
        for work in works.values():
            work(stream)  # the first launch loads the kernel, and wakes the clocks
        stream.synchronize()
        found = {}
        for tile, work in works.items():
            count = max(1, min(LAUNCHES, int(ROUND_MS / max(timed_ms(work, 1), 1e-4))))
            found[tile] = timed_ms(work, count)
        return min(found, key=lambda tile: found[tile])


def sensible(sizes: Sequence[Size]) -> list[ConvTile]:
    """Tiles of which some convolution uses at least half, the smallest in any case."""
    most = max(channels for channels, _, _ in sizes)
    return [t for t in TILES if t.channels < 2 * most] or [TILES[-1]]


def multiprocessors(context: GpuContext) -> int:
    """How many the device has."""
    attribute = context.driver.device_attribute.MULTIPROCESSOR_COUNT
    return int(context.device.get_attribute(attribute))


def size_of(step: Conv) -> Size:
    """What its blocks share out."""
    frames, _, *hw = step.y.shape
    return len(step.weight) // step.groups, prod(hw), step.groups * frames * step.parts


def k_steps(step: Conv) -> int:
    """Loads of each sum, one after the other, in half precision."""
    return -(-prod(step.weight.shape[1:]) // K)


def parts_for(wave: Sequence[Conv], multiprocessors: int) -> list[int]:
    """``parts`` of each convolution of a launch for one frame: more than 1 where there are fewer
    blocks than multiprocessors, and sums long enough that adding up parts takes less time than they
    save. Counted in K steps, which take the time of loads; scripts/gpu_model.py in nanoseconds.
    Those that a depthwise one is part of have too short sums for that."""
    sizes, steps = [size_of(step) for step in wave], [k_steps(step) for step in wave]
    unsplit = [1] * len(wave)
    few = sum(map(TILES[-1].blocks, sizes)) < multiprocessors
    if not few or wave[0].kernel != "dense":
        return unsplit
    best = (float(max(steps)), 1, unsplit)
    for tile in sensible(sizes):
        for most in range(1, max(steps)):  # steps of a block
            parts = [-(-n // most) for n in steps]
            blocks = sum(tile.blocks(s) * n for s, n in zip(sizes, parts, strict=True))
            if blocks <= multiprocessors:
                adding = ADD_UP + (max(parts) + 1) * tile.channels * tile.pixels / ADDED
                best = min(best, (most + adding, max(parts), parts))
    return best[2]


def shared_sums(wave: Sequence[Conv]) -> tuple[int, int]:
    """Floats for the parts of sums, and counters, that a launch needs at most, whichever tile."""
    if all(step.parts == 1 for step in wave):
        return 0, 0
    sizes = [size_of(step) for step in wave]
    blocks = {tile: sum(map(tile.blocks, sizes)) for tile in sensible(sizes)}
    return max(n * t.channels * t.pixels for t, n in blocks.items()), max(blocks.values())


def _file_for(context: GpuContext) -> Path:
    """One for each device and version of the kernels."""
    source = kernel_source("conv").encode()
    about = f"{context.name} {context.capability} {context.driver.get_driver_version()}".encode()
    return cubin_dir() / f"tiles-{hashlib.sha256(source + about).hexdigest()[:16]}.json"


def _read(file: Path) -> dict[str, list[int]]:
    """What was remembered; what cannot be read is measured anew."""
    try:
        known = json.loads(file.read_text())
        return {str(k): list(ConvTile(*v)) for k, v in known.items() if ConvTile(*v) in TILES}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
