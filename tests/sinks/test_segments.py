"""Recordings rotate, stay within their budget, and outlive a bad disk."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest

from app.config import RecordOptions
from app.core.errors import SinkError
from app.core.stats import OutputMeter
from app.sinks.budget import Budget
from app.sinks.recordings import RETRY_S, SegmentsSink
from tests.sinks.kit import CAMERA, LABELS, result, textured


def recorded(path: Path) -> int:
    with av.open(str(path)) as container:
        return len(list(container.decode(video=0)))


def budget(folder: Path, max_bytes: int = 10**9, max_age_s: float = 10**9, **more: Any) -> Budget:
    return Budget(folder=folder, prefix="kestrel", max_bytes=max_bytes, max_age_s=max_age_s, **more)


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
    files = sorted((tmp_path / "new" / "folder").glob("*.mp4"))
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
    files = list(tmp_path.glob("*.mp4"))
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


DAY_S = 86_400.0


class Clocks:
    """A wall clock that jumps, and a monotonic one that does not."""

    def __init__(self) -> None:
        self.wall_s, self.clock_s = time.time(), 1000.0

    def pass_s(self, seconds: float) -> None:
        self.wall_s, self.clock_s = self.wall_s + seconds, self.clock_s + seconds

    def of(self, folder: Path, **more: Any) -> Budget:
        clocks = {"wall_s": lambda: self.wall_s, "clock_s": lambda: self.clock_s}
        return budget(folder, **clocks, **more)


def test_what_was_written_before_the_clock_was_set_is_not_fifty_years_old(tmp_path: Path) -> None:
    early = old(tmp_path, "kestrel-19700101T000100Z.mp4", size=10, age_s=0)
    os.utime(early, (60, 60))
    assert budget(tmp_path, max_age_s=3600).enforce() == [], "clock set meanwhile"
    late = old(tmp_path, "kestrel-20260101T000100Z.mp4", size=10, age_s=-3600)
    assert budget(tmp_path, max_age_s=60).enforce() == [], "clock set back by an hour"
    assert budget(tmp_path, max_bytes=15).enforce() == [early] and late.exists()


@pytest.mark.parametrize("jump_s", [3650 * DAY_S, 2 * DAY_S, -3650 * DAY_S])
def test_a_jump_of_the_clock_in_a_run_removes_nothing(tmp_path: Path, jump_s: float) -> None:
    clocks = Clocks()
    kept = [old(tmp_path, f"kestrel-2026010{i}T000000Z.mp4", size=9, age_s=60 * i) for i in (2, 1)]
    folder = clocks.of(tmp_path, max_age_s=DAY_S)
    assert folder.enforce() == []
    clocks.wall_s += jump_s
    new = folder.new_path()
    new.touch()
    os.utime(new, (clocks.wall_s,) * 2)
    assert folder.enforce() == [] and all(path.exists() for path in [*kept, new])
    clocks.pass_s(DAY_S - 90)
    assert folder.enforce() == [kept[0]], "time that has passed does count"
    clocks.pass_s(60)
    assert folder.enforce() == [kept[1]]
    clocks.pass_s(DAY_S)
    assert folder.enforce() == [new]


def test_a_clock_that_is_wrong_at_the_start_removes_nothing(tmp_path: Path) -> None:
    clocks = Clocks()
    path = old(tmp_path, "kestrel-20260101T000000Z.mp4", size=9, age_s=600)
    for jump_s in (3650 * DAY_S, 0, -7300 * DAY_S):  # of each run, or of each opening
        clocks.wall_s += jump_s
        folder = clocks.of(tmp_path, max_age_s=3 * DAY_S)
        folder.claim()
        new = folder.new_path(clocks.wall_s)
        new.touch()
        os.utime(new, (clocks.wall_s,) * 2)
        assert folder.enforce() == []
        folder.release()
    clocks.pass_s(0.9 * DAY_S)
    folder = clocks.of(tmp_path, max_age_s=0.5 * DAY_S)
    folder.claim()
    assert path in folder.enforce(), "the time between two runs counts"
    folder.release()


def test_after_a_clock_set_back_the_oldest_still_go_first(tmp_path: Path) -> None:
    clocks = Clocks()
    first = old(tmp_path, "kestrel-20260101T000000Z.mp4", size=600, age_s=60)
    folder = clocks.of(tmp_path, max_bytes=1000)
    folder.enforce()
    clocks.wall_s -= 365 * DAY_S
    new = folder.new_path(clocks.wall_s)
    new.write_bytes(bytes(600))
    os.utime(new, (clocks.wall_s,) * 2)
    clocks.pass_s(1)
    assert folder.enforce() == [first] and new.exists()


def test_what_lies_beside_a_recording_counts_and_goes_with_it(tmp_path: Path) -> None:
    video = old(tmp_path, "kestrel-20260101T000000Z.mp4", size=100, age_s=9)
    boxes = old(tmp_path, "kestrel-20260101T000000Z.jsonl", size=100, age_s=9)
    last = old(tmp_path, "kestrel-20260102T000000Z.mp4", size=100, age_s=1)
    assert budget(tmp_path, max_bytes=250).enforce() == [video]
    assert set(tmp_path.iterdir()) == {last} and not boxes.exists()


def filled(monkeypatch: pytest.MonkeyPatch, used: int) -> None:
    """The disk is full, with so many bytes in use."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(used=used))


def rooms(folder: Budget) -> int:
    """How often room could be made."""
    return sum(iter(folder.make_room, False))


def test_recordings_do_not_make_room_for_other_data_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for i in range(10):
        old(tmp_path, f"kestrel-2026010{i}T000000Z.mp4", size=100, age_s=100 - i)
    filled(monkeypatch, 10**6)
    assert rooms(budget(tmp_path, keep_bytes=750)) == 2, "the last 800 bytes: 700 are too few"
    folder = budget(tmp_path)
    assert rooms(folder) == 4, "half of the 800 that there were"
    assert rooms(folder) == 0 and len(list(tmp_path.iterdir())) == 4
    told = [each for each in caplog.records if "other data" in each.message]
    assert len(told) == 2, "once a run"


def test_recordings_that_fill_the_disk_by_themselves_are_a_ring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(4):
        old(tmp_path, f"kestrel-2026010{i}T000000Z.mp4", size=100, age_s=100 - i)
    filled(monkeypatch, 500)
    folder = budget(tmp_path)
    assert rooms(folder) == 2, "200 of 500 are no longer most of it"


def test_a_folder_belongs_to_one_run(tmp_path: Path) -> None:
    options = RecordOptions(path=str(tmp_path))
    one, two = (SegmentsSink(options, OutputMeter("record")) for _ in range(2))
    one.open(CAMERA, LABELS)
    with pytest.raises(SinkError, match="another run"):
        two.open(CAMERA, LABELS)
    one.emit(result(0))
    one.close()
    two.open(CAMERA, LABELS)
    two.close()


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
    filled(monkeypatch, 10)
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
