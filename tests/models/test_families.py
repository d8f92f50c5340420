"""Decoders: boxes written the way a family writes them are read back; misfits are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from app.core.errors import ModelError
from app.core.letterbox import place
from app.models.manifest import InputSpec, ModelSpec

WH = (128, 96)
CLASSES = 4
STRIDES = (8, 16, 32)
Boxes = tuple[np.ndarray, np.ndarray, np.ndarray]  # centres, sizes, class ids
Outputs = list[np.ndarray]


def cells() -> list[tuple[int, int, int]]:
    return [(x, y, s) for s in STRIDES for y in range(WH[1] // s) for x in range(WH[0] // s)]


def spec(family: str, classes: int = CLASSES, **parameters: Any) -> ModelSpec:
    return ModelSpec(
        name="made",
        file="made.onnx",
        input=InputSpec(WH),
        family=family,
        labels=tuple(f"class {i}" for i in range(classes)),
        parameters=parameters,
    )


def quiet(n: int, width: int) -> np.ndarray:
    """Rows of low scores and small numbers."""
    return np.random.default_rng(0).uniform(0, 0.2, (n, width)).astype(np.float32)


def write_yolox(boxes: Boxes, score: float) -> Outputs:
    rows = quiet(len(cells()), 5 + CLASSES)
    for i, (centre, size, k) in enumerate(zip(*boxes, strict=True)):
        x, y, s = cells()[7 * i]
        rows[7 * i, :4] = *(centre / s - (x, y)), *np.log(size / s)
        rows[7 * i, 4:] = 0
        rows[7 * i, 4], rows[7 * i, 5 + k] = 1, score
    return [rows[None]]


def write_yolov5(boxes: Boxes, score: float) -> Outputs:
    rows = quiet(200, 5 + CLASSES)
    for i, (centre, size, k) in enumerate(zip(*boxes, strict=True)):
        rows[3 * i] = 0
        rows[3 * i, :4] = *centre, *size
        rows[3 * i, 4], rows[3 * i, 5 + k] = score, 1
    return [rows[None]]


def write_yolov8(boxes: Boxes, score: float) -> Outputs:
    rows = quiet(200, 4 + CLASSES)
    for i, (centre, size, k) in enumerate(zip(*boxes, strict=True)):
        rows[3 * i, :4] = *centre, *size
        rows[3 * i, 4 + k] = score
    return [np.ascontiguousarray(rows.T)[None]]


def write_end_to_end(boxes: Boxes, score: float) -> Outputs:
    rows = np.zeros((300, 6), np.float32)
    for i, (centre, size, k) in enumerate(zip(*boxes, strict=True)):
        rows[i] = *(centre - size / 2), *(centre + size / 2), score, k
    return [rows[None]]


def write_nanodet(boxes: Boxes, score: float) -> Outputs:
    reg_max = 31  # enough range for any box here
    scores = quiet(len(cells()), CLASSES)
    logits = quiet(len(cells()), 4 * (reg_max + 1))
    for i, (centre, size, k) in enumerate(zip(*boxes, strict=True)):
        x, y, s = cells()[7 * i]
        scores[7 * i] = 0
        scores[7 * i, k] = score
        cx, cy = x * s + 0.5 * (s - 1), y * s + 0.5 * (s - 1)
        sides = np.array(
            [
                cx - (centre[0] - size[0] / 2),
                cy - (centre[1] - size[1] / 2),
                centre[0] + size[0] / 2 - cx,
                centre[1] + size[1] / 2 - cy,
            ]
        )
        distance = np.clip(sides / s, 0, reg_max)
        bins = np.full((4, reg_max + 1), -40.0)
        for side, d in zip(bins, distance, strict=True):
            low = min(int(d), reg_max - 1)
            side[low], side[low + 1] = np.log(max(1 - (d - low), 1e-9)), np.log(max(d - low, 1e-9))
        logits[7 * i] = bins.ravel()
    counts = np.cumsum([WH[0] // s * (WH[1] // s) for s in STRIDES])[:-1]
    return [
        part[None].astype(np.float32)
        for array in (scores, logits)
        for part in np.split(array, counts)
    ]


def write_fastestdet(boxes: Boxes, score: float) -> Outputs:
    columns, rows = 8, 6
    out = np.random.default_rng(0).uniform(0, 0.1, (5 + CLASSES, rows, columns)).astype(np.float32)
    for centre, size, k in zip(*boxes, strict=True):
        at = centre / WH * (columns, rows)
        x, y = int(at[0]), int(at[1])
        part = np.clip(size / WH, 1e-3, 1 - 1e-3)
        out[:, y, x] = 0
        out[1:5, y, x] = *np.arctanh(at - (x, y)), *np.log(part / (1 - part))
        out[0, y, x] = out[5 + k, y, x] = score
    return [out[None]]


FAMILIES: dict[str, tuple[ModelSpec, Callable[[Boxes, float], Outputs]]] = {
    "yolox": (spec("yolox"), write_yolox),
    "yolov5": (spec("yolov5"), write_yolov5),
    "yolov8": (spec("yolov8"), write_yolov8),
    "yolov8 with NMS": (spec("yolov8", end_to_end=True), write_end_to_end),
    "nanodet": (spec("nanodet", reg_max=31), write_nanodet),
    "fastestdet": (spec("fastestdet"), write_fastestdet),
}


@settings(max_examples=25)
@given(st.data())
@pytest.mark.parametrize("family", FAMILIES)
def test_reads_back_what_was_written(family: str, data: st.DataObject) -> None:
    model, write = FAMILIES[family]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n = data.draw(st.integers(0, 4))
    # one box per quarter, off the cells' borders, as FastestDet holds one box a cell
    base = np.array([(20.0, 20.0), (84.0, 20.0), (20.0, 68.0), (84.0, 68.0)])[:n]
    centres = base + rng.uniform(0.5, 11, (n, 2))
    if family == "nanodet":  # boxes around the cells that own them, so that no distance is negative
        own = np.array([cells()[7 * i] for i in range(n)]).reshape(n, 3)
        centres = own[:, :2] * own[:, 2:] + 0.5 * (own[:, 2:] - 1)
    sizes = rng.uniform(8, 60, (n, 2))
    ids = rng.integers(0, CLASSES, n)
    outputs = write((centres, sizes, ids), 0.8)
    decode = model.decoder([o.shape for o in outputs])
    found = decode(outputs, 0.5)
    assert len(found.scores) == n
    np.testing.assert_allclose(found.scores, 0.8, atol=1e-4)
    wanted = np.concatenate((centres - sizes / 2, centres + sizes / 2), axis=1)
    order = [int(np.abs(found.xyxy - box).sum(axis=1).argmin()) for box in wanted]
    np.testing.assert_allclose(found.xyxy[order], wanted, atol=0.05)
    assert found.class_ids[order].tolist() == ids.tolist()


def test_a_second_head_of_yolox_has_boxes_of_its_own_in_the_same_cells() -> None:
    first, second = (
        write_yolox((np.array([[30.0, 40.0]]), np.array([size]), np.array([k])), 0.8)[0]
        for size, k in (((20.0, 40.0), 0), ((10.0, 8.0), 3))
    )
    rows = np.concatenate((first, second), axis=1)
    decode = spec("yolox", strides=[*STRIDES, *STRIDES]).decoder([rows.shape])
    found = decode([rows], 0.5)
    assert found.class_ids.tolist() == [0, 3]
    np.testing.assert_allclose(found.xyxy, [[20, 20, 40, 60], [25, 36, 35, 44]], atol=1e-3)


def test_yunet_reads_box_and_keypoints() -> None:
    counts = [WH[0] // s * (WH[1] // s) for s in STRIDES]
    outputs = [np.zeros((1, n, width), np.float32) for width in (1, 1, 4, 10) for n in counts]
    row, (x, y, s) = 3, (3, 0, 16)
    outputs[1][0, row], outputs[4][0, row] = 0.81, 1.0
    outputs[7][0, row] = (0.5, 0.25, np.log(2), np.log(3))
    outputs[10][0, row] = np.arange(10) / 10
    decode = spec("yunet", classes=1).decoder([o.shape for o in outputs])
    found = decode(outputs, 0.6)
    assert found.scores.tolist() == pytest.approx([0.9])
    cx, cy = (x + 0.5) * s, (y + 0.25) * s
    assert found.xyxy[0].tolist() == pytest.approx([cx - s, cy - 1.5 * s, cx + s, cy + 1.5 * s])
    assert found.keypoints is not None and found.keypoints.shape == (1, 5, 2)
    assert found.keypoints[0, 4].tolist() == pytest.approx([(x + 0.8) * s, (y + 0.9) * s])


def test_ultraface_reads_the_face_column() -> None:
    scores = np.array([[[0.9, 0.1], [0.2, 0.8]]], np.float32)
    corners = np.array([[[0, 0, 1, 1], [0.25, 0.5, 0.5, 0.75]]], np.float32)
    decode = spec("ultraface", classes=1).decoder([(1, 2, 2), (1, 2, 4)])
    found = decode([scores, corners], 0.7)
    assert found.xyxy.tolist() == [[32, 48, 64, 72]]
    assert found.scores.tolist() == pytest.approx([0.8])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shapes", [[], [(1, 10)], [(1, 7, 7)], [(1, 1000)], [(1, 3, 4, 5)] * 2])
def test_outputs_of_another_family_are_refused_with_the_cure(
    family: str, shapes: list[tuple[int, ...]]
) -> None:
    with pytest.raises(ModelError, match=r"decoder\.family"):
        FAMILIES[family][0].decoder(shapes)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_garbage_from_the_network_ends_as_valid_detections_or_names_the_score(
    family: str, value: float
) -> None:
    from app.inference.postprocess import Limits, Postprocessor

    model, write = FAMILIES[family]
    outputs = write((np.array([[40.0, 40.0]]), np.array([[20.0, 20.0]]), np.array([1])), 0.8)
    rng = np.random.default_rng(1)
    for output in outputs:
        output[rng.random(output.shape) < 0.3] = value
    post = Postprocessor(model, [o.shape for o in outputs], Limits(0.3, 0.5))
    try:
        found = post(outputs, place((640, 480), WH))
    except ModelError as fault:
        assert not np.isnan(value) and "gives a score of" in str(fault)
        return
    assert np.isfinite(found.xyxy).all()
    assert found.keypoints is None or np.isfinite(found.keypoints).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert (found.xyxy >= 0).all() and (found.xyxy <= (640, 480, 640, 480)).all()
    assert ((found.class_ids >= 0) & (found.class_ids < CLASSES)).all()
