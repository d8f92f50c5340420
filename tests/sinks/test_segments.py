"""Recordings rotate, stay within their budget, and outlive a bad disk."""

from __future__ import annotations

import os
from pathlib import Path

import av
import pytest

from app.config import RecordOptions
from app.core.errors import SinkError
from app.core.stats import OutputMeter
from app.sinks.recordings import RETRY_S, Budget, SegmentsSink
from tests.sinks.kit import CAMERA, LABELS, result, textured


def recorded(path: Path) -> int:
    with av.open(str(path)) as container:
        return len(list(container.decode(video=0)))


def budget(folder: Path, max_bytes: int = 10**9, max_age_s: float = 10**9) -> Budget:
    return Budget(folder=folder, prefix="kestrel", max_bytes=max_bytes, max_age_s=max_age_s)


def old(folder: Path, name: str, *, size: int, age_s: float) -> Path:
    path = folder / name
    path.write_bytes(bytes(size))
    os.utime(path, (path.stat().st_mtime - age_s,) * 2)
    return path


def test_rotates_by_age_and_every_file_plays(tmp_path: Path) -> None:
    now = [0.0]
    meter = OutputMeter("record")
    options = RecordOptions(path=str(tmp_path / "new" / "folder"), segment_minutes=0.02)
    sink = SegmentsSink(options, meter, clock_s=lambda: now[0])
    sink.open(CAMERA, LABELS)
    for i in range(10):
        now[0] += 0.3  # 1.2 s a file
        sink.emit(result(i, live=True))
    sink.close()
    files = sorted((tmp_path / "new" / "folder").iterdir())
    assert len(files) == 3 and sum(map(recorded, files)) == 10
    assert all(file.name.startswith("kestrel-2") for file in files)


def test_rotates_by_size(tmp_path: Path) -> None:
    now = [0.0]
    options = RecordOptions(path=str(tmp_path), segment_mb=0.1)
    sink = SegmentsSink(options, OutputMeter("record"), clock_s=lambda: now[0])
    sink.open(CAMERA, LABELS)
    for i in range(180):
        now[0] += 0.5
        sink.emit(result(i, pixels=textured(i, 640, 480), live=True))
    sink.close()
    files = list(tmp_path.iterdir())
    assert len(files) >= 2 and sum(map(recorded, files)) == 180


def test_the_oldest_go_until_the_budget_is_kept_and_nothing_else_is_touched(tmp_path: Path) -> None:
    stranger = old(tmp_path, "holiday.mp4", size=10**6, age_s=900)
    named_alike = old(tmp_path, "kestrel-notes.mp4", size=10**6, age_s=900)
    clip = old(tmp_path, "clip-20260101T000000Z.mp4", size=10**6, age_s=900)
    first = old(tmp_path, "kestrel-20260103T000000Z.mp4", size=600, age_s=300)
    second = old(tmp_path, "kestrel-20260101T000000Z-1.mp4", size=600, age_s=200)
    third = old(tmp_path, "kestrel-20260102T000000Z.mp4", size=600, age_s=100)
    assert budget(tmp_path, max_bytes=1300).enforce() == [first]
    assert budget(tmp_path, max_age_s=150).enforce() == [second]
    assert budget(tmp_path, max_bytes=1).enforce(spare=third) == []
    assert {stranger, named_alike, clip, third} == set(tmp_path.iterdir())


def test_what_was_written_before_the_clock_was_set_is_not_fifty_years_old(tmp_path: Path) -> None:
    early = old(tmp_path, "kestrel-19700101T000100Z.mp4", size=10, age_s=0)
    os.utime(early, (60, 60))
    assert budget(tmp_path, max_age_s=3600).enforce() == [], "clock set meanwhile"
    late = old(tmp_path, "kestrel-20260101T000100Z.mp4", size=10, age_s=-3600)
    assert budget(tmp_path, max_age_s=60).enforce() == [], "clock set back by an hour"
    assert budget(tmp_path, max_bytes=15).enforce() == [early] and late.exists()


def test_a_name_is_never_used_twice(tmp_path: Path) -> None:
    one = budget(tmp_path).new_path(0.0)
    one.touch()
    two = budget(tmp_path).new_path(0.0)
    assert one.name == "kestrel-19700101T000000Z.mp4" and two.name.endswith("Z-1.mp4")


class BadDisk:
    """Stands for VideoFileSink: while ``full``, nothing can be written."""

    full = True

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, source, labels) -> None:
        if self.full:
            raise SinkError(f"cannot record to {self.path}: the disk is full", disk_full=True)
        self.path.touch()

    def emit(self, each) -> None:
        if self.full:
            raise SinkError("stopped: the disk is full", disk_full=True)

    def close(self) -> None: ...


def test_a_disk_that_fills_ends_no_run_and_recording_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, meter = [0.0], OutputMeter("record")
    sink = SegmentsSink(
        RecordOptions(path=str(tmp_path)), meter, make=BadDisk, clock_s=lambda: now[0]
    )
    monkeypatch.setattr(BadDisk, "full", False)
    sink.open(CAMERA, LABELS)
    sink.emit(result(0))
    monkeypatch.setattr(BadDisk, "full", True)
    earlier = old(tmp_path, "kestrel-20250101T000000Z.mp4", size=9, age_s=9)
    for i in range(1, 50):
        now[0] += 0.1
        sink.emit(result(i))
    assert not earlier.exists(), "the oldest recording makes room"
    assert meter.figures().dropped == {"disk": 49} and "disk is full" in meter.trouble
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1, "told once"
    monkeypatch.setattr(BadDisk, "full", False)
    now[0] += RETRY_S
    sink.emit(result(50))
    sink.close()
    assert meter.figures().dropped == {"disk": 49} and meter.trouble == ""


def test_a_folder_that_cannot_be_made_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="no folder"):
        SegmentsSink(RecordOptions(path=str(tmp_path / "file")), OutputMeter("r")).open(CAMERA, ())
    with pytest.raises(SinkError, match="not a directory"):
        SegmentsSink(RecordOptions(path=str(tmp_path / "file" / "x")), OutputMeter("r")).open(
            CAMERA, ()
        )
