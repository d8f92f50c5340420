"""Masks, turned boxes, named keypoints and classes of whole pictures, against plain decodes.

A graph gives constants whatever it sees; frames are letterboxed, so that places must be mapped.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.core.detections import Detections
from app.core.errors import ModelError
from app.core.letterbox import Placement, place
from app.core.overlay import COCO17
from app.inference.postprocess import Limits, Postprocessor, nms_turned
from app.models.importer import draft_model
from app.models.manifest import Model
from app.models.onnx_session import network_io, open_session
from tests.reference import overlap
from tests.shelf_kit import save_form

SIZE, FRAME = 320, (640, 400)
N = 40 * 40 + 20 * 20 + 10 * 10
Array = np.ndarray[Any, Any]
BOXES = ((0, 0.9, (50.2, 80.0, 150.0, 200.7)), (2, 0.8, (170.0, 70.0, 310.0, 255.0)))
rng = np.random.default_rng(5)


def add(path: Path, outputs: dict[str, Array], **how: Any) -> Model:
    return draft_model(save_form(path / "a.onnx", outputs, size=SIZE, **how))


def detect(model: Model, *, score: float = 0.3, iou: float = 0.5) -> tuple[Detections, Placement]:
    session = open_session(model.weights)
    io = network_io(session, model.spec)
    outputs = session.run(None, {io.input: np.zeros(io.shape, np.float32)})
    image = model.spec.input
    placed = place(FRAME, image.size_wh, resize=image.resize, align=image.align)
    return Postprocessor(model.spec, io.shapes, Limits(score, iou))(outputs, placed), placed


def in_frame(points: Any, placed: Placement) -> Array:
    offset, share = (placed.x, placed.y), (placed.w / FRAME[0], placed.h / FRAME[1])
    return (np.asarray(points, np.float64).reshape(-1, 2) - offset) / share


def plain_mask(plane: Array, level: float, box: Array, placed: Placement) -> Array:
    """(H, W) of the frame: each pixel's centre looked up in the plane, between four cells."""
    height, width = plane.shape
    x = ((np.arange(FRAME[0]) + 0.5) * placed.w / FRAME[0] + placed.x) * width / SIZE - 0.5
    y = ((np.arange(FRAME[1]) + 0.5) * placed.h / FRAME[1] + placed.y) * height / SIZE - 0.5
    x, y = x.clip(0, width - 1), y.clip(0, height - 1)
    left, top = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    across, down = x - left, (y - top)[:, None]
    upper = plane[top][:, left] * (1 - across) + plane[top][:, left + 1] * across
    lower = plane[top + 1][:, left] * (1 - across) + plane[top + 1][:, left + 1] * across
    mask = upper * (1 - down) + lower * down > level
    x0, y0, x1, y1 = box
    across, down = np.arange(FRAME[0]) + 0.5, np.arange(FRAME[1])[:, None] + 0.5
    return mask & (across >= x0) & (across < x1) & (down >= y0) & (down < y1)


def assert_masks(found: Detections, planes: Array, level: float, placed: Placement) -> None:
    assert found.masks is not None and len(found) == len(BOXES)
    for mask, (k, score, box), plane, got, class_id, sure in zip(
        *(found.masks, BOXES, planes, found.xyxy, found.class_ids, found.scores), strict=True
    ):
        wanted_box = in_frame(box, placed).ravel().clip(0, (*FRAME, *FRAME))
        assert overlap(tuple(map(float, got)), tuple(wanted_box)) >= 0.99
        assert (class_id, pytest.approx(sure, abs=1e-3)) == (k, score)
        whole = np.zeros(FRAME[::-1], bool)
        part = mask.pixels()
        whole[mask.y : mask.y + part.shape[0], mask.x : mask.x + part.shape[1]] = part
        wanted = plain_mask(plane.astype(np.float64), level, wanted_box, placed)
        assert 0.03 < wanted.sum() / part.size < 0.97
        assert (whole & wanted).sum() / (whole | wanted).sum() >= 0.99


def soft_planes(count: int, cells: int = 80) -> Array:
    """Smooth hills and valleys."""
    y, x = np.mgrid[:cells, :cells] / cells
    waves = rng.uniform(2, 14, (count, 4))
    planes = [np.sin(a * x + b) + np.cos(c * y + d) - 0.3 for a, b, c, d in waves]
    return np.array(planes, np.float32)


def xywh(box: tuple[float, ...]) -> list[float]:
    x0, y0, x1, y1 = box
    return [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]


