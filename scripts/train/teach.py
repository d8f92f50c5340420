"""Soft labels of 80 classes for every picture: what larger looks and another network say, fused.

    python -m scripts.train.teach --data FOLDER [--also FOLDER …] [--picodet FILE] --out LABELS.npz

Views: the parent at 640 pixels, at 640 mirrored and at 416, and PicoDet-S (PaddleDetection,
Apache-2.0) at its own size. A label is a box with a score for each class: the mean over the views
of what each says there, 0 where it says nothing. Of the pictures in ``--also``, which have no
labels at all, YuNet tells the faces. The arrays are what data.read_pictures takes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray

from app.core.frame import Frame
from app.core.letterbox import needed, place
from app.inference.cpu import CpuBackend
from app.inference.postprocess import nms
from app.models.onnx_session import open_session
from app.models.store import find_model
from scripts.train.augment import PAD
from scripts.train.command import guarded, parser
from scripts.train.data import Boxes, Floats, Pixels, pairwise_iou, read_annotations
from scripts.train.export import write_onnx
from scripts.train.from_onnx import from_onnx
from scripts.train.network import STRIDES

LEAST = 0.02  # a score below which a label is none
MOST = 100  # boxes of a picture
VIEW_IOU, FUSE_IOU = 0.6, 0.55
LEAST_FACE = 0.25
PICODET_STRIDES, PICODET_BINS = (8, 16, 32, 64), 8
PICODET_MEAN, PICODET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # RGB
Found = tuple[Boxes, Floats]  # (M,4) xyxy px of the picture, (M,C)
View = Callable[[Pixels], Found]


def parent_view(session: Any, side: int, *, mirrored: bool) -> View:
    """The parent (an export of ours), the longer side fitted to ``side``."""

    def look(pixels: Pixels) -> Found:
        height, width = pixels.shape[:2]
        w, h = needed((width, height), (side, side), max(STRIDES))
        p = place((width, height), (w, h), align="top-left")
        canvas = np.full((h, w, 3), PAD, np.uint8)
        seen = np.ascontiguousarray(pixels[:, ::-1]) if mirrored else pixels
        canvas[: p.h, : p.w] = cv2.resize(seen, (p.w, p.h))
        rows = session.run(None, {"images": canvas.transpose(2, 0, 1)[None].astype(np.float32)})[0]
        rows = rows[0, : rows.shape[1] // 2, :-1]  # without those of the face tower
        centres, strides = _grid([(w // s, h // s, s) for s in STRIDES])
        centre = rows[:, :2] * strides + centres
        half = np.exp(np.minimum(rows[:, 2:4], 8)) * strides / 2
        boxes = np.concatenate([centre - half, centre + half], 1) * (width / p.w)
        if mirrored:
            boxes = np.stack(
                [width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1
            )
        return boxes, rows[:, 4:5] * rows[:, 5:]

    return look


def picodet_view(path: Path) -> View:
    """PicoDet: the picture stretched to a square; distances to the sides as distributions."""
    model = onnx.load(str(path))
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in constants]
    del model.graph.input[:]  # weights listed as inputs would not be folded
    model.graph.input.extend(inputs)
    with tempfile.TemporaryDirectory() as folder:
        cleaned = Path(folder) / "picodet.onnx"
        onnx.save(model, str(cleaned))
        session = open_session(cleaned)
    name = inputs[0].name
    side = inputs[0].type.tensor_type.shape.dim[2].dim_value
    columns = [-(-side // s) for s in PICODET_STRIDES]
    corners, strides = _grid(list(zip(columns, columns, PICODET_STRIDES, strict=True)))
    centres = corners + strides / 2

    def look(pixels: Pixels) -> Found:
        height, width = pixels.shape[:2]
        rgb = cv2.resize(pixels, (side, side))[..., ::-1].astype(np.float32)
        tensor = ((rgb - PICODET_MEAN) / PICODET_STD).astype(np.float32).transpose(2, 0, 1)[None]
        outputs = session.run(None, {name: np.ascontiguousarray(tensor)})
        levels = len(PICODET_STRIDES)
        bins = np.concatenate([o[0] for o in outputs[levels:]]).reshape(-1, 4, PICODET_BINS)
        shares = np.exp(bins - bins.max(-1, keepdims=True))
        reach = (shares @ np.arange(PICODET_BINS)) / shares.sum(-1) * strides
        boxes = np.concatenate([centres - reach[:, :2], centres + reach[:, 2:]], 1)
        boxes = boxes * np.array([width / side, height / side] * 2, np.float32)
        return boxes.astype(np.float32), np.concatenate([o[0] for o in outputs[:levels]])

    return look


def _grid(levels: Sequence[tuple[int, int, int]]) -> tuple[Boxes, Floats]:
    """Of (columns, rows, stride) of each level: upper left corners (N,2) px, strides (N,1)."""
    corners, strides = [], []
    for columns, rows, stride in levels:
        y, x = np.mgrid[:rows, :columns]
        corners.append(np.stack([x.ravel(), y.ravel()], 1) * np.float32(stride))
        strides.append(np.full((rows * columns, 1), stride, np.float32))
    return np.concatenate(corners).astype(np.float32), np.concatenate(strides)


def winners(boxes: Boxes, scores: Floats) -> Found:
    """One view's boxes after suppression within classes, best first."""
    best = scores.max(1)
    kept = np.flatnonzero(best > LEAST)
    order = nms(boxes[kept], best[kept], scores[kept].argmax(1), iou=VIEW_IOU)[:MOST]
    return boxes[kept[order]], scores[kept[order]]


