"""How good is a network on the validation part, while it trains?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from app.commands.evaluate import coco_accuracy
from app.core.letterbox import place
from app.inference.postprocess import nms
from scripts.train.augment import PAD
from scripts.train.data import PictureSet
from scripts.train.network import Detector, cell_centres, decode_boxes, normalise

Report = dict[str, dict[str, dict[str, Any]]]
LEAST_SCORE = 0.01
NMS_IOU = 0.6
MOST = 100
BATCH = 16


class Validation:
    """The validation part, letterboxed once. ``parts`` names groups of sources to report on."""

    def __init__(
        self, folder: Path, pictures: PictureSet, *, size: int, parts: Mapping[str, list[str]]
    ) -> None:
        self._truth = json.loads((folder / "val.json").read_text())
        images = self._truth["images"][: len(pictures.pictures)]
        self._truth["images"] = images
        ids = {image["id"] for image in images}
        self._truth["annotations"] = [a for a in self._truth["annotations"] if a["image_id"] in ids]
        self._ids = [image["id"] for image in images]
        self._categories = sorted(c["id"] for c in self._truth["categories"])
        self._parts = {
            name: [i["id"] for i in images if i.get("source") in sources]
            for name, sources in parts.items()
        } or {"all": self._ids}
        self._size = size
        self._pixels = np.full((len(images), 3, size, size), PAD, np.uint8)
        self._places = []
        for tensor, picture in zip(self._pixels, pictures.pictures, strict=True):
            height, width = picture.pixels.shape[:2]
            p = place((width, height), (size, size))
            inner = cv2.resize(picture.pixels, (p.w, p.h))
            tensor[:, p.y : p.y + p.h, p.x : p.x + p.w] = inner.transpose(2, 0, 1)
            self._places.append(p)

    @torch.no_grad()
    def __call__(self, network: Detector, device: torch.device) -> Report:
        """By part, by label: accuracy. Leaves the network in evaluation mode."""
        network.eval()
        cells = cell_centres((self._size, self._size), device)
        found: list[dict[str, Any]] = []
        for start in range(0, len(self._ids), BATCH):
            batch = torch.from_numpy(self._pixels[start : start + BATCH]).to(device)
            with torch.autocast(device.type, torch.bfloat16):
                raw = network(normalise(batch))
            raw = raw.float()
            boxes = decode_boxes(raw[..., :4], cells).cpu().numpy()
            scores = raw[..., 4:].sigmoid().cpu().numpy()
            for i in range(len(batch)):
                found += self._rows(start + i, boxes[i], scores[i])
        return {
            part: {
                label: asdict(accuracy)
                for label, accuracy in coco_accuracy(self._truth, found, images=ids).items()
            }
            for part, ids in self._parts.items()
        }

    def _rows(
        self, picture: int, boxes: NDArray[np.float32], scores: NDArray[np.float32]
    ) -> list[dict[str, Any]]:
        cell, class_id = np.nonzero(scores >= LEAST_SCORE)
        strength = scores[cell, class_id]
        kept = nms(boxes[cell], strength, class_id, iou=NMS_IOU)[:MOST]
        corners = self._places[picture].to_source(boxes[cell[kept]].reshape(-1, 2)).reshape(-1, 4)
        return [
            {
                "image_id": self._ids[picture],
                "category_id": self._categories[class_id[k]],
                "bbox": [float(v) for v in (x0, y0, x1 - x0, y1 - y0)],
                "score": float(strength[k]),
            }
            for k, (x0, y0, x1, y1) in zip(kept, corners, strict=True)
        ]
