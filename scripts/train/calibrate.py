"""Which score threshold suits a model best, and how often does it see people where nobody is?

    python -m scripts.train.calibrate MODEL --data FOLDER

For each class of ``val.json``: the threshold of the best F1 (at IoU 0.5; ignored boxes count for
nothing), and F1, precision and recall there and at the manifest's threshold. Then the share of the
pictures without a person, ignored ones included, in which a person is found.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from app.core.frame import Frame
from app.inference.cpu import CpuBackend
from app.models.manifest import Model
from app.models.store import find_model
from scripts.train.boxes import Boxes, area, pairwise_iou
from scripts.train.command import guarded
from scripts.train.data import PERSON, Floats, read_annotations

LEAST_SCORE = 0.05
THRESHOLDS = np.round(np.arange(0.1, 0.91, 0.01), 2)
MATCH_IOU = 0.5
WITHIN = 0.5  # of a found box inside an ignored one


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


def match(found: Boxes, scores: Floats, truth: Boxes, ignored: Boxes) -> tuple[Floats, Any]:
    """Of one picture and class: the scores that count, falling, and whether each is right."""
    order = np.argsort(-scores, kind="stable")
    overlaps = pairwise_iou(found, truth)
    low = np.maximum(found[:, None, :2], ignored[:, :2])
    high = np.minimum(found[:, None, 2:], ignored[:, 2:])
    within = np.clip(high - low, 0, None).prod(-1) / np.maximum(area(found), 1e-6)[:, None]
    free = np.ones(len(truth), np.bool_)
    counted, right = [], []
    for i in order:
        near = np.where(free, overlaps[i], 0)
        if len(near) and near.max() >= MATCH_IOU:
            free[near.argmax()] = False
            hit = True
        elif (within[i] > WITHIN).any():
            continue
        else:
            hit = False
        counted.append(scores[i])
        right.append(hit)
    return np.array(counted, np.float32), np.array(right, np.bool_)


def detections(model: Model, files: Sequence[Path]) -> list[tuple[Boxes, Floats, NDArray[Any]]]:
    """Boxes xyxy px, scores and class ids in each picture, as the application finds them."""
    backend = CpuBackend(
        *(model.spec, model.weights),
        wake=lambda: None,
        score=LEAST_SCORE,
        iou=model.spec.iou,
        workers=1,
    )
    found = []
    with backend as running:
        slot = running.slots[0]
        for file in files:
            pixels = cv2.imread(str(file), cv2.IMREAD_COLOR)
            if pixels is None:
                raise ValueError(f"{file} cannot be read as a picture")
            slot.enqueue([Frame(np.asarray(pixels, np.uint8), 0, 0)])
            ((boxes, _),) = slot.collect()
            found.append((boxes.xyxy, boxes.scores, boxes.class_ids))
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.train.calibrate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="NAME_OR_PATH")
    parser.add_argument("--data", type=Path, required=True, help="folder: images/, val.json (COCO)")
    a = parser.parse_args(arguments)
    model = find_model(a.model)
    labels, threshold = model.spec.labels, model.spec.score
    truth = read_annotations(a.data / "val.json")
    found = detections(model, [a.data / "images" / i["file_name"] for i in truth["images"]])
    names = {c["id"]: c["name"] for c in truth["categories"] if c["name"] in labels}
    by_image: dict[int, list[dict[str, Any]]] = {i["id"]: [] for i in truth["images"]}
    for annotation in truth["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    for category, name in names.items():
        matches = _matches(found, list(by_image.values()), category, labels.index(name))
        for t in (matches.best(), threshold):
            f1, precision, recall = matches.at(t)
            print(f"{name} at {t:.2f}: F1 {f1:.3f}, precision {precision:.3f}, recall {recall:.3f}")
    nobody = [
        scores[ids == labels.index(PERSON)].max(initial=0)
        for (_, scores, ids), known in zip(found, by_image.values(), strict=True)
        if not any(names.get(a["category_id"]) == PERSON for a in known)
    ]
    share = float(np.mean([score >= threshold for score in nobody])) if nobody else 0.0
    print(f"a person in {share:.1%} of the {len(nobody)} pictures without one, at {threshold:.2f}")


def _matches(
    found: Sequence[tuple[Boxes, Floats, NDArray[Any]]],
    annotations: Sequence[Sequence[dict[str, Any]]],
    category: int,
    class_id: int,
) -> Matches:
    scores, right, count = [], [], 0
    for (boxes, strength, ids), known in zip(found, annotations, strict=True):
        mine = [a for a in known if a["category_id"] == category]
        xywh = np.array([a["bbox"] for a in mine], np.float32).reshape(-1, 4)
        corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
        crowd = np.array([bool(a.get("iscrowd", 0)) for a in mine], np.bool_)
        of_class = ids == class_id
        told = match(boxes[of_class], strength[of_class], corners[~crowd], corners[crowd])
        scores.append(told[0])
        right.append(told[1])
        count += int((~crowd).sum())
    every = np.concatenate(scores)
    order = np.argsort(-every, kind="stable")
    return Matches(every[order], np.concatenate(right)[order], count)


if __name__ == "__main__":
    sys.exit(guarded(main))
