"""Paths fade, times run, and what is over is forgotten."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PyQt5.QtGui import QImage, QPainter

from app.core.detections import Result
from app.core.overlay import colour_of
from app.gui.instruments import CountsTable
from app.gui.objects import FORGOTTEN_NS, TRAIL_NS, ObjectLog
from app.gui.overlay import ViewPlacement
from tests.sinks.kit import LABELS, found, gray, result

SECOND_NS = 1_000_000_000


def shown(at_ns: int, x: float = 20, track_id: int = 7) -> Result:
    """A person, 20 wide, whose box ends at y = 50."""
    made = found((0, 0.9, x - 10, 10, x + 10, 50))
    tracked = replace(made, track_ids=np.array([track_id], np.int64))
    base = result(0, tracked, gray(100, 60))
    frame = replace(base.frame, captured_ns=at_ns, media_ns=at_ns)
    return replace(base, frame=frame, zones=[("door",)])


def painted(log: ObjectLog, hidden: frozenset[int] = frozenset()) -> np.ndarray:
    image = QImage(100, 60, QImage.Format.Format_RGB888)
    image.fill(0)
    painter = QPainter(image)
    log.paint(painter, ViewPlacement(1, 0, 0), hidden)
    painter.end()
    rows = np.frombuffer(image.constBits().asarray(image.sizeInBytes()), np.uint8)
    return rows.reshape(60, image.bytesPerLine())[:, :300].reshape(60, 100, 3).astype(int)


@pytest.mark.usefixtures("qapp")
def test_the_path_is_where_the_feet_were_and_older_parts_are_fainter() -> None:
    log = ObjectLog()
    for i in range(7):
        log.take(shown(i * SECOND_NS // 3, 20 + 10 * i))
    row = painted(log)[50]
    strength = row.sum(axis=1)
    assert strength[75] > strength[35] > 0 and strength[15] == 0 == strength[85]
    assert np.argmax(row[75]) == np.argmax(colour_of(0))
    assert not painted(log, frozenset({0})).any()
    log.take(shown(2 * SECOND_NS + TRAIL_NS + 1, 80))
    assert not painted(log)[50, :70].any(), "what is older than that is gone"


def test_rows_tell_the_time_in_view_and_the_zones() -> None:
    log = ObjectLog()
    log.take(shown(0))
    log.take(latest := shown(15 * SECOND_NS))
    assert log.rows(latest, LABELS, frozenset()) == [(0, (f"{LABELS[0]} 7", "0:15", "door"))]
    assert log.rows(latest, LABELS, frozenset({LABELS[0]})) == []


def test_a_clip_that_starts_again_and_long_absence_begin_anew() -> None:
    log = ObjectLog()
    log.take(shown(10 * SECOND_NS))
    log.take(again := shown(0))
    assert log.rows(again, LABELS, frozenset())[0][1][1] == "0:00"
    log.take(shown(FORGOTTEN_NS + SECOND_NS, track_id=8))
    log.take(back := shown(FORGOTTEN_NS + 2 * SECOND_NS))
    assert log.rows(back, LABELS, frozenset())[0][1][1] == "0:00"


def test_without_tracks_there_is_nothing(qtbot) -> None:
    log, plain = ObjectLog(), result(0, found((0, 0.9, 10, 10, 30, 50)))
    log.take(plain)
    assert log.rows(plain, LABELS, frozenset()) == []
    table = CountsTable()
    qtbot.addWidget(table)
    table.show_counts([(0, "person", 2, 0.9)])
    table.show_objects([(0, ("person 7", "0:15", "door"))])
    assert [table.item(0, i).text() for i in range(3)] == ["person 7", "0:15", "door"]
    assert table.horizontalHeaderItem(1).text() == "In view"
