"""A clip holds the seconds before and after, and its memory stays bounded."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from app.config import ClipOptions
from app.core.errors import SinkError
from app.core.stats import OutputMeter
from app.sinks.events import EventMessage
from app.sinks.recordings import ClipSink
from tests.sinks.kit import CLIP, LABELS, gray, result, textured

APPEAR, GONE = EventMessage("appear", "person", "{}"), EventMessage("disappear", "person", "{}")


class Kept:
    """Stands for VideoFileSink: keeps what it got, a list a file."""

    def __init__(self) -> None:
        self.files: list[list[int]] = []
        self.levels: list[float] = []
        self.fail = False

    def make(self, path: Path) -> Kept:
        path.touch()
        self.files.append([])
        return self

    def open(self, source, labels) -> None: ...

    def emit(self, each) -> None:
        if self.fail:
            raise SinkError("the disk is full")
        self.files[-1].append(each.frame.index)
        self.levels.append(float(each.frame.pixels.mean()))

    def close(self) -> None: ...


def clipped(folder: Path, events: dict[int, EventMessage], count: int = 100, **options) -> Kept:
    """Frames 40 ms apart; events come before the frame of that number."""
    kept = Kept()
    options = {"before_s": 0.4, "after_s": 0.4} | options
    sink = ClipSink(ClipOptions(path=str(folder), **options), OutputMeter("clips"), make=kept.make)
    sink.open(CLIP, LABELS)
    for i in range(count):
        if i in events:
            sink.notice(events[i])
        sink.emit(result(i, pixels=gray(level=i)))
    sink.close()
    return kept


def test_a_clip_begins_before_and_ends_after(tmp_path: Path) -> None:
    kept = clipped(tmp_path, {30: APPEAR, 50: GONE})
    assert kept.files == [list(range(20, 61))]
    assert np.allclose(kept.levels, range(20, 61), atol=3), "each picture is its own"


def test_what_appears_again_before_the_end_makes_the_clip_longer(tmp_path: Path) -> None:
    kept = clipped(tmp_path, {30: APPEAR, 40: GONE, 45: APPEAR, 60: GONE})
    assert kept.files == [list(range(20, 71))]


def test_two_that_are_far_apart_are_two_clips(tmp_path: Path) -> None:
    kept = clipped(tmp_path, {20: APPEAR, 21: GONE, 70: APPEAR, 71: GONE})
    assert kept.files == [list(range(10, 32)), list(range(60, 82))]


def test_a_clip_has_a_longest_length(tmp_path: Path) -> None:
    kept = clipped(tmp_path, {30: APPEAR}, max_s=0.8)
    assert kept.files == [list(range(20, 51))]


def test_a_clip_under_way_at_the_end_is_finished(tmp_path: Path) -> None:
    assert clipped(tmp_path, {95: APPEAR}).files == [list(range(85, 100))]


def test_memory_is_bounded_in_bytes(tmp_path: Path) -> None:
    sink = ClipSink(
        ClipOptions(path=str(tmp_path), before_s=600, memory_mb=0.1), OutputMeter("clips")
    )
    sink.open(CLIP, LABELS)
    for i in range(30):
        sink.emit(result(i, pixels=textured(i)))
        assert sink._pictures.bytes <= 100_000
    assert sink._pictures.bytes > 1000


def test_a_clip_that_cannot_be_written_is_counted_and_the_run_goes_on(tmp_path: Path) -> None:
    kept, meter = Kept(), OutputMeter("clips")
    sink = ClipSink(ClipOptions(path=str(tmp_path)), meter, make=kept.make)
    sink.open(CLIP, LABELS)
    kept.fail = True
    sink.notice(APPEAR)
    sink.emit(result(0))
    sink.emit(result(1))
    sink.close()
    assert meter.figures().dropped == {"disk": 1} and "disk" in meter.trouble


def test_a_real_clip_plays(tmp_path: Path) -> None:
    options = ClipOptions(path=str(tmp_path), before_s=0.2, after_s=0.2)
    sink = ClipSink(options, OutputMeter("clips"))
    sink.open(CLIP, LABELS)
    for i in range(40):
        if i in (20, 25):
            sink.notice(APPEAR if i == 20 else GONE)
        sink.emit(result(i, pixels=textured(i)))
    sink.close()
    (file,) = tmp_path.glob("clip-*.mp4")
    with av.open(str(file)) as container:
        assert len(list(container.decode(video=0))) == 16  # frames 15 to 30
