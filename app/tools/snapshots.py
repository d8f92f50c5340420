"""How is one result saved: the frame, the frame with its boxes, and what was found?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue

import cv2
import numpy as np
from numpy.typing import NDArray

from app.detections import Result
from app.errors import KestrelError
from app.frame import SourceInfo
from app.overlay import bgr_pixels
from app.session_state import Severity
from app.sinks.drawing import draw_detections
from app.sinks.json_lines import JsonLinesSink
from app.sinks.output_file import cure

Job = tuple[Path, Result, Sequence[str], SourceInfo]


class Snapshots:
    """A thread that saves, so that a slow disk holds up nobody else."""

    def __init__(self, tell: Callable[[str, Severity], None]) -> None:
        self._tell = tell
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)

    def save(self, stem: Path, result: Result, labels: Sequence[str], source: SourceInfo) -> None:
        """STEM.png, STEM_boxes.png, STEM.json; returns at once."""
        if not self._thread.is_alive():
            self._thread.start()
        self._jobs.put((stem, result, labels, source))

    def _run(self) -> None:
        while True:
            stem, result, labels, source = self._jobs.get()
            try:
                write_snapshot(stem, result, labels, source)
            except OSError as error:
                self._tell(f"cannot save {stem.name}: {cure(error, stem)}", "error")
            except KestrelError as error:
                self._tell(str(error), "error")
            else:
                self._tell(f"Saved {stem.name}.png, _boxes.png and .json in {stem.parent}", "info")


def write_snapshot(stem: Path, result: Result, labels: Sequence[str], source: SourceInfo) -> None:
    """The three files; raises OSError or SinkError."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    pixels = bgr_pixels(result.frame)
    _write_png(stem.with_name(f"{stem.name}.png"), pixels)
    drawn = pixels.copy()  # the frame belongs to others too
    draw_detections(drawn, result.detections, labels)
    _write_png(stem.with_name(f"{stem.name}_boxes.png"), drawn)
    line = JsonLinesSink(str(stem.with_name(f"{stem.name}.json")))
    line.open(source, labels)
    line.emit(result)
    line.close()


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    # not imwrite, which cannot say what went wrong
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
