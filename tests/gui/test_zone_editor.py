"""Zones are drawn and changed with a real mouse on the picture, and take effect at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PyQt5.QtCore import QEvent, QPoint, QPointF, Qt
from PyQt5.QtGui import QColor, QMouseEvent
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import QApplication, QColorDialog, QFileDialog

from app.gui.main_window import MainWindow
from tests.gui.kit import FakeController
from tests.gui.test_view import painted
from tests.sinks.kit import LABELS, found, result

LEFT = Qt.MouseButton.LeftButton
SQUARE = ((0.2, 0.2), (0.6, 0.2), (0.6, 0.7), (0.2, 0.7))


class Desk:
    """A window over a frame of 320 × 240 pixels, and a hand with a mouse."""

    def __init__(self, open_window, controller: FakeController) -> None:
        self.controller = controller
        self.window: MainWindow = open_window(controller)
        self.view, self.editor = self.window.view, self.window.zones
        controller.latest.emit(result(0, found((0, 0.9, 10, 10, 60, 60))))
        self.window.tick()
        self.view.present_now()
        self.window.actions_["zones"].setChecked(True)
        QApplication.processEvents()
        self.view.present_now()

    @property
    def tables(self) -> dict[str, list[dict]]:
        return self.controller.shapes.tables

    def at(self, x: float, y: float) -> QPoint:
        placed = self.view.placement()
        assert placed is not None
        return placed.to_view(x * 320, y * 240).toPoint()

    def click(self, x: float, y: float) -> None:
        QTest.mouseClick(self.view, LEFT, pos=self.at(x, y))

    def double_click(self, x: float, y: float) -> None:
        self.click(x, y)
        QTest.mouseDClick(self.view, LEFT, pos=self.at(x, y))

    def drag(self, a: tuple[float, float], b: tuple[float, float]) -> None:
        QTest.mousePress(self.view, LEFT, pos=self.at(*a))
        for part in (0.3, 0.7, 1.0):
            place = QPointF(self.at(*(p + part * (q - p) for p, q in zip(a, b, strict=True))))
            event = QMouseEvent(
                QEvent.Type.MouseMove, place, LEFT, LEFT, Qt.KeyboardModifier.NoModifier
            )
            QApplication.sendEvent(self.view, event)
        QTest.mouseRelease(self.view, LEFT, pos=self.at(*b))

    def draw_square(self) -> None:
        self.editor.draw_zone.click()
        for point in (*SQUARE, SQUARE[0]):
            self.click(*point)

    def key(self, key: Qt.Key, modifier=Qt.KeyboardModifier.NoModifier) -> None:
        QTest.keyClick(self.view, key, modifier)


@pytest.fixture
def desk(open_window) -> Desk:
    return Desk(open_window, FakeController())


def near(row: dict, points) -> bool:
    given = np.array(row["points"])
    return given.shape == np.shape(points) and bool(np.abs(given - points).max() < 0.02)


def test_a_click_on_the_first_corner_closes_the_zone(desk: Desk) -> None:
    desk.draw_square()
    (zone,) = desk.tables["zone"]
    assert zone["name"] == "zone 1" and near(zone, SQUARE)


def test_a_double_click_closes_it_with_its_last_corner(desk: Desk) -> None:
    desk.editor.draw_zone.click()
    for point in SQUARE[:-1]:
        desk.click(*point)
    desk.double_click(*SQUARE[-1])
    (zone,) = desk.tables["zone"]
    assert near(zone, SQUARE)


def test_a_line_is_two_clicks_and_can_be_turned(desk: Desk) -> None:
    desk.editor.draw_line.click()
    desk.click(0.5, 0.9)
    desk.click(0.5, 0.1)
    (line,) = desk.tables["line"]
    assert near(line, ((0.5, 0.9), (0.5, 0.1)))
    desk.editor.turn.click()
    assert near(desk.tables["line"][0], ((0.5, 0.1), (0.5, 0.9)))


def test_a_point_is_dragged_added_and_removed_and_all_is_undone(desk: Desk) -> None:
    desk.draw_square()
    desk.drag((0.6, 0.7), (0.9, 0.9))
    moved = (*SQUARE[:2], (0.9, 0.9), SQUARE[3])
    assert near(desk.tables["zone"][0], moved)
    desk.drag((0.4, 0.2), (0.4, 0.1))  # the middle of the upper edge
    assert near(desk.tables["zone"][0], (SQUARE[0], (0.4, 0.1), *moved[1:]))
    desk.double_click(0.4, 0.1)
    assert near(desk.tables["zone"][0], moved)
    for _ in range(3):
        desk.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert near(desk.tables["zone"][0], SQUARE)
    desk.editor.undo.click()
    assert desk.tables["zone"] == [] and not desk.editor.undo.isEnabled()
    desk.editor.redo.click()
    assert near(desk.tables["zone"][0], SQUARE)


def test_name_and_colour_are_changed_and_the_zone_deleted(desk: Desk) -> None:
    desk.draw_square()
    desk.editor.name.setFocus()
    desk.editor.name.selectAll()
    QTest.keyClicks(desk.editor.name, "door")
    QTest.keyClick(desk.editor.name, Qt.Key.Key_Return)
    assert desk.tables["zone"][0]["name"] == "door"
    desk.editor.colour.click()
    (dialog,) = desk.editor.findChildren(QColorDialog)
    dialog.colorSelected.emit(QColor("#123456"))
    dialog.reject()
    assert desk.tables["zone"][0]["colour"] == "#123456"
    desk.click(0.4, 0.4)
    desk.key(Qt.Key.Key_Delete)
    assert desk.tables["zone"] == []


def test_what_the_run_refuses_is_told_and_can_be_undone(desk: Desk) -> None:
    desk.controller.shapes.refusal = "zone in [[rule]] night is 'door', which is not known"
    desk.draw_square()
    assert "night" in desk.editor.failed.text() and desk.tables["zone"] == []
    desk.controller.shapes.refusal = ""
    desk.editor.undo.click()
    assert desk.editor.failed.text() == ""


def test_escape_gives_up_the_drawing_then_the_editor_and_not_the_window(desk: Desk) -> None:
    desk.editor.draw_zone.click()
    desk.click(0.3, 0.3)
    desk.key(Qt.Key.Key_Escape)
    assert desk.editor.edit is not None and desk.editor.edit.draft is None
    desk.key(Qt.Key.Key_Escape)
    assert desk.editor.edit is None and desk.window.isVisible()
    assert not desk.window.actions_["zones"].isChecked()


def test_the_zone_is_painted_where_it_was_drawn(desk: Desk) -> None:
    before = painted(desk.view)
    desk.draw_square()
    after = painted(desk.view)
    inside, outside = desk.at(0.4, 0.45), desk.at(0.8, 0.45)
    assert (after[inside.y(), inside.x()] != before[inside.y(), inside.x()]).any()
    assert (after[outside.y(), outside.x()] == before[outside.y(), outside.x()]).all()


def test_without_the_editor_the_mouse_moves_the_picture_as_ever(desk: Desk) -> None:
    desk.window.actions_["zones"].setChecked(False)
    QTest.mouseDClick(desk.view, LEFT, pos=desk.at(0.5, 0.5))
    assert desk.view.zoom == 1.0 and desk.tables["zone"] == []


def test_saving_goes_to_the_file_of_the_run_else_asks_for_one(desk: Desk) -> None:
    desk.editor.save.click()
    (dialog,) = desk.editor.findChildren(QFileDialog)
    dialog.fileSelected.emit("/somewhere/zones.toml")
    dialog.reject()
    assert desk.controller.last("save_shapes") == ("save_shapes", "/somewhere/zones.toml")
    desk.controller.shapes.file = Path("shop.toml")
    desk.editor.save.click()
    assert desk.controller.last("save_shapes") == ("save_shapes", "")


def test_before_the_first_picture_nothing_can_be_drawn(open_window) -> None:
    controller = FakeController()
    window = open_window(controller)
    window.actions_["zones"].setChecked(True)
    assert not window.zones.draw_zone.isEnabled()
    controller.latest.emit(result(0, found()))
    window.tick()
    assert window.zones.draw_zone.isEnabled() and LABELS
