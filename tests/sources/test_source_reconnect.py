"""A source comes back from everything that can happen to it (fake source, fake clock)."""

from __future__ import annotations

import gc
import logging
import random
import threading
import weakref

import numpy as np
import pytest
from fake_clock import FakeClock
from stream_servers import wait_until

from app.core.errors import SourceEnded, SourceError
from app.core.frame import Frame, SourceInfo
from app.sources.reconnect import (
    FIRST_WAIT_S,
    MOST_LEFT_BEHIND,
    Endurance,
    Reader,
    ReconnectingSource,
)

FPS = 20
NOISY, STILL, BLACK = "noisy", "still", "black"


class FakeCamera:
    """The world behind the source: what it does now, whichever opening asks."""

    def __init__(self, clock: FakeClock):
        self.clock = clock
        self.open_error = self.error = None
        self.silent = self.hangs = self.bursts = False
        self.clock_off_ns = 0  # of its time stamps
        self.kind, self.wh_px, self.fps, self.frame_count = NOISY, (64, 48), None, None
        self.attempts = []
        self.rng = np.random.default_rng(1)

    def begin(self, make):
        self.attempts.append(FakeAttempt(self))
        return self.attempts[-1]

    def picture(self):
        width, height = self.wh_px
        if self.kind == STILL:
            return np.full((height, width, 3), 90, np.uint8)
        noise = self.rng.integers(0, 8, (height, width, 3), np.uint8)
        return noise if self.kind == BLACK else noise + np.uint8(90)


class FakeAttempt:
    def __init__(self, camera):
        self.camera, self.info, self.left, self.index = camera, None, False, 0

    def take(self, timeout_s):
        camera, clock = self.camera, self.camera.clock
        if camera.hangs:
            clock.sleep(timeout_s)
            return None
        if camera.open_error:
            raise SourceError(camera.open_error)
        if self.info is None:
            self.info = SourceInfo("x", True, camera.wh_px, camera.fps, camera.frame_count)
            return None
        if camera.error:
            raise camera.error
        if camera.silent:
            clock.sleep(timeout_s)
            return None
        if not camera.bursts:
            clock.sleep(1 / FPS)
        self.index += 1
        media_ns = 1 if camera.frame_count else None
        stamp_ns = clock.now_ns() + camera.clock_off_ns
        return Frame(camera.picture(), self.index - 1, stamp_ns, media_ns)

    def leave(self):
        self.left = True

    def gone(self, timeout_s=0.0):
        return self.left and not self.camera.hangs


class Heard:
    def __init__(self):
        self.states, self.events = [], []

    def state_changed(self, state, why):
        self.states.append(state)

    def noticed(self, event):
        self.events.append(event)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def camera(clock):
    return FakeCamera(clock)


@pytest.fixture
def make(camera, clock):
    def make(**endurance):
        source = ReconnectingSource(
            lambda: pytest.fail("not used"),
            label="x",
            endurance=Endurance(**endurance),
            begin=camera.begin,
            now_ns=clock.now_ns,
            sleep=clock.sleep,
            rng=random.Random(7),
        )
        source.heard = Heard()
        source.listen(source.heard)
        return source

    return make


def watch(source, clock, seconds):
    """All frames of so many seconds."""
    until_ns = clock.now_ns() + round(seconds * 1e9)
    frames = []
    while clock.now_ns() < until_ns:
        frame = source.read(0.2)
        if frame is not None:
            frames.append(frame)
    return frames


def test_a_source_that_is_well_is_passed_on(make, clock):
    source = make()
    assert source.open().wh_px == (64, 48)
    frames = watch(source, clock, 3)
    assert [f.index for f in frames] == list(range(len(frames))) and len(frames) >= 55
    assert source.heard.states == ["live"] and not source.heard.events


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_steps_by_an_hour_costs_no_frame_and_no_age(make, camera, clock, hours):
    source = make()
    source.open()
    watch(source, clock, 2)
    camera.clock_off_ns = round(hours * 3600e9)
    frames = []
    for _ in range(60):
        frame = source.read(0.2)
        if frame is not None:
            frames.append(frame)
            assert 0 <= clock.now_ns() - frame.captured_ns < 1e9
    assert len(frames) >= 55 and source.state == "live"
    assert source.heard.events == ["clock steps"]
    camera.clock_off_ns = 0
    assert len(watch(source, clock, 3)) >= 55 and source.heard.states == ["live"]


