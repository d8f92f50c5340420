"""How trustworthy scores are: the best threshold of a class, calibration, false alarms.

A found box is right where it covers a labelled one of its class that no better box took, with an
IoU of at least 0.5; one that lies mostly in an ignored region counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]
Floats = NDArray[np.float32]
THRESHOLDS = np.round(np.arange(0.1, 0.91, 0.01), 2)
MATCH_IOU = 0.5
WITHIN = 0.5  # of a found box inside an ignored one
BINS = 10  # of the calibration error


@dataclass(frozen=True, slots=True)
class Matches:
    """Of one class over all pictures: found boxes' ``scores`` (n,), best first, whether each is
    ``right``, and how many boxes there are to be found."""

    scores: Floats
    right: NDArray[np.bool_]
    boxes: int

    def at(self, threshold: float) -> tuple[float, float, float]:
        """F1, precision and recall."""
        kept = self.right[self.scores >= threshold]
        hits = int(kept.sum())
        precision, recall = hits / max(1, len(kept)), hits / max(1, self.boxes)
        return 2 * hits / max(1, len(kept) + self.boxes), precision, recall

    def best(self) -> float:
        """The threshold of the best F1."""
        return float(max(THRESHOLDS, key=lambda t: self.at(float(t))[0]))

    def calibration_error(self) -> float:
        """Mean distance between score and share of right boxes, over scores from THRESHOLDS[0] on.

        Expected calibration error with BINS bins of equal width (Guo et al., 2017).
        """
        counted = self.scores >= THRESHOLDS[0]
        scores, right = self.scores[counted], self.right[counted]
        which = np.minimum((scores * BINS).astype(int), BINS - 1)
        gaps = [abs(float((scores - right)[which == i].sum())) for i in range(BINS)]
        return sum(gaps) / max(1, len(scores))


@dataclass(frozen=True, slots=True)
class Trust:
    """Of one class: its best threshold, F1, precision and recall there and at the model's own
    threshold, and the calibration error; ``false_share``: the part of the pictures without such a
    thing in which one is found at the model's threshold, None where every picture has one."""

    best_threshold: float
    best: tuple[float, float, float]
    own: tuple[float, float, float]
    calibration_error: float
    false_share: float | None
    without: int

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def match(
    found: Boxes, scores: Floats, truth: Boxes, ignored: Boxes
) -> tuple[Floats, NDArray[np.bool_]]:
    """Of one picture and class: the scores that count, falling, and whether each is right."""
    order = np.argsort(-scores, kind="stable")
    overlaps = _overlaps(found, truth)
    overlaps = overlaps / np.maximum(_area(found)[:, None] + _area(truth) - overlaps, 1e-9)
    within = _overlaps(found, ignored) / np.maximum(_area(found), 1e-6)[:, None]
    free = np.ones(len(truth), np.bool_)
    counted, right = [], []
    for i in order:
        near = np.where(free, overlaps[i], 0)
        hit = len(near) > 0 and near.max() >= MATCH_IOU
        if hit:
            free[near.argmax()] = False
        elif (within[i] > WITHIN).any():
            continue
        counted.append(scores[i])
        right.append(hit)
    return np.array(counted, np.float32), np.array(right, np.bool_)


def trust(
    truth: Mapping[str, Any],
    found: Iterable[Mapping[str, Any]],
    *,
    labels: Sequence[str],
    threshold: float,
    images: Iterable[int] | None = None,
) -> dict[str, Trust]:
    """By label, for those of ``labels`` that ``truth`` (COCO annotations) labels.

    ``found`` are COCO's rows (image_id, category_id, bbox xywh px, score), weak ones too;
    ``images``: ids, None for all.
    """
    ids = [i["id"] for i in truth["images"]] if images is None else list(images)
    wanted = set(ids)
    labelled, told = _grouped(truth["annotations"], wanted), _grouped(found, wanted)
    result = {}
    for category in truth["categories"]:
        number, label = category["id"], category["name"]
        if label not in labels or not any(key[1] == number for key in labelled):
            continue
        matches = _matches(ids, number, labelled, told)
        empty = [i for i in ids if (i, number) not in labelled]
        alarms = [
            any(row["score"] >= threshold for row in told.get((i, number), ())) for i in empty
        ]
        best = matches.best()
        result[label] = Trust(
            best,
            matches.at(best),
            matches.at(threshold),
            matches.calibration_error(),
            float(np.mean(alarms)) if empty else None,
            len(empty),
        )
    return result


Grouped = Mapping[tuple[int, int], Sequence[Mapping[str, Any]]]  # by image and category


def _grouped(rows: Iterable[Mapping[str, Any]], wanted: set[int]) -> Grouped:
    groups: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["image_id"] in wanted:
            groups.setdefault((row["image_id"], row["category_id"]), []).append(row)
    return groups


def _matches(ids: Sequence[int], category: int, labelled: Grouped, told: Grouped) -> Matches:
    scores, right, count = [], [], 0
    for i in ids:
        known, mine = labelled.get((i, category), ()), told.get((i, category), ())
        crowd = np.array([bool(a.get("iscrowd", 0)) for a in known], np.bool_)
        corners, strength = _corners(known), np.array([r["score"] for r in mine], np.float32)
        counted = match(_corners(mine), strength, corners[~crowd], corners[crowd])
        scores.append(counted[0])
        right.append(counted[1])
        count += int((~crowd).sum())
    every = np.concatenate(scores)
    order = np.argsort(-every, kind="stable")
    return Matches(every[order], np.concatenate(right)[order], count)


def _corners(rows: Sequence[Mapping[str, Any]]) -> Boxes:
    """(N, 4) xyxy of rows with ``bbox``, xywh."""
    xywh = np.array([row["bbox"] for row in rows], np.float32).reshape(-1, 4)
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def _area(boxes: Boxes) -> Floats:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), np.float32)


def _overlaps(one: Boxes, other: Boxes) -> Floats:
    """(N, M) px²: what each pair shares."""
    low = np.maximum(one[:, None, :2], other[:, :2])
    high = np.minimum(one[:, None, 2:], other[:, 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(-1), np.float32)
