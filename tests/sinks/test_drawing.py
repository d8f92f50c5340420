"""Colours and captions are what people can read."""

from __future__ import annotations

import colorsys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from app.core.detections import DrawnShape
from app.core.frame import Frame, bgr_pixels
from app.core.overlay import (
    TINT,
    OverlayStyle,
    caption,
    captions,
    colour_of,
    place_tags,
    text_colour_on,
)
from app.core.text import printable
from app.sinks.drawing import draw_detections, draw_shapes
from tests.sinks.kit import LABELS, TASKS, found, gray, of_task


@given(st.integers(-5, 10_000))
def test_colour_is_stable_bright_and_rgb(class_id: int) -> None:
    colour = colour_of(class_id)
    assert colour == colour_of(class_id)
    assert all(0 <= channel <= 255 for channel in colour)
    assert colorsys.rgb_to_hsv(*(channel / 255 for channel in colour))[2] > 0.8


def test_neighbouring_classes_differ() -> None:
    for class_id in range(12):
        for other in range(class_id + 1, 12):
            off = np.abs(np.subtract(colour_of(class_id), colour_of(other)))
            assert off.max() > 35, (class_id, other)


def test_each_of_96_classes_has_a_colour_of_its_own() -> None:
    colours = np.array([colour_of(class_id) for class_id in range(96)], float)
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + 1e9 * np.eye(96)
    assert apart.min() > 15


def test_text_stands_out_on_its_colour() -> None:
    assert text_colour_on((255, 255, 0)) == (0, 0, 0)
    assert text_colour_on((0, 0, 128)) == (255, 255, 255)


def test_label_cannot_steer_a_terminal() -> None:
    assert caption(["\x1b[2Jdog\n"], 0, 0.5) == "?[2Jdog? 0.50"
    assert printable("Kätzchen 猫") == "Kätzchen 猫"


def test_class_without_a_name_is_named_by_its_number() -> None:
    assert caption(LABELS, 17, 0.256) == "class 17 0.26"


def test_a_track_is_named_by_its_number() -> None:
    assert caption(LABELS, 0, 0.91, 12) == "person 12 0.91"
    tracked = replace(
        found((0, 0.9, 0, 0, 9, 9), (1, 0.5, 0, 0, 9, 9)), track_ids=np.array([3, -1])
    )
    assert captions(tracked, LABELS) == ["person 3 0.90", "dog 0.50"]


def test_line_grows_with_the_frame() -> None:
    styles = [OverlayStyle.for_frame(wh) for wh in ((160, 90), (640, 480), (3840, 2160))]
    assert [style.line for style in styles] == [2, 2, 9]
    assert styles[0].text < styles[1].text < styles[2].text


def test_pixels_that_are_bgr_already_are_not_copied() -> None:
    pixels = gray()
    assert bgr_pixels(Frame(pixels, 0, 0)) is pixels


def test_label_at_any_edge_stays_in_the_frame() -> None:
    corners = [(0, 0, 30, 20), (290, 0, 320, 20), (0, 220, 30, 240), (290, 220, 320, 240)]
    for box in corners:
        canvas = gray()
        draw_detections(canvas, found((0, 0.9, *box)), LABELS)
        # the strip's filling is far more than the box's outline
        assert (canvas == colour_of(0)[::-1]).all(axis=2).sum() > 450, box


sides = st.tuples(*(st.floats(-50, 250) for _ in range(2)), *(st.floats(1, 200) for _ in range(2)))


@given(st.lists(sides, max_size=12), st.floats(10, 60), st.floats(5, 20))
def test_tags_stay_in_the_room_and_apart_where_they_can(
    sides: list[tuple[float, ...]], width: float, height: float
) -> None:
    boxes = [(x, y, x + w, y + h) for x, y, w, h in sides]
    tags = place_tags(boxes, [(width, height)] * len(boxes), (0, 0, 200, 150))
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        in_sight = x0 < 200 and x1 > 0 and y0 < 150 and y1 > 0
        assert (i in tags) == in_sight
        if in_sight:
            left, top, right, _ = tags[i]
            assert left >= 0 and top >= 0 and right <= 200 + 1e-6 and top <= 150


def test_the_tag_of_an_inner_box_gives_way() -> None:
    outer, inner = (20, 40, 120, 140), (22, 40, 80, 100)
    tags = place_tags([inner, outer], [(40, 10)] * 2, (0, 0, 200, 200))
    assert tags[1][1] == 30 and tags[0][1] == 100  # above the one, below the other


def test_best_detection_is_drawn_over_the_others() -> None:
    canvas = gray()
    box = (100, 100, 200, 200)
    draw_detections(canvas, found((0, 0.9, *box), (1, 0.8, *box)), LABELS)
    assert tuple(canvas[150, 100][::-1]) == colour_of(0)


@pytest.mark.parametrize("task", TASKS)
def test_masks_skeletons_and_turned_boxes_are_drawn(task: str) -> None:
    detections, full, mixed, untouched = of_task(task)
    canvas, ink = gray(), np.array(colour_of(0)[::-1])
    draw_detections(canvas, detections, LABELS)
    for x, y in full:
        assert np.abs(canvas[y, x] - ink).max() < 40, (x, y)
    for x, y in mixed:
        assert canvas[y, x] == pytest.approx(128 * (1 - TINT) + ink * TINT, abs=3)
    for x, y in untouched:
        assert (canvas[y, x] == 128).all(), (x, y)


def test_zones_and_lines_are_drawn_where_they_lie() -> None:
    picture = gray()
    zone = DrawnShape([[100, 100], [200, 100], [200, 200], [100, 200]], True, "door 2", (255, 0, 0))
    line = DrawnShape([[250, 20], [250, 220]], False, "gate 1 in", (0, 255, 0))
    draw_shapes(picture, [zone, line])
    assert picture[150, 100].tolist() == [0, 0, 255] == picture[200, 150].tolist()
    assert picture[120, 250].tolist() == [0, 255, 0]
    assert picture[150, 150].tolist() == [128, 128, 128]


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=2, max_size=5))
def test_a_shape_far_outside_ends_no_run(points: list[tuple[float, float]]) -> None:
    draw_shapes(gray(64, 48), [DrawnShape(points, True, "x" * 40, (1, 2, 3))])