# -- masks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["v8", "v5", "end to end"])
def test_masks_of_prototypes_lie_where_a_plain_decode_has_them(tmp_path: Path, kind: str) -> None:
    protos, shares = soft_planes(32), rng.normal(0, 0.5, (2, 32)).astype(np.float32)
    if kind == "end to end":
        out = np.zeros((1, 300, 38), np.float32)
        for i, (k, score, box) in enumerate(BOXES):
            out[0, i] = [*box, score, k, *shares[i]]
    else:
        objects = kind == "v5"
        out = np.zeros((1, N * (3 if objects else 1), 4 + objects + 80 + 32), np.float32)
        out[0, :, :4] = 160, 160, 8, 8
        for i, (k, score, box) in enumerate(BOXES):
            for row in (7 * i, 7 * i + 1):  # the second is suppressed
                out[0, row, :4] = xywh(box)
                out[0, row, 4] = 1 if objects else 0
                out[0, row, 4 + objects + k] = score - 0.1 * (row % 7)
                out[0, row, -32:] = shares[i] if row % 7 == 0 else -1
        out = out if objects else out.transpose(0, 2, 1).copy()
    model = add(tmp_path, {"output0": out, "output1": protos[None]})
    found, placed = detect(model)
    assert_masks(found, np.tensordot(shares, protos, 1), 0, placed)


def test_masks_apart_are_read_as_probabilities_or_as_logits(tmp_path: Path) -> None:
    """RTMDet-ins as MMDeploy exports it, and RF-DETR's."""
    planes = soft_planes(100, 160)
    dets, labels = np.zeros((1, 100, 5), np.float32), np.zeros((1, 100), np.int64)
    for i, (k, score, box) in enumerate(BOXES):
        dets[0, i], labels[0, i] = [*box, score], k
    likely = (1 / (1 + np.exp(-4 * planes))).astype(np.float32)
    model = add(tmp_path, {"dets": dets, "labels": labels, "masks": likely[None]})
    found, placed = detect(model)
    assert_masks(found, likely[:2], 0.5, placed)

    boxes, scores = np.zeros((1, 100, 4), np.float32), np.full((1, 100, 91), -9, np.float32)
    for i, (k, score, box) in enumerate(BOXES):
        boxes[0, i] = [v / SIZE for v in xywh(box)]
        scores[0, i, k + 1] = math.log(score / (1 - score))
    model = add(tmp_path, {"dets": boxes, "labels": scores, "masks": planes[None]})
    assert model.spec.parameters["columns"][2] == "mask_logits"
    found, placed = detect(model)
    assert_masks(found, planes[:2], 0, placed)


def test_masks_that_are_not_of_the_whole_input_are_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dets, labels = np.zeros((1, 100, 5), np.float32), np.zeros((1, 100), np.int64)
    dets[0, 0] = [*BOXES[0][2], 0.9]
    model = add(
        tmp_path, {"d": dets, "labels": labels, "masks": np.zeros((1, 100, 28, 14), np.float32)}
    )
    assert "masks are not of the whole input" in caplog.text
    assert detect(model)[0].masks is None


# -- turned boxes ----------------------------------------------------------------------------------

TURNED = [(160.0, 150.0, 120.0, 40.0, 0.5), (164.0, 152.0, 118.0, 42.0, 0.52)]
ACROSS = (160.0, 150.0, 120.0, 40.0, 0.5 + math.pi / 2)


