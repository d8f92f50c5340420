"""Sources that are told what to do, and how long to wait for what happens on other threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from time import monotonic_ns

import numpy as np

from app.core.errors import SourceEnded, SourceError
from app.core.frame import Frame, SourceInfo
from app.pipeline.player import Opening
from app.sources.reconnect import Endurance, ReconnectingSource

LIMIT_S = 60.0


def until(condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Wait for what another thread will do."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.005)


class ToldSource:
    """Gives a frame for each permit; fails, ends or hangs when told."""

    def __init__(self, uri: str = "told:", *, count: int | None = None, seekable: bool = False):
        self.uri, self._count, self.can_seek = uri, count, seekable
        self.permits = threading.Semaphore(0)
        self.next, self.wh_px = 0, (4, 3)
        self.fail, self.hang = threading.Event(), threading.Event()
        self.hangs = False  # within a read
        self.open_error: Exception | None = None
        self.opened = self.closed = 0

    def open(self) -> SourceInfo:
        self.opened += 1
        self.next = 0
        if self.open_error is not None:
            raise self.open_error
        return SourceInfo(self.uri, True, self.wh_px, 10.0, self._count)

    def seek(self, media_ns: int) -> None:
        self.next = round(media_ns * 10 / 1e9)

    def read(self, timeout_s: float) -> Frame | None:
        while self.hang.is_set():
            self.hangs = True
            time.sleep(0.01)
        if self.fail.is_set():
            raise SourceError(f"{self.uri} was unplugged")
        if self._count is not None and self.next >= self._count:
            raise SourceEnded
        if not self.permits.acquire(timeout=min(timeout_s, 0.02)):
            return None
        self.next += 1
        pixels = np.full((self.wh_px[1], self.wh_px[0], 3), self.next % 256, np.uint8)
        return Frame(pixels, self.next - 1, monotonic_ns(), (self.next - 1) * 100_000_000)

    def close(self) -> None:
        self.closed += 1

    def let(self, count: int) -> None:
        for _ in range(count):
            self.permits.release()


class Shop:
    """Makes sources by name; the same object each time a name is asked for.

    What is no recording comes back, as behind a window; what is ``mortal`` does not.
    """

    def __init__(self, **sources: ToldSource) -> None:
        self.sources = sources
        self.recordings: set[str] = set()
        self.mortal: set[str] = set()
        self.endurance = Endurance(stall_s=0.2, retry_s=0.02, wait=True)

    def __call__(self, uri: str) -> Opening:
        if uri not in self.sources:
            raise SourceError(f"there is no {uri}")
        source = self.sources[uri]
        if uri in self.recordings | self.mortal:
            return Opening(source, uri, uri in self.recordings)
        lasting = ReconnectingSource(lambda: source, label=uri, endurance=self.endurance)
        return Opening(lasting, uri, False)
