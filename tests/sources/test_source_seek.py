"""The frame after a move is the one that lies there, to the pixel."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from app.core.errors import SourceEnded
from app.core.interfaces import Seekable
from app.sources.base import MediaClock
from app.sources.uri import is_recording, make_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(6):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((8, 8, 3), 40 * i, np.uint8))
    return tmp_path


def read_all(source) -> list:
    frames = []
    try:
        while True:
            frames.append(source.read(1.0))
    except SourceEnded:
        return frames


@pytest.mark.parametrize("kind", ["clip", "folder"])
def test_every_place_is_found_forward_and_back(kind: str, folder: Path) -> None:
    source = make_source("sample:" if kind == "clip" else str(folder), realtime=False)
    assert isinstance(source, Seekable)
    source.open()
    assert source.can_seek
    count = 60 if kind == "clip" else 6
    straight = [source.read(1.0) for _ in range(count)]
    straight = [(frame.media_ns, frame.pixels.copy()) for frame in straight]
    for place in (0, count - 1, count // 2, 1, count // 2 + 1, 0):
        media_ns, pixels = straight[place]
        source.seek(media_ns)
        frame = source.read(1.0)
        assert frame.media_ns == media_ns and (frame.pixels == pixels).all(), place
    following = source.read(1.0)
    assert following.media_ns == straight[1][0]
    source.close()


def test_move_close_to_the_end_is_followed_by_the_end_and_no_fault() -> None:
    source = make_source("sample:", realtime=False)
    source.open()
    source.seek(11_800_000_000)
    assert 1 <= len(read_all(source)) <= 4
    source.close()


def test_paced_recording_goes_on_from_there_at_once(folder: Path) -> None:
    source = make_source(str(folder), realtime=True)
    source.open()
    assert source.read(1.0).media_ns == 0
    source.seek(500_000_000)
    assert source.read(0.0).media_ns == 500_000_000  # not half a second later
    source.close()


def test_streams_and_isolated_files_do_not_offer_it(folder: Path) -> None:
    isolated = make_source("sample:", realtime=True, isolate=True)
    assert not isolated.can_seek


def test_clock_that_starts_over_counts_the_same_again() -> None:
    clock = MediaClock(fps=10.0, label="x")
    first = [clock.place(0), clock.place(0), clock.place(0)]
    clock.restart()
    assert [clock.place(0), clock.place(0), clock.place(0)] == first == [0, 100e6, 200e6]


@pytest.mark.parametrize(
    ("uri", "has_an_end"),
    [
        ("camera:0", False),
        ("/dev/video0", False),
        ("rtsp://host/x", False),
        ("http://host/live", False),
        ("pattern:", False),
        ("pattern:?frames=10", True),
        ("sample:", True),
        ("clip.mp4", True),
    ],
)
def test_what_has_an_end_of_its_own(uri: str, has_an_end: bool) -> None:
    assert is_recording(uri) is has_an_end
