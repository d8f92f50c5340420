"""What does the JSON text of one frame look like? The contract of JSON lines, MQTT and HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

from app.detections import Detections, Result
from app.frame import SourceInfo
from app.overlay import label_of


def wall_offset_ns() -> int:
    """Unix time − monotonic time at this moment."""
    return time.time_ns() - time.monotonic_ns()


class LineFormatter:
    """Formats results; one thread. Fields are only ever added.

    ``wall_offset_ns`` is asked for each line, as the wall clock of a device without a battery jumps
    when it first hears from the network.
    """

    def __init__(self, *, wall_offset_ns: Callable[[], int] = wall_offset_ns) -> None:
        self._wall_offset_ns = wall_offset_ns
        self._source = '"source": ""'
        self._labels: list[str] = []
        self._second, self._second_text = -1, ""

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Take what is the same in all lines."""
        self._source = f'"source": {quoted(source.uri)}'
        if source.name:
            self._source += f', "name": {quoted(source.name)}'
        self._labels = [quoted(label) for label in labels]

    def __call__(self, result: Result) -> str:
        """The frame's JSON object, without an end of line."""
        frame = result.frame
        media = "null" if frame.media_ns is None else str(round(frame.media_ns / 1e6, 3))
        width, height = frame.wh_px
        return (
            f'{{{self._source}, "frame": {frame.index}, "media_ms": {media}, '
            f'"time": "{self.time(frame.captured_ns)}", '
            f'"age_ms": {round(result.age_ns / 1e6, 2)}, "size": [{width}, {height}], '
            f'"detections": [{self._detections(result.detections)}]}}'
        )

    def time(self, captured_ns: int) -> str:
        """When the frame was captured: UTC, ISO 8601, milliseconds."""
        second, ms = divmod((captured_ns + self._wall_offset_ns()) // 1_000_000, 1000)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{ms:03}Z"

    def _detections(self, detections: Detections) -> str:
        boxes = detections.xyxy.tolist()  # Python floats: NumPy's own are slow to format
        ids, scores = detections.class_ids.tolist(), detections.scores.tolist()
        texts = [
            f'{{"label": {self._label(class_id)}, "class_id": {class_id}, '
            f'"score": {round(score, 4)}, '
            f'"box": [{round(x0, 2)}, {round(y0, 2)}, {round(x1, 2)}, {round(y1, 2)}]}}'
            for class_id, score, (x0, y0, x1, y1) in zip(ids, scores, boxes, strict=True)
        ]
        if detections.keypoints is not None:
            for i, points in enumerate(detections.keypoints.tolist()):
                pairs = ", ".join(f"[{round(x, 2)}, {round(y, 2)}]" for x, y in points)
                texts[i] = f'{texts[i][:-1]}, "keypoints": [{pairs}]}}'
        return ", ".join(texts)

    def _label(self, class_id: int) -> str:
        if 0 <= class_id < len(self._labels):
            return self._labels[class_id]
        return quoted(label_of((), class_id))


def quoted(text: str) -> str:
    """JSON in readable UTF-8; escaped where a file name is no valid Unicode."""
    quoted = json.dumps(text, ensure_ascii=False)
    try:
        quoted.encode()
    except UnicodeEncodeError:
        return json.dumps(text)
    return quoted
