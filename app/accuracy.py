"""How good are detections against labelled photographs? COCO's average precision.

The matching and the curves are pycocotools', the reference; this file asks it per class, per size
and per part of a set, and turns its arrays into named figures.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from app.errors import ConfigError

SIZES = ("all", "small", "medium", "large")  # COCO's: up to 32², up to 96², above, in px²


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """Of one class: 0..1, None where no labelled box of the kind exists.

    ``ap50``: average precision at IoU 0.5; ``ap``: mean over IoU 0.50:0.95; ``small``, ``medium``,
    ``large``: ap50 by box area; ``recall50``: share of the boxes found at any score.
    """

    label: str
    boxes: int
    ap50: float | None
    ap: float | None
    small: float | None
    medium: float | None
    large: float | None
    recall50: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def coco_accuracy(
    truth: Mapping[str, Any],
    found: Sequence[Mapping[str, Any]],
    *,
    images: Iterable[int] | None = None,
) -> dict[str, ClassAccuracy]:
    """By label: accuracy of ``found`` against ``truth``, on ``images`` (ids; None: all).

    ``truth`` is a COCO annotation file's content; ``iscrowd`` boxes are neither hits nor misses.
    ``found`` rows have image_id, category_id, bbox (xywh px) and score. Raises ConfigError when
    pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ConfigError(
            f"measuring accuracy needs pycocotools ({error}); "
            "pip install -r requirements-models.txt"
        ) from error
    # one category at a time keeps apart what shares a picture; pycocotools prints as it goes
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {**truth, "annotations": [dict(a) for a in truth["annotations"]]}
        reference.createIndex()
        ids = sorted(reference.getImgIds() if images is None else images)
        rows = [dict(row) for row in found] or [_nothing(ids)]
        run = COCOeval(reference, reference.loadRes(rows), "bbox")
        run.params.imgIds = ids
        run.evaluate()
        run.accumulate()
    wanted = set(ids)
    result = {}
    for k, category in enumerate(int(c) for c in run.params.catIds):
        label = str(reference.cats[category]["name"])
        count = sum(
            a["category_id"] == category and a["image_id"] in wanted and not a.get("iscrowd")
            for a in truth["annotations"]
        )
        precision = run.eval["precision"][:, :, k, :, -1]  # (IoU, recall, size)
        by_size = [_mean(precision[0, :, i]) for i in range(len(SIZES))]
        recall = float(run.eval["recall"][0, k, 0, -1])
        result[label] = ClassAccuracy(
            label=label,
            boxes=count,
            ap50=by_size[0],
            ap=_mean(precision[:, :, 0]),
            small=by_size[1],
            medium=by_size[2],
            large=by_size[3],
            recall50=recall if recall >= 0 else None,
        )
    return result


def lost_points(
    variant: Mapping[str, ClassAccuracy], parent: Mapping[str, ClassAccuracy]
) -> dict[str, float]:
    """By label: how many hundredths of AP50 ``variant`` is below ``parent``; negative: above."""
    return {
        label: 100 * (theirs.ap50 - mine.ap50)
        for label, theirs in parent.items()
        if theirs.ap50 is not None and (mine := variant.get(label)) and mine.ap50 is not None
    }


def _nothing(ids: Sequence[int]) -> dict[str, Any]:
    """A row that matches nothing: pycocotools does not take an empty list."""
    return {"image_id": ids[0], "category_id": -1, "bbox": [0, 0, 0, 0], "score": 0.0}


def _mean(values: np.ndarray) -> float | None:
    """Mean of a precision curve; -1 in it marks "no such box"."""
    kept = values[values > -1]
    return float(kept.mean()) if kept.size else None
