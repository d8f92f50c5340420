"""How is one result shown in a widget, fitted or zoomed, with its detections over it?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from PyQt5.QtCore import QPoint, QRectF, Qt
from PyQt5.QtGui import (
    QColor,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QResizeEvent,
    QShowEvent,
    QWheelEvent,
)
from PyQt5.QtWidgets import QWidget

from app.detections import Result
from app.gui.geometry import STEP, Camera, Placement, visible_part
from app.gui.overlay import OverlayOptions, paint_detections, tag_font
from app.gui.presenter import Job, Picture, Presenter

BACKDROP = QColor(18, 18, 20)
_INK = QColor(200, 200, 205)
_VEIL = QColor(18, 18, 20, 150)


class ResultView(QWidget):
    """Shows a result, boxes drawn as vectors over the frame that they were computed from."""

    def __init__(self, hint: str = "") -> None:
        super().__init__()
        self._hint = hint
        self._presenter = Presenter()
        self._presenter.ready.connect(self._show)
        self._picture: Picture | None = None
        self._newest: tuple[Result, Sequence[str]] | None = None
        self._options = OverlayOptions()
        self._hidden: frozenset[str] = frozenset()
        self._dimmed = False
        self._camera = Camera()
        self._grip: QPoint | None = None
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)  # every pixel is painted below
        self.setMinimumSize(160, 90)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def close_presenter(self) -> None:
        """End the thread that scales."""
        self._presenter.close()

    @property
    def newest(self) -> tuple[Result, Sequence[str]] | None:
        """The last result that was handed over, with its labels."""
        return self._newest

    @property
    def zoom(self) -> float | None:
        """Device pixels a frame's pixel; None while the frame is fitted."""
        return self._camera.zoom

    def set_hint(self, hint: str) -> None:
        """What is said while there is no result."""
        if hint != self._hint:
            self._hint = hint
            self.update()

    @property
    def options(self) -> OverlayOptions:
        """What is drawn."""
        return self._options

    def set_options(self, options: OverlayOptions) -> None:
        """What is drawn over the frame."""
        self._options = options
        self.update()

    def set_hidden(self, labels: frozenset[str]) -> None:
        """Classes that are not drawn."""
        self._hidden = labels
        self.update()

    def set_dimmed(self, dimmed: bool) -> None:
        """Whether what is shown is old."""
        if dimmed != self._dimmed:
            self._dimmed = dimmed
            self.update()

    def set_result(self, result: Result, labels: Sequence[str]) -> None:
        """Show this one from now on; it appears once it is scaled."""
        self._newest = result, labels
        window = self.window()
        if self.isVisible() and window is not None and not window.isMinimized():
            self._submit()

    def fit(self) -> None:
        """The whole frame."""
        self._look(None)

    def one_to_one(self) -> None:
        """One pixel of the screen for one of the frame."""
        self._look(1.0)

    def zoom_by(self, factor: float, at: QPoint | None = None) -> None:
        """Larger or smaller around a place of the view; its centre if none is given."""
        if self._picture is None:
            return
        place = at or self.rect().center()
        self._camera.zoom_by(
            factor,
            at=(place.x(), place.y()),
            frame_wh_px=self._picture.frame_wh_px,
            room_wh=self._room(),
            ratio=self.devicePixelRatioF(),
        )
        self._moved()

    def pan(self, dx: float, dy: float) -> None:
        """Move the frame by so many logical pixels."""
        if self._picture is not None and self._camera.zoom is not None:
            self._camera.pan(
                dx,
                dy,
                frame_wh_px=self._picture.frame_wh_px,
                room_wh=self._room(),
                ratio=self.devicePixelRatioF(),
            )
            self._moved()

    def placement(self) -> Placement | None:
        """Where the frame lies; None before the first."""
        if self._picture is None:
            return None
        return self._place(self._picture.frame_wh_px)

    def _look(self, zoom: float | None) -> None:
        self._camera.reset(zoom)
        self._moved()

    def _moved(self) -> None:
        self._submit()
        self.update()

    def _room(self) -> tuple[int, int]:
        return max(1, self.width()), max(1, self.height())

    def _place(self, frame_wh_px: tuple[int, int]) -> Placement:
        return self._camera.place(frame_wh_px, self._room(), self.devicePixelRatioF())

    def job(self) -> Job | None:
        """What is to be scaled to show the newest result as the view is now."""
        if self._newest is None:
            return None
        result, labels = self._newest
        frame_wh_px = result.frame.wh_px
        placed, ratio = self._place(frame_wh_px), self.devicePixelRatioF()
        x0, y0, x1, y1 = visible_part(placed, frame_wh_px, self._room())
        size_px = tuple(max(1, round(n * placed.scale * ratio)) for n in (x1 - x0, y1 - y0))
        return Job(result, labels, (x0, y0, x1, y1), (size_px[0], size_px[1]))

    def _submit(self) -> None:
        job = self.job()
        if job is not None:
            self._presenter.submit(job)

    def _show(self, picture: Picture) -> None:
        self._picture = picture
        self.update()

    def present_now(self) -> None:
        """Scale the newest result on this thread: for tests and for a last picture."""
        job = self.job()
        if job is not None:
            self._show(self._presenter.make(job))

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Frame and detections, or the hint."""
        painter = QPainter(self)
        try:
            painter.fillRect(self.rect(), BACKDROP)
            if self._picture is None:
                painter.setPen(_INK)
                room = self.rect().adjusted(24, 24, -24, -24)
                flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
                painter.drawText(room, flags, self._hint)
            else:
                self._paint(painter, self._picture)
        finally:
            painter.end()  # also when an exception passes: Qt crashes on a painter left open

    def _paint(self, painter: QPainter, picture: Picture) -> None:
        placed, ratio = self._place(picture.frame_wh_px), self.devicePixelRatioF()
        x0, y0, x1, y1 = picture.part
        left, top = placed.x0 + x0 * placed.scale, placed.y0 + y0 * placed.scale
        width, height = (x1 - x0) * placed.scale, (y1 - y0) * placed.scale
        image = picture.image
        if abs(width * ratio - image.width()) < 1 and abs(height * ratio - image.height()) < 1:
            width, height = image.width() / ratio, image.height() / ratio
            left, top = round(left * ratio) / ratio, round(top * ratio) / ratio
        painter.drawImage(QRectF(left, top, width, height), image)
        if self._dimmed:
            painter.fillRect(self.rect(), _VEIL)
        painter.setFont(tag_font(self.font()))
        painter.setOpacity(0.4 if self._dimmed else 1.0)
        paint_detections(
            painter,
            picture.result.detections.without(picture.labels, self._hidden),
            picture.labels,
            placed=placed,
            frame_wh_px=picture.frame_wh_px,
            room_wh=self._room(),
            options=self._options,
        )

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802
        """The frame is scaled anew."""
        self._submit()

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802
        """What came while it was hidden is shown now."""
        self._submit()

    def wheelEvent(self, event: QWheelEvent | None) -> None:  # noqa: N802
        """Zoom around the pointer."""
        if event is not None and event.angleDelta().y():
            steps = event.angleDelta().y() / 120
            self.zoom_by(STEP**steps, event.pos())
            event.accept()

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        """Take hold of the frame."""
        if event is not None and event.button() == Qt.MouseButton.LeftButton:
            self.setFocus()
            if self._camera.zoom is not None:
                self._grip = event.pos()
                self.setCursor(Qt.CursorShape.ClosedHandCursor)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        """Move it."""
        if event is not None and self._grip is not None:
            by = event.pos() - self._grip
            self._grip = event.pos()
            self.pan(by.x(), by.y())

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        """Let it go."""
        self._grip = None
        self.unsetCursor()

    def mouseDoubleClickEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        """Between fit and one to one."""
        self._look(1.0 if self._camera.zoom is None else None)


def with_toggle(options: OverlayOptions, name: str, on: bool) -> OverlayOptions:
    """The options with one of them changed."""
    return dataclasses.replace(options, **{name: on})
