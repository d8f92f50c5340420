"""Training needs PyTorch, which is not part of the usual set-up: without it these tests skip."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

for _package in ("torch", "torch_pruning"):
    pytest.importorskip(_package, reason="pip install -r scripts/train/requirements.txt")


@pytest.fixture
def square_set(tmp_path: Path) -> Path:
    """16 noisy pictures with one white square each, a set of its own; 4 of them to validate."""
    return save_squares(tmp_path / "set", 16, 4)


def save_squares(folder: Path, train: int, val: int) -> Path:
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for split, count in (("train", train), ("val", val)):
        images, annotations = [], []
        for i in range(count):
            pixels = rng.integers(0, 80, (96, 128, 3), dtype=np.uint8)
            side = int(rng.integers(30, 60))
            x, y = int(rng.integers(0, 128 - side)), int(rng.integers(0, 96 - side))
            pixels[y : y + side, x : x + side] = 255
            name = f"{split}{i}.png"
            cv2.imwrite(str(folder / "images" / name), pixels)
            images.append(
                {"id": i, "file_name": name, "width": 128, "height": 96, "source": "ab"[i % 2]}
            )
            annotations.append(
                {
                    "id": i + 1,
                    "image_id": i,
                    "category_id": 3,
                    "bbox": [x, y, side, side],
                    "area": side * side,
                    "iscrowd": 0,
                }
            )
        categories = [{"id": 3, "name": "square"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(content))
    return folder
