"""Chooses the tile of each convolution: by rule, or measured once and remembered."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...models.cache import write_whole
from ..context import GpuContext
from ..graph import CudaGraph, Mark
from ..kernels import KERNEL_DIR, cubin_dir

log = logging.getLogger(__name__)

ROUNDS = 3  # the fastest counts
ROUND_MS = 0.5  # launches in a row until events can time them well, but no more than LAUNCHES
LAUNCHES = 20


Size = tuple[int, int, int]  # output channels of a group, pixels, groups of all frames


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
        attribute = self._context.driver.device_attribute.MULTIPROCESSOR_COUNT
        wanted = self._context.device.get_attribute(attribute)
        tiles = sensible(sizes)
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


def _file_for(context: GpuContext) -> Path:
    """One for each device and version of the kernels."""
    source = (KERNEL_DIR / "conv.cu").read_bytes()
    about = f"{context.name} {context.capability} {context.driver.get_driver_version()}".encode()
    return cubin_dir() / f"tiles-{hashlib.sha256(source + about).hexdigest()[:16]}.json"


def _read(file: Path) -> dict[str, list[int]]:
    """What was remembered; what cannot be read is measured anew."""
    try:
        known = json.loads(file.read_text())
        return {str(k): list(ConvTile(*v)) for k, v in known.items() if ConvTile(*v) in TILES}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
