"""What does this process hold, with its decoders: memory, descriptors, threads?"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.nvml import open_nvml

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Holdings:
    """At one moment, of a process and its children."""

    rss_mb: float
    descriptors: int
    threads: int


def holdings(pid: int | str = "self") -> Holdings:
    """Linux only. A child that ends meanwhile counts as far as it was seen."""
    rss_mb, descriptors, threads = 0.0, 0, 0
    for process in _family(Path("/proc", str(pid))):
        with contextlib.suppress(OSError, IndexError):
            rss_mb += int((process / "statm").read_text().split()[1]) * PAGE_BYTES / 2**20
            descriptors += sum(1 for _ in (process / "fd").iterdir())
            threads += sum(1 for _ in (process / "task").iterdir())
    return Holdings(rss_mb, descriptors, threads)


def gpu_memory_mb() -> float | None:
    """In use on the first NVIDIA GPU, by all; None where there is none, or nothing that tells."""
    gpu, _ = open_nvml()
    try:
        return None if gpu is None else gpu.memory_bytes() / 2**20
    except OSError:  # also on a Jetson: there it is the system's memory, counted above
        return None


def _family(process: Path) -> Iterator[Path]:
    yield process
    try:
        tasks = list((process / "task").iterdir())
    except OSError:
        return
    for task in tasks:
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                yield from _family(Path("/proc", child))
