"""The controls of a run: thresholds, classes, what is drawn, and the position in a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from PyQt5.QtCore import QSignalBlocker, QSize, Qt, QTimer, pyqtSignal
from PyQt5.QtGui import QMouseEvent
from PyQt5.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QSlider,
    QSpinBox,
    QStyle,
    QStyleOptionSlider,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ..core.filters import MOST, Filters
from ..core.frame import SourceInfo
from ..core.text import printable
from ..session.state import SourceState
from . import texts
from .actions import DRAWN, Actions

SETTLE_MS = 60  # a slider on its way asks at most so often
MS = 1_000_000
SPEEDS = (0.25, 0.5, 1.0, 1.5, 2.0, 4.0)


class Threshold(QWidget):
    """A slider and a spin box for one number, 0.01 to 1 in steps of 0.01."""

    changed = pyqtSignal(float)

    def __init__(self, tip: str, name: str) -> None:
        super().__init__()
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(1, 100)
        self.slider.setPageStep(5)
        self.box = QDoubleSpinBox()
        self.box.setRange(0.01, 1.0)
        self.box.setSingleStep(0.01)
        self.box.setDecimals(2)
        for each in (self.slider, self.box):
            each.setToolTip(tip)
            each.setAccessibleName(name)
        self.slider.valueChanged.connect(lambda value: self.box.setValue(value / 100))
        self.box.valueChanged.connect(lambda value: self.slider.setValue(round(value * 100)))
        self.box.valueChanged.connect(self.changed)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.slider, 1)
        row.addWidget(self.box)

    @property
    def value(self) -> float:
        return round(self.box.value(), 2)

    def show_value(self, value: float) -> None:
        """Show the value in force without emitting ``changed``."""
        with QSignalBlocker(self):
            self.box.setValue(value)


class Controls(QWidget):
    """The content of the controls dock: emits what the user sets, and shows what is in force."""

    thresholds = pyqtSignal(float, float)
    defaults = pyqtSignal()
    hidden_changed = pyqtSignal(object)  # frozenset of labels

    def __init__(self, actions: Actions) -> None:
        super().__init__()
        self.score = Threshold(texts.SCORE_TIP, texts.SCORE.replace("&", ""))
        self.iou = Threshold(texts.IOU_TIP, texts.IOU.replace("&", ""))
        self.reset = QPushButton(texts.DEFAULTS)
        self.reset.setToolTip(texts.DEFAULTS_TIP)
        self.reset.clicked.connect(lambda: self.defaults.emit())
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(lambda: self.thresholds.emit(self.score.value, self.iou.value))
        self.score.changed.connect(self._touched)
        self.iou.changed.connect(self._touched)
        self._labels: tuple[str, ...] = ()
        self._hidden: frozenset[str] = frozenset()

        column = QVBoxLayout(self)
        column.setContentsMargins(14, 12, 14, 12)
        column.setSpacing(6)
        for text, widget in ((texts.SCORE, self.score), (texts.IOU, self.iou)):
            label = QLabel(text)
            label.setBuddy(widget.slider)
            column.addWidget(label)
            column.addWidget(widget)
        column.addWidget(self.reset, 0, Qt.AlignmentFlag.AlignLeft)
        column.addWidget(self._drawn(actions))
        self.filters = FilterBox()
        column.addWidget(self.filters)
        column.addWidget(self._classes(), 1)

    def show_thresholds(self, score: float | None, iou: float | None) -> None:
        sliders = self.score.slider, self.iou.slider
        if self._settle.isActive() or any(each.isSliderDown() for each in sliders):
            return
        for widget, value in ((self.score, score), (self.iou, iou)):
            if value is not None and abs(widget.value - value) > 0.004:
                widget.show_value(value)

    def show_classes(self, labels: Sequence[str], hidden: frozenset[str]) -> None:
        """List the model's classes; hidden ones are not ticked."""
        if tuple(labels) == self._labels and hidden == self._hidden:
            return
        self._labels, self._hidden = tuple(labels), hidden
        with QSignalBlocker(self.list):
            self.list.clear()
            for label in dict.fromkeys(labels):
                item = QListWidgetItem(printable(label))
                item.setData(Qt.ItemDataRole.UserRole, label)
                item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
                shown = label not in hidden
                item.setCheckState(Qt.CheckState.Checked if shown else Qt.CheckState.Unchecked)
                self.list.addItem(item)
        self._find(self.search.text())

    def set_all(self, on: bool) -> None:
        self.show_classes(self._labels, frozenset() if on else frozenset(self._labels))
        self.hidden_changed.emit(self._hidden)

    def _touched(self) -> None:
        if not self._settle.isActive():
            self._settle.start()

    def _drawn(self, actions: Actions) -> QGroupBox:
        group = QGroupBox(texts.DRAWN)
        grid = QGridLayout(group)
        grid.setContentsMargins(0, 4, 0, 0)
        self.toggles: dict[str, QCheckBox] = {}
        for place, name in enumerate((*DRAWN, "hud")):
            action = actions[name]
            check = QCheckBox(action.iconText())
            check.setToolTip(action.toolTip())
            check.toggled.connect(action.setChecked)
            action.toggled.connect(check.setChecked)
            check.setChecked(action.isChecked())
            grid.addWidget(check, place // 2, place % 2)
            self.toggles[name] = check
        return group

    def _classes(self) -> QGroupBox:
        group = QGroupBox(texts.CLASSES)
        column = QVBoxLayout(group)
        column.setContentsMargins(0, 4, 0, 0)
        self.search = QLineEdit()
        self.search.setPlaceholderText(texts.FIND_CLASS)
        self.search.setAccessibleName(texts.FIND_CLASS)
        self.search.setClearButtonEnabled(True)
        self.search.textChanged.connect(self._find)
        self.all, self.none = QPushButton(texts.ALL), QPushButton(texts.NONE)
        self.all.setToolTip(texts.ALL_TIP)
        self.none.setToolTip(texts.NONE_TIP)
        self.all.clicked.connect(lambda: self.set_all(True))
        self.none.clicked.connect(lambda: self.set_all(False))
        self.list = QListWidget()
        self.list.setAccessibleName(texts.CLASSES)
        self.list.setToolTip(texts.CLASSES_TIP)
        self.list.setUniformItemSizes(True)
        self.list.itemChanged.connect(self._ticked)
        buttons = QHBoxLayout()
        buttons.addWidget(self.all)
        buttons.addWidget(self.none)
        column.addWidget(self.search)
        column.addWidget(self.list, 1)
        column.addLayout(buttons)
        return group

    def _find(self, text: str) -> None:
        wanted = text.strip().casefold()
        for row in range(self.list.count()):
            item = self.list.item(row)
            if item is not None:
                item.setHidden(wanted not in item.text().casefold())

    def _ticked(self, item: QListWidgetItem) -> None:
        label = item.data(Qt.ItemDataRole.UserRole)
        ticked = item.checkState() == Qt.CheckState.Checked
        self._hidden = self._hidden - {label} if ticked else self._hidden | {label}
        self.hidden_changed.emit(self._hidden)


class FilterBox(QWidget):
    """What the run reports; ``changed`` emits the keys that the user has set (see core.filters).

    Folded until ``head`` is clicked, or a filter is in force.
    """

    changed = pyqtSignal(object)  # dict

    def __init__(self) -> None:
        super().__init__()
        self.head, body = QToolButton(), QWidget()
        self.head.setObjectName("fold")
        self.head.setText(texts.FILTERS)
        self.head.setToolTip(texts.FILTERS_TIP)
        self.head.setCheckable(True)
        self.head.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.head.setArrowType(Qt.ArrowType.RightArrow)
        self.head.toggled.connect(self._fold)
        self._body = body
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        column.addWidget(self.head)
        column.addWidget(body)
        body.hide()
        grid = QGridLayout(body)
        grid.setContentsMargins(0, 4, 0, 0)
        self.lines: dict[str, QLineEdit] = {}
        for row, (key, (text, empty, tip)) in enumerate(texts.FILTER_ROWS.items()):
            line = self.lines[key] = QLineEdit()
            line.setPlaceholderText(empty)
            line.editingFinished.connect(partial(self._edited, key))
            self._add(grid, row, text, tip, line)
        self.most = QSpinBox()
        self.most.setRange(1, MOST)
        self.most.setKeyboardTracking(False)
        self.most.valueChanged.connect(lambda n: self.changed.emit({"max_detections": n}))
        self._add(grid, len(self.lines), texts.MOST_BOXES, texts.MOST_BOXES_TIP, self.most)
        self.agnostic = QCheckBox(texts.AGNOSTIC)
        self.agnostic.setToolTip(texts.AGNOSTIC_TIP)
        self.agnostic.toggled.connect(lambda on: self.changed.emit({"agnostic_nms": on}))
        self.fault = QLabel()
        self.fault.setWordWrap(True)
        self.fault.hide()
        for row, widget in enumerate((self.agnostic, self.fault), len(self.lines) + 1):
            grid.addWidget(widget, row, 0, 1, 2)
        self._shown: Mapping[str, Any] = {}

    def show_table(self, table: Mapping[str, Any]) -> None:
        """Show what is in force, where it has changed; what the user is typing stays."""
        if table == self._shown:
            return
        if table != Filters().table():
            self.head.setChecked(True)
        before, self._shown = self._shown, dict(table)
        for key, line in self.lines.items():
            if table[key] != before.get(key):
                line.setText(table[key])
        for widget in (self.most, self.agnostic):
            widget.blockSignals(True)
        self.most.setValue(table["max_detections"])
        self.agnostic.setChecked(table["agnostic_nms"])
        for widget in (self.most, self.agnostic):
            widget.blockSignals(False)

    def show_fault(self, text: str) -> None:
        """Why what was typed is not in force; "": it is."""
        self.fault.setText(text)
        self.fault.setVisible(bool(text))
        self.head.setChecked(self.head.isChecked() or bool(text))

    def _fold(self, opened: bool) -> None:
        self._body.setVisible(opened)
        arrow = Qt.ArrowType.DownArrow if opened else Qt.ArrowType.RightArrow
        self.head.setArrowType(arrow)

    def _add(self, grid: QGridLayout, row: int, text: str, tip: str, widget: QWidget) -> None:
        label = QLabel(text)
        label.setBuddy(widget)
        widget.setToolTip(tip)
        widget.setAccessibleName(text)
        grid.addWidget(label, row, 0)
        grid.addWidget(widget, row, 1)

    def _edited(self, key: str) -> None:
        text = self.lines[key].text().strip()
        if text != self._shown.get(key):
            self.changed.emit({key: text})


class _Bar(QSlider):
    """A slider that goes where it is clicked."""

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Move the handle under the pointer first; from there it can be dragged."""
        style = self.style()
        if event is not None and style is not None and event.button() == Qt.MouseButton.LeftButton:
            option = QStyleOptionSlider()
            self.initStyleOption(option)
            handle = style.subControlRect(
                QStyle.ComplexControl.CC_Slider, option, QStyle.SubControl.SC_SliderHandle, self
            )
            if not handle.contains(event.pos()):
                span = self.width() - handle.width()
                value = QStyle.sliderValueFromPosition(
                    self.minimum(), self.maximum(), event.pos().x() - handle.width() // 2, span
                )
                self.setSliderPosition(value)
        super().mousePressEvent(event)


class Timeline(QWidget):
    """The position in a recording, its speed and its loop; hidden for other sources.

    ``moved`` emits the new position in ns; ``paced`` and ``looped`` what else is asked for.
    """

    moved = pyqtSignal(object)  # an int: nanoseconds do not fit into Qt's own
    paced = pyqtSignal(float)
    looped = pyqtSignal(bool)

    def __init__(self) -> None:
        super().__init__()
        self.slider = _Bar(Qt.Orientation.Horizontal)
        self.slider.setAccessibleName(texts.TIMELINE_NAME)
        self.slider.setTracking(True)
        self.slider.setSingleStep(1000)
        self.slider.setPageStep(5000)
        self.slider.valueChanged.connect(lambda value: self.moved.emit(value * MS))
        self.clock, self.speed, self.loop = QLabel(), QComboBox(), QCheckBox(texts.LOOP)
        for speed in SPEEDS:
            self.speed.addItem(f"{speed:g} ×", speed)
        self.speed.setToolTip(texts.SPEED_TIP)
        self.speed.setAccessibleName(texts.SPEED_TIP)
        self.speed.activated.connect(lambda row: self.paced.emit(SPEEDS[row]))
        self.loop.setToolTip(texts.LOOP_TIP)
        self.loop.clicked.connect(self.looped)
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 4, 12, 4)
        row.setSpacing(10)
        row.addWidget(self.slider, 1)
        row.addWidget(self.clock)
        for each in (self.speed, self.loop):
            each.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # a click leaves the keys to the picture
            row.addWidget(each)
        self.hide()

    def show_source(self, source: SourceState) -> None:
        """Follow the recording, except while the user drags the handle."""
        shown = source.recording and source.duration_ns is not None
        self.setVisible(shown)
        if not shown or source.duration_ns is None:
            return
        position_ns, duration_ns = source.position_ns or 0, max(source.duration_ns, MS)
        self.slider.setEnabled(source.seekable)
        self.slider.setToolTip(texts.TIMELINE_TIP if source.seekable else texts.TIMELINE_FIXED)
        if not self.slider.isSliderDown():
            with QSignalBlocker(self.slider):
                self.slider.setRange(0, duration_ns // MS)
                self.slider.setValue(position_ns // MS)
        self.clock.setText(f"{clock(position_ns)} / {clock(duration_ns)}")
        pictures = pictures_of(source)
        if pictures is not None and pictures.fps and pictures.frame_count:
            number = min(pictures.frame_count, round(position_ns / 1e9 * pictures.fps) + 1)
            self.clock.setText(f"{number} / {pictures.frame_count}")
        self.speed.setEnabled(source.paceable)
        self.speed.setCurrentIndex(self.speed.findData(source.speed))
        self.loop.setChecked(source.loop)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        return QSize(200, self.speed.sizeHint().height() + 8)


def pictures_of(source: SourceState) -> SourceInfo | None:
    """Several pictures, of which each stays until the next is asked for; None: something else."""
    info = source.info
    return info if info is not None and info.stills and info.frame_count != 1 else None


def clock(position_ns: int) -> str:
    """m:ss, or h:mm:ss."""
    seconds = position_ns // 1_000_000_000
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
