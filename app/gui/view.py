"""The picture: one result fitted or zoomed in a widget, with its detections drawn over it."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PyQt5.QtCore import QObject, QPoint, QRectF, Qt, pyqtSignal
from PyQt5.QtGui import (
    QColor,
    QFont,
    QImage,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QResizeEvent,
    QShowEvent,
    QWheelEvent,
)
from PyQt5.QtWidgets import QWidget
from PyQt5.sip import voidptr

from ..core.detections import Result
from ..core.filters import hidden_text
from ..core.frame import FramePool, bgr_pixels
from ..core.overlay import Rect
from .objects import ObjectLog
from .overlay import OverlayOptions, ViewPlacement, paint_badge, paint_detections, paint_shapes

MAX_ZOOM = 32.0  # device pixels a frame's pixel
STEP = 1.25


@dataclass(frozen=True, slots=True)
class Viewing:
    """A frame (pixels) in a view (logical pixels, of ``ratio`` device pixels each)."""

    frame_wh_px: tuple[int, int]
    room_wh: tuple[int, int]
    ratio: float = 1.0

    def fit(self) -> ViewPlacement:
        (frame_w, frame_h), (width, height) = self.frame_wh_px, self.room_wh
        scale = min(width / frame_w, height / frame_h)
        return ViewPlacement(scale, (width - frame_w * scale) / 2, (height - frame_h * scale) / 2)

    def visible_part(self, placed: ViewPlacement) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1): the frame's pixels that are in view, right and bottom exclusive."""
        left, top = placed.to_frame(0, 0)
        right, bottom = placed.to_frame(*self.room_wh)
        x0, y0 = max(0, math.floor(left)), max(0, math.floor(top))
        x1 = min(self.frame_wh_px[0], max(x0 + 1, math.ceil(right)))
        y1 = min(self.frame_wh_px[1], max(y0 + 1, math.ceil(bottom)))
        return min(x0, x1 - 1), min(y0, y1 - 1), x1, y1

    def in_sight(self, placed: ViewPlacement) -> Rect:
        """The part of the frame that is in view, in logical pixels from the frame's corner."""
        (frame_w, frame_h), (width, height) = self.frame_wh_px, self.room_wh
        left, top = max(0.0, -placed.x0), max(0.0, -placed.y0)
        right, bottom = frame_w * placed.scale, frame_h * placed.scale
        return left, top, min(right, width - placed.x0), min(bottom, height - placed.y0)


class Viewport:
    """The user's choice of scale and place; ``zoom`` None fits the frame into the view.

    ``zoom`` is in device pixels a frame's pixel, so that 1 is sharp on every screen.
    """

    def __init__(self) -> None:
        self.zoom: float | None = None
        self._centre = (0.5, 0.5)  # of the view, as a share of the frame

    def place(self, seen: Viewing) -> ViewPlacement:
        """Where the frame lies, on whole device pixels: other offsets would blur every edge."""
        ratio, placed = seen.ratio, seen.fit()
        if self.zoom is not None:
            scale = self.zoom / ratio
            x0, y0 = (
                _offset(length * scale, room, centre)
                for length, room, centre in zip(
                    seen.frame_wh_px, seen.room_wh, self._centre, strict=True
                )
            )
            placed = ViewPlacement(scale, x0, y0)
        return ViewPlacement(
            placed.scale, round(placed.x0 * ratio) / ratio, round(placed.y0 * ratio) / ratio
        )

    def reset(self, zoom: float | None = None) -> None:
        self.zoom, self._centre = zoom, (0.5, 0.5)

    def zoom_by(self, factor: float, seen: Viewing, *, at: tuple[float, float]) -> None:
        """Scale by ``factor``, keeping the frame's point at ``at`` (in the view) in place."""
        before = self.place(seen)
        smallest = min(1.0, seen.fit().scale * seen.ratio)
        self.zoom = min(MAX_ZOOM, max(smallest, before.scale * seen.ratio * factor))
        x, y = before.to_frame(*at)
        scale = self.zoom / seen.ratio
        self._look_at(seen, scale, x0=at[0] - x * scale, y0=at[1] - y * scale)

    def pan(self, dx: float, dy: float, *, seen: Viewing) -> None:
        placed = self.place(seen)
        if self.zoom is None:
            self.zoom = placed.scale * seen.ratio
        self._look_at(seen, placed.scale, x0=placed.x0 + dx, y0=placed.y0 + dy)

    def _look_at(self, seen: Viewing, scale: float, *, x0: float, y0: float) -> None:
        """Put the frame's corner at (x0, y0), as far as that leaves no gap."""
        x, y = (
            min(1.0, max(0.0, (room / 2 - origin) / (length * scale)))
            for origin, length, room in zip((x0, y0), seen.frame_wh_px, seen.room_wh, strict=True)
        )
        self._centre = x, y


