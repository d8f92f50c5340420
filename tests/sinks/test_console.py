"""What people see at a terminal: progress, and what was in the run."""

from __future__ import annotations

import dataclasses
import io
import os
import pty
import select
from pathlib import Path

import pytest

from app.sinks import console as progress
from app.sinks.console import LabelSummary, ProgressSink, SummarySink
from tests.sinks.kit import CAMERA, CLIP, LABELS, found, result


class Terminal:
    """A pseudo-terminal: what is written to ``stream`` is what a person would get."""

    def __init__(self) -> None:
        self._reading, writing = pty.openpty()
        self.stream = os.fdopen(writing, "w")

    def text(self) -> str:
        """All of it: a terminal hands it over in pieces, a moment after it was written."""
        read = b""
        while select.select([self._reading], [], [], 0.1)[0]:
            read += os.read(self._reading, 100_000)
        return read.decode()

    def close(self) -> None:
        if not self.stream.closed:
            self.stream.close()
        os.close(self._reading)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    opened = Terminal()
    yield opened
    opened.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    return now


def test_line_on_a_terminal_says_how_far_how_fast_and_what(terminal, clock) -> None:
    sink = ProgressSink(stream=terminal.stream)
    sink.open(CLIP, LABELS)
    for i in range(31):
        sink.emit(
            result(i, found((0, 0.9, 0, 0, 9, 9), (0, 0.8, 0, 0, 9, 9), (1, 0.7, 0, 0, 9, 9)))
        )
        clock[0] += 0.04
    last = terminal.text().split("\r")[-1]
    assert last == "\x1b[Kframe 31 of 60 (51 %)  25.0 FPS  0:01 left  2 person, 1 dog"
    sink.close()
    assert terminal.text() == "\r\x1b[K"  # a clean line for what comes next


def test_redraw_is_at_most_five_times_a_second(terminal, clock) -> None:
    sink = ProgressSink(stream=terminal.stream)
    sink.open(CAMERA, LABELS)
    for i in range(1000):
        sink.emit(result(i))
        clock[0] += 0.002
    assert 9 <= terminal.text().count("frame") <= 10


def test_live_source_has_no_end(terminal, clock) -> None:
    sink = ProgressSink(stream=terminal.stream)
    sink.open(CAMERA, LABELS)
    sink.emit(result())
    assert terminal.text() == "\r\x1b[Kframe 1  0.0 FPS  nothing"


def test_recording_at_its_own_pace_has_an_end_too(terminal, clock) -> None:
    sink = ProgressSink(stream=terminal.stream)
    sink.open(dataclasses.replace(CLIP, live=True), LABELS)
    for i in range(31):
        sink.emit(result(i))
        clock[0] += 0.04
    assert terminal.text().endswith("frame 31 of 60 (51 %)  25.0 FPS  0:01 left  nothing")


def test_dropped_frames_count_for_the_way_but_not_for_the_rate(terminal, clock) -> None:
    sink = ProgressSink(stream=terminal.stream)
    sink.open(dataclasses.replace(CLIP, live=True), LABELS)
    for i in range(0, 31, 2):
        sink.emit(result(i))
        clock[0] += 0.08
    assert "frame 31 of 60 (51 %)  12.5 FPS  0:01 left" in terminal.text()


def test_total_that_was_wrong_by_one_never_shows_more_than_all(terminal, clock) -> None:
    sink = ProgressSink(2, terminal.stream)
    sink.open(CLIP, LABELS)
    for i in range(3):
        sink.emit(result(i))
        clock[0] += 1
    assert "frame 3 of 3 (100 %)" in terminal.text()


def test_line_is_cut_to_the_terminals_width(terminal, clock, monkeypatch) -> None:
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((20, 5)))
    sink = ProgressSink(stream=terminal.stream)
    sink.open(CLIP, LABELS)
    sink.emit(result())
    assert len(terminal.text()) == len("\r\x1b[K") + 19


def test_clear_makes_room_for_a_log_line(terminal, clock) -> None:
    sink = ProgressSink(stream=terminal.stream)
    sink.open(CLIP, LABELS)
    sink.clear()
    assert terminal.text() == ""
    sink.emit(result())
    terminal.text()
    sink.clear()
    sink.clear()
    assert terminal.text() == "\r\x1b[K"


def test_nothing_is_written_where_nobody_looks(tmp_path: Path, monkeypatch) -> None:
    with (tmp_path / "log").open("w") as log:
        for stream in (log, io.StringIO()):
            sink = ProgressSink(10, stream)
            sink.open(CLIP, LABELS)
            sink.emit(result())
            sink.close()
    assert (tmp_path / "log").read_text() == ""
    monkeypatch.setattr("sys.stderr", None)
    sink = ProgressSink()
    sink.open(CLIP, LABELS)
    sink.emit(result())
    sink.close()


def test_dumb_terminal_gets_nothing(terminal, monkeypatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    sink = ProgressSink(10, terminal.stream)
    sink.open(CLIP, LABELS)
    sink.emit(result())
    sink.close()
    assert terminal.text() == ""


def test_terminal_that_goes_away_ends_no_run(terminal, clock) -> None:
    sink = ProgressSink(10, terminal.stream)
    sink.open(CLIP, LABELS)
    sink.emit(result())
    terminal.stream.close()
    clock[0] += 1
    sink.emit(result(1))
    sink.close()


BOX = (0, 0, 9, 9)


def summed(*detections) -> SummarySink:
    sink = SummarySink()
    sink.open(CLIP, LABELS)
    for i, each in enumerate(detections):
        sink.emit(result(i, each))
    sink.close()
    return sink


def test_frames_most_at_once_and_best_score_are_counted_per_label() -> None:
    sink = summed(
        found((0, 0.9, *BOX), (1, 0.8, *BOX), (0, 0.7, *BOX)), None, found((0, 0.95, *BOX))
    )
    assert sink.frames == 3
    person, dog = sink.labels()
    assert (person.label, person.frames, person.most_at_once) == ("person", 2, 2)
    assert round(person.best_score, 3) == 0.95
    assert (dog.label, dog.frames, dog.most_at_once) == ("dog", 1, 1)
    assert "\n".join(sink.lines()) == (
        "person in 2 of 3 frames (at most 2 at once, best score 0.95)\n"
        "dog in 1 of 3 frames (at most 1 at once, best score 0.80)"
    )


def test_run_that_saw_nothing_says_so() -> None:
    assert summed(None, None).lines() == ["nothing in 2 frames"]
    assert summed().lines() == ["no frames"]


def test_many_labels_are_cut_short() -> None:
    sink = summed(found(*((i, 0.9, *BOX) for i in range(50))))
    assert len(sink.lines(5)) == 6 and sink.lines(5)[-1] == "and 45 more labels"
    assert LabelSummary("class 7", 1, 1, sink.labels()[0].best_score) in sink.labels()


def test_memory_does_not_grow_with_frames() -> None:
    sink = summed(*[found((i % 3, 0.9, *BOX)) for i in range(3000)])
    assert len(sink.labels()) == 3 and len(sink._seen) == 3
