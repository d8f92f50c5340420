"""Everything is painted where it belongs, looked up in the painted pixels."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PyQt5.QtCore import QPoint
from PyQt5.QtGui import QImage

from app.core.detections import Result
from app.core.frame import Frame
from app.core.overlay import TINT, colour_of
from app.gui.view import ResultView, Viewing
from tests.sinks.kit import LABELS, TASKS, found, gray, of_task, result

PERSON, DOG = np.array(colour_of(0)), np.array(colour_of(1))
BACKDROP = (18, 18, 20)
VIEWS: list[ResultView] = []


def painted(view: ResultView, ratio: int = 1) -> np.ndarray:
    """The widget as (H, W, 3) RGB, with ``ratio`` device pixels to a logical one."""
    image = QImage(view.width() * ratio, view.height() * ratio, QImage.Format.Format_RGB888)
    image.setDevicePixelRatio(ratio)
    view.render(image)
    bits = image.constBits()
    rows = np.frombuffer(bits.asarray(image.sizeInBytes()), np.uint8)
    rows = rows.reshape(image.height(), image.bytesPerLine())
    return rows[:, : image.width() * 3].reshape(image.height(), image.width(), 3).astype(int)


@pytest.fixture(autouse=True)
def ended_presenters() -> Iterator[None]:
    yield
    while VIEWS:
        VIEWS.pop().close_presenter()


def a_view(hint: str = "") -> ResultView:
    VIEWS.append(ResultView(hint))
    return VIEWS[-1]


def view_of(shown: Result, width: int, height: int) -> ResultView:
    view = a_view()
    view.resize(width, height)
    show(view, shown)
    return view


def show(view: ResultView, shown: Result) -> None:
    """At once, without the thread that scales."""
    view.set_result(shown, LABELS)
    view.present_now()


@pytest.mark.parametrize("task", TASKS)
def test_masks_skeletons_and_turned_boxes_are_painted(task: str) -> None:
    detections, full, mixed, untouched = of_task(task)
    pixels = painted(view_of(result(0, detections), 640, 480))
    for x, y in full:
        assert np.abs(pixels[2 * y, 2 * x] - PERSON).max() < 40, (x, y)
    for x, y in mixed:
        assert pixels[2 * y, 2 * x] == pytest.approx(128 * (1 - TINT) + PERSON * TINT, abs=4)
    for x, y in untouched:
        assert (pixels[2 * y, 2 * x] == 128).all(), (x, y)


@given(*[st.integers(1, 8000)] * 4)
def test_frame_fits_and_is_centred(frame_w: int, frame_h: int, width: int, height: int) -> None:
    placed = Viewing((frame_w, frame_h), (width, height)).fit()
    scale, x0, y0 = placed.scale, placed.x0, placed.y0
    assert x0 >= -1e-6 and y0 >= -1e-6
    assert x0 < 1e-6 or y0 < 1e-6  # as large as it fits
    assert abs(2 * x0 + frame_w * scale - width) < 1e-6
    assert abs(2 * y0 + frame_h * scale - height) < 1e-6


def test_box_is_painted_at_its_place_in_the_scaled_frame() -> None:
    view = view_of(result(0, found((0, 0.9, 100, 80, 200, 180))), 640, 480)  # twice the frame
    shown = painted(view)
    for y, x in ((260, 199), (260, 200), (260, 399), (260, 400), (359, 300), (160, 390)):
        assert np.abs(shown[y, x] - PERSON).max() < 8, (y, x, shown[y, x])
    for y, x in ((260, 196), (260, 203), (260, 396), (260, 403), (300, 300), (363, 300)):
        assert np.abs(shown[y, x] - 128).max() < 3, (y, x, shown[y, x])


def test_box_is_painted_sharply_on_a_dense_screen() -> None:
    view = view_of(result(0, found((0, 0.9, 100, 80, 200, 180))), 320, 240)
    shown = painted(view, ratio=2)
    assert shown.shape[:2] == (2 * view.height(), 640)
    line = [x for x in range(640) if np.abs(shown[260, x] - PERSON).max() < 8]
    assert line == [198, 199, 200, 201, 398, 399, 400, 401]


def test_frame_is_letterboxed_between_bars() -> None:
    shown = painted(view_of(result(0, found((1, 0.9, 0, 0, 320, 240))), 600, 240))
    assert (shown[120, 60] == BACKDROP).all() and (shown[120, 540] == BACKDROP).all()
    assert np.abs(shown[120, 140] - DOG).max() < 8  # the frame's left edge
    assert (shown[120, 300] == 128).all()


def test_colours_of_the_frame_are_not_swapped() -> None:
    pixels = gray()
    pixels[:] = (10, 90, 200)
    shown = painted(view_of(result(0, pixels=pixels), 320, 240))
    assert (shown[100, 100] == (200, 90, 10)).all()


@pytest.mark.parametrize("width", [318, 317, 315])
def test_frame_whose_rows_are_no_multiple_of_four_bytes_is_not_sheared(width: int) -> None:
    pixels = gray(width)
    pixels[:, 100] = 255
    shown = painted(view_of(result(0, pixels=pixels), width, 240))
    assert (shown[:240, 100] == 255).all() and (shown[:240, 104] == 128).all()


def test_label_and_score_are_painted_above_the_box_or_inside_at_the_edge() -> None:
    shown = painted(view_of(result(0, found((0, 0.9, 100, 80, 200, 180))), 320, 240))
    strip = shown[66:78, 102:140]
    assert (np.abs(strip - PERSON).max(axis=2) < 8).any() and (strip.max(axis=2) < 90).any()
    shown = painted(view_of(result(0, found((0, 0.9, 100, 0, 200, 180))), 320, 240))
    assert (np.abs(shown[3:12, 102:140] - PERSON).max(axis=2) < 8).mean() > 0.3


def test_keypoints_are_painted() -> None:
    detections = found((0, 0.9, 100, 80, 200, 180), keypoints=[[[120, 130], [150, 140]]])
    shown = painted(view_of(result(0, detections), 640, 480))
    for y, x in ((260, 240), (280, 300)):
        assert np.abs(shown[y, x] - PERSON).max() < 8
    assert (shown[260, 250] == 128).all()


def test_hint_is_shown_until_the_first_result() -> None:
    view = a_view("opening the camera")
    view.resize(320, 240)
    assert painted(view).max() > 180
    show(view, result())
    assert (painted(view)[100:140, 60:260] == 128).all()


@pytest.mark.parametrize(
    ("layout", "shape"), [("gray8", (60, 80)), ("nv12", (90, 80)), ("i420", (90, 80))]
)
def test_other_pixel_layouts_are_shown(layout, shape) -> None:
    pixels = np.full(shape, 128, np.uint8)
    view = view_of(Result(Frame(pixels, 0, 0, 0, layout), result().detections, 0), 320, 240)
    gc.collect()
    assert np.abs(painted(view)[:240] - 129).max() < 6


def test_frame_is_let_go_with_the_next() -> None:
    pixels = gray()
    view = view_of(result(0, pixels=pixels), 320, 240)
    gone = weakref.ref(pixels)
    del pixels
    show(view, result(1))
    gc.collect()
    assert gone() is None


def test_widget_of_almost_no_size_paints() -> None:
    view = a_view()
    view.setMinimumSize(0, 0)
    view.resize(20, 20)
    show(view, result(0, found((0, 0.9, 100, 80, 200, 180))))
    for size in ((1, 1), (3, 200), (200, 3)):
        view.resize(*size)
        view.present_now()
        assert painted(view).shape[:2] == (view.height(), view.width())


def test_one_to_one_shows_single_pixels_and_panning_moves_them() -> None:
    pixels = gray(1000, 800)
    pixels[400, 500] = 255
    view = view_of(result(0, pixels=pixels), 200, 100)
    view.look(1.0)
    view.present_now()
    assert (painted(view)[50, 100] == 255).all()
    view.pan(-30, 20)
    view.present_now()
    assert (painted(view)[70, 70] == 255).all()
    view.look(None)
    view.present_now()
    assert view.zoom is None and (painted(view)[:, :30] == BACKDROP).all()


def test_zoom_keeps_the_point_under_the_pointer() -> None:
    view = view_of(result(0, pixels=gray(400, 300)), 400, 300)
    before = view.placement().to_frame(300, 200)
    view.zoom_by(2.0, QPoint(300, 200))
    after = view.placement().to_frame(300, 200)
    assert after == pytest.approx(before, abs=1.0)
    assert view.placement().scale == pytest.approx(2.0)


def test_box_stays_at_its_place_when_zoomed() -> None:
    view = view_of(result(0, found((0, 0.9, 100, 80, 200, 180))), 320, 240)
    view.zoom_by(4.0, QPoint(100, 80))
    view.present_now()
    shown = painted(view)
    assert np.abs(shown[120, 100] - PERSON).max() < 8  # its left edge, still as thin as before
    assert np.abs(shown[120, 104] - 128).max() < 3


@pytest.mark.parametrize("name", ["boxes", "labels", "scores", "keypoints"])
def test_each_layer_can_be_switched_off(name: str) -> None:
    detections = found((0, 0.9, 100, 80, 200, 180), keypoints=[[[150, 130]]])
    view = view_of(result(0, detections), 320, 240)
    before = painted(view)
    view.set_drawn(name, False)
    assert (painted(view) != before).any()
    view.set_drawn(name, True)
    assert (painted(view) == before).all()


def test_hidden_class_is_not_drawn() -> None:
    view = view_of(result(0, found((0, 0.9, 100, 80, 200, 180))), 320, 240)
    view.set_hidden(frozenset({"person"}))
    ink = painted(view)
    assert (ink[:200] == 128).all()
    assert (ink[200:, :160] != 128).any(), "a badge says so"
    view.set_result(replace(result(0, found()), hidden={"min_box": 2}), LABELS)
    view.set_hidden(frozenset())
    view.present_now()
    assert (painted(view)[200:, :160] != 128).any(), "what filters hide is told, too"
    view.set_result(result(0, found()), LABELS)
    view.present_now()
    assert (painted(view) == 128).all()


def test_tag_stays_in_sight_when_its_corner_is_not() -> None:
    view = view_of(result(0, found((0, 0.9, 0, 0, 320, 240))), 320, 240)
    view.zoom_by(4.0, QPoint(160, 120))
    view.present_now()
    assert (np.abs(painted(view)[0:14, 0:40] - PERSON).max(axis=2) < 8).mean() > 0.3


def test_dimmed_picture_is_darker() -> None:
    view = view_of(result(0), 320, 240)
    view.set_dimmed(True)
    assert 30 < painted(view)[100, 100].max() < 100


def test_the_thread_scales_and_shows_the_newest(qtbot) -> None:
    view = a_view()
    view.resize(320, 240)
    view.show()
    for level in (10, 20, 200):
        view.set_result(result(level, pixels=gray(level=level)), LABELS)
    qtbot.waitUntil(lambda: view.placement() is not None and painted(view).max() == 200)
    view.hide()


def test_tag_of_a_box_in_another_leaves_its_tag_free() -> None:
    outer, inner = (0, 0.9, 50, 60, 250, 200), (1, 0.8, 52, 62, 150, 150)

    def tag_px(*boxes) -> int:
        """Pixels of the outer one's colour above its box."""
        shown = painted(view_of(result(0, found(*boxes)), 320, 240))
        return int((np.abs(shown[30:58] - PERSON).max(axis=2) < 8).sum())

    assert tag_px(outer, inner) == tag_px(outer) > 300
