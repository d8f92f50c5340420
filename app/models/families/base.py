"""What all decoders share: candidates, grids of cell positions, and the check of shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ModelError

Array = NDArray[np.float32]


class Candidates(NamedTuple):
    """Boxes over the threshold, before NMS, in pixels of the network's input.

    xyxy (M, 4), scores (M,), class_ids (M,) int; keypoints (M, K, 2) or None.
    """

    xyxy: Array
    scores: Array
    class_ids: NDArray[np.intp]
    keypoints: Array | None = None

    def of(self, index: NDArray[np.intp]) -> Candidates:
        """The candidates at ``index``, in that order."""
        return Candidates(
            self.xyxy[index],
            self.scores[index],
            self.class_ids[index],
            None if self.keypoints is None else self.keypoints[index],
        )


# what an empty frame gives; nobody writes to it
NOTHING = Candidates(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.intp))


class Decoder(Protocol):
    """One family's reading of the raw outputs. Pure, and safe to share between threads."""

    needs_nms: bool

    def __call__(self, outputs: Sequence[NDArray[Any]], score: float) -> Candidates:
        """Outputs in graph order, batch of one, to candidates with at least ``score``."""


Shapes = Sequence[tuple[int, ...]]


def refuse(family: str, shapes: Shapes, expected: str) -> ModelError:
    """The error for outputs that this family cannot have."""
    got = ", ".join(str(list(shape)) for shape in shapes)
    return ModelError(
        f"the network's outputs {got} are not those of family {family!r}, which has {expected}; "
        "correct `decoder.family`, `input.size` or `labels` in its manifest"
    )


def cells(input_wh: tuple[int, int], strides: Sequence[int]) -> tuple[Array, Array]:
    """Cell positions (N, 2) as (column, row) and strides (N, 1), level by level, row-major."""
    positions, sizes = [], []
    for stride in strides:
        columns, rows = -(-input_wh[0] // stride), -(-input_wh[1] // stride)
        row, column = np.mgrid[:rows, :columns]
        positions.append(np.stack((column.ravel(), row.ravel()), axis=1))
        sizes.append(np.full((rows * columns, 1), stride))
    return (
        np.concatenate(positions).astype(np.float32),
        np.concatenate(sizes).astype(np.float32),
    )


def corners(centre: Array, size: Array) -> Array:
    """Centre and size, each (M, 2), to xyxy (M, 4)."""
    half = size * np.float32(0.5)
    xyxy = np.empty((len(centre), 4), np.float32)
    np.subtract(centre, half, out=xyxy[:, :2])
    np.add(centre, half, out=xyxy[:, 2:])
    return xyxy


def best_class(class_scores: Array) -> tuple[NDArray[np.intp], Array]:
    """The best class of each row of (M, C), and its score."""
    class_ids = class_scores.argmax(axis=1)
    return class_ids, class_scores[np.arange(len(class_ids)), class_ids]
