"""Exports of many kinds, each with boxes known beforehand: recognised, and found where they are.

A graph gives constants whatever it sees. What they mean is written here as each project documents
it, apart from the decoders.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.core.detections import Detections
from app.core.errors import ModelError
from app.core.letterbox import place
from app.inference.postprocess import Limits, Postprocessor
from app.models.importer import draft_model
from app.models.manifest import Model
from app.models.onnx_edit import with_input
from app.models.onnx_session import network_io, open_session
from tests.reference import overlap
from tests.shelf_kit import ASSETS, asset, save_form

SIZE = 320
Array = np.ndarray[Any, Any]
PERSON, CAR = (0, 0.9, (50.0, 60.0, 150.0, 200.0)), (2, 0.8, (175.0, 100.0, 300.0, 250.0))
BOTH = (PERSON, CAR)
Known = tuple[int, float, tuple[float, float, float, float]]


@dataclass
class Form:
    """A graph's outputs, how it is to be read, and what is in them."""

    family: str
    outputs: dict[str, Array]
    found: tuple[Known, ...] = BOTH
    labels: tuple[str, ...] | None = None
    points: tuple[float, float] | None = None  # of the first box, its first keypoint
    image: dict[str, Any] = field(default_factory=dict)
    label: str | None = None  # of the first box, where the model names its classes itself


def cells(*strides: int) -> int:
    return sum(math.ceil(SIZE / s) ** 2 for s in strides)


def xywh(box: tuple[float, ...]) -> list[float]:
    x0, y0, x1, y1 = box
    return [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]


def table(columns: int, how: Callable[[Known], list[float]], rows: int = 300) -> Array:
    """[1, rows, columns], with a box a row, the rest zeros."""
    out = np.zeros((1, rows, columns), np.float32)
    for i, known in enumerate(BOTH):
        out[0, i] = how(known)
    return out


def dense(rows: int, classes: int, *, objects: bool = False, extra: int = 0) -> Array:
    """Centre, size, perhaps objectness, a score a class, and more: every row a box."""
    first = 4 + objects
    out = np.zeros((1, rows, first + classes + extra), np.float32)
    out[0, :, :4] = 160, 160, 8, 8
    for i, (k, score, box) in enumerate(BOTH):
        out[0, 7 * i, :4] = xywh(box)
        out[0, 7 * i, first + min(k, classes - 1)] = score
        if objects:
            out[0, 7 * i, 4] = 0.99
    return out


def shared(box: tuple[float, ...]) -> list[float]:
    return [v / SIZE for v in box]


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def of_three(*, number: int = 0, count: int = 300) -> tuple[Array, Array, Array]:
    """Boxes, scores, classes from ``number`` on."""
    return (
        table(4, lambda b: [*b[2]], count),
        table(1, lambda b: [b[1]], count)[..., 0],
        table(1, lambda b: [b[0] + number], count)[..., 0],
    )


def queries(width: int, *, number: int = 0) -> tuple[Array, Array]:
    boxes = table(4, lambda b: shared(tuple(xywh(b[2]))))
    scores = np.full((1, 300, width), -9, np.float32)
    for i, (k, score, _) in enumerate(BOTH):
        scores[0, i, k + number] = logit(score)
    return boxes, scores


# -- makers ----------------------------------------------------------------------------------------


def detr() -> Form:
    boxes, scores = queries(92, number=1)
    scores = np.full((1, 300, 92), -20.0, np.float32)
    scores[0, :, 91] = 0  # nothing is there
    for i, (k, score, _) in enumerate(BOTH):
        scores[0, i, [k + 1, 91]] = math.log(score), math.log(1 - score)
    return Form("rows", {"logits": scores, "pred_boxes": boxes}, label="person")


def rtdetr_hf() -> Form:
    boxes, scores = queries(80)
    return Form("rows", {"logits": scores, "pred_boxes": boxes})


