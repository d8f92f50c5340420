"""What does a slot keep for each size of a network's input, and for how long?

Where a network takes any size, only the part of its input that holds a frame's letterbox is
computed: of a square and a 16:9 frame that is 60 %.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from app.model_spec import ModelSpec

Kept = TypeVar("Kept")
Size = tuple[int, int]  # width, height
KEPT = 8  # sizes, the latest used: sources of several shapes, and the canary, take turns


class BySize(Generic[Kept]):
    """What ``make`` gives for the input of a spec, made when a frame first needs that size.

    For a network of one size it is made at once. ``drop`` lets go of what is not kept any longer.
    One worker's; ``sizes`` from any thread.
    """

    def __init__(
        self,
        spec: ModelSpec,
        make: Callable[[ModelSpec], Kept],
        *,
        drop: Callable[[Kept], None] = lambda kept: None,
        most: int = KEPT,
    ) -> None:
        self._spec, self._make, self._drop, self._most = spec, make, drop, most
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
        if len(self._kept) > self._most:
            self._drop(self._kept.pop(next(iter(self._kept))))
        return kept

    def close(self) -> None:
        """Let go of all of it."""
        while self._kept:
            self._drop(self._kept.popitem()[1])

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Those that are there, the latest used last."""
        return tuple(self._kept)


def cut_remark(spec: ModelSpec, slots: Iterable[tuple[Size, ...]]) -> Sequence[str]:
    """How much of the input was computed, where that was not all; ``slots``: the sizes of each."""
    whole = spec.input.size_wh
    cut = {size for sizes in slots for size in sizes} - {whole}
    if not cut:
        return ()
    sizes = ", ".join("{}x{}".format(*size) for size in sorted(cut))
    return ("input {}, as much of {}x{} as the frames need".format(sizes, *whole),)
