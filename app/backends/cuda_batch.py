"""The CUDA engine's slot that takes several frames at once, of one source or of many.

A GPU that one frame leaves half idle computes several in hardly more time: the network runs once
for all, their boxes are found and copied back at once. Each frame is preprocessed by a launch of
its own, whatever its size and format. Those that need another size of the input are another slot's
(cuda_fit.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from app.backends.cuda_slot import Answer, CudaSlot
from app.frame import Frame


class BatchCudaSlot(CudaSlot):
    """``capacity`` frames in flight. Fewer run with the next larger of the engine's runs (1, 2,
    4 …), at the price of that many frames, and leave its last places as they were."""

    @property
    def capacity(self) -> int:
        """See interfaces.BatchSlot."""
        return len(self._inputs)

    def enqueue_all(self, frames: Sequence[Frame]) -> None:
        """See interfaces.BatchSlot."""
        assert 0 < len(frames) <= self.capacity, "more frames than the slot takes"
        self._start(frames)

    def collect_all(self) -> list[Answer]:
        """See interfaces.BatchSlot."""
        return self._finish()
