"""Raw network outputs become detections in source pixels: NaN guard, thresholds, NMS.

A frame's postprocessing comes right after the network has filled the caches with itself: the first
call of each NumPy function then costs ten times what a repeated one does, and the vector form needs
some thirty of them. The interpreter is one piece of code: for few boxes this takes half the time.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.detections import Detections
from ..core.errors import ModelError
from ..core.filters import MOST
from ..core.letterbox import Placement
from ..core.masks import MaskForm, ObjectMask
from ..models.families.base import (
    Candidates,
    Decoder,
    MaskPlanes,
    Outputs,
    Shapes,
    hulls,
    turned_corners,
)
from ..models.manifest import ModelSpec

log = logging.getLogger(__name__)

# so many candidates are handled one by one: a person or two before NMS; the work may grow with the
# square of their number
SCALAR_LIMIT = 24
CANDIDATES = 1000  # the strongest so many at least go through NMS; bounds the worst case
MAX_DETECTIONS = 500  # the default of the setting
MOST_IN_A_ROW = 30  # frames: one strange picture is no reason to end, a second of nothing is
TOGETHER = 16  # masks are multiplied from their prototypes: all at once would take megabytes
HUGE_PX = 1e6  # no box is so large; what is came from an overflow
Kept = tuple[float, float, float, float, int, float]  # corners, class, score


def postprocess_scalar(found: Candidates, placement: Placement, *, iou: float | None) -> Detections:
    """Sort, NMS by class unless ``iou`` is None, map to source pixels, clip; without keypoints."""
    rows = zip(found.scores.tolist(), found.xyxy.tolist(), found.class_ids.tolist(), strict=True)
    kept: list[Kept] = []
    p = placement
    right_px, bottom_px = p.x + p.w, p.y + p.h
    for score, (x0, y0, x1, y1), class_id in sorted(rows, key=itemgetter(0), reverse=True):
        if not (0 < x1 - x0 < HUGE_PX and 0 < y1 - y0 < HUGE_PX):  # nor if one is NaN
            continue
        if x1 <= p.x or y1 <= p.y or x0 >= right_px or y0 >= bottom_px:
            continue  # wholly outside of the frame: it suppresses nobody
        box = x0, y0, x1, y1, class_id, score
        if iou is None or not _suppressed(box, kept, iou):
            kept.append(box)
    return _in_source(kept, placement)


def _suppressed(box: Kept, kept: list[Kept], iou: float) -> bool:
    """Whether a stronger box of its class overlaps it by more than ``iou``."""
    x0, y0, x1, y1, class_id, _ = box
    for left, top, right, bottom, other_id, _ in kept:
        if class_id != other_id or x0 >= right or left >= x1 or y0 >= bottom or top >= y1:
            continue
        inner = (min(x1, right) - max(x0, left)) * (min(y1, bottom) - max(y0, top))
        if inner > iou * ((x1 - x0) * (y1 - y0) + (right - left) * (bottom - top) - inner):
            return True
    return False


def _in_source(kept: list[Kept], p: Placement) -> Detections:
    """Those that do not lie in the padding, in source pixels."""
    width, height = p.source_wh
    across, down = width / p.w, height / p.h
    boxes, scores, class_ids = [], [], []
    for x0, y0, x1, y1, class_id, score in kept:
        left, right = max((x0 - p.x) * across, 0.0), min((x1 - p.x) * across, width)
        top, bottom = max((y0 - p.y) * down, 0.0), min((y1 - p.y) * down, height)
        if right > left and bottom > top:
            boxes.append((left, top, right, bottom))
            scores.append(score)
            class_ids.append(class_id)
    if not boxes:
        return Detections.empty()
    return Detections(
        np.array(boxes, np.float32), np.array(scores, np.float32), np.array(class_ids, np.int32)
    )


def nms(
    xyxy: NDArray[np.float32],
    scores: NDArray[np.float32],
    class_ids: NDArray[np.intp],
    *,
    iou: float,
    candidates: int = CANDIDATES,
) -> NDArray[np.intp]:
    """Indices of the kept boxes, by falling score; equal scores keep their order.

    Only the ``candidates`` strongest are looked at.

    A box goes when a stronger kept box of its class overlaps it by more than ``iou``. Boxes must
    have finite corners and positive size. OpenCV's C++ does the work: NumPy forms need twice its
    time at 100 boxes and twenty times at 1000. Each class is moved to a place of its own, since
    OpenCV before 4.7 knows no classes here.
    """
    order = (-scores).argsort(kind="stable")[:candidates]
    if len(order) < 2:
        return order
    boxes = xyxy[order].astype(np.float64)
    apart = float(boxes.max() - boxes.min()) + 1
    boxes[:, 2:] -= boxes[:, :2]
    boxes[:, :2] += class_ids[order, None] * apart
    kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores[order].tolist(), 0.0, iou)
    return order.take(np.ravel(kept))  # (N, 1) before OpenCV 4.5.4


def nms_turned(
    turned: NDArray[np.float32],
    scores: NDArray[np.float32],
    class_ids: NDArray[np.intp],
    *,
    iou: float,
    candidates: int = CANDIDATES,
) -> NDArray[np.intp]:
    """As ``nms``, of turned boxes (N, 5), as Ultralytics does it: a box goes when any stronger one
    of its class, itself kept or not, overlaps it by ``iou`` or more in ProbIoU.

    Only pairs whose hulls touch are compared: others have a ProbIoU below 0.15.
    """
    order = (-scores).argsort(kind="stable")[:candidates]
    boxes, ids = turned[order], class_ids[order]
    low, high = np.split(hulls(boxes), 2, axis=1)
    near = ids[:, None] == ids
    for side in (0, 1):
        near &= (low[:, None, side] < high[:, side]) & (low[:, side] < high[:, None, side])
    strong, weak = np.nonzero(np.triu(near, 1))
    gone = np.zeros(len(order), np.bool_)
    gone[weak[probiou(boxes[strong], boxes[weak]) >= iou]] = True
    return order[~gone]


def probiou(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) similarity of pairs of turned boxes (N, 5) as Gaussians: 1 less their Hellinger distance
    (arXiv 2106.06072, as in Ultralytics' probiou)."""
    (a1, b1, c1), (a2, b2, c2) = _covariance(one), _covariance(other)
    dx, dy = one[:, 0] - other[:, 0], one[:, 1] - other[:, 1]
    a, b, c, eps = a1 + a2, b1 + b2, c1 + c2, np.float32(1e-7)
    determinant = a * b - c * c
    far = (a * dy * dy + b * dx * dx - 2 * c * dx * dy) / (determinant + eps) / 4
    single = (a1 * b1 - c1 * c1).clip(0) * (a2 * b2 - c2 * c2).clip(0)
    size = np.log(determinant / (4 * np.sqrt(single) + eps) + eps) / 2
    alike: NDArray[np.float32] = 1 - np.sqrt(1 - np.exp(-(far + size).clip(eps, 100)) + eps)
    return alike


