"""The picture: one result fitted or zoomed in a widget, with its detections drawn over it."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PyQt5.QtCore import QObject, QPoint, QPointF, QRectF, Qt, pyqtSignal
from PyQt5.QtGui import (
    QColor,
    QFont,
    QFontMetricsF,
    QImage,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
    QShowEvent,
    QWheelEvent,
)
from PyQt5.QtWidgets import QWidget
from PyQt5.sip import voidptr

from ..core.detections import Detections, Result
from ..core.frame import FramePool, bgr_pixels
from ..core.overlay import SCREEN, captions, colour_of, place_tags, text_colour_on

MAX_ZOOM = 32.0  # device pixels a frame's pixel
STEP = 1.25


@dataclass(frozen=True, slots=True)
class ViewPlacement:
    """A point (x, y) of the frame lies at (x0 + scale x, y0 + scale y), in logical pixels."""

    scale: float
    x0: float
    y0: float

    def to_frame(self, x: float, y: float) -> tuple[float, float]:
        """The frame's point at a place in the view."""
        return (x - self.x0) / self.scale, (y - self.y0) / self.scale


def fit(frame_wh_px: tuple[int, int], room_wh: tuple[int, int]) -> ViewPlacement:
    """Centred, as large as it fits."""
    (frame_w, frame_h), (width, height) = frame_wh_px, room_wh
    scale = min(width / frame_w, height / frame_h)
    return ViewPlacement(scale, (width - frame_w * scale) / 2, (height - frame_h * scale) / 2)


class Viewport:
    """The user's choice of scale and place; ``zoom`` None fits the frame into the view.

    ``zoom`` is in device pixels a frame's pixel, so that 1 is sharp on every screen.
    """

    def __init__(self) -> None:
        self.zoom: float | None = None
        self._centre = (0.5, 0.5)  # of the view, as a share of the frame

    def place(
        self, frame_wh_px: tuple[int, int], room_wh: tuple[int, int], ratio: float
    ) -> ViewPlacement:
        """For a view of this size with ``ratio`` device pixels a logical one."""
        if self.zoom is None:
            placed = fit(frame_wh_px, room_wh)
        else:
            scale = self.zoom / ratio
            placed = ViewPlacement(
                scale,
                _offset(frame_wh_px[0] * scale, room_wh[0], self._centre[0]),
                _offset(frame_wh_px[1] * scale, room_wh[1], self._centre[1]),
            )
        # on whole device pixels, or every edge would be blurred
        return ViewPlacement(
            placed.scale, round(placed.x0 * ratio) / ratio, round(placed.y0 * ratio) / ratio
        )

    def reset(self, zoom: float | None = None) -> None:
        """Fit, or this zoom, centred."""
        self.zoom, self._centre = zoom, (0.5, 0.5)

    def zoom_by(
        self,
        factor: float,
        *,
        at: tuple[float, float],
        frame_wh_px: tuple[int, int],
        room_wh: tuple[int, int],
        ratio: float,
    ) -> None:
        """Larger or smaller; the frame's point at this place of the view stays there."""
        before = self.place(frame_wh_px, room_wh, ratio)
        smallest = min(1.0, fit(frame_wh_px, room_wh).scale * ratio)
        self.zoom = min(MAX_ZOOM, max(smallest, before.scale * ratio * factor))
        x, y = before.to_frame(*at)
        scale = self.zoom / ratio
        self._look_at(
            (x * scale - at[0] + room_wh[0] / 2) / (frame_wh_px[0] * scale),
            (y * scale - at[1] + room_wh[1] / 2) / (frame_wh_px[1] * scale),
        )

    def pan(
        self,
        dx: float,
        dy: float,
        *,
        frame_wh_px: tuple[int, int],
        room_wh: tuple[int, int],
        ratio: float,
    ) -> None:
        """Move the frame by so many logical pixels."""
        placed = self.place(frame_wh_px, room_wh, ratio)
        if self.zoom is None:
            self.zoom = placed.scale * ratio
        width, height = frame_wh_px[0] * placed.scale, frame_wh_px[1] * placed.scale
        self._look_at(
            (room_wh[0] / 2 - placed.x0 - dx) / width, (room_wh[1] / 2 - placed.y0 - dy) / height
        )

    def _look_at(self, x: float, y: float) -> None:
        self._centre = min(1.0, max(0.0, x)), min(1.0, max(0.0, y))


def _offset(size: float, room: float, centre: float) -> float:
    """Where the frame begins: centred where it is smaller than the room, else without a gap."""
    if size <= room:
        return (room - size) / 2
    return min(0.0, max(room - size, room / 2 - centre * size))


def visible_part(
    placed: ViewPlacement, frame_wh_px: tuple[int, int], room_wh: tuple[int, int]
) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1): the frame's pixels that are in view, right and bottom exclusive."""
    left, top = placed.to_frame(0, 0)
    right, bottom = placed.to_frame(*room_wh)
    x0, y0 = max(0, math.floor(left)), max(0, math.floor(top))
    x1 = min(frame_wh_px[0], max(x0 + 1, math.ceil(right)))
    y1 = min(frame_wh_px[1], max(y0 + 1, math.ceil(bottom)))
    return min(x0, x1 - 1), min(y0, y1 - 1), x1, y1