def _offset(size: float, room: float, centre: float) -> float:
    """Where the frame begins: centred where it is smaller than the room, else without a gap."""
    if size <= room:
        return (room - size) / 2
    return min(0.0, max(room - size, room / 2 - centre * size))


CRISP_ZOOM = 4.0  # from here on single pixels are wanted sharp


@dataclass(frozen=True, slots=True)
class Job:
    """Scale this part (x0, y0, x1, y1) of the frame to ``size_px`` device pixels."""

    result: Result
    labels: Sequence[str]
    part: tuple[int, int, int, int]
    size_px: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ScaledFrame:
    """A result ready to be painted: ``image`` shows the part of the frame that ``job`` names."""

    job: Job
    image: QImage
    memory: NDArray[np.uint8]  # the image looks at it


class Presenter(QObject):
    """A thread with room for one job: a new one replaces one that has not begun."""

    ready = pyqtSignal(object)  # a ScaledFrame; arrives on the thread that made the presenter

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()
        self._job: Job | None = None
        self._ended = False
        self._pool = FramePool(4)
        self._thread = threading.Thread(target=self._run, name="presenter", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Scale this one next; returns at once."""
        with self._changed:
            self._job = job
            self._changed.notify()

    def close(self) -> None:
        """End the thread; a job takes milliseconds."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join(1.0)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._job is not None or self._ended)
                job, self._job = self._job, None
                if self._ended or job is None:
                    return
            picture = self.make(job)
            if not self._ended:
                self.ready.emit(picture)

    def make(self, job: Job) -> ScaledFrame:
        """Crop, scale, and give the pixels the screen's layout."""
        import cv2

        x0, y0, x1, y1 = job.part
        crop: Any = bgr_pixels(job.result.frame)[y0:y1, x0:x1]
        width, height = job.size_px
        if (width, height) != (x1 - x0, y1 - y0):
            scale = width / (x1 - x0)
            method = cv2.INTER_LINEAR
            if scale < 0.5:
                method = cv2.INTER_AREA
            elif scale >= CRISP_ZOOM:
                method = cv2.INTER_NEAREST
            crop = cv2.resize(crop, (width, height), interpolation=method)
        memory = self._pool.acquire((height, width, 4))
        cv2.cvtColor(crop, cv2.COLOR_BGR2BGRA, dst=memory)
        image = QImage(
            voidptr(memory.ctypes.data), width, height, 4 * width, QImage.Format.Format_RGB32
        )
        return ScaledFrame(job, image, memory)


BACKDROP = QColor(18, 18, 20)
_INK = QColor(200, 200, 205)
_VEIL = QColor(18, 18, 20, 150)


class ResultView(QWidget):
    """Shows a result, boxes drawn as vectors over the frame that they were computed from.

    ``newest`` is the last result that was handed over, with its labels; ``options`` what is drawn.
    ``layer`` paints over the frame in the place of the result's zones and lines. ``painted`` hears
    each result once, when it was painted first.
    """

    def __init__(self, hint: str = "") -> None:
        super().__init__()
        self._hint = hint
        self._presenter = Presenter()
        self._presenter.ready.connect(self._show)
        self._picture: ScaledFrame | None = None
        self.newest: tuple[Result, Sequence[str]] | None = None
        self.options = OverlayOptions()
        self._hidden: frozenset[str] = frozenset()
        self._dimmed = False
        self._viewport = Viewport()
        self._grip: QPoint | None = None
        self.layer: Callable[[QPainter, ViewPlacement], None] | None = None
        self.painted: Callable[[Result], None] | None = None
        self._told: Result | None = None  # painted, last
        self.objects = ObjectLog()
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)  # every pixel is painted below
        self.setMinimumSize(160, 90)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def close_presenter(self) -> None:
        self._presenter.close()

    @property
    def zoom(self) -> float | None:
        """Device pixels a frame's pixel; None while the frame is fitted."""
        return self._viewport.zoom

    def set_hint(self, hint: str) -> None:
        if hint != self._hint:
            self._hint = hint
            self.update()

    def set_drawn(self, name: str, on: bool) -> None:
        self.options = dataclasses.replace(self.options, **{name: on})
        self.update()

    def set_hidden(self, labels: frozenset[str]) -> None:
        self._hidden = labels
        self.update()

    def set_dimmed(self, dimmed: bool) -> None:
        if dimmed != self._dimmed:
            self._dimmed = dimmed
            self.update()

    def set_result(self, result: Result, labels: Sequence[str]) -> None:
        """Show this one from now on; it appears once it is scaled."""
        self.newest = result, labels
        self.objects.take(result)
        window = self.window()
        if self.isVisible() and window is not None and not window.isMinimized():
            self._submit()

    def look(self, zoom: float | None) -> None:
        """The whole frame (None), or its middle at this zoom."""
        self._viewport.reset(zoom)
        self._moved()

    def zoom_by(self, factor: float, at: QPoint | None = None) -> None:
        """Scale by ``factor`` around a point of the view, by default its centre."""
        if self._picture is not None:
            place = at or self.rect().center()
            self._viewport.zoom_by(
                factor, self._seen(self._picture.job.result), at=(place.x(), place.y())
            )
            self._moved()

    def pan(self, dx: float, dy: float) -> None:
        if self._picture is not None and self.zoom is not None:
            self._viewport.pan(dx, dy, seen=self._seen(self._picture.job.result))
            self._moved()

    def placement(self) -> ViewPlacement | None:
        """Where the frame lies; None before the first."""
        return self._viewport.place(self._seen(self._picture.job.result)) if self._picture else None

    def _moved(self) -> None:
        self._submit()
        self.update()

    def _seen(self, result: Result) -> Viewing:
        room_wh = max(1, self.width()), max(1, self.height())
        return Viewing(result.frame.wh_px, room_wh, self.devicePixelRatioF())

    def job(self) -> Job | None:
        """The scaling that the newest result needs in the current view; None without one."""
        if self.newest is None:
            return None
        result, labels = self.newest
        seen = self._seen(result)
        placed = self._viewport.place(seen)
        x0, y0, x1, y1 = seen.visible_part(placed)
        scale = placed.scale * seen.ratio
        size_px = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
        return Job(result, labels, (x0, y0, x1, y1), size_px)

    def _submit(self) -> None:
        job = self.job()
        if job is not None:
            self._presenter.submit(job)

    def _show(self, picture: ScaledFrame) -> None:
        self._picture = picture
        self.update()

    def present_now(self) -> None:
        """Scale the newest result on this thread: for tests and for a last picture."""
        job = self.job()
        if job is not None:
            self._show(self._presenter.make(job))

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
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
        if self.painted is not None and self._picture is not None:
            result = self._picture.job.result
            if result is not self._told:
                self._told = result
                self.painted(result)

    def _paint(self, painter: QPainter, picture: ScaledFrame) -> None:
        job, image = picture.job, picture.image
        seen = self._seen(job.result)
        placed, ratio = self._viewport.place(seen), seen.ratio
        x0, y0, x1, y1 = job.part
        left, top = placed.x0 + x0 * placed.scale, placed.y0 + y0 * placed.scale
        width, height = (x1 - x0) * placed.scale, (y1 - y0) * placed.scale
        if abs(width * ratio - image.width()) < 1 and abs(height * ratio - image.height()) < 1:
            width, height = image.width() / ratio, image.height() / ratio
            left, top = round(left * ratio) / ratio, round(top * ratio) / ratio
        painter.drawImage(QRectF(left, top, width, height), image)
        if self._dimmed:
            painter.fillRect(self.rect(), _VEIL)
        font = QFont(self.font())
        font.setWeight(QFont.Weight.DemiBold)
        painter.setFont(font)
        painter.setOpacity(0.4 if self._dimmed else 1.0)
        everything = job.result.detections
        found = everything.without(job.labels, self._hidden)
        if self.options.boxes:
            hidden = {i for i, label in enumerate(job.labels) if label in self._hidden}
            self.objects.paint(painter, placed, frozenset(hidden))
        in_sight = seen.in_sight(placed)
        options = self.options
        paint_detections(
            painter, found, job.labels, placed=placed, in_sight=in_sight, options=options
        )
        if self.layer is not None:
            self.layer(painter, placed)
        else:
            paint_shapes(painter, job.result.shapes, placed)
        unticked = {"window": len(everything) - len(found)} if found is not everything else {}
        paint_badge(painter, hidden_text({**job.result.hidden, **unticked}))

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802
        self._submit()

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802
        self._submit()

    def wheelEvent(self, event: QWheelEvent | None) -> None:  # noqa: N802
        if event is not None and event.angleDelta().y():
            steps = event.angleDelta().y() / 120
            self.zoom_by(STEP**steps, event.pos())
            event.accept()

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        if event is not None and event.button() == Qt.MouseButton.LeftButton:
            self.setFocus()
            if self.zoom is not None:
                self._grip = event.pos()
                self.setCursor(Qt.CursorShape.ClosedHandCursor)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        if event is not None and self._grip is not None:
            by = event.pos() - self._grip
            self._grip = event.pos()
            self.pan(by.x(), by.y())

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        self._grip = None
        self.unsetCursor()

    def mouseDoubleClickEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        self.look(1.0 if self.zoom is None else None)