def _covariance(turned: NDArray[np.float32]) -> tuple[Any, Any, Any]:
    """Of x, of y and of both, of evenly filled turned boxes."""
    along, across = turned[:, 2] ** 2 / 12, turned[:, 3] ** 2 / 12
    cos, sin = np.cos(turned[:, 4]), np.sin(turned[:, 4])
    a, b = along * cos**2 + across * sin**2, along * sin**2 + across * cos**2
    return a, b, (along - across) * cos * sin


def _survivors(found: Candidates, class_ids: NDArray[np.intp], limits: Limits) -> NDArray[np.intp]:
    """Indices of what NMS leaves, by falling score."""
    method, boxes = (nms, found.xyxy) if found.turned is None else (nms_turned, found.turned)
    return method(boxes, found.scores, class_ids, iou=limits.iou, candidates=limits.candidates)


class NanGuard:
    """Watches one slot's outputs; the first NaN is told, a row of them ends the run."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._row = self._seen = 0

    def check(self, outputs: Sequence[NDArray[Any]]) -> None:
        self.note(any(map(_has_nan, outputs)))

    def note(self, bad: bool) -> None:
        """One more frame. Raises ModelError after MOST_IN_A_ROW bad ones."""
        if not bad:
            self._row = 0
            return
        self._row += 1
        self._seen += 1
        told = (
            f"the network of {self._name} gives NaN instead of numbers; if --precision fp32 cures "
            "it, half precision is too narrow for it, else its weights are damaged: export them "
            "again"
        )
        if self._row >= MOST_IN_A_ROW:
            raise ModelError(f"{told} (on {self._row} frames in a row)")
        log.log(logging.DEBUG if self._seen > 1 else logging.ERROR, "%s", told)


def _has_nan(output: NDArray[Any]) -> bool:
    """A maximum hands NaN on, and most decoders begin with one: its code is then at hand."""
    if output.dtype.kind != "f":
        return False
    return math.isnan(np.maximum.reduce(output, axis=None, initial=0.0))


@dataclass(slots=True)
class Limits:
    """Thresholds, which may change between two frames, and the most boxes of one; any thread."""

    score: float
    iou: float
    most: int = MAX_DETECTIONS
    told: bool = False  # that a frame had more

    def tune(self, *, score: float, iou: float) -> None:
        """Others from the next frame on; then filters that follow may want all there are."""
        self.score, self.iou, self.most = score, iou, MOST

    @property
    def candidates(self) -> int:
        return max(CANDIDATES, 4 * self.most)

    def tell(self, count: int) -> None:
        """Say once that a frame has more boxes than are kept."""
        if not self.told:
            self.told = True
            log.warning(
                "a frame has %d boxes, of which the %d strongest are kept: max_detections is %d; "
                "raise it (--max-detections), or raise the score",
                *(count, self.most, self.most),
            )


class Postprocessor:
    """Decode, threshold, NMS, map to source pixels, clip. Safe to share between threads."""

    def __init__(
        self, spec: ModelSpec, shapes: Shapes, limits: Limits, nan_guard: NanGuard | None = None
    ) -> None:
        """``nan_guard``: that of a slot whose frames go through several of these."""
        self._decode = choosing(spec, spec.decoder(shapes), limits)
        self._needs_nms, self._masks = spec.detector.needs_nms, spec.masks
        self._limits = limits
        self.nan_guard = nan_guard or NanGuard(spec.name)

    def __call__(self, outputs: Sequence[NDArray[Any]], placement: Placement) -> Detections:
        """Outputs in graph order for one frame. Boxes without area in the frame are left out."""
        with overflow_ignored():
            return self.on_ready_thread(outputs, placement)

    def on_ready_thread(self, outputs: Sequence[NDArray[Any]], placement: Placement) -> Detections:
        """The same on a thread that is in ``overflow_ignored`` anyway, which costs a frame less."""
        self.nan_guard.check(outputs)
        found = self._decode(outputs, self._limits.score)
        count = len(found.scores)
        if not count:
            return Detections.empty()
        if count <= SCALAR_LIMIT and found.bare:
            iou = self._limits.iou if self._needs_nms else None
            return postprocess_scalar(found, placement, iou=iou)
        return self._postprocess_vectors(found, placement)

    def _postprocess_vectors(self, found: Candidates, placement: Placement) -> Detections:
        limits = self._limits
        sound = _sound(found, placement)
        if not sound.all():
            found = found.of(np.flatnonzero(sound))
        if self._needs_nms:
            kept = _survivors(found, found.class_ids, limits)
        else:
            kept = (-found.scores).argsort(kind="stable")
        return in_source(found.of(kept), placement, limits, masks=self._masks)


def _sound(found: Candidates, p: Placement) -> NDArray[np.bool_]:
    """(N,) those that are finite, of positive size, and not wholly outside of the frame."""
    low, high = found.xyxy[:, :2], found.xyxy[:, 2:]
    size = high - low
    good = (size > 0) & (size < HUGE_PX)  # false for NaN, too
    good &= (high > (p.x, p.y)) & (low < (p.x + p.w, p.y + p.h))
    sound: NDArray[np.bool_] = np.logical_and.reduce(good, axis=1)
    if found.bare:
        return sound
    for more in (found.keypoints, found.turned):
        if more is not None:
            sound &= np.isfinite(more.reshape(len(sound), -1)).all(axis=1)
    return sound


def overflow_ignored() -> np.errstate:
    """Garbage from a network may overflow; unsound boxes are sorted out."""
    return np.errstate(over="ignore", invalid="ignore")


def in_source(
    found: Candidates, placement: Placement, limits: Limits, *, masks: MaskForm = "rle"
) -> Detections:
    """The boxes that survived, by falling score, in source pixels; those in the padding go.

    Raises ModelError for a score that is none.
    """
    xyxy: NDArray[np.float32] = placement.to_source(found.xyxy.reshape(-1, 2, 2)).reshape(-1, 4)
    inside = xyxy[:, 2:] > xyxy[:, :2]
    if not inside.all():  # it lay in the padding
        kept = np.flatnonzero(inside.all(axis=1))
        xyxy, found = xyxy[kept], found.of(kept)
    if len(xyxy) > limits.most:
        limits.tell(len(xyxy))
        xyxy, found = xyxy[: limits.most], found.of(slice(limits.most))
    more: tuple[Any, ...] = ()
    if not found.bare:
        points, turned = found.keypoints, found.turned
        planes = None if masks == "none" else found.masks
        more = (
            None if points is None else placement.to_source(points),
            None,
            planes and _masks(planes, xyxy, placement, outlined=masks == "polygon"),
            found.keypoint_scores,
            None if turned is None else placement.unclipped(turned_corners(turned)),
            found.point_names,
        )
    return Detections(
        xyxy, found.scores.astype(np.float32, copy=False), found.class_ids.astype(np.int32), *more
    )


def _masks(
    masks: MaskPlanes, xyxy: NDArray[np.float32], placement: Placement, *, outlined: bool
) -> NDArray[np.object_]:
    """Those of boxes in source pixels: of each the part of its plane, copied."""
    made = np.empty(len(xyxy), np.object_)
    last = np.array(placement.source_wh) - 1
    starts = np.minimum(np.rint(xyxy[:, :2]).astype(int), last)  # of pixels with their centre in it
    ends = np.maximum(np.rint(xyxy[:, 2:]).astype(int), starts + 1)
    corners = np.concatenate((starts, ends), axis=1)
    p, (_, height, width) = placement, masks.planes.shape
    wholes: NDArray[Any] = masks.planes
    for i, (x0, y0, x1, y1) in enumerate(corners.tolist()):
        ax, bx, columns = _along(x0, x1, p.x, p.w / p.source_wh[0], width, p.input_wh[0])
        ay, by, rows = _along(y0, y1, p.y, p.h / p.source_wh[1], height, p.input_wh[1])
        place = i % TOGETHER
        if masks.rows.ndim == 1:
            place = masks.rows[i]
        elif not place:
            shares = masks.rows[i : i + TOGETHER]
            wholes = np.tensordot(shares, masks.planes, 1)
        field = (wholes[place, rows, columns] - np.float32(masks.level)).astype(np.float32)
        made[i] = ObjectMask(x0, y0, x1 - x0, y1 - y0, field, (ax, bx, ay, by), outlined)
    return made


def _along(
    first: int, end: int, offset: int, scale: float, cells: int, length: int
) -> tuple[float, float, slice]:
    """Of one axis: pixel i from ``first`` on lies at a i + b of the cells in the slice."""
    a = scale * cells / length
    b = ((first + 0.5) * scale + offset) * cells / length - 0.5
    start = min(max(math.floor(b), 0), cells - 1)
    stop = min(max(math.ceil(b + a * (end - first - 1)) + 1, start + 1), cells)
    return a, b - start, slice(start, stop)


def choosing(spec: ModelSpec, decode: Decoder, limits: Limits) -> Decoder:
    """``decode`` with thresholds of single classes, and one box an object whatever its class.

    Itself where the model and its user want neither.
    """
    if not spec.chooses:
        return decode
    own = np.array([spec.class_scores.get(label, np.nan) for label in spec.labels], np.float32)
    lowest = min(spec.class_scores.values(), default=1.0)

    def choose(outputs: Outputs, score: float) -> Candidates:
        found = decode(outputs, min(score, lowest))
        least = np.where(np.isnan(own), np.float32(score), own)
        found = found.of(np.flatnonzero(found.scores >= least[found.class_ids]))
        if not spec.agnostic:
            return found
        size = found.xyxy[:, 2:] - found.xyxy[:, :2]
        found = found.of(np.flatnonzero(((size > 0) & (size < HUGE_PX)).all(axis=1)))
        return found.of(_survivors(found, np.zeros(len(found.scores), np.intp), limits))

    return choose