def fuse(views: Sequence[Found]) -> Found:
    """Boxes of one class that lie on one another in several views become one, by their scores."""
    rows = [(view, *row) for view, found in enumerate(views) for row in zip(*found, strict=True)]
    rows.sort(key=lambda row: -row[2].max())
    boxes = np.zeros((0, 4), np.float32)
    sums: list[Floats] = []
    weights: list[float] = []
    classes: list[int] = []
    seen: list[set[int]] = []
    for view, box, score in rows:
        class_id, weight = int(score.argmax()), float(score.max())
        near = pairwise_iou(box[None], boxes)[0]
        near *= [c == class_id and view not in s for c, s in zip(classes, seen, strict=True)]
        k = int(near.argmax()) if len(near) else 0
        if len(near) and near[k] > FUSE_IOU:
            boxes[k] = (boxes[k] * weights[k] + box * weight) / (weights[k] + weight)
            weights[k] += weight
            sums[k] = sums[k] + score
            seen[k].add(view)
            continue
        boxes = np.concatenate([boxes, box[None]])
        sums.append(score)
        weights.append(weight)
        classes.append(class_id)
        seen.append({view})
    if not rows:
        return boxes, np.zeros((0, 0), np.float32)
    means = np.stack(sums) / len(views)
    order = np.argsort(-means.max(1), kind="stable")[:MOST]
    order = order[means[order].max(1) > LEAST]
    return boxes[order], means[order]


def face_teacher(name: str) -> Callable[[Pixels], Floats]:
    """(m,5) xyxy px and score of the faces that a model of the shelf finds."""
    model = find_model(name)
    backend = CpuBackend(
        *(model.spec, model.weights), wake=lambda: None, score=LEAST_FACE, iou=0.4, workers=1
    )
    slot = backend.__enter__().slots[0]

    def look(pixels: Pixels) -> Floats:
        slot.enqueue([Frame(pixels, 0, 0)])
        ((found, _),) = slot.collect()
        return np.concatenate([found.xyxy, found.scores[:, None]], 1)

    return look


def files(data: Path, also: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """All pictures to learn from, and whether nothing is known of their faces."""
    for image in read_annotations(data / "train.json")["images"]:
        yield data / "images" / image["file_name"], False
    for folder in also:
        yield from ((f, True) for f in sorted(folder.iterdir()) if f.suffix in (".jpg", ".png"))


def main(arguments: list[str] | None = None) -> None:
    asked = parser("scripts.train.teach", __doc__)
    add = asked.add_argument
    add("--data", type=Path, required=True, help="folder: images/, train.json (COCO)")
    add("--also", type=Path, nargs="*", default=[], metavar="FOLDER")
    add("--parent", default="yolox_nano_416", metavar="MODEL")
    add("--picodet", type=Path, metavar="FILE", help="PicoDet's ONNX file, without its NMS")
    add("--faces", default="yunet_n_dynamic", metavar="MODEL")
    add("--out", type=Path, required=True, metavar="NPZ")
    a = asked.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        opened = Path(folder) / "parent.onnx"
        write_onnx(from_onnx(find_model(a.parent).weights), opened)
        session = open_session(opened)
    views = [
        parent_view(session, 640, mirrored=False),
        parent_view(session, 640, mirrored=True),
        parent_view(session, 416, mirrored=False),
        *([picodet_view(a.picodet)] if a.picodet else []),
    ]
    look_for_faces = face_teacher(a.faces) if a.also else None
    taught: dict[str, NDArray[Any]] = {}
    for n, (file, faceless) in enumerate(files(a.data, a.also), start=1):
        pixels = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if pixels is None:
            raise ValueError(f"{file} cannot be read as a picture")
        boxes, scores = fuse([winners(*view(np.asarray(pixels, np.uint8))) for view in views])
        taught[f"{file.name}/boxes"] = boxes
        taught[f"{file.name}/scores"] = scores.astype(np.float16)
        if faceless and look_for_faces:
            taught[f"{file.name}/faces"] = look_for_faces(np.asarray(pixels, np.uint8))
        if n % 500 == 0:
            print(n, flush=True)
    np.savez(a.out, allow_pickle=False, **taught)


if __name__ == "__main__":
    sys.exit(guarded(main))
