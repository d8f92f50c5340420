"""One picture a track: the best, named by its events, bounded, written whole."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from app.config import EventOptions
from app.core.detections import Result
from app.core.errors import SinkError
from app.core.stats import OutputMeter
from app.sinks.snapshots import LONGEST_PX, SnapshotSink
from tests.sinks.kit import CAMERA, LABELS, event, found, result, textured
from tests.sinks.mqtt.broker import until

NAME = "20260131T120004_01KG9V8Q7N7Z1WRR0000000002_best.jpg"


def made(folder: Path, *, waits: bool = True, **options: float) -> SnapshotSink:
    settings = EventOptions(snapshots=str(folder), **options)
    sink = SnapshotSink(settings, OutputMeter("snapshots"), waits=waits)
    sink.open(CAMERA, LABELS)
    return sink


def seen(i: int, pixels: np.ndarray, *boxes: tuple, ids: tuple[int, ...] = (1,)) -> Result:
    one = result(i, found(*boxes), pixels, live=True)
    tracked = replace(one.detections, track_ids=np.array(ids, np.int64))
    return replace(one, detections=tracked)


def patch(level: int, *, sharp: bool, size: int = 100) -> np.ndarray:
    """A frame of one level with a square whose red tells which one it is."""
    pixels = np.full((240, 320, 3), 90, np.uint8)
    square = pixels[50 : 50 + size, 50 : 50 + size]
    square[:] = (0, 0, level)
    if sharp:
        square[::8] = (255, 255, level)
    return pixels


BOX = (0, 0.9, 50, 50, 150, 150)


def red(path: Path) -> float:
    picture = cv2.imread(str(path))
    assert picture is not None
    height, width = picture.shape[:2]
    return float(picture[height // 4 : -height // 4, width // 4 : -width // 4, 2].mean())


def test_of_pictures_that_are_as_large_the_sharper_one_is_kept(tmp_path: Path) -> None:
    for sharp_first in (True, False):
        folder = tmp_path / str(sharp_first)
        sink = made(folder)
        first = seen(0, patch(60, sharp=sharp_first), BOX)
        sink.emit(replace(first, events=[event("appear", 1, snapshot=NAME)]))
        larger = (0, 0.99, 45, 45, 155, 155)  # which is why it is looked at
        sink.emit(seen(1, patch(200, sharp=not sharp_first), larger))
        sink.happened([event("gone", 1, snapshot=NAME)], [])
        sink.close()
        assert (abs(red(folder / NAME) - 60) < 25) == sharp_first


def test_a_worse_view_changes_nothing_and_a_better_one_does(tmp_path: Path) -> None:
    sink = made(tmp_path)
    first = seen(0, patch(60, sharp=True), BOX)
    sink.emit(replace(first, events=[event("appear", 1, snapshot=NAME)]))
    assert abs(red(tmp_path / NAME) - 60) < 25, "there as soon as it is named"
    sink.emit(seen(1, patch(120, sharp=True), (0, 0.5, 50, 50, 150, 150)))
    sink.emit(seen(2, patch(200, sharp=True, size=160), (0, 0.9, 50, 50, 210, 210)))
    sink.close()
    assert abs(red(tmp_path / NAME) - 200) < 25
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_track_that_no_event_names_has_no_file(tmp_path: Path) -> None:
    sink = made(tmp_path)
    sink.emit(seen(0, patch(60, sharp=True), BOX))
    sink.happened([event("gone", 1)], [])
    sink.close()
    assert not list(tmp_path.iterdir())


def test_a_picture_is_bounded(tmp_path: Path) -> None:
    sink = made(tmp_path)
    big = textured(0, 1920, 1080)
    one = seen(0, big, (0, 0.9, 0, 0, 1920, 1080))
    sink.emit(replace(one, events=[event("appear", 1, snapshot=f"door/{NAME}")]))
    sink.close()
    height, width = cv2.imread(str(tmp_path / "door" / NAME)).shape[:2]
    assert max(height, width) == LONGEST_PX and abs(width / height - 16 / 9) < 0.02


def test_live_the_pipeline_thread_encodes_nothing(tmp_path: Path, monkeypatch) -> None:
    import threading

    import app.sinks.snapshots as module

    threads: set[str] = set()
    real = module.encode_jpeg

    def noting(pixels: np.ndarray, quality: int) -> np.ndarray:
        threads.add(threading.current_thread().name)
        return real(pixels, quality)

    monkeypatch.setattr(module, "encode_jpeg", noting)
    sink = made(tmp_path, waits=False)
    one = seen(0, patch(60, sharp=True), BOX)
    sink.emit(replace(one, events=[event("appear", 1, snapshot=NAME)]))
    until(lambda: (tmp_path / NAME).exists())
    sink.close()
    assert threads == {"output-snapshots"}


def test_ten_thousand_tracks_are_held_within_a_bound(tmp_path: Path) -> None:
    sink = made(tmp_path)
    for i in range(0, 10_000, 20):
        boxes = [(0, 0.9, x * 10, 10, x * 10 + 9, 30) for x in range(20)]
        ids = tuple(range(i + 1, i + 21))
        sink.emit(seen(i, patch(60, sharp=True), *boxes, ids=ids))
    assert len(sink._tracks) <= 256 and len(sink._gates) <= 256
    sink.close()


def test_the_folder_keeps_within_its_size_and_leaves_other_files_alone(tmp_path: Path) -> None:
    names = [f"20260131T1200{i:02}_01KG9V8Q7N7Z1WRR00000000{i:02}_best.jpg" for i in range(20)]
    for i, name in enumerate([*names, "mine.jpg"]):
        (tmp_path / name).write_bytes(b"x" * 20_000)
        os.utime(tmp_path / name, (time.time() - 1000 + i,) * 2)
    made(tmp_path, snapshots_mb=0.1).close()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [*names[-5:], "mine.jpg"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="file"):
        made(tmp_path / "file" / "folder")