def corners_of(x: float, y: float, w: float, h: float, angle: float) -> list[tuple[float, float]]:
    cos, sin = math.cos(angle), math.sin(angle)
    ends = [(-w / 2, -h / 2), (w / 2, -h / 2), (w / 2, h / 2), (-w / 2, h / 2)]
    return [(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in ends]


@pytest.mark.parametrize("end", [False, True])
def test_turned_boxes_are_told_by_the_note(tmp_path: Path, *, end: bool) -> None:
    """The second is like the first and goes; one that lies across it stays."""
    names = {"task": "obb", "names": str({i: f"c{i}" for i in range(15)})}
    if end:
        out = np.zeros((1, 300, 7), np.float32)
        for i, each in enumerate((TURNED[0], ACROSS)):
            out[0, i] = [*each[:4], 0.9 - 0.1 * i, 3, each[4]]
    else:
        out = np.zeros((1, 20, N), np.float32)
        for i, each in enumerate((TURNED[0], TURNED[1], ACROSS)):
            out[0, :4, 5 * i], out[0, 19, 5 * i] = each[:4], each[4]
            out[0, 4 + 3, 5 * i] = (0.9, 0.85, 0.8)[i]
    model = add(tmp_path, {"output0": out}, metadata=names)
    found, placed = detect(model)
    assert found.class_ids.tolist() == [3, 3]
    assert found.polygons is not None
    for polygon, box, each in zip(found.polygons, found.xyxy, (TURNED[0], ACROSS), strict=True):
        wanted = in_frame(corners_of(*each), placed)
        assert polygon == pytest.approx(wanted, abs=0.05)
        hull = np.r_[wanted.min(axis=0), wanted.max(axis=0)].clip(0, (*FRAME, *FRAME))
        assert box == pytest.approx(hull, abs=0.05)


def test_nms_of_turned_boxes_is_that_of_all_pairs() -> None:
    """Written out for one pair at a time, from the distance of two Gaussians."""

    def gaussian(box: Array) -> tuple[Array, Array]:
        _, _, w, h, angle = box
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        return box[:2].astype(np.float64), turn @ np.diag([w * w / 12, h * h / 12]) @ turn.T

    def alike(one: Array, other: Array) -> float:
        (m1, c1), (m2, c2) = gaussian(one), gaussian(other)
        mean, far = (c1 + c2) / 2, m1 - m2
        spread = np.linalg.det(mean) / math.sqrt(np.linalg.det(c1) * np.linalg.det(c2))
        distance = far @ np.linalg.inv(mean) @ far / 8 + math.log(spread) / 2
        return 1 - math.sqrt(1 - math.exp(-distance) + 1e-7)

    n = 60
    sides = (rng.uniform(0, 100, (n, 2)), rng.uniform(8, 60, (n, 2)), rng.uniform(-2, 2, (n, 1)))
    boxes = np.concatenate(sides, axis=1).astype(np.float32)
    scores, ids = rng.permutation(n).astype(np.float32) / n, rng.integers(0, 2, n)
    order = np.argsort(-scores)
    kept = [
        i for place, i in enumerate(order)
        if all(ids[j] != ids[i] or alike(boxes[j], boxes[i]) < 0.3 for j in order[:place])
    ]  # fmt: skip
    assert 5 < len(kept) < n - 5
    assert nms_turned(boxes, scores, ids, iou=0.3).tolist() == kept


def test_a_detector_is_not_taken_for_turned_boxes(tmp_path: Path) -> None:
    out = np.zeros((1, 20, N), np.float32)
    out[0, :4] = 100
    names = {"task": "detect", "names": str({i: f"c{i}" for i in range(16)})}
    assert add(tmp_path, {"output0": out}, metadata=names).spec.family == "yolov8"


# -- keypoints -------------------------------------------------------------------------------------


def test_keypoints_have_names_and_scores(tmp_path: Path) -> None:
    out = np.zeros((1, 56, N), np.float32)
    out[0, :4] = 8
    points = np.stack(
        (np.linspace(60, 140, 17), np.linspace(90, 190, 17), np.linspace(0, 1, 17)), 1
    )
    out[0, :4, 3], out[0, 4, 3], out[0, 5:, 3] = xywh(BOXES[0][2]), 0.9, points.ravel()
    notes = {"task": "pose", "kpt_shape": "[17, 3]", "names": "{0: 'person'}"}
    found, placed = detect(add(tmp_path, {"output0": out}, metadata=notes))
    assert found.point_names == COCO17 and found.keypoints is not None
    assert found.keypoints[0] == pytest.approx(in_frame(points[:, :2], placed), abs=0.02)
    assert found.keypoint_scores is not None
    assert found.keypoint_scores[0] == pytest.approx(points[:, 2], abs=1e-4)

    horse = add(tmp_path, {"output0": out}, metadata={**notes, "names": "{0: 'horse'}"})
    assert detect(horse)[0].point_names == ()
    own = {**notes, "names": "{0: 'horse'}", "kpt_names": str({0: [f"p{i}" for i in range(17)]})}
    assert detect(add(tmp_path, {"output0": out}, metadata=own))[0].point_names[0] == "p0"


# -- classes of the picture ------------------------------------------------------------------------


@pytest.mark.parametrize("logits", [False, True])
def test_a_classifier_says_what_the_middle_of_the_frame_is(tmp_path: Path, *, logits: bool) -> None:
    out = np.full((1, 10), -1 if logits else 0.02, np.float32)
    out[0, 7] = 3 if logits else 0.82
    names = {"names": str({i: f"c{i}" for i in range(10)}), "task": "classify"}
    model = add(tmp_path, {"output0": out}, metadata=names)
    found, _ = detect(model)
    sure = math.exp(3) / (math.exp(3) + 9 * math.exp(-1)) if logits else 0.82
    assert found.class_ids.tolist() == [7]
    assert found.scores.tolist() == pytest.approx([sure], abs=1e-4)
    assert found.xyxy[0] == pytest.approx([120, 0, 520, 400], abs=0.5)  # what the network sees
    assert len(detect(model, score=0.99)[0]) == 0


def test_a_classifier_without_names_is_refused_for_that(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"does not name its classes \(1000\)"):
        add(tmp_path, {"output0": rng.normal(0, 3, (1, 1000)).astype(np.float32)})
