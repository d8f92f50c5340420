"""Buffers bound by input shape, for the slots of every engine.

A network that takes any size computes only the part of its input that holds a frame's letterbox:
of a square input and a 16:9 frame that is 60 %. Each input shape has buffers of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

from ..core.frame import Frame
from ..models.manifest import ModelSpec

Bound = TypeVar("Bound", bound=Hashable)
Item = TypeVar("Item")
Size = tuple[int, int]  # width, height
KEPT = 8  # shapes: sources of several shapes, and the canary, take turns


class ShapeCache(Generic[Bound]):
    """What ``make`` gives for the input of a spec; the ``most`` latest used shapes are kept.

    For a network of one size it is made at once, else when a frame first needs that shape.
    ``drop`` frees what is no longer kept. One thread at a time; ``sizes`` from any thread.
    """

    def __init__(
        self,
        spec: ModelSpec,
        make: Callable[[ModelSpec], Bound],
        *,
        drop: Callable[[Bound], None] = lambda bound: None,
        most: int = KEPT,
    ) -> None:
        self._spec, self._make, self._drop, self._most = spec, make, drop, most
        self._kept: dict[Size, Bound] = {}  # the latest used is last
        # frame size and pixel aspect, and what they need
        self._latest: tuple[tuple[Size, float], Bound] | None = None
        if not spec.input.fit:
            self._kept[spec.input.size_wh] = make(spec)

    def for_frame(self, wh_px: Size, pixel_aspect: float = 1.0) -> Bound:
        """For frames of this size; raises what ``make`` raises."""
        shape = wh_px, pixel_aspect
        if self._latest is not None and self._latest[0] == shape:
            return self._latest[1]
        size = self._spec.input.size_for(wh_px, pixel_aspect)
        bound = self._kept.pop(size, None)
        if bound is None:
            bound = self._make(self._spec.for_frame(wh_px, pixel_aspect))
        self._kept[size] = bound
        self._latest = shape, bound
        if len(self._kept) > self._most:
            self._drop(self._kept.pop(next(iter(self._kept))))
        return bound

    def group(self, frames: Sequence[Frame]) -> dict[Bound, list[int]]:
        """Indices of the frames, by what their shapes need; ``merged`` undoes it."""
        if len(frames) == 1:
            return {self.for_frame(frames[0].wh_px, frames[0].pixel_aspect): [0]}
        groups: dict[Bound, list[int]] = {}
        for i, frame in enumerate(frames):
            groups.setdefault(self.for_frame(frame.wh_px, frame.pixel_aspect), []).append(i)
        return groups

    def close(self) -> None:
        self._latest = None
        while self._kept:
            self._drop(self._kept.popitem()[1])

    @property
    def sizes(self) -> tuple[Size, ...]:
        return tuple(self._kept)


def merged(parts: Sequence[tuple[Sequence[int], Sequence[Item]]]) -> Sequence[Item]:
    """The items of all parts of ``ShapeCache.group``, in the order of their indices."""
    if len(parts) == 1:
        return parts[0][1]
    items = {i: item for indices, some in parts for i, item in zip(indices, some, strict=True)}
    return [items[i] for i in range(len(items))]


def cut_remark(spec: ModelSpec, slots: Iterable[tuple[Size, ...]]) -> Sequence[str]:
    """How much of the input was computed, where that was not all; ``slots``: the sizes of each."""
    whole = spec.input.size_wh
    cut = {size for sizes in slots for size in sizes} - {whole}
    if not cut:
        return ()
    sizes = ", ".join("{}x{}".format(*size) for size in sorted(cut))
    return ("input {}, as much of {}x{} as the frames need".format(sizes, *whole),)
