"""Copy a frame to the GPU, or let the GPU reach into the host's memory? Measured, then told.

``pinned``: asynchronous copies between page-locked and device memory, beside the computing of
another frame. ``mapped``: kernels read and write page-locked memory themselves; on a GPU that
shares its memory with the host (Jetson) nothing is moved at all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from app.config import Transfer

log = logging.getLogger(__name__)


class Strategy:
    """One decision for all slots of a backend."""

    def __init__(self, wanted: Transfer = "auto") -> None:
        self.mapped: bool | None = None if wanted == "auto" else wanted == "mapped"
        self.remark = f"transfer {wanted}, as asked for" if wanted != "auto" else ""

    def decide(self, trial_ns: Callable[[bool], float]) -> bool:
        """Whether to map. ``trial_ns``: how long a frame takes with mapped memory, or without."""
        if self.mapped is None:
            pinned, mapped = (trial_ns(choice) / 1e6 for choice in (False, True))
            self.mapped = mapped < pinned
            name = "mapped" if self.mapped else "pinned"
            self.remark = (
                f"transfer {name}: a frame takes {pinned:.3f} ms pinned, {mapped:.3f} ms mapped"
            )
            log.info("%s", self.remark)
        return self.mapped