def test_first_opening_that_fails_ends_it(make, camera):
    camera.open_error = "connection refused: check the port"
    source = make()
    with pytest.raises(SourceError, match="check the port"):
        source.open()
    assert source.state == "failed" and source.heard.states == ["failed"]
    source.close()
    assert all(each.left for each in camera.attempts)


def test_with_wait_a_source_that_is_not_there_yet_is_waited_for(make, camera, clock):
    camera.open_error = "not there"
    source = make(wait=True)
    assert source.open().wh_px is None
    assert watch(source, clock, 60) == []
    camera.open_error = None
    frames = watch(source, clock, 5)
    assert frames and source.state == "live"
    assert source.heard.states == ["offline", "live"]
    assert source.heard.events == [], "what never was there is no loss"


def test_a_source_that_is_away_for_long_is_offline(make, camera, clock):
    source = make()
    source.open()
    watch(source, clock, 1)
    camera.error, camera.open_error = SourceError("cable"), "not there"
    watch(source, clock, 20)
    assert source.state == "reconnecting"
    watch(source, clock, 20)
    assert source.state == "offline"
    camera.error = camera.open_error = None
    assert watch(source, clock, 5)
    assert source.heard.states == ["live", "reconnecting", "offline", "live"]
    assert source.heard.events == ["losses", "reconnects"]


def test_a_lost_source_is_opened_again_and_its_frames_are_numbered_on(make, camera, clock):
    source = make()
    source.open()
    first = watch(source, clock, 1)
    camera.error = SourceError("cable")
    assert watch(source, clock, 5) == []
    camera.error = None
    camera.attempts[-1].index = 0
    second = watch(source, clock, 4)
    indices = [f.index for f in first + second]
    assert indices == sorted(set(indices)) and second
    assert source.heard.states == ["live", "reconnecting", "live"]
    assert all(each.left for each in camera.attempts[:-1])
    assert source.heard.events == ["losses", "reconnects"]  # however many attempts it took


def test_back_off_doubles_is_bounded_and_has_jitter(make, camera, clock):
    source = make(retry_s=4.0)
    source.open()
    watch(source, clock, 0.5)
    camera.error, camera.open_error = SourceError("gone"), "gone"
    begun = []
    camera.begin = lambda make, begin=camera.begin: begun.append(clock.now_ns()) or begin(make)
    source._begin_attempt = camera.begin
    watch(source, clock, 120)
    gaps_s = np.diff(begun) / 1e9
    assert gaps_s[0] < 4 * FIRST_WAIT_S and gaps_s.max() <= 4.01
    assert (gaps_s[6:] >= 1.99).all() and len(set(gaps_s[6:].round(3))) > 5


def test_source_that_dies_after_each_opening_is_not_asked_all_the_time(make, camera, clock):
    source = make(retry_s=4.0)
    source.open()
    for _ in range(20):
        camera.error = None
        while source.state != "live" or not camera.attempts[-1].index:
            source.read(0.2)
        camera.error = SourceError("flaps")
        while source.state == "live":
            source.read(0.2)
    assert clock.now_ns() > 40e9
    assert source.heard.events.count("losses") == 20


def test_silence_is_told_then_ended(make, camera, clock):
    source = make(stall_s=2, silent_s=10)
    source.open()
    watch(source, clock, 1)
    camera.silent = True
    watch(source, clock, 5)
    assert source.state == "stalled" and len(camera.attempts) == 1
    watch(source, clock, 6)
    assert source.state == "reconnecting" or len(camera.attempts) > 1
    camera.silent = False
    watch(source, clock, 3)
    assert source.heard.states == ["live", "stalled", "reconnecting", "live"]
    assert source.heard.events.count("stalls") == 1


