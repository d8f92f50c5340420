#!/usr/bin/env python3
"""Makes models/pictures/*.jpg: what the default model finds, misses and takes for somebody.

Needs `pip install scikit-image matplotlib scikit-learn`, which carry the photographs in their
wheels; models/README.md says whose they are. Nothing is chosen by result: the second sheet shows
the same photographs made hard, and things that are nobody.

    python scripts/make_model_card.py [--model kestrel]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from app.core.detections import Detections  # noqa: E402
from app.core.frame import Frame  # noqa: E402
from app.inference.cpu import CpuBackend  # noqa: E402
from app.models.manifest import Model  # noqa: E402
from app.models.store import find_model  # noqa: E402

Pixels = NDArray[np.uint8]
TILE_PX, CAPTION_PX = 240, 22
COLOURS, OTHER = {"person": (60, 200, 60), "face": (40, 140, 255)}, (220, 120, 60)


def photographs() -> dict[str, Pixels]:
    """Name -> (H, W, 3) uint8 BGR."""
    import matplotlib
    import skimage
    import sklearn

    of_skimage = Path(skimage.__file__).parent / "data"
    of_sklearn = Path(sklearn.__file__).parent / "datasets" / "images"
    paths = {
        "astronaut": of_skimage / "astronaut.png",
        "cameraman": of_skimage / "camera.png",
        "admiral": Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg"),
        "cat": of_skimage / "chelsea.png",
        "coffee": of_skimage / "coffee.png",
        "rocket": of_skimage / "rocket.jpg",
        "palace": of_sklearn / "china.jpg",
    }
    found = {name: cv2.imread(str(path)) for name, path in paths.items()}
    if missing := [str(paths[n]) for n, pixels in found.items() if pixels is None]:
        raise SystemExit(f"cannot read {', '.join(missing)}")
    return {name: np.asarray(pixels, np.uint8) for name, pixels in found.items()}


def far_away(pixels: Pixels, factor: float) -> Pixels:
    """The picture small, in the middle of a gray wall of its old size."""
    wall = np.full_like(pixels, 128)
    small = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    y, x = (pixels.shape[0] - small.shape[0]) // 2, (pixels.shape[1] - small.shape[1]) // 2
    wall[y : y + small.shape[0], x : x + small.shape[1]] = small
    return wall


def sheets() -> dict[str, list[tuple[str, Pixels]]]:
    """File name -> captions and pictures."""
    p = photographs()
    dark = np.asarray(np.clip(p["astronaut"] * 0.12, 0, 255), np.uint8)
    blurred = np.asarray(cv2.GaussianBlur(p["admiral"], (0, 0), 9), np.uint8)
    upside_down = np.ascontiguousarray(p["astronaut"][::-1, ::-1])
    body_only = np.ascontiguousarray(p["astronaut"][260:, 60:420])
    half_covered = p["admiral"].copy()
    half_covered[:, half_covered.shape[1] // 2 :] = 90
    group = np.hstack([cv2.resize(p[n], (240, 300)) for n in ("astronaut", "admiral", "cameraman")])
    return {
        "plain.jpg": [
            ("astronaut", p["astronaut"]),
            ("admiral", p["admiral"]),
            ("cameraman", p["cameraman"]),
            ("three beside each other", np.asarray(group, np.uint8)),
            ("palace, visitors far away", p["palace"]),
            ("rocket", p["rocket"]),
        ],
        "hard.jpg": [
            ("upside down", upside_down),
            ("dark (an eighth of the light)", dark),
            ("blurred", blurred),
            ("a sixth of the size", far_away(p["astronaut"], 1 / 6)),
            ("without the head", body_only),
            ("half covered", half_covered),
            ("coffee", p["coffee"]),
            ("cat", p["cat"]),
        ],
    }


def tile(caption: str, pixels: Pixels, found: Detections, labels: Sequence[str]) -> Pixels:
    """The picture with its boxes, fit into a square, its caption below."""
    scale = TILE_PX / max(pixels.shape[:2])
    w, h = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
    sheet = np.full((TILE_PX + CAPTION_PX, TILE_PX, 3), 255, np.uint8)
    x0, y0 = (TILE_PX - w) // 2, (TILE_PX - h) // 2
    sheet[y0 : y0 + h, x0 : x0 + w] = cv2.resize(pixels, (w, h), interpolation=cv2.INTER_AREA)
    font = cv2.FONT_HERSHEY_SIMPLEX
    for box, score, class_id in zip(found.xyxy, found.scores, found.class_ids, strict=True):
        left, top, right, bottom = (round(float(v) * scale) for v in box)
        colour = COLOURS.get(labels[class_id], OTHER)
        cv2.rectangle(sheet, (left + x0, top + y0), (right + x0 - 1, bottom + y0 - 1), colour, 2)
        at = (left + x0 + 3, max(top + y0 + 13, 13))
        cv2.putText(sheet, f"{labels[class_id]} {score:.2f}", at, font, 0.4, (0, 0, 0), 3)
        cv2.putText(sheet, f"{labels[class_id]} {score:.2f}", at, font, 0.4, colour, 1)
    cv2.putText(sheet, caption, (4, TILE_PX + 15), font, 0.42, (40, 40, 40), 1)
    return sheet


def make(model: Model, out: Path) -> None:
    spec = model.spec
    out.mkdir(exist_ok=True)
    backend = CpuBackend(
        spec, model.weights, wake=lambda: None, score=spec.score, iou=spec.iou, workers=1
    )
    with backend as running:
        slot = running.slots[0]
        for name, pictures in sheets().items():
            tiles = []
            for caption, pixels in pictures:
                slot.enqueue([Frame(np.ascontiguousarray(pixels), 0, 0)])
                ((found, _),) = slot.collect()
                tiles.append(tile(caption, pixels, found, spec.labels))
            columns = 3 if len(tiles) % 4 else 4
            rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
            cv2.imwrite(str(out / name), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 85])
            print(f"wrote {out / name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="kestrel")
    parser.add_argument("--out", type=Path, default=ROOT / "models" / "pictures")
    a = parser.parse_args()
    make(find_model(a.model), a.out)


if __name__ == "__main__":
    main()
