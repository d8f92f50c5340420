"""A snapshot is what was seen: the frame untouched, the frame with boxes, the detections."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import cv2
import numpy as np

from app.core.overlay import colour_of
from app.runtime.window import Snapshot, Snapshots
from tests.sinks.kit import CLIP, LABELS, found, result, textured

SHOWN = result(7, found((0, 0.9, 40, 40, 200, 180)), textured(3))


class Saver:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.came = threading.Event()
        self.snapshots = Snapshots(self.tell)

    def tell(self, text: str, severity: str, path: str) -> None:
        self.told.append((text, severity))
        self.came.set()

    def save(self, stem: Path) -> tuple[str, str]:
        self.came.clear()
        self.snapshots.save(Snapshot(stem, SHOWN, LABELS, CLIP, "small"))
        assert self.came.wait(20)
        return self.told[-1]


def test_three_files(tmp_path: Path) -> None:
    text, severity = Saver().save(tmp_path / "new folder" / "day.1")
    assert severity == "info" and "day.1.png" in text
    folder = tmp_path / "new folder"
    assert {path.name for path in folder.iterdir()} == {
        "day.1.png",
        "day.1_boxes.png",
        "day.1.json",
    }
    plain = cv2.imread(str(folder / "day.1.png"))
    assert (plain == SHOWN.frame.pixels).all()
    drawn = cv2.imread(str(folder / "day.1_boxes.png"))
    assert (drawn[100, 40] == np.array(colour_of(0)[::-1])).all()
    line = json.loads((folder / "day.1.json").read_text())
    assert line["model"] == "small" and line["frame"] == 7 and line["source"] == "clip.mp4"
    assert line["detections"][0]["label"] == "person"


def test_place_that_cannot_be_written_is_told_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    saver = Saver()
    text, severity = saver.save(tmp_path / "file" / "x")
    assert severity == "error" and text
    assert saver.save(tmp_path / "x")[1] == "info", "the next one works"


def test_blocked_disk_holds_up_nobody(tmp_path: Path, monkeypatch) -> None:
    import app.runtime.window as module

    blocked = threading.Event()
    monkeypatch.setattr(module, "write_snapshot", lambda *args: blocked.wait(20))
    saver = Saver()
    began_s = time.monotonic()
    for i in range(3):
        saver.snapshots.save(Snapshot(tmp_path / str(i), SHOWN, LABELS, CLIP, "small"))
    assert time.monotonic() - began_s < 10
    blocked.set()
    assert saver.came.wait(20)