def test_short_silence_needs_no_new_opening(make, camera, clock, caplog):
    caplog.set_level(logging.INFO)
    source = make()
    source.open()
    watch(source, clock, 1)
    camera.silent = True
    watch(source, clock, 5)
    camera.silent = False
    watch(source, clock, 1)
    assert source.heard.states == ["live", "stalled", "live"] and len(camera.attempts) == 1
    assert len(caplog.records) == 2  # one line a change


def test_a_driver_that_hangs_is_left_behind_and_only_so_often(make, camera, clock):
    source = make(open_s=3, silent_s=5)
    source.open()
    watch(source, clock, 1)
    camera.hangs = True
    watch(source, clock, 300)
    assert len(camera.attempts) == MOST_LEFT_BEHIND
    assert all(each.left for each in camera.attempts)
    camera.hangs = False
    assert watch(source, clock, 5) and source.state == "live"


def test_opening_that_never_returns_is_an_error_in_time(make, camera, clock):
    camera.hangs = True
    source = make(open_s=3)
    with pytest.raises(SourceError, match="did not open within 3 s"):
        source.open()
    assert clock.now_ns() < 6e9


def test_frozen_picture_is_a_lost_source(make, camera, clock):
    source = make(freeze_s=10)
    source.open()
    watch(source, clock, 2)
    camera.kind = STILL
    watch(source, clock, 9)
    assert source.heard.events == []
    watch(source, clock, 3)
    assert source.heard.events == ["freezes", "losses", "reconnects"]
    camera.kind = NOISY
    assert watch(source, clock, 3) and source.state == "live"


def test_a_still_that_stays_is_asked_less_and_less_often(make, camera, clock):
    camera.kind = STILL
    source = make(freeze_s=10)
    source.open()
    watch(source, clock, 700)
    assert 4 <= source.heard.events.count("freezes") <= 7


def test_still_scene_with_sensor_noise_is_no_freeze(make, camera, clock):
    camera.rng = np.random.default_rng(2)
    camera.wh_px = (320, 240)
    base = np.full((240, 320, 3), 90, np.uint8)

    def picture():  # one grey level here and there, the least that a sensor does
        pixels = base.copy()
        y, x = 3 * camera.rng.integers(0, 80), camera.rng.integers(0, 320)  # never a sample
        pixels[y, x] += 1
        return pixels

    camera.picture = picture
    source = make(freeze_s=5)
    source.open()
    watch(source, clock, 60)
    assert source.heard.events == []


@pytest.mark.parametrize("freeze_s", [None, 5])
def test_freezes_can_be_allowed_and_recordings_have_none(make, camera, clock, freeze_s):
    camera.kind = STILL
    camera.frame_count = 100 if freeze_s else None
    source = make(freeze_s=freeze_s)
    source.open()
    watch(source, clock, 100)
    assert source.heard.events == []


def test_black_picture_is_told_once_and_is_no_fault(make, camera, clock, caplog):
    caplog.set_level(logging.INFO)
    source = make(black_s=5)
    source.open()
    camera.kind = BLACK
    assert len(watch(source, clock, 20)) > 300
    camera.kind = NOISY
    watch(source, clock, 1)
    assert source.heard.events == ["black"] and source.heard.states == ["live"]
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO"]


def test_another_size_goes_on(make, camera, clock):
    source = make()
    source.open()
    watch(source, clock, 1)
    camera.wh_px = (32, 24)
    frames = watch(source, clock, 1)
    assert {f.wh_px for f in frames} == {(32, 24)}
    assert source.heard.events == ["size changes"] and len(camera.attempts) == 1


def test_own_sleep_is_not_the_sources_silence(make, camera, clock):
    source = make(silent_s=10)
    source.open()
    watch(source, clock, 1)
    clock.sleep(3600)  # this process was stopped: nobody read
    camera.silent = True
    watch(source, clock, 1)
    camera.silent = False
    watch(source, clock, 1)
    assert source.heard.states == ["live"]


def test_burst_after_an_opening_is_old_and_not_handed_on(make, camera, clock):
    camera.fps, camera.bursts = FPS, True
    source = make()
    source.open()
    assert [source._next(camera.attempts[0], 0.2) for _ in range(10)] == [None] * 10
    camera.bursts = False
    assert len(watch(source, clock, 2)) >= 39


