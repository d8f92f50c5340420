"""Which recordings does a slot keep? The latest: frames of other sizes, or fewer, come again."""

from __future__ import annotations

from collections.abc import Hashable

from app.gpu.context import GpuContext
from app.gpu.recording import Recorder, Work


class Recordings:
    """Up to ``most`` recordings on one stream, found by what they are for."""

    def __init__(self, context: GpuContext, first: Recorder, most: int) -> None:
        self._context, self._most = context, most
        self._kept: dict[Hashable, Recorder] = {}  # that used last is last
        self._spare = [first]

    def of(self, key: Hashable, work: Work) -> Recorder:
        """The recording for ``key``, made of ``work`` where there is none; none may be running."""
        recorder = self._kept.pop(key, None)
        if recorder is None:
            recorder = self._vacant()
            self._spare.append(recorder)  # should the next line fail, it can be closed
            recorder.record(work)
            self._spare.pop()
        self._kept[key] = recorder
        return recorder

    def _vacant(self) -> Recorder:
        if self._spare:
            return self._spare.pop()
        oldest = next(iter(self._kept))
        if len(self._kept) < self._most:
            return self._kept[oldest].another(self._context)
        return self._kept.pop(oldest)

    def forget(self) -> None:
        """Free all recordings: an address or a number in them is no longer true."""
        for recorder in self._kept.values():
            recorder.forget()
        self._spare += self._kept.values()
        self._kept.clear()

    def close(self) -> None:
        """Free everything; nothing may be pending."""
        self.forget()
        for recorder in self._spare:
            recorder.close()
        self._spare.clear()
