"""What can the engine do? Values with strides, and the few kinds of steps on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]
Activation = tuple[str, float, float]  # kind, two parameters
NOTHING: Activation = ("none", 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class View:
    """A tensor: elements of a buffer, from ``offset``, ``strides`` elements apart."""

    buffer: int
    shape: Shape
    strides: Shape
    offset: int = 0

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def contiguous(self) -> bool:
        return all(
            n == 1 or have == want
            for n, have, want in zip(self.shape, self.strides, row_major(self.shape), strict=True)
        )

    @property
    def frames_contiguous(self) -> bool:
        """Whether each frame (first axis) lies without gaps; the frames may lie apart."""
        return self.sliced(0, 0, 1).contiguous

    def reshaped(self, shape: Shape) -> View | None:
        """The same elements in another shape without a copy, or None where there is no such view.

        Axes are matched from the left in groups of equal size; within a group the old axes must
        lie as if they were one.
        """
        old = [(n, s) for n, s in zip(self.shape, self.strides, strict=True) if n != 1]
        new = [n for n in shape if n != 1]
        strides: list[int] = []
        i = j = 0
        while i < len(old) or j < len(new):
            a, b, first_i, first_j = 1, 1, i, j
            while True:
                if a == b and i > first_i and j > first_j:
                    break
                if a <= b and i < len(old):
                    a, i = a * old[i][0], i + 1
                elif j < len(new):
                    b, j = b * new[j], j + 1
                else:
                    return None
            group = old[first_i:i]
            if any(s != n * t for (_, s), (n, t) in pairwise(group)):
                return None
            step = group[-1][1]
            part = []
            for n in reversed(new[first_j:j]):
                part.append(step)
                step *= n
            strides += reversed(part)
        kept = iter(strides)
        return replace(self, shape=shape, strides=tuple(next(kept) if n != 1 else 0 for n in shape))

    def permuted(self, axes: Sequence[int]) -> View:
        return replace(
            self,
            shape=tuple(self.shape[a] for a in axes),
            strides=tuple(self.strides[a] for a in axes),
        )

    def sliced(self, axis: int, start: int, count: int, step: int = 1) -> View:
        shape, strides = list(self.shape), list(self.strides)
        offset = self.offset + start * strides[axis]
        shape[axis] = count
        strides[axis] *= step
        return replace(self, shape=tuple(shape), strides=tuple(strides), offset=offset)

    def broadcast(self, shape: Shape) -> View:
        """Repeated along axes of size 1, with strides of 0."""
        missing = len(shape) - len(self.shape)
        old_shape, old = (1,) * missing + self.shape, (0,) * missing + self.strides
        strides = tuple(
            s if have == want else 0 for have, want, s in zip(old_shape, shape, old, strict=True)
        )
        return replace(self, shape=shape, strides=strides)


def row_major(shape: Shape) -> Shape:
    """Strides of a tensor without gaps, last axis fastest."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


@dataclass(frozen=True, slots=True)
class Conv:
    """y = act(x * w + b [+ added]), or act(x * w + b) + added where ``late``.

    x, y (frames,C,H,W); weight (out, in/groups, kh, kw); ``pad``: at the top and left.
    """

    x: View
    y: View
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    stride: tuple[int, int]
    pad: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    activation: Activation = NOTHING
    added: View | None = None
    late: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class Pool:
    """Maximum or mean of windows; ``counted``: the mean's divisor counts padding."""

    x: View
    y: View
    kind: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Resize:
    """(frames,C,H,W) to (frames,C,H·ry,W·rx): nearest (floor, asymmetric), or linear (half-pixel
    centres)."""

    x: View
    y: View
    linear: bool
    half_pixel: bool


@dataclass(frozen=True, slots=True)
class Binary:
    """y = a op b, element by element; views already broadcast to y's shape."""

    a: View
    b: View
    y: View
    op: str
    activation: Activation = NOTHING


@dataclass(frozen=True, slots=True)
class Unary:
    """y = act(x); with ("none", …) a copy."""

    x: View
    y: View
    activation: Activation = NOTHING


@dataclass(frozen=True, slots=True)
class Softmax:
    """Over the last axis."""

    x: View
    y: View


Step = Conv | Pool | Resize | Binary | Unary | Softmax


def reads(step: Step) -> list[View]:
    """The views a step takes."""
    match step:
        case Binary():
            return [step.a, step.b]
        case Conv(added=View() as added):
            return [step.x, added]
    return [step.x]


def with_views(step: Any, change: Any) -> Any:
    """The step with ``change`` applied to each of its views."""
    views = {
        name: change(value)
        for name in step.__slots__
        if isinstance(value := getattr(step, name), View)
    }
    return replace(step, **views)
