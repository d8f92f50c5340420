"""Training needs PyTorch, which is not part of the usual set-up: without it these tests skip."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install -r scripts/train/requirements.txt")
torch.set_num_threads(1)  # small arithmetic: more threads only wait for each other


@pytest.fixture
def square_set(tmp_path: Path) -> Path:
    """16 noisy pictures with one white square each, a set of its own; 4 of them to validate.

    The squares are called persons; in each is a black one that is called a face.
    """
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for split, count in (("train", 16), ("val", 4)):
        images, annotations = [], []
        for i in range(count):
            pixels = rng.integers(0, 80, (96, 128, 3), dtype=np.uint8)
            side = int(rng.integers(30, 60))
            x, y = int(rng.integers(0, 128 - side)), int(rng.integers(0, 96 - side))
            pixels[y : y + side, x : x + side] = 255
            third = side // 3
            pixels[y + third : y + 2 * third, x + third : x + 2 * third] = 0
            name = f"{split}{i}.png"
            cv2.imwrite(str(folder / "images" / name), pixels)
            source = "ab"[i % 2]
            images.append(
                {"id": i, "file_name": name, "width": 128, "height": 96, "source": source}
            )
            for k, box in ((3, [x, y, side, side]), (9, [x + third, y + third, third, third])):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": i,
                        "category_id": k,
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": 3, "name": "person"}, {"id": 9, "name": "face"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(content))
    return folder
