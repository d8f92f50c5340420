"""NMS: the fast form and the plain one choose the same boxes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st

from app.inference.postprocess import CANDIDATES, nms
from tests.reference import overlap


@st.composite
def scenes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = draw(st.integers(0, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    corner = rng.integers(0, 20, (n, 2))
    size = rng.integers(1, 20, (n, 2))  # whole numbers: overlaps are exact in float32
    scores = rng.integers(1, 8, n) / 8  # with ties
    return (
        np.concatenate((corner, corner + size), axis=1).astype(np.float32),
        scores.astype(np.float32),
        rng.integers(0, 3, n),
    )


@given(scenes(), st.sampled_from([0.0001, 0.3001, 0.4501, 0.7001]))
def test_chooses_what_the_plain_loop_chooses(
    scene: tuple[np.ndarray, np.ndarray, np.ndarray], iou: float
) -> None:
    xyxy, scores, ids = scene
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if all(ids[k] != ids[i] or overlap(xyxy[k], xyxy[i]) <= iou for k in kept):
            kept.append(i)
    assert nms(xyxy, scores, ids, iou=iou).tolist() == kept


def test_boxes_of_different_classes_do_not_suppress_each_other() -> None:
    box = np.array([[0, 0, 10, 10]] * 2, np.float32)
    scores = np.array([0.9, 0.8], np.float32)
    assert nms(box, scores, np.array([0, 1]), iou=0.5).tolist() == [0, 1]
    assert nms(box, scores, np.array([0, 0]), iou=0.5).tolist() == [0]


def test_a_suppressed_box_suppresses_nothing() -> None:
    row = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], np.float32)
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    assert nms(row, scores, np.zeros(3, int), iou=0.3).tolist() == [0, 2]


def test_the_worst_case_is_bounded() -> None:
    n = 5 * CANDIDATES
    xyxy = np.tile(np.array([0, 0, 1, 1], np.float32), (n, 1)) + np.arange(n)[:, None] * 2
    kept = nms(xyxy.astype(np.float32), np.ones(n, np.float32), np.zeros(n, int), iou=0.5)
    assert len(kept) == CANDIDATES
