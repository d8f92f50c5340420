"""Who scales frames to the screen's pixels, so that the GUI thread need only copy them?"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PyQt5.QtCore import QObject, pyqtSignal
from PyQt5.QtGui import QImage
from PyQt5.sip import voidptr

from app.detections import Result
from app.frame_pool import FramePool
from app.overlay import bgr_pixels

CRISP_ZOOM = 4.0  # from here on single pixels are wanted sharp


@dataclass(frozen=True, slots=True)
class Picture:
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

    ready = pyqtSignal(object)  # a Picture; arrives on the thread that made the presenter

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

    def make(self, job: Job) -> Picture:
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
        return Picture(job.result, job.labels, image, job.part, frame_wh_px, memory)
