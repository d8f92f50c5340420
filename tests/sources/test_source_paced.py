"""A recording plays at its own speed, without bursts, and stops when asked."""

from __future__ import annotations

import numpy as np
import pytest
from fake_clock import FakeClock

from app.core.errors import SourceEnded
from app.core.frame import Frame, SourceInfo
from app.sources.base import Paced
from app.sources.uri import make_source

PIXELS = np.zeros((2, 2, 3), np.uint8)
MS = 1_000_000


class FakeRecording:
    """Frames at the given places in milliseconds; None: live."""

    def __init__(self, places_ms, *, live=False):
        self.places_ms, self.live, self.index, self.closed = places_ms, live, 0, False

    def open(self):
        return SourceInfo("fake:", self.live)

    def read(self, timeout_s):
        if self.index == len(self.places_ms):
            raise SourceEnded
        place_ms = self.places_ms[self.index]
        self.index += 1
        return Frame(PIXELS, self.index - 1, 5, None if place_ms is None else place_ms * MS)

    def close(self):
        self.closed = True


def paced(places_ms, **more):
    clock = FakeClock()
    source = Paced(FakeRecording(places_ms, **more), now_ns=clock.now_ns, sleep=clock.sleep)
    source.open()
    return source, clock


def play(source, clock, timeout_s=10.0):
    """Milliseconds since the first frame at which each is delivered."""
    stamps = []
    with pytest.raises(SourceEnded):
        while True:
            frame = source.read(timeout_s)
            if frame is not None:
                assert frame.captured_ns == clock.now_ns()
                stamps.append(frame.captured_ns)
    return [(ns - stamps[0]) // MS for ns in stamps]


def test_a_paced_recording_counts_as_live():
    assert Paced(FakeRecording([0])).open().live


def test_frames_come_when_they_are_due():
    source, clock = paced([0, 80, 170, 250])
    clock.sleep(3.0)  # the first frame starts the clock, not the opening
    assert play(source, clock) == [0, 80, 170, 250]


def test_a_recording_plays_slower_and_faster():
    for speed, stamps in ((0.5, [0, 160, 340, 500]), (2.0, [0, 40, 85, 125])):
        source, clock = paced([0, 80, 170, 250])
        source.speed = speed
        assert play(source, clock) == stamps
        assert source.speed == speed


def test_another_speed_holds_from_the_next_frame_on_which_is_due_at_once():
    source, clock = paced([0, 1000, 2000])
    assert source.read(0.1).index == 0
    assert source.read(0.1) is None
    before_ns = clock.now_ns()
    source.speed = 4.0
    assert source.read(0.1).index == 1 and clock.now_ns() == before_ns
    assert source.read(5.0).index == 2 and clock.now_ns() - before_ns == 250 * MS


def test_short_timeouts_change_nothing():
    source, clock = paced([0, 80, 170, 250])
    assert play(source, clock, timeout_s=0.007) == [0, 80, 170, 250]


def test_read_gives_none_within_its_timeout():
    source, clock = paced([0, 5000])
    assert source.read(0.1).index == 0
    before_ns = clock.now_ns()
    assert source.read(0.1) is None
    assert clock.now_ns() - before_ns == 100 * MS
    assert source.read(0.0) is None


def test_small_lateness_is_caught_up():
    source, clock = paced([0, 100, 200, 300])
    start_ns = source.read(1.0).captured_ns
    clock.sleep(0.25)
    at_ms = [(source.read(1.0).captured_ns - start_ns) // MS for _ in range(3)]
    assert at_ms == [250, 250, 300]


def test_long_lateness_starts_the_clock_again():
    source, clock = paced([0, 100, 200, 300])
    start_ns = source.read(1.0).captured_ns
    clock.sleep(60.0)
    at_ms = [(source.read(1.0).captured_ns - start_ns) // MS for _ in range(3)]
    assert at_ms == [60_000, 60_100, 60_200]


def test_live_frames_pass_untouched():
    source, _ = paced([None, None], live=True)
    assert [source.read(1.0).captured_ns for _ in range(2)] == [5, 5]


def test_close_closes_the_recording():
    source, _ = paced([0])
    source.close()
    assert source.inner.closed


def test_real_clip_takes_its_time(clip, read_all):
    frames = read_all(make_source(str(clip), realtime=True), limit=20)
    assert [f.index for f in frames] == list(range(20))
    assert 0.9 < (frames[-1].captured_ns - frames[0].captured_ns) / 1e9 < 20  # 19 of 50 ms
