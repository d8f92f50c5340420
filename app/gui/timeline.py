"""Where is a recording, and how does one move in it?"""

from __future__ import annotations

from PyQt5.QtCore import QSize, Qt, pyqtSignal
from PyQt5.QtGui import QMouseEvent
from PyQt5.QtWidgets import QHBoxLayout, QLabel, QSlider, QStyle, QStyleOptionSlider, QWidget

from ..session.state import SourceState
from . import texts

MS = 1_000_000


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
    """Shown for recordings only; ``moved`` gives the wanted position in ns."""

    moved = pyqtSignal(object)  # an int: nanoseconds do not fit into Qt's own

    def __init__(self) -> None:
        super().__init__()
        self.slider = _Bar(Qt.Orientation.Horizontal)
        self.slider.setAccessibleName(texts.TIMELINE_NAME)
        self.slider.setTracking(True)
        self.slider.setSingleStep(1000)
        self.slider.setPageStep(5000)
        self.slider.valueChanged.connect(lambda value: self.moved.emit(value * MS))
        self.clock = QLabel()
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 4, 12, 4)
        row.addWidget(self.slider, 1)
        row.addWidget(self.clock)
        self.hide()

    def show_source(self, source: SourceState) -> None:
        """Follow the recording, but never pull the handle out of the user's hand."""
        shown = source.recording and source.duration_ns is not None
        if shown != self.isVisibleTo(self.parentWidget() or self):
            self.setVisible(shown)
        if not shown or source.duration_ns is None:
            return
        position_ns, duration_ns = source.position_ns or 0, max(source.duration_ns, MS)
        self.slider.setEnabled(source.seekable)
        self.slider.setToolTip(texts.TIMELINE_TIP if source.seekable else texts.TIMELINE_FIXED)
        if not self.slider.isSliderDown():
            self.slider.blockSignals(True)
            self.slider.setRange(0, duration_ns // MS)
            self.slider.setValue(position_ns // MS)
            self.slider.blockSignals(False)
        text = f"{clock(position_ns)} / {clock(duration_ns)}"
        if text != self.clock.text():
            self.clock.setText(text)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """One line."""
        return QSize(200, self.fontMetrics().height() + 12)


def clock(position_ns: int) -> str:
    """m:ss, or h:mm:ss."""
    seconds = position_ns // 1_000_000_000
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
