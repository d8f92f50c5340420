"""Zones and lines drawn and edited with the mouse: the panel, and what it does to the picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PyQt5.QtCore import QEvent, QObject, QPoint, QSignalBlocker, QSize, Qt, pyqtSignal
from PyQt5.QtGui import QColor, QIcon, QKeyEvent, QMouseEvent, QPainter, QPixmap
from PyQt5.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QFileDialog,
    QGridLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QWidget,
)

from ..core.detections import DrawnShape
from ..core.errors import ConfigError
from ..core.overlay import PALETTE, SCREEN
from ..core.text import printable
from ..session.zone_edit import Kind, Point, ZoneEdit, edge_middles
from . import texts
from .overlay import ViewPlacement, outline, paint_handle, paint_shapes
from .ports import RunController
from .view import ResultView

WHITE = (255, 255, 255)
_UNDO_KEYS = {Qt.Key.Key_Z: False, Qt.Key.Key_Y: True}


class ZoneEditor(QWidget):
    """The content of the zones dock. While it is open, the mouse draws instead of panning.

    Each finished change takes effect at once; one that is refused is told, and can be undone.
    """

    closed = pyqtSignal()

    def __init__(self, controller: RunController, view: ResultView) -> None:
        super().__init__()
        self._controller, self._view = controller, view
        self.edit: ZoneEdit | None = None
        self._wanted = False
        self._pointer: Point | None = None
        self.draw_zone = self._button(
            texts.DRAW_ZONE, texts.DRAW_ZONE_TIP, lambda: self._begin("zone")
        )
        self.draw_line = self._button(
            texts.DRAW_LINE, texts.DRAW_LINE_TIP, lambda: self._begin("line")
        )
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self.hint.setMinimumHeight(self.fontMetrics().lineSpacing() * 3)
        self.hint.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.failed = QLabel()
        self.failed.setWordWrap(True)
        self.failed.setStyleSheet("color: #e84848")
        self.list = QListWidget()
        self.list.setAccessibleName(texts.ZONES)
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.list.setIconSize(QSize(12, 12))
        self.list.currentRowChanged.connect(self._select)
        self.name = QLineEdit()
        self.name.setAccessibleName(texts.ZONE_NAME)
        self.name.setMaxLength(80)
        self.name.editingFinished.connect(self._rename)
        self.colour = self._button(texts.ZONE_COLOUR, texts.ZONE_COLOUR_TIP, self._ask_colour)
        self.turn = self._button(texts.TURN_LINE, texts.TURN_LINE_TIP, self._turn)
        self.delete = self._button(texts.DELETE_ZONE, texts.DELETE_ZONE_TIP, self._delete)
        self.undo = self._button(texts.UNDO, texts.UNDO_TIP, lambda: self._back(False))
        self.redo = self._button(texts.REDO, texts.REDO_TIP, lambda: self._back(True))
        self.save = self._button(texts.SAVE_ZONES, texts.SAVE_ZONES_TIP, self._save)
        self.save_as = self._button(texts.SAVE_ZONES_AS, texts.SAVE_ZONES_AS_TIP, self._ask_file)
        self._arrange()

    def _arrange(self) -> None:
        grid = QGridLayout(self)
        grid.setContentsMargins(14, 12, 14, 12)
        grid.setSpacing(6)
        label = QLabel(texts.ZONE_NAME)
        label.setBuddy(self.name)
        rows: tuple[tuple[QWidget, ...], ...] = (
            (self.draw_zone, self.draw_line),
            (self.hint,),
            (self.list,),
            (label,),
            (self.name,),
            (self.colour, self.delete),
            (self.turn,),
            (self.undo, self.redo),
            (self.save, self.save_as),
            (self.failed,),
        )
        for number, widgets in enumerate(rows):
            for column, widget in enumerate(widgets):
                grid.addWidget(widget, number, column, 1, 2 // len(widgets))
        grid.setRowStretch(rows.index((self.list,)), 1)

    def _button(self, text: str, tip: str, do: Callable[[], None]) -> QPushButton:
        made = QPushButton(text)
        made.setToolTip(tip)
        made.clicked.connect(lambda: do())
        return made

    # -- open and closed ---------------------------------------------------------------------------

    def move_to(self, controller: RunController, view: ResultView) -> None:
        """Go on with another source."""
        wanted = self._wanted
        self.set_open(False)
        self._controller, self._view = controller, view
        self.set_open(wanted)

    def set_open(self, on: bool) -> None:
        """Begin with what the run has, once there is a picture, or leave it as it is now."""
        self._wanted, self.edit, self._pointer = on, None, None
        self._view.removeEventFilter(self)
        self._view.layer = None
        self._view.setMouseTracking(on)
        self._view.unsetCursor()
        self.failed.clear()
        self.follow()
        self._show()

    def follow(self) -> None:
        """Whether there is a picture to draw on; cheap."""
        newest = self._view.newest
        if self._wanted and self.edit is None and newest is not None:
            self.edit = ZoneEdit(self._tables(), newest[0].frame.wh_px)
            self._view.layer = self._paint
            self._view.installEventFilter(self)
            self._show()

    def _tables(self) -> dict[str, list[dict[str, Any]]]:
        return self._controller.shapes.read(self._controller.name)

    def escape(self) -> bool:
        """Give up what is being drawn, else close the panel; False if it is closed."""
        if self.edit is None:
            return False
        if not self.edit.cancel():
            self.closed.emit()
        self._show()
        return True

    # -- the picture -------------------------------------------------------------------------------

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Take the left button and the keys of an editor; all else is the view's."""
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress:
            return self._key(event)
        if self.edit is None or not isinstance(event, QMouseEvent):
            return False
        kind, at = event.type(), self._point(event.pos())
        if at is None:
            return False
        point, reach = at
        self._pointer = point
        left = event.button() == Qt.MouseButton.LeftButton
        if kind == QEvent.Type.MouseMove and not event.buttons() & Qt.MouseButton.MiddleButton:
            self.edit.drag(point)
            self._show_pointer(point, reach)
        elif kind == QEvent.Type.MouseButtonPress and left:
            self._view.setFocus()
            self._press(self.edit, point, reach)
        elif kind == QEvent.Type.MouseButtonRelease and left:
            if self.edit.drop():
                self._changed()
        elif kind == QEvent.Type.MouseButtonDblClick and left:
            self._double_click(self.edit, point, reach)
        else:
            return False
        self._view.update()
        return True

    def _press(self, edit: ZoneEdit, point: Point, reach: Point) -> None:
        if edit.draft is not None:
            if edit.put(point, reach):
                self._changed()
        elif (grip := edit.find(point, reach)) is not None:
            edit.grab(grip)
        else:
            edit.select_at(point, reach)
        self._show()

    def _double_click(self, edit: ZoneEdit, point: Point, reach: Point) -> None:
        if edit.draft is not None:
            done = edit.put(point, reach) or edit.finish()
        else:
            grip = edit.find(point, reach)
            done = grip is not None and edit.remove_point(grip)
        if done:
            self._changed()
        self._show()

    def _key(self, event: QKeyEvent) -> bool:
        control = bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
        shifted = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        if control and event.key() in _UNDO_KEYS:
            self._back(_UNDO_KEYS[Qt.Key(event.key())] or shifted)
        elif event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self._delete()
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.edit is not None:
            if self.edit.finish():
                self._changed()
            self._show()
        else:
            return False
        return True

    def _point(self, at: QPoint) -> tuple[Point, Point] | None:
        """A place of the view as a part of the frame, and how far it may miss."""
        placed, newest = self._view.placement(), self._view.newest
        if placed is None or newest is None:
            return None
        wide, high = newest[0].frame.wh_px
        x, y = placed.to_frame(at.x(), at.y())
        reach = SCREEN.grab / placed.scale
        return (x / wide, y / high), (reach / wide, reach / high)

    def _show_pointer(self, point: Point, reach: Point) -> None:
        assert self.edit is not None
        if self.edit.draft is not None:
            self._view.setCursor(Qt.CursorShape.CrossCursor)
        elif self.edit.find(point, reach) is not None:
            self._view.setCursor(Qt.CursorShape.SizeAllCursor)
        else:
            self._view.setCursor(Qt.CursorShape.ArrowCursor)

    def _paint(self, painter: QPainter, placed: ViewPlacement) -> None:
        edit, newest = self.edit, self._view.newest
        if edit is None or newest is None:
            return
        wide, high = newest[0].frame.wh_px

        def drawn(points: tuple[Point, ...]) -> list[tuple[float, float]]:
            return [(x * wide, y * high) for x, y in points]

        for number, each in enumerate(edit.shapes):
            one = DrawnShape(drawn(each.points), each.kind == "zone", each.name, each.rgb)
            paint_shapes(painter, [one], placed, fill=80 if number == edit.selected else 35)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        shape = edit.shape
        if shape is not None:
            if shape.kind == "zone":
                for point in drawn(tuple(edge_middles(shape.points))):
                    paint_handle(painter, placed.to_view(*point), WHITE, size=0.55)
            for point in drawn(shape.points):
                paint_handle(painter, placed.to_view(*point), shape.rgb)
        if edit.draft is not None and edit.draft[1]:
            points = edit.draft[1]
            way = points if self._pointer is None else (*points, self._pointer)
            outline(painter, [placed.to_view(*p) for p in drawn(way)], WHITE, closed=False)
            for i, point in enumerate(drawn(points)):
                paint_handle(painter, placed.to_view(*point), WHITE if i else PALETTE[1])
        painter.restore()

    # -- the panel ---------------------------------------------------------------------------------

    def _begin(self, kind: Kind) -> None:
        if self.edit is not None:
            self.edit.begin(kind)
            self._pointer = None
            self._view.setCursor(Qt.CursorShape.CrossCursor)
            self._view.setFocus()
            self._show()

    def _select(self, row: int) -> None:
        if self.edit is not None:
            self.edit.cancel()
            self.edit.select(row if row >= 0 else None)
            self._show()

    def _rename(self) -> None:
        edit = self.edit
        if edit is None or edit.shape is None or self.name.text() == edit.shape.name:
            return
        if edit.rename(self.name.text()):
            self._changed()
        else:
            self.failed.setText(texts.NAME_TAKEN.format(name=printable(self.name.text())))
            self.name.setText(edit.shape.name)
        self._show()

    def _ask_colour(self) -> None:
        if self.edit is not None and self.edit.shape is not None:
            dialog = QColorDialog(QColor(*self.edit.shape.rgb), self)
            for i, rgb in enumerate(PALETTE[:12]):
                QColorDialog.setCustomColor(i, QColor(*rgb))
            dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
            dialog.colorSelected.connect(self.set_colour)
            dialog.open()

    def set_colour(self, colour: QColor) -> None:
        if self.edit is not None:
            self.edit.recolour(colour.name())
            self._changed()

    def _turn(self) -> None:
        if self.edit is not None:
            self.edit.turn()
            self._changed()

    def _delete(self) -> None:
        if self.edit is not None and self.edit.delete():
            self._changed()

    def _back(self, forward: bool) -> None:
        if self.edit is None:
            return
        drawing = self.edit.draft is not None
        if self.edit.redo() if forward else self.edit.undo():
            self._show() if drawing else self._changed()

    def _save(self) -> None:
        if self._controller.shapes.file is None:
            self._ask_file()
        else:
            self._controller.save_shapes("")

    def _ask_file(self) -> None:
        file = self._controller.shapes.file
        dialog = QFileDialog(self, texts.SAVE_ZONES_TITLE, str((file or Path.cwd()).parent))
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setOption(QFileDialog.Option.DontConfirmOverwrite)  # other tables stay in it
        dialog.setDefaultSuffix("toml")
        dialog.setNameFilters(["TOML (*.toml)"])
        dialog.fileSelected.connect(self._controller.save_shapes)
        dialog.open()

    def _changed(self) -> None:
        assert self.edit is not None
        try:
            self._controller.shapes.write(self.edit.tables(), self._controller.name)
        except ConfigError as error:
            self.failed.setText(str(error))
        else:
            self.failed.clear()
        self._show()

    def _show(self) -> None:
        edit = self.edit
        shapes = () if edit is None else edit.shapes
        shape = None if edit is None else edit.shape
        with QSignalBlocker(self.list):
            self.list.clear()
            for each in shapes:
                square = QPixmap(12, 12)
                square.fill(QColor(*each.rgb))
                self.list.addItem(QListWidgetItem(QIcon(square), printable(each.name)))
            self.list.setCurrentRow(-1 if edit is None or shape is None else edit.selected or 0)
        if not self.name.hasFocus() or shape is None:
            self.name.setText("" if shape is None else shape.name)
        for button in (self.draw_zone, self.draw_line, self.save, self.save_as):
            button.setEnabled(edit is not None)
        for widget in (self.name, self.colour, self.delete):
            widget.setEnabled(shape is not None)
        self.turn.setEnabled(shape is not None and shape.kind == "line")
        self.undo.setEnabled(edit is not None and (edit.can_undo or edit.draft is not None))
        self.redo.setEnabled(edit is not None and edit.can_redo)
        drawn = None if edit is None or edit.draft is None else edit.draft[0]
        text = texts.EDITING if shape is not None else texts.NOTHING_DRAWN
        self.hint.setText(
            {"zone": texts.DRAWING_ZONE, "line": texts.DRAWING_LINE}.get(drawn or "", text)
        )
        self._view.update()