HALO = QColor(0, 0, 0, 110)  # around every line, so that it shows on a ground of its own colour


@dataclass(frozen=True, slots=True)
class OverlayOptions:
    """What is drawn."""

    boxes: bool = True
    labels: bool = True
    scores: bool = True
    keypoints: bool = True


def paint_detections(
    painter: QPainter,
    found: Detections,
    labels: Sequence[str],
    *,
    placed: ViewPlacement,
    frame_wh_px: tuple[int, int],
    room_wh: tuple[int, int],
    options: OverlayOptions,
) -> None:
    """Boxes, keypoints, tags; the best detection lies over the others.

    ``room_wh`` is the view's size: a tag stays in sight as long as a part of its box does.
    """
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.translate(placed.x0, placed.y0)
    boxes = (found.xyxy * placed.scale).tolist()
    colours = [colour_of(each) for each in found.class_ids.tolist()]
    worst_first = range(len(found) - 1, -1, -1)
    if options.boxes:
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for i in worst_first:
            left, top, right, bottom = boxes[i]
            rectangle = QRectF(left, top, right - left, bottom - top)
            painter.setPen(QPen(HALO, SCREEN.line + 2, join=Qt.PenJoinStyle.MiterJoin))
            painter.drawRect(rectangle)
            painter.setPen(QPen(QColor(*colours[i]), SCREEN.line, join=Qt.PenJoinStyle.MiterJoin))
            painter.drawRect(rectangle)
    if options.keypoints and found.keypoints is not None:
        for i, points in enumerate((found.keypoints * placed.scale).tolist()):
            painter.setPen(QPen(HALO, 1))
            painter.setBrush(QColor(*colours[i]))
            for x, y in points:
                painter.drawEllipse(QPointF(x, y), SCREEN.point, SCREEN.point)
    if options.labels or options.scores:
        seen = (
            max(0.0, -placed.x0),
            max(0.0, -placed.y0),
            min(frame_wh_px[0] * placed.scale, room_wh[0] - placed.x0),
            min(frame_wh_px[1] * placed.scale, room_wh[1] - placed.y0),
        )
        metrics = QFontMetricsF(painter.font())
        texts = captions(found, labels, named=options.labels, scored=options.scores)
        height = metrics.height() + 2 * SCREEN.pad_y
        sizes = [(metrics.horizontalAdvance(each) + 2 * SCREEN.pad_x, height) for each in texts]
        tags = place_tags(boxes, sizes, seen)
        for i in worst_first:
            if i in tags:
                left, top, right, bottom = tags[i]
                tag = QRectF(left, top, right - left, bottom - top)
                painter.fillRect(tag, QColor(*colours[i]))
                painter.setPen(QColor(*text_colour_on(colours[i])))
                painter.drawText(tag, Qt.AlignmentFlag.AlignCenter, texts[i])
    painter.restore()


def tag_font(base: QFont) -> QFont:
    """The tags' font: the system's, a little heavier."""
    font = QFont(base)
    font.setWeight(QFont.Weight.DemiBold)
    return font


CRISP_ZOOM = 4.0  # from here on single pixels are wanted sharp


@dataclass(frozen=True, slots=True)
class ScaledFrame:
    """A result ready to be painted: ``image`` shows ``part`` of its frame (x0, y0, x1, y1)."""

    result: Result
    labels: Sequence[str]
    image: QImage
    part: tuple[int, int, int, int]
    frame_wh_px: tuple[int, int]
    memory: NDArray[np.uint8]  # the image looks at it


@dataclass(frozen=True, slots=True)
class Job:
    """What to scale: this part of the frame, to so many device pixels."""

    result: Result
    labels: Sequence[str]
    part: tuple[int, int, int, int]
    size_px: tuple[int, int]


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

        pixels = bgr_pixels(job.result.frame)
        frame_wh_px = pixels.shape[1], pixels.shape[0]
        x0, y0, x1, y1 = job.part
        crop: Any = pixels[y0:y1, x0:x1]
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
        return ScaledFrame(job.result, job.labels, image, job.part, frame_wh_px, memory)


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
        self._picture: ScaledFrame | None = None
        self._newest: tuple[Result, Sequence[str]] | None = None
        self._options = OverlayOptions()
        self._hidden: frozenset[str] = frozenset()
        self._dimmed = False
        self._camera = Viewport()
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

    def placement(self) -> ViewPlacement | None:
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

    def _place(self, frame_wh_px: tuple[int, int]) -> ViewPlacement:
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

    def _show(self, picture: ScaledFrame) -> None:
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

    def _paint(self, painter: QPainter, picture: ScaledFrame) -> None:
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
