"""A network that gives no numbers is told; scores that are none end the run; boxes have a limit."""

import logging

import numpy as np
import pytest

from app.core.errors import ModelError
from app.core.letterbox import place
from app.inference.postprocess import (
    MAX_DETECTIONS,
    MOST_IN_A_ROW,
    SCALAR_LIMIT,
    Limits,
    NanGuard,
    Postprocessor,
)
from app.models.manifest import InputSpec, ModelSpec

GOOD = [np.ones((1, 6, 10), np.float32), np.array([3])]
BAD = [np.ones((1, 6, 10), np.float32), np.array([1.0, np.nan], np.float32)]


def test_the_first_nan_is_told_with_the_cure(caplog):
    nan_guard = NanGuard("net")
    for _ in range(5):
        nan_guard.check(BAD)
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "net gives NaN" in record.message and "--precision fp32" in record.message


def test_numbers_in_between_forgive(caplog):
    nan_guard = NanGuard("net")
    for _ in range(3):
        for _ in range(MOST_IN_A_ROW - 1):
            nan_guard.check(BAD)
        nan_guard.check(GOOD)


def test_a_row_of_them_ends_the_run():
    nan_guard = NanGuard("net")
    with pytest.raises(ModelError, match=f"{MOST_IN_A_ROW} frames in a row"):
        for _ in range(MOST_IN_A_ROW):
            nan_guard.check(BAD)


def test_infinity_is_a_number():
    nan_guard = NanGuard("net")
    with np.errstate(over="ignore"):
        for _ in range(MOST_IN_A_ROW):
            nan_guard.check([np.array([np.inf, 3e38], np.float32)])


# --- scores and numbers of boxes -----------------------------------------------------------------


def yolov8(boxes: list[tuple[float, float, float, float]], scores: list[float]) -> np.ndarray:
    """The output of a network of two classes with these boxes, corners in input pixels."""
    raw = np.zeros((1, 6, 2100), np.float32)
    for i, ((x0, y0, x1, y1), score) in enumerate(zip(boxes, scores, strict=True)):
        raw[0, :4, i] = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
        raw[0, 4, i] = score
    return raw


def grid(count: int, y: float = 10.0) -> list[tuple[float, float, float, float]]:
    """So many boxes that do not overlap."""
    spots = [(10 + 12 * (i % 25), y + 6 * (i // 25)) for i in range(count)]
    return [(x, y, x + 6, y + 5) for x, y in spots]


def postprocessor(**limits: int) -> Postprocessor:
    spec = ModelSpec("two", "two.onnx", InputSpec((320, 320)), "yolov8", ("person", "face"))
    return Postprocessor(spec, [(1, 6, 2100)], Limits(0.3, 0.5, **limits))


FRAME = place((320, 320), (320, 320))


@pytest.mark.parametrize("count", [1, SCALAR_LIMIT + 10])
@pytest.mark.parametrize("score", [np.inf, 1.01, 255.0, -0.5, -np.inf])
def test_a_score_that_is_none_is_the_models_fault_at_the_first_frame(
    count: int, score: float
) -> None:
    raw = yolov8(grid(count), [0.9] * (count - 1) + [score])
    if score < 0:
        raw[0, 4:, count - 1] = score  # of all classes
    with pytest.raises(ModelError, match="score of") as told:
        postprocessor()([raw], FRAME)
    assert told.value.exit_code == 4 and f"{score:.4g}" in str(told.value)


@pytest.mark.parametrize("score", [0.3, 1.0, float(np.nextafter(np.float32(1), np.float32(2)))])
def test_what_rounds_to_a_score_is_one(score: float) -> None:
    assert len(postprocessor()([yolov8(grid(1), [score])], FRAME)) == 1


def test_more_boxes_than_the_setting_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    raw = yolov8(grid(400), [0.9 - i / 1000 for i in range(400)])
    few = postprocessor(most=50)
    for _ in range(3):
        found = few([raw], FRAME)
        assert len(found) == 50 and found.scores[-1] > 0.84, "the strongest stay"
    (told,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "max_detections" in told.getMessage() and "400" in told.getMessage()
    caplog.clear()
    assert len(postprocessor(most=400)([raw], FRAME)) == 400 and not caplog.records
    assert MAX_DETECTIONS >= 400


def test_boxes_outside_of_the_frame_do_not_count(caplog: pytest.LogCaptureFixture) -> None:
    # the frame fills the input's upper half; 900 stronger boxes lie below it
    placement = place((320, 160), (320, 320), align="top-left")
    raw = yolov8(grid(900, y=161) + grid(40), [0.9] * 900 + [0.5] * 40)
    found = postprocessor(most=40)([raw], placement)
    assert len(found) == 40 and not caplog.records
    raw = yolov8(grid(1200, y=161)[:1200] + grid(40), [0.9] * 1200 + [0.5] * 40)
    assert len(postprocessor(most=40)([raw], placement)) == 40, "nor as candidates"
