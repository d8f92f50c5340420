"""A time code beside the main window, and when either is painted: what `bench --glass` measures."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic_ns

import numpy as np
from numpy.typing import NDArray
from PyQt5.QtCore import QRectF, Qt, QTimer
from PyQt5.QtGui import QImage, QPainter, QPaintEvent
from PyQt5.QtWidgets import QWidget

from ..core.detections import Result
from .main_window import MainWindow
from .ports import RunController
from .window import run_window

SIDE_PX = 300  # logical; the code and a white border around it


class TimeCode(QWidget):
    """Shows one of ``codes``, (S, S) uint8 each, after the other, ``period_ms`` each, in the corner
    of the screen and above all else. ``painted`` hears the number, and when it was painted (ns)."""

    def __init__(
        self,
        parent: QWidget,
        codes: NDArray[np.uint8],
        period_ms: int,
        painted: Callable[[int, int], None],
    ) -> None:
        super().__init__(parent)
        kinds = Qt.WindowType
        self.setWindowFlag(kinds.Window)
        self.setWindowFlag(kinds.FramelessWindowHint)
        self.setWindowFlag(kinds.WindowStaysOnTopHint)
        self._codes, self._painted, self._number = codes, painted, 0
        self.setAttribute(Qt.WidgetAttribute.WA_ShowWithoutActivating)
        self.setGeometry(0, 0, SIDE_PX, SIDE_PX)
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._step)
        self._timer.start(period_ms)

    def _step(self) -> None:
        self._number += 1
        if not self.isVisible():
            self.show()
        self.raise_()
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        code = self._codes[self._number % len(self._codes)]
        side, memory = code.shape[0], code.tobytes()  # which the image does not hold
        painter = QPainter(self)
        try:
            painter.fillRect(self.rect(), Qt.GlobalColor.white)
            image = QImage(memory, side, side, side, QImage.Format.Format_Grayscale8)
            painter.drawImage(QRectF(50, 50, SIDE_PX - 100, SIDE_PX - 100), image)
        finally:
            painter.end()
        self._painted(self._number, monotonic_ns())


def run_glass(
    controller: RunController,
    codes: NDArray[np.uint8],
    *,
    period_ms: int,
    code_painted: Callable[[int, int], None],
    result_painted: Callable[[Result, int], None],
    interrupted: Callable[[], bool],
) -> None:
    """The main window with a time code beside it, until ``interrupted``; see window.run_window.

    ``result_painted`` hears each result once, when the view has painted it first (ns).
    """

    def opened(window: MainWindow) -> None:
        window.view.painted = lambda result: result_painted(result, monotonic_ns())
        TimeCode(window, codes, period_ms, code_painted)

    with tempfile.TemporaryDirectory() as folder:
        settings_file = Path(folder, "settings")
        run_window(
            [controller], interrupted=interrupted, settings_file=settings_file, opened=opened
        )
