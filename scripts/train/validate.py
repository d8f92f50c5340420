"""The accuracy of a network on the validation pictures: AP50 of people, faces and all classes.

As the application runs it: the longer side fitted, the input cut to the frame, the best class of
each cell, NMS by class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from app.commands.evaluate import coco_accuracy
from app.core.letterbox import needed, place
from app.inference.postprocess import nms
from scripts.train.augment import PAD
from scripts.train.data import FACE, Pixels, read_annotations
from scripts.train.network import STRIDES, Network, cells, decode

LEAST_SCORE = 0.01
NMS_IOU = 0.6
MOST = 300  # boxes of a picture, as in the application


class Validation:
    """``val.json`` by ``parts`` (names of groups of sources), and ``val80.json`` where it lies
    beside: the same pictures with more classes, reported as their mean."""

    def __init__(
        self,
        folder: Path,
        labels: Sequence[str],
        *,
        size: int = 320,
        parts: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._folder, self._labels, self._size = folder, (*labels, FACE), size
        self._truth = read_annotations(folder / "val.json")
        more = folder / "val80.json"
        self._more = read_annotations(more) if more.exists() else None
        images = self._truth["images"]
        self._parts = {
            name: [i["id"] for i in images if i.get("source") in sources]
            for name, sources in (parts or {}).items()
        } or {"all": [i["id"] for i in images]}

    def __call__(self, network: Network) -> dict[str, float]:
        """AP50 by "LABEL PART", and "mean of N classes"."""
        network.eval()
        found: dict[str, list[dict[str, Any]]] = {}
        for image in self._truth["images"]:
            pixels = cv2.imread(str(self._folder / "images" / image["file_name"]))
            if pixels is None:
                raise ValueError(f"{self._folder / 'images' / image['file_name']} is no picture")
            rows = self.rows(network, np.asarray(pixels, np.uint8))
            found[image["file_name"]] = rows
        report = {}
        mine = self._named(self._truth, found)
        for part, ids in self._parts.items():
            for label, accuracy in coco_accuracy(self._truth, mine, images=ids).items():
                if accuracy.ap50 is not None:
                    report[f"{label} {part}"] = round(accuracy.ap50, 4)
        if self._more is not None:
            by_label = coco_accuracy(self._more, self._named(self._more, found))
            known = [a.ap50 for a in by_label.values() if a.ap50 is not None]
            report[f"mean of {len(known)} classes"] = round(float(np.mean(known)), 4)
        return report

    def rows(self, network: Network, pixels: Pixels) -> list[dict[str, Any]]:
        """Detections in one picture (h,w,3), best first: ``label``, ``bbox`` xywh, ``score``."""
        height, width = pixels.shape[:2]
        square = self._size, self._size
        w, h = needed((width, height), square, max(STRIDES))
        p = place((width, height), (w, h), align="top-left")
        canvas = np.full((h, w, 3), PAD, np.uint8)
        canvas[p.y : p.y + p.h, p.x : p.x + p.w] = cv2.resize(pixels, (p.w, p.h))
        boxes, scores, ids = detect(network, canvas)
        kept = nms(boxes, scores, ids, iou=NMS_IOU)[:MOST]
        corners = p.to_source(boxes[kept].reshape(-1, 2, 2)).reshape(-1, 4)
        return [
            {
                "label": self._labels[ids[k]],
                "bbox": [float(v) for v in (x0, y0, x1 - x0, y1 - y0)],
                "score": float(scores[k]),
            }
            for k, (x0, y0, x1, y1) in zip(kept, corners, strict=True)
        ]

    @staticmethod
    def _named(
        truth: Mapping[str, Any], found: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> list[dict[str, Any]]:
        """The rows as COCO wants them: pictures and classes by the ids of ``truth``."""
        ids = {c["name"]: c["id"] for c in truth["categories"]}
        return [
            {**row, "image_id": image["id"], "category_id": ids[row["label"]]}
            for image in truth["images"]
            for row in found.get(image["file_name"], ())
            if row["label"] in ids
        ]


@torch.no_grad()
def detect(
    network: Network, pixels: Pixels
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Boxes (M,4) in (h,w,3) ``pixels``, scores and classes of at least LEAST_SCORE; faces last."""
    tensor = torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32))
    objects, faces = network(tensor.contiguous(memory_format=torch.channels_last))
    grid = cells(pixels.shape[:2])
    classes = objects[0, :, 5:].sigmoid() * objects[0, :, 4:5].sigmoid()
    best, ids = classes.max(1)
    scores = torch.cat([best, faces[0, :, 4].sigmoid()])
    ids = torch.cat([ids, torch.full((len(grid),), classes.shape[1])])
    boxes = torch.cat([decode(objects[0, :, :4], grid), decode(faces[0, :, :4], grid)])
    kept = scores >= LEAST_SCORE
    return boxes[kept].numpy(), scores[kept].numpy(), ids[kept].numpy()
