"""How long may a source take, and how many threads may its decoder use?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from app.errors import ConfigError

RtspTransport = Literal["auto", "tcp", "udp"]


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What all sources share; each ignores what does not concern it."""

    open_timeout_s: float = 10.0
    read_timeout_s: float = 10.0  # a stream that gives no frame for so long is lost
    decode_threads: int | None = None  # None: chosen by the cores this process may use
    raw: bool = False  # cameras hand over YUYV and NV12 as they are, where they give these
    rtsp_transport: RtspTransport = "auto"  # TCP first; UDP loses packets rather than time

    def __post_init__(self) -> None:
        for name in ("open_timeout_s", "read_timeout_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0 s, is {getattr(self, name)}")
        if self.decode_threads is not None and self.decode_threads < 1:
            raise ConfigError(f"decode_threads must be at least 1, is {self.decode_threads}")

    def threads(self) -> int:
        """Decoder threads: as asked for, else one core is left to inference, at most 4."""
        if self.decode_threads is not None:
            return self.decode_threads
        affinity = getattr(os, "sched_getaffinity", None)
        cores = len(affinity(0)) if affinity else (os.cpu_count() or 1)
        return max(1, min(4, cores - 1))
