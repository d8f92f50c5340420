"""What does a slot keep for each size of a network's input, and for how long?

Where a network takes any size, only the part of its input that holds a frame's letterbox is
computed: of a square and a 16:9 frame that is 60 %.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from app.model_spec import ModelSpec

Kept = TypeVar("Kept")
Size = tuple[int, int]  # width, height
KEPT = 8  # sizes, the latest used: sources of several shapes, and the canary, take turns


class BySize(Generic[Kept]):
    """What ``make`` gives for the input of a spec, made when a frame first needs that size.

    For a network of one size it is made at once. One worker's; ``sizes`` from any thread.
    """

    def __init__(self, spec: ModelSpec, make: Callable[[ModelSpec], Kept]) -> None:
        self._spec, self._make = spec, make
        self._kept: dict[Size, Kept] = {}
        if not spec.input.fit:
            self._kept[spec.input.size_wh] = make(spec)

    def for_frame(self, wh_px: tuple[int, int]) -> Kept:
        """For frames of this size; raises what ``make`` raises."""
        size = self._spec.input.size_for(wh_px)
        kept = self._kept.pop(size, None)
        if kept is None:
            kept = self._make(self._spec.for_frame(wh_px))
        self._kept[size] = kept
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return kept

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Those that are there, the latest used last."""
        return tuple(self._kept)