def rtdetr_one_class() -> Form:
    out = table(5, lambda b: [*shared(tuple(xywh(b[2]))), b[1]])
    found = tuple((0, b[1], b[2]) for b in BOTH)
    return Form("rows", {"output0": out}, found, ("thing",))


def rtdetr_chosen(*, classes: int) -> Form:
    """As Ultralytics exports it from 8.4 on: centre, size, score, class."""
    out = table(6, lambda b: [*shared(tuple(xywh(b[2]))), b[1], min(b[0], classes - 1)])
    found = tuple((min(k, classes - 1), score, box) for k, score, box in BOTH)
    labels = None if classes == 80 else ("person", "car")[:classes]
    return Form("rows", {"output0": out}, found, labels)


def one_class_p2() -> Form:
    out = dense(3 * cells(4, 8, 16, 32), 1, objects=True)
    out[..., 5] = 1  # with one class, that one
    out[0, [0, 7], 4] = 0.9, 0.8
    found = tuple((0, b[1], b[2]) for b in BOTH)
    return Form("yolov5", {"output": out}, found, ("thing",))


def yolox_decoded() -> Form:
    out = dense(cells(8, 16, 32), 80, objects=True)
    out[0, [0, 7], 4] = 1
    return Form("yolov5", {"output": out}, image={"align": "top-left", "channels": "RGB"})


def yolov8_bare() -> Form:
    """DFL of 16 bins, its own sigmoid left out: planes [1, 64, h, w] and [1, 80, h, w]."""
    outputs = {}
    for stride in (8, 16, 32):
        side = SIZE // stride
        sides = np.zeros((1, 4, 16, side, side), np.float32)
        sides[:, :, 3] = 60
        outputs[f"box{stride}"] = sides.reshape(1, 64, side, side)
        outputs[f"cls{stride}"] = np.full((1, 80, side, side), -8, np.float32)
    outputs["cls16"][0, 2, 5, 8] = logit(0.7)
    box = ((8.5 - 3) * 16, (5.5 - 3) * 16, (8.5 + 3) * 16, (5.5 + 3) * 16)
    return Form("distances", outputs, ((2, 0.7, box),))


def rtmdet_raw() -> Form:
    """mmdetection: logits, and distances in pixels from the cell's corner."""
    outputs = {}
    for stride in (8, 16, 32):
        side = SIZE // stride
        outputs[f"cls{stride}"] = np.full((1, 80, side, side), -8, np.float32)
        outputs[f"reg{stride}"] = np.full((1, 4, side, side), 24, np.float32)
    outputs["cls32"][0, 0, 4, 5] = logit(0.9)
    outputs["reg32"][0, :, 4, 5] = 40, 50, 60, 70
    return Form("distances", outputs, ((0, 0.9, (120.0, 78.0, 220.0, 198.0)),))


