"""How are frames captured without allocating memory for each of them?"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray


class FramePool:
    """Recycles (H, W, 3) uint8 arrays once nobody holds them or a view of them any more.

    Every array that is handed out is a view of an array that stays here. NumPy lets each view,
    however it was derived, hold a reference to the array that owns the memory, so the owner's
    reference count tells whether somebody still looks at it: nothing has to be given back.

    ``acquire`` is called from one thread; the views may be dropped on any thread.
    """

    def __init__(self, capacity: int = 8) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, is {capacity}")
        self._capacity = capacity
        self._shape: tuple[int, ...] = ()
        self._owners: list[NDArray[np.uint8]] = []
        self._idle_refs: list[int] = []

    def acquire(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """An array of this shape that nobody else holds; its content is undefined.

        A new shape lets go of all arrays of the old one. When ``capacity`` arrays are held, the
        answer is a fresh array that the pool does not keep.
        """
        if shape != self._shape:
            self._shape = shape
            self._owners.clear()
            self._idle_refs.clear()
        for i, idle in enumerate(self._idle_refs):
            if self._refs(i) == idle:
                return self._owners[i][...]
        fresh = np.empty(shape, np.uint8)
        if len(self._owners) < self._capacity:
            self._owners.append(fresh)
            del fresh  # or the local name would count as a holder
            self._idle_refs.append(self._refs(-1))
            return self._owners[-1][...]
        return fresh

    def _refs(self, i: int) -> int:
        # One expression for the baseline and for every later look: what CPython itself adds to the
        # count differs between versions, but not between two runs of the same line.
        return sys.getrefcount(self._owners[i])
