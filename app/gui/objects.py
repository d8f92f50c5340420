"""Objects in the window: where they have been lately, and how long they have been in view."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from PyQt5.QtCore import QPointF, Qt
from PyQt5.QtGui import QColor, QPainter, QPen

from ..core.detections import Result, label_of
from ..core.overlay import SCREEN, colour_of
from ..core.text import printable
from .overlay import ViewPlacement

TRAIL_NS = 3_000_000_000  # a path fades over this time
FORGOTTEN_NS = 30_000_000_000  # not seen for longer: another object by the time it is back

Row = tuple[int, tuple[str, str, str]]  # class_id; object, time in view, zones


@dataclass
class _Track:
    class_id: int
    first_ns: int
    last_ns: int
    path: deque[tuple[int, float, float]] = field(default_factory=deque)  # ns, x and y in the frame


class ObjectLog:
    """What the window remembers of the tracks that it has shown. GUI thread only."""

    def __init__(self) -> None:
        self._tracks: dict[int, _Track] = {}
        self._now_ns = 0

    def take(self, result: Result) -> None:
        """Add the next result; one of an earlier time begins anew (a clip that starts again)."""
        now_ns, found = result.frame.time_ns, result.detections
        if now_ns < self._now_ns:
            self._tracks.clear()
        self._now_ns = now_ns
        if found.track_ids is not None:
            rows = zip(
                found.track_ids.tolist(), found.class_ids.tolist(), found.xyxy.tolist(), strict=True
            )
            for track_id, class_id, (left, _, right, bottom) in rows:
                if track_id < 0:
                    continue
                track = self._tracks.setdefault(track_id, _Track(class_id, now_ns, now_ns))
                track.class_id, track.last_ns = class_id, now_ns
                track.path.append((now_ns, (left + right) / 2, bottom))
        for track_id, track in list(self._tracks.items()):
            while track.path and now_ns - track.path[0][0] > TRAIL_NS:
                track.path.popleft()
            if now_ns - track.last_ns > FORGOTTEN_NS:
                del self._tracks[track_id]

    def paint(self, painter: QPainter, placed: ViewPlacement, hidden: frozenset[int]) -> None:
        """The paths of the middle of each box's lower edge, fading with age."""
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for track in self._tracks.values():
            if track.class_id in hidden:
                continue
            before: QPointF | None = None
            for at_ns, x, y in track.path:
                here = placed.to_view(x, y)
                if before is not None:
                    ink = QColor(*colour_of(track.class_id))
                    ink.setAlphaF(max(0.0, 1 - (self._now_ns - at_ns) / TRAIL_NS))
                    cap = Qt.PenCapStyle.RoundCap
                    painter.setPen(QPen(ink, SCREEN.line, Qt.PenStyle.SolidLine, cap))
                    painter.drawLine(before, here)
                before = here
        painter.restore()

    def rows(self, result: Result, labels: Sequence[str], hidden: frozenset[str]) -> list[Row]:
        """Of each object in the result, longest in view first; empty where nothing is tracked."""
        ids = result.detections.track_ids
        if ids is None:
            return []
        zones = result.zones or [()] * len(ids)
        rows = []
        for track_id, within in zip(ids.tolist(), zones, strict=True):
            track = self._tracks.get(track_id)
            if track is None or label_of(labels, track.class_id) in hidden:
                continue
            name = f"{printable(label_of(labels, track.class_id))} {track_id}"
            minutes, seconds = divmod((track.last_ns - track.first_ns) // 1_000_000_000, 60)
            where = ", ".join(map(printable, within))
            rows.append(
                (track.first_ns, (track.class_id, (name, f"{minutes}:{seconds:02}", where)))
            )
        return [row for _, row in sorted(rows)]
