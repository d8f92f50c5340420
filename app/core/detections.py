"""Detections and results of one frame, and the names of their classes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import ModelError
from .events import Event, Fired
from .frame import Frame

# not the types: to compare with those NumPy makes a dtype of them each time
HIGHEST = 1.00005  # of a score: rounding is forgiven as far as no output shows it
FLOAT32, INT32, INT64 = np.dtype(np.float32), np.dtype(np.int32), np.dtype(np.int64)
OBJECT = np.dtype(object)

Which = NDArray[np.bool_] | NDArray[np.integer[Any]] | slice


@dataclass(frozen=True, slots=True)
class Detections:
    """Parallel arrays, validated once here and trusted everywhere else.

    xyxy: (N, 4) float32, source pixels, origin top-left, right and bottom exclusive.
    scores: (N,) float32 in 0..1, falling; others raise ModelError. class_ids: (N,) int32.
    keypoints: (N, K, 2) float32 source pixels, or None where the model has none.
    track_ids: (N,) int64, -1 where there is no track, or None where nothing is tracked.
    masks: (N,) of masks.ObjectMask, or None. keypoint_scores: (N, K) float32 in 0..1, or None.
    polygons: (N, 4, 2) float32 source pixels, the corners of turned boxes in order, perhaps outside
    of the frame, or None; xyxy is then their hull. point_names: of the K keypoints, or ().

    A further field is declared and checked here; selection and concatenation take it along.
    """

    xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    keypoints: NDArray[np.float32] | None = None
    track_ids: NDArray[np.int64] | None = None
    masks: NDArray[np.object_] | None = None
    keypoint_scores: NDArray[np.float32] | None = None
    polygons: NDArray[np.float32] | None = None
    point_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.scores)
        _check("xyxy", self.xyxy, (n, 4), FLOAT32)
        _check("scores", self.scores, (n,), FLOAT32)
        _check("class_ids", self.class_ids, (n,), INT32)
        if self.track_ids is not None:
            _check("track_ids", self.track_ids, (n,), INT64)
        if not self.bare:
            self._check_more(n)
        if n and not (self.scores[-1] >= 0 and self.scores[0] <= HIGHEST):  # nor is NaN
            raise wrong_score(next(float(s) for s in self.scores if not 0 <= s <= HIGHEST))
        if n > 1 and not (self.scores[:-1] >= self.scores[1:]).all():
            raise ValueError("scores must be falling")

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def bare(self) -> bool:
        return self.keypoints is None and self.masks is None and self.polygons is None

    def _check_more(self, n: int) -> None:
        kps = self.keypoints
        if kps is not None and (kps.ndim != 3 or kps.shape[0] != n or kps.shape[2] != 2):
            raise ValueError(f"keypoints must be ({n}, K, 2), is {kps.shape}")
        if self.masks is not None:
            _check("masks", self.masks, (n,), OBJECT)
        if self.keypoint_scores is not None:
            _check("keypoint_scores", self.keypoint_scores, (n, _count(kps)), FLOAT32)
        if self.polygons is not None:
            _check("polygons", self.polygons, (n, 4, 2), FLOAT32)
        if self.point_names and len(self.point_names) != _count(kps):
            raise ValueError(f"{len(self.point_names)} names for {_count(kps)} keypoints")

    def __getitem__(self, which: Which) -> Detections:
        """Those that a mask (N,), rising indices or a slice chooses, with all of their fields."""
        arrays = (getattr(self, name) for name in _FIELDS)
        chosen: list[Any] = [None if array is None else array[which] for array in arrays]
        chosen.append(self.point_names)
        return Detections(*chosen)

    @staticmethod
    def concat(parts: Sequence[Detections]) -> Detections:
        """All of several, by falling score; equal scores stay in the order of the parts.

        Raises ValueError where some have a field, such as keypoints, that others lack.
        """
        parts = [each for each in parts if len(each)]
        if len(parts) < 2:
            return parts[0] if parts else Detections.empty()
        order = (-np.concatenate([each.scores for each in parts])).argsort(kind="stable")
        joined: list[Any] = []
        for name in _FIELDS:
            arrays = [array for each in parts if (array := getattr(each, name)) is not None]
            if arrays and len(arrays) < len(parts):
                raise ValueError(f"only {len(arrays)} of {len(parts)} detections have {name}")
            joined.append(np.concatenate(arrays)[order] if arrays else None)
        joined.append(parts[0].point_names)
        return Detections(*joined)

    def without(self, labels: Sequence[str], hidden: Collection[str]) -> Detections:
        """Those whose label is not hidden; the same object where none is."""
        if not hidden or not len(self):
            return self
        gone = [i for i, label in enumerate(labels) if label in hidden]
        kept = ~np.isin(self.class_ids, gone)
        return self if kept.all() else self[kept]

    @staticmethod
    def empty() -> Detections:
        """No detections: always the same object, as an empty scene asks for it at every frame."""
        return _NOTHING


def scaled(found: Detections, from_wh_px: tuple[int, int], to_wh_px: tuple[int, int]) -> Detections:
    """The same in a picture of another size."""
    if from_wh_px == to_wh_px or not len(found):
        return found
    factor: NDArray[np.float32] = np.divide(to_wh_px, from_wh_px, dtype=np.float32)
    points, turned, masks = found.keypoints, found.polygons, found.masks
    if masks is not None:
        masks = masks.copy()
        masks[:] = [each.scaled(float(factor[0]), float(factor[1])) for each in masks]
    return replace(
        found,
        xyxy=found.xyxy * np.tile(factor, 2),
        keypoints=None if points is None else np.multiply(points, factor, dtype=np.float32),
        polygons=None if turned is None else np.multiply(turned, factor, dtype=np.float32),
        masks=masks,
    )


def wrong_score(score: float) -> ModelError:
    """The fault of a network whose score is none."""
    return ModelError(
        f"the model gives a score of {score:.4g}; scores lie between 0 and 1: export it with "
        "sigmoid or softmax, and if --precision fp32 cures it, half precision is too narrow for it"
    )


# the parallel arrays
_FIELDS = tuple(each.name for each in fields(Detections) if each.name != "point_names")


def _count(keypoints: NDArray[np.float32] | None) -> int:
    return 0 if keypoints is None else keypoints.shape[1]


def _check(name: str, array: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{name} must be {shape} {dtype}, is {array.shape} {array.dtype}")


_NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))


class DrawnShape(NamedTuple):
    """A zone (``closed``) or a line in pixels of the frame, and what is written at its start."""

    points: Sequence[Sequence[float]]  # [x, y] each
    closed: bool
    text: str
    rgb: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Result:
    """One processed frame as the sinks get it, in order.

    ``stages_ns`` maps a stage's name ("preprocess", "network", "postprocess", …) to nanoseconds.
    ``age_ns`` is now − captured at the moment the boxes were ready to leave the pipeline.
    ``events`` and the rules that they ``fired`` are what this frame brought; ``zones`` names those
    that each detection's track is in, parallel to the detections; ``shapes`` are those zones and
    lines to be drawn, with their counts. Empty where nothing is tracked. ``hidden``: how many more
    detections there are that filters hide, by reason (see filters.REASONS). ``lease``: by which a
    fleet's node delivers it; a later holder of the camera has a higher one.
    """

    frame: Frame
    detections: Detections
    age_ns: int
    stages_ns: Mapping[str, int] = field(default_factory=dict)
    events: Sequence[Event] = ()
    fired: Sequence[Fired] = ()
    zones: Sequence[tuple[str, ...]] = ()
    shapes: Sequence[DrawnShape] = ()
    hidden: Mapping[str, int] = field(default_factory=dict)
    lease: int | None = None


def label_of(labels: Sequence[str], class_id: int) -> str:
    """The class's label, or ``class N`` where the model has no name for it."""
    return labels[class_id] if 0 <= class_id < len(labels) else f"class {class_id}"
