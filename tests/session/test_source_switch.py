"""Is a source kept running: changed, lost and found, paused, moved in, left behind?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from app.core.errors import SourceError
from app.pipeline.engine import EngineSpec
from app.pipeline.handoff import Policy
from app.pipeline.pipeline import Pipeline
from app.session.source_switch import SourceSwitcher
from tests.fakes import FakeBackend, FakeSink
from tests.session.kit import Shop, ToldSource, until


class Reader(FakeSink):
    """What came out of a pipeline, as (index, first pixel), and the source of each."""

    def __init__(self) -> None:
        super().__init__()
        self.came: list[tuple[int, int]] = []
        self.first = (-1, -1)

    def emit(self, result) -> None:
        self.came.append((result.frame.index, int(result.frame.pixels[0, 0, 0])))

    def next(self) -> tuple[int, int]:
        """The next one, once it comes."""
        until(lambda: self.came)
        return self.came.pop(0)

    def take(self) -> list[tuple[int, int]]:
        """Whatever comes within a moment."""
        time.sleep(0.1)
        came, self.came = self.came, []
        return came


class Switch(SourceSwitcher):
    """With a pipeline of its own; nothing is wanted of the source until ``look``."""

    def __init__(self, shop: Shop, **options) -> None:
        self.reader, self.told = Reader(), list[str]()
        self.pipeline = Pipeline(None, None, [self.reader], policy=Policy.LATEST, stays=True)
        super().__init__(self.pipeline, shop, tell=self.told.append, **options)
        self.pipeline.start()

    def look(self) -> Reader:
        self.pipeline.swap_engine(lambda: EngineSpec(FakeBackend, ("thing",)))
        until(lambda: self.pipeline.engine)
        return self.reader

    def events(self) -> dict[str, int]:
        return dict(self.pipeline.counts().events)

    def info_of(self, index: int):
        return self.pipeline.info_of(index)


@pytest.fixture
def made() -> Iterator:
    switches: list[Switch] = []

    def make(shop: Shop, **options) -> Switch:
        switches.append(Switch(shop, **options))
        return switches[-1]

    yield make
    for switch in switches:
        switch.pipeline.stop()
        switch.pipeline.join()


def watched(made) -> tuple[ToldSource, Switch, Reader]:
    """A camera, the switch that shows it, and its reader, who has taken the first frame."""
    source = ToldSource()
    switch = made(Shop(cam=source))
    reader = switch.look()
    switch.show("cam")
    source.let(1)
    reader.first = reader.next()
    return source, switch, reader


def test_frames_flow_and_the_state_follows(made) -> None:
    _, switch, reader = watched(made)
    assert reader.first == (0, 1)
    assert switch.state.phase == "live" and switch.state.info.wh_px == (4, 3)
    assert reader.opened.uri == "told:"


def test_lost_camera_is_opened_again_until_it_is_back(made) -> None:
    source, switch, reader = watched(made)
    source.fail.set()
    until(lambda: source.opened >= 4)
    lost = switch.state
    assert lost.phase == "reconnecting" and "unplugged" in lost.error and lost.last_frame_ns
    since_ns = lost.since_ns
    until(lambda: source.opened >= 6)
    assert switch.state.since_ns == since_ns, "the loss began once"
    source.fail.clear()
    source.let(1)
    assert reader.next()[0] == 1, "frames are numbered through"
    assert switch.state.phase == "live" and switch.state.error == ""
    assert source.closed == source.opened - 1
    assert switch.events() == {"losses": 1, "reconnects": 1}


def test_camera_that_is_not_there_yet_is_waited_for(made) -> None:
    source = ToldSource()
    source.open_error = SourceError("no such camera")
    switch = made(Shop(cam=source))
    reader = switch.look()
    switch.show("cam")
    until(lambda: switch.state.phase == "offline")
    assert switch.state.error == "no such camera" and switch.state.info is None
    source.open_error = None
    source.let(1)
    reader.next()
    assert switch.state.phase == "live" and switch.state.info.wh_px == (4, 3)


def test_camera_that_stalls_is_told_until_frames_come_again(made) -> None:
    source, switch, reader = watched(made)
    until(lambda: switch.state.phase == "stalled")
    source.let(1)
    reader.next()
    assert switch.state.phase == "live" and switch.events() == {"stalls": 1}
    assert source.opened == 1


def test_camera_that_is_not_to_come_back_has_failed_and_can_be_opened_again(made) -> None:
    source = ToldSource()
    shop = Shop(cam=source)
    shop.mortal.add("cam")
    switch = made(shop)
    reader = switch.look()
    switch.show("cam")
    source.let(1)
    reader.next()
    source.fail.set()
    until(lambda: switch.state.phase == "failed")
    assert "unplugged" in switch.state.error and source.opened == 1
    source.fail.clear()
    switch.reopen()
    source.let(1)
    reader.next()
    assert source.opened == 2


def test_camera_that_comes_back_as_another_is_told(made) -> None:
    source, switch, reader = watched(made)
    first = reader.first[0]
    source.fail.set()
    until(lambda: switch.state.phase == "reconnecting")
    source.wh_px = (8, 6)
    source.fail.clear()
    source.let(1)
    second = reader.next()[0]
    assert switch.info_of(first).wh_px == (4, 3) and switch.info_of(second).wh_px == (8, 6)


def test_source_is_changed_and_the_old_one_closed(made) -> None:
    one, two = ToldSource("one"), ToldSource("two")
    switch = made(Shop(one=one, two=two))
    reader = switch.look()
    switch.show("one")
    one.let(1)
    first, _ = reader.next()
    switch.show("two")
    two.let(1)
    second, _ = reader.next()
    assert second == first + 1
    assert switch.info_of(first).uri == "one" and switch.info_of(second).uri == "two"
    until(lambda: one.closed == 1)


def test_source_whose_driver_hangs_does_not_hold_up_the_next(made) -> None:
    stuck, good = ToldSource("stuck"), ToldSource("good")
    switch = made(Shop(stuck=stuck, good=good))
    reader = switch.look()
    switch.show("stuck")
    stuck.let(1)
    reader.next()
    stuck.hang.set()
    switch.show("good")
    good.let(1)
    reader.next()
    stuck.let(5)
    stuck.hang.clear()
    time.sleep(0.1)
    assert reader.take() == [], "frames of a source that was left"


def test_source_that_never_opens_gives_way_to_the_one_before(made) -> None:
    good = ToldSource("good")
    switch = made(Shop(good=good))
    reader = switch.look()
    switch.show("good")
    good.let(1)
    reader.next()
    switch.show("nonsense")
    until(lambda: switch.state.phase == "failed")
    switch.return_if_failed()
    good.let(1)
    reader.next()
    assert switch.state.uri == "good"
    assert "there is no nonsense" in switch.told[0]


def test_first_source_that_does_not_open_has_nothing_to_return_to(made) -> None:
    switch = made(Shop())
    switch.show("nonsense")
    until(lambda: switch.state.phase == "failed")
    switch.return_if_failed()
    assert switch.state.uri == "nonsense" and switch.told == []


def recording(made, count: int = 5, **options):
    source = ToldSource(count=count, seekable=True)
    shop = Shop(clip=source)
    shop.recordings.add("clip")
    switch = made(shop, **options)
    source.let(1000)
    return source, switch


def test_recording_waits_until_somebody_looks(made) -> None:
    source, switch = recording(made)
    switch.show("clip")
    until(lambda: switch.state.info is not None)
    time.sleep(0.2)
    assert source.next == 0
    reader = switch.look()
    reader.next()


def test_recording_stands_at_its_end_and_can_be_moved_in(made) -> None:
    source, switch = recording(made)
    reader = switch.look()
    switch.show("clip")
    until(lambda: switch.state.phase == "ended")
    assert switch.state.seekable and switch.state.duration_ns == 500_000_000
    while reader.take():
        pass
    switch.seek(300_000_000)
    until(lambda: switch.state.phase == "live" or source.opened == 2)
    until(lambda: switch.state.phase == "ended")
    assert reader.take()[0][1] == 5


def test_loop_begins_again(made) -> None:
    source, switch = recording(made, loops=lambda uri: True)
    switch.look()
    switch.show("clip")
    until(lambda: source.opened >= 3)
    assert switch.state.phase == "live"


def test_paused_recording_stands_steps_and_shows_where_it_is_moved(made) -> None:
    source, switch = recording(made, count=1000)
    reader = switch.look()
    switch.show("clip")
    reader.next()
    switch.pause(True)
    time.sleep(0.2)
    while reader.take():
        pass
    stood = source.next
    time.sleep(0.2)
    assert source.next == stood
    switch.step()
    assert reader.next()[1] == (stood + 1) % 256
    switch.seek(0)
    assert reader.next()[1] == 1
    assert reader.take() == []
    switch.pause(False)
    reader.next()


def test_paused_camera_is_still_read_but_not_shown(made) -> None:
    source, switch, reader = watched(made)
    switch.pause(True)
    source.let(5)
    until(lambda: source.next == 6)
    assert reader.take() == []
    switch.step()
    source.let(1)
    assert reader.next()[1] == 7


def test_gaps_that_the_source_leaves_stay_gaps(made) -> None:
    source, _, reader = watched(made)
    assert reader.first[0] == 0
    source.next = 5
    source.let(1)
    assert reader.next()[0] == 5


class PacedSource(ToldSource):
    """Notes the speeds that it is set to."""

    def __init__(self, uri: str, *, count: int, stills: bool = False) -> None:
        super().__init__(uri, count=count, seekable=True)
        self.speeds: list[float] = []
        self._stills = stills

    @property
    def speed(self) -> float:
        return self.speeds[-1] if self.speeds else 1.0

    @speed.setter
    def speed(self, speed: float) -> None:
        self.speeds.append(speed)

    def open(self):
        return replace(super().open(), stills=self._stills)


def recorded(source: ToldSource, **options) -> Switch:
    shop = Shop(**{source.uri: source})
    shop.recordings.add(source.uri)
    return Switch(shop, **options)


def test_speed_and_loop_of_a_recording_may_be_changed() -> None:
    source = PacedSource("clip", count=2)
    switch = recorded(source)
    reader = switch.look()
    switch.show("clip")
    until(lambda: switch.state.paceable)
    switch.set_speed(4.0)
    until(lambda: source.speed == 4.0)
    assert switch.state.speed == 4.0
    for number in (1, 2):
        source.let(1)
        assert reader.next()[1] == number
    until(lambda: switch.state.phase == "ended")
    switch.set_loop(True)
    source.let(1)
    assert reader.next()[1] == 1
    assert switch.state.loop and source.opened == 2 and source.speed == 4.0
    switch.pipeline.stop()
    switch.pipeline.join()


def test_pictures_to_be_browsed_stay_until_the_next_is_asked_for() -> None:
    source = PacedSource("album", count=3, stills=True)
    switch = recorded(source, browse=True)
    reader = switch.look()
    switch.show("album")
    source.let(3)
    assert reader.next()[1] == 1 and switch.state.paused and reader.take() == []
    switch.step()
    assert reader.next()[1] == 2 and reader.take() == []
    switch.seek(0)
    assert reader.next()[1] == 1 and reader.take() == []
    source.let(5)
    switch.pause(False)  # a slideshow
    until(lambda: switch.state.phase == "ended")
    assert 0 < source.speeds[-1] < 0.1, "each picture stays for seconds"
    switch.pipeline.stop()
    switch.pipeline.join()


def test_pictures_of_a_job_and_a_single_one_are_not_held() -> None:
    for browse, count in ((False, 2), (True, 1)):
        source = PacedSource("album", count=count, stills=True)
        switch = recorded(source, browse=browse)
        switch.look()
        switch.show("album")
        source.let(count)
        until(lambda switch=switch: switch.state.phase == "ended")
        assert not switch.state.paused
        switch.pipeline.stop()
        switch.pipeline.join()
