"""What is private is in no picture, whatever its format."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from app.core.detections import Detections, Result
from app.core.errors import ConfigError
from app.core.frame import Frame, bgr_pixels
from app.pipeline.privacy import Privacy, PrivateArea

WH = (320, 240)
AREA = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))
INSIDE = (slice(62, 178), slice(82, 238))  # rows, columns
CODES = {"bgra8": cv2.COLOR_BGR2BGRA, "gray8": cv2.COLOR_BGR2GRAY, "i420": cv2.COLOR_BGR2YUV_I420}
FORMATS = ("bgr8", "bgra8", "gray8", "i420", "nv12", "yuyv")


def scene(format: str) -> Frame:
    """Stripes of one pixel in red and blue, which any coarser picture makes even."""
    bgr = np.zeros((WH[1], WH[0], 3), np.uint8)
    bgr[:, ::2], bgr[:, 1::2] = (0, 0, 255), (255, 255, 0)
    if format == "nv12":
        i420 = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
        u, v = i420[WH[1] :].reshape(2, -1)
        pixels = np.concatenate((i420[: WH[1]], np.stack((u, v), -1).reshape(-1, WH[0])))
    elif format == "yuyv":
        gray = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
        pixels = np.stack((gray, np.full_like(gray, 90)), -1)
    else:
        pixels = cv2.cvtColor(bgr, CODES[format]) if format in CODES else bgr
    return Frame(np.ascontiguousarray(pixels), 0, 0, format=format)


def area(**more: object) -> PrivateArea:
    return PrivateArea(**{"name": "garden", "points": AREA, **more})


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("style", ["black", "pixelate"])
@pytest.mark.parametrize("units", ["frame", "pixels"])
def test_nothing_of_an_area_is_left_and_nothing_else_is_touched(
    format: str, style: str, units: str
) -> None:
    points = AREA if units == "frame" else tuple((x * WH[0], y * WH[1]) for x, y in AREA)
    before = bgr_pixels(scene(format)).copy()
    private = Privacy([area(style=style, points=points, units=units)], faces=False)
    after = bgr_pixels(private.hide_areas(scene(format)))
    hidden = after[INSIDE].astype(int)
    if style == "black":
        assert hidden.max() <= 1
    else:  # no stripe of a pixel's width
        assert np.abs(np.diff(hidden, axis=1)[:, 24:-24]).mean() < 4
    outside = np.ones(before.shape[:2], bool)
    outside[54:186, 74:246] = False
    assert (after[outside] == before[outside]).all()


def test_frames_that_cannot_be_written_are_copied() -> None:
    frame = scene("bgr8")
    frame.pixels.flags.writeable = False
    hidden = Privacy([area()], faces=False).hide_areas(frame)
    assert not hidden.pixels[INSIDE].any() and frame.pixels[INSIDE].any()


@pytest.mark.parametrize("format", FORMATS)
def test_faces_are_hidden_in_a_copy_and_other_things_are_not(format: str) -> None:
    frame = scene(format)
    boxes = np.array([(100, 60, 180, 160), (200, 100, 300, 200)], np.float32)
    found = Detections(boxes, np.array([0.9, 0.8], np.float32), np.array([1, 0], np.int32))
    result = Result(frame, found, 0, {})
    kept = frame.pixels.copy()
    shown = Privacy([], faces=True).hide_faces(result, ["person", "face"])
    face = bgr_pixels(shown.frame)[66:154, 106:174].astype(int)
    assert np.abs(np.diff(face, axis=1)).mean() < 12
    person = (slice(100, 200), slice(210, 300))
    assert (bgr_pixels(shown.frame)[person] == bgr_pixels(frame)[person]).all()
    assert (frame.pixels == kept).all()
    assert Privacy([], faces=True).hide_faces(result, ["person", "dog"]) is result


@pytest.mark.parametrize(
    "wrong",
    [
        {"points": AREA[:2]},
        {"points": ((0, 0), (2, 0), (0, 2))},
        {"points": ((0, 0), (0.5, 0.5), (1, 1))},
        {"points": ((0, 0), (float("nan"), 0), (0, 1))},
        {"points": ((0, 0), (1, 1), (1, 0), (0, 1))},
        {"points": ((0.5, 0.1), (0.7, 0.9), (0.1, 0.4), (0.9, 0.4), (0.3, 0.9))},  # a star
        {"points": ((9, 9), (1e12, 9), (1e12, 1e12), (9, 1e12)), "units": "pixels"},
    ],
)
def test_an_area_that_hides_nothing_is_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        Privacy([area(**wrong)], faces=False)


def test_a_notched_area_that_touches_itself_is_hidden_whole() -> None:
    corners = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.5, 0.3), (0.5, 0.3), (0.1, 0.9))
    hidden = Privacy([area(points=corners)], faces=False).hide_areas(scene("bgr8")).pixels
    assert not hidden[30:60, 40:280].any() and hidden[200, 160].any()


def test_an_area_outside_of_the_picture_is_told(caplog: pytest.LogCaptureFixture) -> None:
    outside = ((400, 10), (500, 10), (500, 90))
    for points, told in ((outside, 1), (((9, 9), (500, 9), (500, 900)), 0)):
        caplog.clear()
        private = Privacy([area(points=points, units="pixels")], faces=False)
        for _ in range(3):
            private.hide_areas(scene("bgr8"))
        assert len(caplog.records) == told