def test_source_that_only_bursts_is_not_kept_back_for_ever(make, camera, clock):
    camera.fps = 2 * FPS + 5  # what it says of its rate is wrong
    source = make()
    source.open()
    assert len(watch(source, clock, 4)) >= 2 * FPS - 2


@pytest.mark.parametrize("loop", [False, True])
def test_end_of_a_recording_is_its_end_unless_it_loops(make, camera, clock, loop):
    camera.frame_count = 10
    source = make(loop=loop)
    source.open()
    watch(source, clock, 0.5)
    camera.error = SourceEnded()
    if not loop:
        with pytest.raises(SourceEnded):
            watch(source, clock, 1)
        return
    watch(source, clock, 0.1)
    camera.error = None
    assert watch(source, clock, 3) and source.heard.states == ["live"]


def test_recording_that_is_cut_off_is_a_fault_and_bugs_are_not_hidden(make, camera, clock):
    camera.frame_count = 10
    for error in (SourceError("cut off"), RuntimeError("bug")):
        source = make()
        camera.error = None
        source.open()
        camera.error = error
        with pytest.raises(type(error)):
            watch(source, clock, 1)
        camera.frame_count = None


# The reader, with real threads


class Driver:
    def __init__(self):
        self.release, self.closed, self.count = threading.Event(), threading.Event(), 0
        self.stuck_at = None
        self.threads = set()

    def open(self):
        self.threads.add(threading.get_ident())
        return SourceInfo("x", True)

    def read(self, timeout_s):
        self.threads.add(threading.get_ident())
        if self.count == self.stuck_at:
            assert self.release.wait(30)
        self.count += 1
        self.release.wait(0.005)
        return Frame(np.zeros((2, 2, 3), np.uint8), self.count - 1, 1)

    def close(self):
        self.threads.add(threading.get_ident())
        self.closed.set()


def test_reader_uses_one_thread_and_keeps_the_newest_frame():
    driver = Driver()
    reader = Reader(lambda: driver)
    assert wait_until(lambda: driver.count > 10)
    assert reader.take(5).index >= 8 and reader.info is not None
    reader.leave()
    assert reader.gone(5) and driver.closed.is_set() and len(driver.threads) == 1


def test_reader_that_hangs_is_left_and_closes_when_its_driver_returns():
    driver = Driver()
    driver.stuck_at = 3
    source = ReconnectingSource(
        lambda: driver,
        label="x",
        endurance=Endurance(stall_s=0.1, silent_s=0.3, retry_s=0.1, freeze_s=None),
    )
    source.open()
    first = driver
    assert wait_until(lambda: driver.count == 3 or source.read(0.05) is None)
    driver = Driver()
    frames = []
    assert wait_until(lambda: frames.append(source.read(0.1)) or source.state == "live", 10)
    assert wait_until(lambda: frames.append(source.read(0.1)) or frames[-1] is not None, 10)
    assert wait_until(lambda: source.read(0.1) is not None and driver.count > 0, 10)
    assert not first.closed.is_set()
    first.release.set()
    assert first.closed.wait(5)
    source.close()
    assert driver.closed.wait(5)


def test_reader_that_cannot_open_tells_why():
    def make():
        raise SourceError("why")

    reader = Reader(make)
    with pytest.raises(SourceError, match="why"):
        reader.take(5)


def test_a_lost_opening_keeps_no_memory():
    """Not even until the garbage collector comes by, which counts objects and not megabytes."""
    openings = []

    class Failing(Driver):
        def read(self, timeout_s):
            if self.count > 2:
                raise SourceError("lost")
            return super().read(timeout_s)

    def make():
        driver = Failing()
        openings.append(weakref.ref(driver))
        return driver

    gc.disable()
    try:
        source = ReconnectingSource(make, label="x", endurance=Endurance(retry_s=0.05))
        source.open()
        assert wait_until(lambda: source.read(0.05) or len(openings) > 5, 20)
        assert sum(opening() is not None for opening in openings) <= 1
        source.close()
    finally:
        gc.enable()
