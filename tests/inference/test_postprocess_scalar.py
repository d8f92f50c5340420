"""A handful of candidates: the boxes that the vector form finds, garbage included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from app.core.letterbox import Placement, place
from app.inference import postprocess as module
from app.inference.postprocess import SCALAR_LIMIT, Limits, Postprocessor, postprocess_scalar
from app.models.families.base import Candidates
from app.models.store import find_model

PLACEMENTS = [
    place((768, 432), (320, 192)),
    place((48, 64), (320, 320), align="top-left"),
    place((640, 480), (416, 416), resize="stretch"),
]
GARBAGE = [np.nan, np.inf, -np.inf, 3e38, -3e38]


class Decoder:
    """Gives what it was told to."""

    def __init__(self, found: Candidates) -> None:
        self._found = found

    def __call__(self, outputs: object, score: float) -> Candidates:
        return self._found


def postprocessor(found: Candidates, iou: float, needs_nms: bool) -> Postprocessor:
    made = Postprocessor(find_model("kestrel").spec, [(1, 4200, 86)], Limits(0.1, iou))
    made._decode, made._needs_nms = Decoder(found), needs_nms
    return made


@st.composite
def candidates(draw: st.DrawFn) -> Candidates:
    n = draw(st.integers(1, SCALAR_LIMIT))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    corner, size = rng.integers(-40, 300, (n, 2)), rng.integers(0, 120, (n, 2))
    near = rng.integers(0, n, n)  # some lie on one another
    corner = np.where(rng.random((n, 1)) < 0.5, corner[near] + rng.integers(-9, 9, (n, 2)), corner)
    xyxy = np.concatenate((corner, corner + size), axis=1).astype(np.float32)
    for row in range(n):
        if draw(st.integers(0, 9)) == 0:
            xyxy[row, draw(st.integers(0, 3))] = draw(st.sampled_from(GARBAGE))
    return Candidates(xyxy, (rng.integers(1, 8, n) / 8).astype(np.float32), rng.integers(0, 3, n))


@given(
    candidates(),
    st.sampled_from(PLACEMENTS),
    st.sampled_from([0.0001, 0.3001, 0.7001]),
    st.booleans(),
)
def test_few_are_finished_as_many_are(
    found: Candidates, placement: Placement, iou: float, needs_nms: bool
) -> None:
    both = postprocessor(found, iou, needs_nms)
    few = both([], placement)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SCALAR_LIMIT", 0)
        many = both([], placement)
    assert few.class_ids.tolist() == many.class_ids.tolist()
    assert few.scores.tolist() == many.scores.tolist()
    np.testing.assert_allclose(few.xyxy, many.xyxy, rtol=1e-6, atol=1e-4)  # roundings to float32
    assert few.xyxy.dtype == many.xyxy.dtype and few.keypoints is many.keypoints is None


def test_more_than_a_handful_and_keypoints_take_the_vector_form(monkeypatch) -> None:
    monkeypatch.setattr(module, "postprocess_scalar", None)
    n = SCALAR_LIMIT + 1
    corner = np.arange(n, dtype=np.float32)[:, None] * 12
    found = Candidates(
        np.concatenate((corner, corner, corner + 9, corner + 9), axis=1),
        np.full(n, 0.5, np.float32),
        np.zeros(n, np.intp),
    )
    placement = place((320, 320), (320, 320))
    assert len(postprocessor(found, 0.5, True)([], placement)) == n
    points = np.zeros((2, 5, 2), np.float32)
    two = found.of(np.arange(2))._replace(keypoints=points)
    assert postprocessor(two, 0.5, True)([], placement).keypoints.shape == (2, 5, 2)


def test_a_box_in_the_padding_is_none() -> None:
    found = Candidates(
        np.array([[0, 0, 320, 5]], np.float32), np.ones(1, np.float32), np.zeros(1, np.intp)
    )
    placement = place((768, 432), (320, 320))
    assert len(postprocess_scalar(found, placement, iou=None)) == 0
    assert len(postprocess_scalar(found, replace(placement, y=0), iou=None)) == 1


def test_a_box_outside_of_the_frame_suppresses_none_inside() -> None:
    boxes = np.array([[246, -4, 301, 11], [239, -4, 326, 48]], np.float32)
    found = Candidates(boxes, np.array([0.75, 0.375], np.float32), np.array([2, 2]))
    tall = place((48, 64), (320, 320), align="top-left")  # 240 wide in the input
    assert postprocessor(found, 0.0001, True)([], tall).scores.tolist() == [0.375]
