"""How are thresholds, classes and what is drawn set while it runs?"""

from __future__ import annotations

from collections.abc import Sequence

from PyQt5.QtCore import Qt, QTimer, pyqtSignal
from PyQt5.QtWidgets import (
    QCheckBox,
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
    QVBoxLayout,
    QWidget,
)

from ..core.detections import printable
from . import texts
from .actions import Actions

SETTLE_MS = 60  # a slider on its way asks at most so often


class Threshold(QWidget):
    """A slider and a box for the same number, 0.01 to 1, in hundredths."""

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
        self.box.valueChanged.connect(self._moved)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.slider, 1)
        row.addWidget(self.box)

    @property
    def value(self) -> float:
        """Where it stands."""
        return round(self.box.value(), 2)

    def show_value(self, value: float) -> None:
        """What holds now, without asking for it."""
        for each in (self.slider, self.box):
            each.blockSignals(True)
        self.slider.setValue(round(value * 100))
        self.box.setValue(value)
        for each in (self.slider, self.box):
            each.blockSignals(False)

    def _moved(self, value: float) -> None:
        self.slider.blockSignals(True)
        self.slider.setValue(round(value * 100))
        self.slider.blockSignals(False)
        self.changed.emit(value)


class Controls(QWidget):
    """The dock's content. It asks by its signals, and shows what it is told."""

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
        column.addWidget(self._classes(), 1)

    def show_thresholds(self, score: float | None, iou: float | None) -> None:
        """What holds now; not while the user is on the way to something else."""
        if self._settle.isActive() or self.score.slider.isSliderDown():
            return
        if self.iou.slider.isSliderDown():
            return
        for widget, value in ((self.score, score), (self.iou, iou)):
            if value is not None and abs(widget.value - value) > 0.004:
                widget.show_value(value)

    def show_classes(self, labels: Sequence[str], hidden: frozenset[str]) -> None:
        """The classes of the model; those hidden are not ticked."""
        if tuple(labels) == self._labels and hidden == self._hidden:
            return
        self._labels, self._hidden = tuple(labels), hidden
        self.list.blockSignals(True)
        self.list.clear()
        for label in dict.fromkeys(labels):
            item = QListWidgetItem(printable(label))
            item.setData(Qt.ItemDataRole.UserRole, label)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            shown = label not in hidden
            item.setCheckState(Qt.CheckState.Checked if shown else Qt.CheckState.Unchecked)
            self.list.addItem(item)
        self.list.blockSignals(False)
        self._find(self.search.text())

    def set_all(self, on: bool) -> None:
        """Tick every class, or none."""
        self._set_hidden(frozenset() if on else frozenset(self._labels))

    def _touched(self) -> None:
        if not self._settle.isActive():
            self._settle.start()

    def _drawn(self, actions: Actions) -> QGroupBox:
        group = QGroupBox(texts.DRAWN)
        grid = QGridLayout(group)
        grid.setContentsMargins(0, 4, 0, 0)
        self.toggles: dict[str, QCheckBox] = {}
        for place, name in enumerate(("boxes", "labels", "scores", "keypoints", "hud")):
            action = actions[name]
            check = QCheckBox(action.text().replace("&", ""))
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

    def _set_hidden(self, hidden: frozenset[str]) -> None:
        self.show_classes(self._labels, hidden)
        self.hidden_changed.emit(hidden)
