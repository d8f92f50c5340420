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


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """Of one class: 0..1, None where no labelled box of the kind exists.

    ``ap50``: average precision at IoU 0.5; ``ap``: mean over IoU 0.50:0.95; ``small``, ``medium``,
    ``large``: ap50 of boxes up to 32², up to 96² and above, in px²; ``recall50``: share of the
    boxes found at any score.
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
        ours = reference.loadRes([dict(row) for row in found] or [_nothing(ids)])

        def curves(sizes: slice, overlaps: slice) -> COCOeval:
            run = COCOeval(reference, ours, "bbox")
            run.params.imgIds, run.params.maxDets = ids, run.params.maxDets[-1:]
            run.params.areaRng = run.params.areaRng[sizes]
            run.params.areaRngLbl = run.params.areaRngLbl[sizes]
            run.params.iouThrs = run.params.iouThrs[overlaps]
            run.evaluate()
            run.accumulate()
            return run

        # of single sizes nothing but AP50 is told: their other overlaps would be most of the work
        run, of_sizes = curves(slice(0, 1), slice(None)), curves(slice(1, None), slice(0, 1))
    wanted = set(ids)
    result = {}
    for k, category in enumerate(int(c) for c in run.params.catIds):
        label = str(reference.cats[category]["name"])
        count = sum(
            a["category_id"] == category and a["image_id"] in wanted and not a.get("iscrowd")
            for a in truth["annotations"]
        )
        precision = run.eval["precision"][:, :, k, 0, 0]  # (IoU, recall)
        at_half = of_sizes.eval["precision"][0, :, k, :, 0]  # (recall, size)
        small, medium, large = (_mean(curve) for curve in at_half.T)
        recall = float(run.eval["recall"][0, k, 0, 0])
        result[label] = ClassAccuracy(
            label=label,
            boxes=count,
            ap50=_mean(precision[0]),
            ap=_mean(precision),
            small=small,
            medium=medium,
            large=large,
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