def scrfd(batched: bool, points: bool) -> Form:
    """insightface: two anchors a cell, distances in strides from the corner; no batch."""
    kinds: dict[str, int] = {"score": 1, "bbox": 4, **({"kps": 10} if points else {})}
    outputs = {
        f"{kind}{stride}": np.zeros((2 * (SIZE // stride) ** 2, width), np.float32)
        for kind, width in kinds.items()
        for stride in (8, 16, 32)
    }
    row = 2 * (3 * (SIZE // 16) + 4) + 1  # the second anchor of column 4, row 3
    outputs["score16"][row] = 0.85
    outputs["bbox16"][row] = 1, 2, 3, 4
    if points:
        outputs["kps16"][row] = np.arange(10) / 10
    if batched:
        outputs = {name: array[None] for name, array in outputs.items()}
    box = (64 - 16.0, 48 - 32.0, 64 + 48.0, 48 + 64.0)
    where = (64 + 0.0, 48 + 1.6) if points else None
    return Form("distances", outputs, ((0, 0.85, box),), points=where, label="face")


def retinaface() -> Form:
    """biubug6: two priors a cell of 8, 16, 32; variances 0.1 and 0.2."""
    n = 2 * cells(8, 16, 32)
    loc, conf, landms = (np.zeros((1, n, w), np.float32) for w in (4, 2, 10))
    conf[..., 0] = 1
    row = 2 * (SIZE // 8) ** 2 + 2 * (6 * (SIZE // 16) + 5) + 1  # side 128, column 5, row 6 of 16
    conf[0, row] = 0.05, 0.95
    loc[0, row] = 0.5, -0.25, math.log(1.5) / 0.2, 0
    landms[0, row, :2] = 1, 2
    cx, cy = 5.5 * 16 + 0.5 * 0.1 * 128, 6.5 * 16 - 0.25 * 0.1 * 128
    box = (cx - 96, cy - 64, cx + 96, cy + 64)
    at = (5.5 * 16 + 12.8, 6.5 * 16 + 25.6)
    outputs = {"loc": loc, "conf": conf, "landms": landms}
    return Form("retinaface", outputs, ((0, 0.95, box),), points=at, label="face")


def centernet(activated: bool) -> Form:
    side = SIZE // 4
    heat = np.full((1, 80, side, side), 0.001 if activated else -7, np.float32)
    size, offset = (np.zeros((1, 2, side, side), np.float32) for _ in range(2))
    for dx, score in ((0, 0.9), (1, 0.6)):  # the second is a neighbour, and no peak
        heat[0, 2, 30, 20 + dx] = score if activated else logit(score)
        size[0, :, 30, 20 + dx] = 25, 30
        offset[0, :, 30, 20 + dx] = 0.5, 0.25
    box = ((20.5 - 12.5) * 4, (30.25 - 15) * 4, (20.5 + 12.5) * 4, (30.25 + 15) * 4)
    return Form("centernet", {"hm": heat, "wh": size, "reg": offset}, ((2, 0.9, box),))


def pose(columns: int, *, end: bool = False) -> Form:
    points = np.ravel([(60 + k, 80 + k, 0.9) for k in range(17)])
    if end:
        out = np.zeros((1, 300, 57), np.float32)
        out[0, 0] = [*PERSON[2], 0.9, 0, *points]
    else:
        out = dense(cells(8, 16, 32), 1, extra=51)
        out[0, 7, 4] = 0
        out[0, 0, 5:] = points
        out = out.transpose(0, 2, 1).copy()
    return Form("rows", {"output0": out}, (PERSON,), points=(60, 80), label="person")


def face(width: int) -> Form:
    """YOLOv5-face: centre, size, objectness, ten landmarks, the class."""
    out = np.zeros((1, 3 * cells(8, 16, 32), width), np.float32)
    out[0, :, :4] = 160, 160, 8, 8
    out[0, 5, :5] = *xywh(PERSON[2]), 0.95
    out[0, 5, 5:15] = np.arange(70, 80)
    out[0, 5, 15] = 0.9
    found = ((0, 0.855, PERSON[2]),)
    return Form("rows", {"output": out}, found, points=(70, 71), label="face")


def tensorflow(names: bool) -> Form:
    boxes, scores, classes = of_three(number=1, count=100)
    boxes = boxes[..., [1, 0, 3, 2]]
    count = np.array([100], np.float32)
    if names:
        outputs = {
            "detection_boxes:0": boxes / SIZE,
            "detection_classes:0": classes,
            "detection_scores:0": scores,
            "num_detections:0": count,
        }
    else:  # EfficientDet-Lite: in pixels
        outputs = {"out:0": boxes, "out:1": scores, "out:2": classes, "out:3": count}
    image = {"shape": (1, SIZE, SIZE, 3), "kind": "uint8"}
    return Form("rows", {k: v.copy() for k, v in outputs.items()}, image=image, label="person")


def ppyoloe(nms: bool) -> Form:
    if nms:
        out = np.array([[k, score, *box] for k, score, box in BOTH], np.float32)
        outputs = {"multiclass_nms3_0": out, "multiclass_nms3_2": np.array([2], np.int32)}
        return Form("rows", outputs)
    boxes = table(4, lambda b: [*b[2]], cells(8, 16, 32))
    scores = np.zeros((1, 80, cells(8, 16, 32)), np.float32)
    for i, (k, score, _) in enumerate(BOTH):
        scores[0, k, i] = score
    return Form("rows", {"concat_14.tmp_0": boxes, "concat_13.tmp_0": scores})


def damo() -> Form:
    scores = np.zeros((1, cells(8, 16, 32), 80), np.float32)
    for i, (k, score, _) in enumerate(BOTH):
        scores[0, i, k] = score
    boxes = table(4, lambda b: [*b[2]], cells(8, 16, 32))
    return Form("rows", {"scores": scores, "boxes": boxes}, image={"scale": 1.0})


def yolov4() -> Form:
    boxes = table(4, lambda b: shared(b[2]), 6300)[:, :, None]
    scores = np.zeros((1, 6300, 80), np.float32)
    for i, (k, score, _) in enumerate(BOTH):
        scores[0, i, k] = score
    return Form("rows", {"boxes": boxes, "confs": scores})


def torchvision() -> Form:
    boxes = np.array([b[2] for b in BOTH], np.float32)
    labels = np.array([b[0] + 1 for b in BOTH], np.int64)
    scores = np.array([b[1] for b in BOTH], np.float32)
    return Form("rows", {"boxes": boxes, "labels": labels, "scores": scores}, label="person")


def segmentation(end: bool) -> Form:
    protos = np.zeros((1, 32, 80, 80), np.float32)
    if end:
        out = np.zeros((1, 300, 38), np.float32)
        for i, (k, score, box) in enumerate(BOTH):
            out[0, i, :6] = *box, score, k
        return Form("rows", {"output0": out, "output1": protos})
    out = dense(3 * cells(8, 16, 32), 80, objects=True, extra=32)
    out[0, [0, 7], 4] = 1
    return Form("rows", {"output0": out, "output1": protos})


def mmdeploy(masks: bool) -> Form:
    boxes, _, classes = of_three(count=100)
    dets = np.concatenate((boxes, table(1, lambda b: [b[1]], 100)), axis=2)
    outputs = {"dets": dets, "labels": classes.astype(np.int64)}
    if masks:
        outputs["masks"] = np.zeros((1, 100, 80, 80), np.float32)
    return Form("rows", outputs, image={"channels": "BGR", "align": "top-left", "pad": 114})


def ssd_rows() -> Form:
    out = np.zeros((1, 1, 200, 7), np.float32)
    for i, (k, score, box) in enumerate(BOTH):
        out[0, 0, i] = 0, k, score, *shared(box)
    return Form("rows", {"detection_out": out})


def ultraface_raw() -> Form:
    """Linzaer: 3, 2, 2, 3 priors a cell of 8, 16, 32, 64 pixels."""
    sides = {8: (10, 16, 24), 16: (32, 48), 32: (64, 96), 64: (128, 192, 256)}
    n = sum(math.ceil(SIZE / s) ** 2 * len(some) for s, some in sides.items())
    scores, boxes = np.zeros((1, n, 2), np.float32), np.zeros((1, n, 4), np.float32)
    scores[..., 0] = 1
    row = 3 * 40 * 40 + 2 * (7 * 20 + 9) + 1  # side 48, column 9, row 7 of 16 pixels
    scores[0, row] = 0.1, 0.9
    boxes[0, row] = 1, 0, 0, math.log(2) / 0.2
    cx, cy = 9.5 * 16 + 4.8, 7.5 * 16
    found = ((0, 0.9, (cx - 24, cy - 48, cx + 24, cy + 48)),)
    return Form("ultraface", {"scores": scores, "boxes": boxes}, found, label="face")


def blazeface(together: bool) -> Form:
    """MediaPipe: two anchors a cell of 8 pixels, six of 16, at an input of 128 pixels."""
    raw, logits = np.zeros((1, 896, 16), np.float32), np.full((1, 896, 1), -9, np.float32)
    row = 2 * 16 * 16 + 6 * (3 * 8 + 4) + 2  # column 4, row 3 of 16 pixels
    logits[0, row] = logit(0.9)
    raw[0, row, :6] = 2, -3, 30, 40, 5, 6
    cx, cy = 4.5 * 16 + 2, 3.5 * 16 - 3
    scale = SIZE / 128  # the picture's pixels
    box = tuple(v * scale for v in (cx - 15, cy - 20, cx + 15, cy + 20))
    outputs = {"regressors": raw, "classificators": logits}
    if not together:
        outputs = {
            "r0": raw[:, :512], "r1": raw[:, 512:], "c0": logits[:, :512], "c1": logits[:, 512:],
        }  # fmt: skip
    at = ((4.5 * 16 + 5) * scale, (3.5 * 16 + 6) * scale)
    image = {"shape": (1, 128, 128, 3)}
    return Form("blazeface", outputs, ((0, 0.9, box),), points=at, label="face", image=image)


def rfdetr_own_classes() -> Form:
    """With two classes of one's own it has a third column, which says nothing."""
    boxes, scores = queries(3)
    scores[0, 1, 1:3] = scores[0, 1, 2], -9
    found = (PERSON, (1, 0.8, CAR[2]))
    return Form("rows", {"dets": boxes, "labels": scores}, found, ("a", "b"))


def tflite() -> Form:
    """As TFLite's postprocessing has it: shares, classes from 0."""
    boxes, scores, classes = of_three(count=25)
    boxes = boxes[..., [1, 0, 3, 2]] / SIZE
    outputs = {"o0": boxes.copy(), "o1": classes, "o2": scores, "o3": np.array([2], np.float32)}
    return Form("rows", outputs, image={"shape": (1, SIZE, SIZE, 3)}, label="person")


def yolofastest() -> Form:
    outputs = {f"o{s}": np.zeros((1, SIZE // s, SIZE // s, 95), np.float32) for s in (16, 32)}
    cell = outputs["o32"][0, 4, 5]
    cell[4:8] = 0.75, 0.25, 0.5, 0.6  # of the second anchor, 131.57 x 214.55
    cell[13], cell[15 + 2] = 0.9, 1
    cx, cy = (5 + 1.0) * 32, (4 + 0.0) * 32
    w, h = 131.57, 1.2**2 * 214.55
    box = (cx - w / 2, max(cy - h / 2, 0), cx + w / 2, cy + h / 2)
    return Form("yolofastest", outputs, ((2, 0.9, box),))


FORMS: dict[str, Callable[[], Form]] = {
    "RT-DETR, one class": rtdetr_one_class,
    "RT-DETR by Ultralytics": lambda: rtdetr_chosen(classes=80),
    "RT-DETR by Ultralytics, two classes": lambda: rtdetr_chosen(classes=2),
    "RT-DETR of Transformers": rtdetr_hf,
    "DETR, softmax": detr,
    "YOLOv5-P2, one class": one_class_p2,
    "YOLOX, decoded": yolox_decoded,
    "YOLOv8, bare heads": yolov8_bare,
    "YOLOv8-pose": lambda: pose(56),
    "YOLO26-pose": lambda: pose(57, end=True),
    "YOLOv5-seg": lambda: segmentation(end=False),
    "YOLO26-seg": lambda: segmentation(end=True),
    "YOLOv5-face": lambda: face(16),
    "YOLOv4": yolov4,
    "RTMDet, raw": rtmdet_raw,
    "RTMDet by MMDeploy": lambda: mmdeploy(masks=False),
    "RTMDet-ins by MMDeploy": lambda: mmdeploy(masks=True),
    "PP-YOLOE": lambda: ppyoloe(nms=False),
    "PP-YOLOE with NMS": lambda: ppyoloe(nms=True),
    "DAMO-YOLO": damo,
    "torchvision": torchvision,
    "SSD of TensorFlow": lambda: tensorflow(names=True),
    "EfficientDet-Lite": lambda: tensorflow(names=False),
    "SSD, DetectionOutput": ssd_rows,
    "SSD by way of TFLite": tflite,
    "RF-DETR, own classes": rfdetr_own_classes,
    "BlazeFace": lambda: blazeface(together=True),
    "BlazeFace, by level": lambda: blazeface(together=False),
    "YOLO-FastestV2": yolofastest,
    "CenterNet": lambda: centernet(activated=True),
    "CenterNet, logits": lambda: centernet(activated=False),
    "SCRFD": lambda: scrfd(batched=False, points=False),
    "SCRFD with keypoints": lambda: scrfd(batched=True, points=True),
    "RetinaFace": retinaface,
    "UltraFace, undecoded": ultraface_raw,
}


@pytest.mark.parametrize("name", FORMS)
def test_an_export_is_recognised_and_its_boxes_are_found(name: str, tmp_path: Path) -> None:
    form = FORMS[name]()
    image = {k: form.image[k] for k in ("shape", "kind") if k in form.image}
    path = save_form(tmp_path / "a.onnx", form.outputs, size=SIZE, **image)
    model = draft_model(path, labels=form.labels)
    assert model.spec.family == form.family
    for key in form.image.keys() - image.keys():
        assert getattr(model.spec.input, key) == form.image[key]
    found = detect(model)
    assert_finds(found, form.found)
    if form.points is not None:
        assert found.keypoints is not None
        assert found.keypoints[0, 0].tolist() == pytest.approx(form.points, abs=0.1)
    if form.label is not None:
        assert model.spec.labels[found.class_ids[0]] == form.label


def detect(model: Model, score: float = 0.3) -> Detections:
    """What the graph gives, through its decoder and the usual postprocessing."""
    session = open_session(model.weights)
    io = network_io(session, model.spec)
    outputs = session.run(None, {io.input: np.zeros(io.shape, np.float32)})
    post = Postprocessor(model.spec, io.shapes, Limits(score, 0.5))
    return post(outputs, place((SIZE, SIZE), model.spec.input.size_wh))


def assert_finds(found: Detections, known: tuple[Known, ...]) -> None:
    assert found.class_ids.tolist() == [k for k, _, _ in known]
    assert found.scores.tolist() == pytest.approx([score for _, score, _ in known], abs=0.01)
    for box, (_, _, wanted) in zip(found.xyxy, known, strict=True):
        assert overlap(tuple(map(float, box)), wanted) >= 0.99


# -- inputs ----------------------------------------------------------------------------------------

INPUTS: dict[str, dict[str, Any]] = {
    "float16": {"kind": "float16"},
    "uint8": {"kind": "uint8"},
    "NHWC": {"shape": (1, SIZE, SIZE, 3)},
    "NHWC of bytes": {"shape": (1, SIZE, SIZE, 3), "kind": "uint8"},
    "gray": {"shape": (1, 1, SIZE, SIZE)},
    "open sizes": {"shape": ("n", 3, "h", "w")},
    "a batch of 4": {"shape": (4, 3, SIZE, SIZE), "batch": 4},
    "orig_target_sizes": {"others": {"orig_target_sizes": ("int64", [1, 2])}},
    "im_shape and scale_factor": {
        "others": {"im_shape": ("float32", [1, 2]), "scale_factor": ("float32", [1, 2])}
    },
    "float16 outputs": {"outputs": "float16"},
    "weights as inputs": {"loose": True},
}


@pytest.mark.parametrize("name", INPUTS)
def test_a_file_of_another_form_is_made_plain(name: str, tmp_path: Path) -> None:
    how = dict(INPUTS[name])
    outputs = {"output0": dense(cells(8, 16, 32), 80).transpose(0, 2, 1).copy()}
    if how.pop("outputs", None):
        outputs = {k: v.astype(np.float16) for k, v in outputs.items()}
    path = save_form(tmp_path / "a.onnx", outputs, size=SIZE, **how)
    model = draft_model(path, size_wh=(SIZE, SIZE), tidy=True)
    assert_finds(detect(model), BOTH)
    assert not open_session(model.weights).get_overridable_initializers()


def test_what_the_network_sees_is_the_picture(tmp_path: Path) -> None:
    """The mean of the picture comes back as a score, whatever the input's form."""
    pixels = np.full((1, 3, SIZE, SIZE), 100, np.float32)
    kinds: list[dict[str, Any]] = [{"kind": "float32"}, {"kind": "uint8"}, {"kind": "float16"}]
    shapes: list[dict[str, Any]] = [
        {"shape": (1, SIZE, SIZE, 3)},
        {"shape": (1, 1, SIZE, SIZE)},
        {"shape": (4, 3, SIZE, SIZE), "batch": 4},
    ]
    for how in kinds + shapes:
        outputs = {"output0": dense(cells(8, 16, 32), 80).transpose(0, 2, 1).copy()}
        path = save_form(tmp_path / "a.onnx", outputs, size=SIZE, mean_at=(4, 0), **how)
        session = open_session(draft_model(path).weights)
        (output,) = session.run(None, {session.get_inputs()[0].name: pixels})
        assert output.shape == (1, 84, 2100)
        assert output[0, 4, 0] == pytest.approx(0.9 + 100 * 1e-4, abs=1e-3)


def test_a_doubt_is_passed_over_where_the_family_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outputs = {"o": dense(3 * cells(8, 16, 32), 80, objects=True)}
    outputs["o"][0, 0, 4:] *= 1.5
    path = save_form(tmp_path / "a.onnx", outputs, size=SIZE)
    with pytest.raises(ModelError, match=r"scores run from .*export\.py.*--family yolov5"):
        draft_model(path)
    assert draft_model(path, family="yolov5").spec.family == "yolov5"
    assert "scores run from" in caplog.text


def test_of_a_batch_one_frame_is_computed_where_the_network_lets_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    four = with_input(asset("yolox_nano_416"), (4, 3, 416, 416), tmp_path)
    model = draft_model(four)
    assert "frames at once" not in caplog.text
    picture = np.random.default_rng(0).uniform(0, 255, (1, 3, 416, 416)).astype(np.float32)
    one, other = (
        session.run(None, {session.get_inputs()[0].name: picture})[0]
        for session in map(open_session, (asset("yolox_nano_416"), model.weights))
    )
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    constants = {"o": dense(2100, 80).transpose(0, 2, 1).copy()}
    path = save_form(tmp_path / "a.onnx", constants, size=SIZE, shape=(4, 3, SIZE, SIZE), batch=4)
    draft_model(path)  # its constants are of four
    assert "computes 4 frames at once" in caplog.text


@pytest.mark.parametrize("planes", [False, True])
def test_heads_without_their_anchors_are_told_as_that(tmp_path: Path, *, planes: bool) -> None:
    outputs = {}
    for side in (40, 20, 10):
        shape = (1, 255, side, side) if planes else (1, 3, side, side, 85)
        outputs[f"o{side}"] = np.zeros(shape, np.float32)
    path = save_form(tmp_path / "a.onnx", outputs, size=SIZE)
    with pytest.raises(ModelError, match="like the undecoded heads of YOLOv5 or YOLOv7"):
        draft_model(path)


def test_a_second_input_that_is_unknown_is_named(tmp_path: Path) -> None:
    others = {"text_embedding": ("float32", [1, 80, 512])}
    path = save_form(tmp_path / "a.onnx", {"o": dense(2100, 80)}, size=SIZE, others=others)
    with pytest.raises(ModelError, match=r"second input text_embedding \[1, 80, 512\]"):
        draft_model(path)


# -- the cases -------------------------------------------------------------------------------------


def test_every_graph_of_the_cases_is_read_right_or_refused(tmp_path: Path) -> None:
    """Where ../shared/cases is present; what has no right boxes must be refused."""
    file = ASSETS.parents[1] / "cases" / "make_models.py"
    if not file.is_file():
        pytest.skip(f"{file} is absent")
    told = spec_from_file_location("make_models", file)
    assert told is not None and told.loader is not None
    made = sys.modules["make_models"] = module_from_spec(told)
    told.loader.exec_module(made)
    for name, make in made.MODELS.items():
        graph = make()
        if graph.manifest or name == "boxes_400":  # about values and limits
            continue
        path = tmp_path / f"{name}.onnx"
        made.save(graph, path)
        if not graph.expect:
            with pytest.raises(ModelError):
                draft_model(path)
            continue
        found = detect(draft_model(path, tidy=True))
        assert len(found) == len(graph.expect), name
        for score, box, (_, wanted, corners) in zip(
            found.scores, found.xyxy, graph.expect, strict=True
        ):
            assert score == pytest.approx(wanted, abs=0.01), name
            assert overlap(tuple(map(float, box)), corners) >= 0.99, name


# -- the real PicoDet ------------------------------------------------------------------------------


def test_the_real_picodet_agrees_with_a_plain_decode() -> None:
    import cv2

    model = draft_model(asset("picodet_s_416"))
    assert model.spec.parameters == {"strides": [8, 16, 32, 64], "reg_max": 7, "centre": "middle"}
    session = open_session(model.weights)
    picture = cv2.imread(str(Path(__file__).parents[2] / "models" / "pictures" / "plain.jpg"))
    h, w = picture.shape[:2]
    pixels = cv2.resize(picture, (416, 416)).astype(np.float32)
    pixels = (pixels[:, :, ::-1] - (123.675, 116.28, 103.53)) / (58.395, 57.12, 57.375)
    tensor = pixels.transpose(2, 0, 1)[None].astype(np.float32)
    outputs = session.run(None, {session.get_inputs()[0].name: tensor})
    plain = []
    for level, stride in enumerate((8, 16, 32, 64)):
        columns = math.ceil(416 / stride)
        for i, classes in enumerate(outputs[level][0]):
            if classes.max() < 0.4:
                continue
            sides = []
            for k in range(4):
                bins = np.exp(outputs[level + 4][0, i, 8 * k : 8 * k + 8].astype(np.float64))
                sides.append(float((bins * np.arange(8)).sum() / bins.sum()) * stride)
            cx, cy = (i % columns + 0.5) * stride, (i // columns + 0.5) * stride
            box = (cx - sides[0], cy - sides[1], cx + sides[2], cy + sides[3])
            plain.append((int(classes.argmax()), float(classes.max()), box))
    assert plain
    post = Postprocessor(model.spec, [o.shape for o in outputs], Limits(0.4, 0.6))
    found = post(outputs, place((w, h), (416, 416), resize="stretch"))
    assert len(found)
    across, down = w / 416, h / 416
    for k, score, box in zip(found.class_ids, found.scores, found.xyxy, strict=True):
        inside = [
            overlap(
                tuple(map(float, box)),
                tuple(min(max(v * s, 0), m) for v, s, m in zip(
                    each, (across, down) * 2, (w, h) * 2, strict=True)),
            )
            for label, p, each in plain
            if label == k and abs(p - score) < 1e-4
        ]  # fmt: skip
        assert max(inside, default=0) >= 0.95
