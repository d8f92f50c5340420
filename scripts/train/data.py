"""Which pictures and boxes are there to train on? A COCO-format set, read into memory.

A set is a folder with ``images/``, ``train.json`` and ``val.json``. Beyond plain COCO an annotation
may carry ``score`` (how sure its teacher was; ground truth has 1) and an image ``source`` (where it
is from, for sampling weights). ``iscrowd`` marks what is neither object nor background.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Boxes = NDArray[np.float32]

SURE = 0.9  # a teacher's score from which its box counts like ground truth


@dataclass(frozen=True, slots=True)
class Labels:
    """Boxes (n,4) xyxy px, ``class_ids`` (n,), ``weights`` (n,) in 0..1; ``ignored`` marks the
    boxes that are neither object nor background."""

    boxes: Boxes
    class_ids: NDArray[np.int64]
    weights: NDArray[np.float32]
    ignored: NDArray[np.bool_]

    def select(self, rows: Any) -> Labels:
        return Labels(
            self.boxes[rows], self.class_ids[rows], self.weights[rows], self.ignored[rows]
        )

    @staticmethod
    def join(parts: Sequence[Labels]) -> Labels:
        return Labels(
            np.concatenate([p.boxes for p in parts]),
            np.concatenate([p.class_ids for p in parts]),
            np.concatenate([p.weights for p in parts]),
            np.concatenate([p.ignored for p in parts]),
        )

    @staticmethod
    def none() -> Labels:
        return Labels(
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.int64),
            np.zeros(0, np.float32),
            np.zeros(0, np.bool_),
        )


@dataclass(frozen=True, slots=True)
class Picture:
    """One photograph, BGR, with its labels and the name of the source that it is from."""

    pixels: Pixels
    labels: Labels
    source: str


@dataclass(frozen=True, slots=True)
class PictureSet:
    """All of a split, decoded, and the class names by class_id."""

    pictures: list[Picture]
    class_names: tuple[str, ...]


def read_set(folder: Path, split: str, *, limit: int | None = None) -> PictureSet:
    """Read ``folder/split.json`` and its images; raises ValueError naming the file at fault."""
    path = folder / f"{split}.json"
    try:
        data = json.loads(path.read_text())
        categories = sorted(data["categories"], key=lambda c: c["id"])
        images = data["images"][:limit]
        annotations = data["annotations"]
    except FileNotFoundError:
        raise ValueError(
            f"{path} is not there; --data wants a folder with train.json and val.json"
        ) from None
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a COCO annotation file: {error!r}") from error
    class_ids = {c["id"]: i for i, c in enumerate(categories)}
    by_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in images}
    for annotation in annotations:
        by_image.get(annotation["image_id"], []).append(annotation)

    def load(image: dict[str, Any]) -> Picture:
        file = folder / "images" / image["file_name"]
        pixels = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if pixels is None:
            raise ValueError(f"{file}, named by {path}, cannot be read as a picture")
        labels = _labels(by_image[image["id"]], class_ids)
        return Picture(np.asarray(pixels, np.uint8), labels, str(image.get("source", "")))

    with ThreadPoolExecutor() as pool:
        pictures = list(pool.map(load, images))
    return PictureSet(pictures, tuple(c["name"] for c in categories))


def _labels(annotations: list[dict[str, Any]], class_ids: dict[int, int]) -> Labels:
    rows = [a for a in annotations if a["bbox"][2] > 0 and a["bbox"][3] > 0]
    if not rows:
        return Labels.none()
    xywh = np.array([a["bbox"] for a in rows], np.float32)
    scores = np.array([a.get("score", 1.0) for a in rows], np.float32)
    return Labels(
        np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1),
        np.array([class_ids[a["category_id"]] for a in rows], np.int64),
        np.clip(scores / SURE, 0, 1).astype(np.float32),
        np.array([bool(a.get("iscrowd", 0)) for a in rows]),
    )
