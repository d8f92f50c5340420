"""Chaos happens as written, the same for the same seed, and a source outlives it."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from fake_clock import FakeClock
from hypothesis import given, strategies as st

from app.core.errors import ConfigError, SourceError
from app.core.frame import bgr_pixels
from app.sources.chaos import ChaosSource, Kind, Schedule
from app.sources.pattern import PatternOptions, PatternSource
from app.sources.reconnect import Endurance, ReconnectingSource
from app.sources.uri import make_source

FPS = 20


def pattern(clock, make=PatternSource):
    options = PatternOptions(wh_px=(64, 48), fps=FPS, boxes=1)
    return make(options, live=True, now_ns=clock.now_ns, sleep=clock.sleep)


def play(script, seconds, make=PatternSource):
    """[(second, frame, or the error that came)] of a source with the script."""
    clock = FakeClock()
    source = ChaosSource(
        pattern(clock, make), Schedule(script, now_ns=clock.now_ns), label="x", sleep=clock.sleep
    )
    source.open()
    seen, began_ns = [], clock.now_ns()
    while clock.now_ns() - began_ns < seconds * 1e9:
        try:
            frame = source.read(0.2)
        except SourceError as error:
            frame = error
            clock.sleep(0.2)
        seen.append(((clock.now_ns() - began_ns) / 1e9, frame))
    return seen


def during(seen, start_s, end_s):
    return [what for at_s, what in seen if start_s < at_s <= end_s and what is not None]


def test_freeze_repeats_one_picture_with_new_stamps():
    frames = during(play("freeze@1+2", 4), 1.1, 3)
    assert all(np.array_equal(f.pixels, frames[0].pixels) for f in frames)
    assert len({f.captured_ns for f in frames}) == len(frames) > 30
    after = during(play("freeze@1+2", 4), 3.1, 4)
    assert len({f.pixels.tobytes() for f in after}) == len(after)


def test_black_silent_and_size():
    seen = play("black@1+1,silent@3+1,size@5+1", 7)
    assert not any(f.pixels.any() for f in during(seen, 1.1, 2))
    assert during(seen, 3.1, 4) == []
    assert {f.wh_px for f in during(seen, 5.1, 6)} == {(32, 24)}
    assert {f.wh_px for f in during(seen, 6.1, 7)} == {(64, 48)}


def test_frames_in_planes_can_be_black_and_smaller():
    class Planes(PatternSource):
        def read(self, timeout_s):
            frame = super().read(timeout_s)
            pixels = cv2.cvtColor(frame.pixels, cv2.COLOR_BGR2YUV_I420)
            return replace(frame, pixels=pixels, format="i420")

    seen = play("black@1+1,size@3+1", 4, make=Planes)
    dark, small = (bgr_pixels(during(seen, at, at + 0.5)[0]) for at in (1.2, 3.2))
    assert not dark.any()
    whole = bgr_pixels(during(seen, 0, 0.5)[0])
    assert small.shape == (24, 32, 3) and abs(small.mean() - whole.mean()) < 12


def test_disconnect_is_a_fault_also_of_opening():
    clock = FakeClock()
    schedule = Schedule("disconnect@1+2", now_ns=clock.now_ns)
    source = ChaosSource(pattern(clock), schedule, label="x", sleep=clock.sleep)
    source.open()
    clock.sleep(1.5)
    with pytest.raises(SourceError, match="disconnected"):
        source.read(0.1)
    again = ChaosSource(pattern(clock), schedule, label="x", sleep=clock.sleep)
    with pytest.raises(SourceError, match="disconnected"):
        again.open()
    clock.sleep(2)
    assert again.open().live


def test_a_read_that_hangs_returns_when_it_is_over_or_closed():
    seen = play("hang@1+3", 5)
    assert during(seen, 1.2, 3.9) == [] and during(seen, 4.1, 5)


def test_corrupt_jitter_burst_and_clock():
    seen = play("corrupt@1+1,burst@3+2,clock@6+1,jitter@8+1", 9)
    clean, noisy = during(seen, 0, 1)[-1], during(seen, 1.1, 2)
    assert sum((f.pixels != clean.pixels).mean() > 0.02 for f in noisy) > 10
    held = [at_s for at_s, f in seen if 3 < at_s <= 5 and f is not None]
    assert len(held) > 20 and np.diff(held).max() > 0.4 and np.median(np.diff(held)) < 0.01
    stamps_s = [f.captured_ns / 1e9 for f in during(seen, 6.1, 7)]
    assert stamps_s and all(abs(s) > 3500 for s in stamps_s)


def test_script_repeats():
    seen = play("black@1+1/3", 9)
    for cycle in range(3):
        assert not any(f.pixels.any() for f in during(seen, 3 * cycle + 1.1, 3 * cycle + 2))
        assert all(f.pixels.any() for f in during(seen, 3 * cycle + 2.1, 3 * cycle + 3))


def test_same_seed_same_chaos_and_rate_is_a_factor():
    def happened(text, seconds=3600):
        clock, found = FakeClock(), []
        schedule = Schedule(text, now_ns=clock.now_ns)
        schedule.begin()
        for _ in range(seconds):
            clock.sleep(1)
            event = schedule.now()
            if event and (not found or found[-1] != event):
                found.append(event)
        return found

    assert happened("7") == happened("7") != happened("8")
    assert 25 < len(happened("7")) < 80
    assert len(happened("7*10")) > 4 * len(happened("7"))
    assert {event.kind for event in happened("7*10")} == set(Kind)


def test_a_reconnecting_source_outlives_every_kind_of_chaos():
    clock = FakeClock()
    schedule = Schedule("7*10", now_ns=clock.now_ns)
    sources = []

    class Direct:  # the reader without its thread, so that the fake clock rules
        def __init__(self, make):
            self.source, self.info, self.left = make(), None, False

        def take(self, timeout_s):
            if self.info is None:
                self.info = self.source.open()
                return None
            return self.source.read(timeout_s)

        def leave(self):
            self.source.close()
            self.left = True

        def gone(self, timeout_s=0.0):
            return self.left

    def make():
        sources.append(ChaosSource(pattern(clock), schedule, label="x", sleep=clock.sleep))
        return sources[-1]

    lasting = ReconnectingSource(
        make,
        label="x",
        endurance=Endurance(stall_s=0.5, silent_s=2, freeze_s=3, retry_s=0.5),
        begin=Direct,
        now_ns=clock.now_ns,
        sleep=clock.sleep,
    )
    lasting.open()
    indices, live_s, last_s = [], 0.0, clock.now_ns() / 1e9
    while clock.now_ns() < 1200e9:
        frame = lasting.read(0.2)
        now_s = clock.now_ns() / 1e9
        if frame is not None:
            indices.append(frame.index)
            assert 0 <= clock.now_ns() - frame.captured_ns < 2e9
            live_s += min(0.2, now_s - last_s)
            last_s = now_s
    assert indices == sorted(set(indices)) and len(sources) > 15
    assert live_s > 300


def test_chaos_in_a_uri():
    source = make_source("chaos:7:pattern:?fps=50", realtime=True, endurance=Endurance())
    assert isinstance(source, ReconnectingSource)
    info = source.open()
    assert info.live and info.frame_count is None and info.detail.endswith("chaos")
    source.close()
    for wrong in ("chaos:", "chaos:7", "chaos:x:pattern:", "chaos:black@1:pattern:"):
        with pytest.raises(ConfigError, match="chaos"):
            make_source(wrong, realtime=True)
    for wrong in ("chaos:7:chaos:7:pattern:", "chaos:black@1+1/x:pattern:"):
        with pytest.raises(ConfigError, match="chaos"):
            make_source(wrong, realtime=True)
    with pytest.raises(ConfigError, match="run and soak"):
        make_source("chaos:7:sample:", realtime=False)


@given(st.one_of(st.text(max_size=30), st.from_regex(r"[a-z@+,/*.0-9]{0,30}", fullmatch=True)))
def test_any_other_script_is_a_configuration_error(text):
    with contextlib.suppress(ConfigError):
        schedule = Schedule(text, now_ns=FakeClock().now_ns)
        schedule.begin()
        schedule.now()
