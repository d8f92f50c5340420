"""A source is kept running: changed, lost and found, paused, moved in, left behind."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from app.core.errors import SourceEnded, SourceError
from app.session.source_player import Feed, Tap
from tests.session.kit import Shop, ToldSource, until


class Reader:
    """A tap, and what came out of it."""

    def __init__(self, feed: Feed) -> None:
        self.tap = Tap()
        self.feed = feed
        feed.add(self.tap)
        self.first = (-1, -1)

    def take(self) -> list[tuple[int, int]]:
        """(index, first pixel) of what waits."""
        frame = self.tap.read(0.05)
        return [(frame.index, int(frame.pixels[0, 0, 0]))] if frame is not None else []

    def next(self) -> tuple[int, int]:
        got: list[tuple[int, int]] = []
        until(lambda: got.extend(self.take()) or got)
        return got[0]


@pytest.fixture
def made() -> Iterator:
    feeds: list[Feed] = []
    told: list[str] = []

    def make(shop: Shop, **options) -> Feed:
        feeds.append(Feed(shop, tell=told.append, **options))
        feeds[-1].told = told  # type: ignore[attr-defined]
        return feeds[-1]

    yield make
    for feed in feeds:
        feed.stop()
        assert feed.join(5)


def watched(made) -> tuple[ToldSource, Feed, Reader]:
    """A camera, the feed that shows it, and its reader, who has taken the first frame."""
    source = ToldSource()
    feed = made(Shop(cam=source))
    reader = Reader(feed)
    feed.show("cam")
    source.let(1)
    reader.first = reader.next()
    return source, feed, reader


def test_frames_flow_and_the_state_follows(made) -> None:
    _, feed, reader = watched(made)
    assert reader.first == (0, 1)
    assert feed.state().phase == "live" and feed.state().info.wh_px == (4, 3)
    assert reader.tap.open().uri == "told:"


def test_lost_camera_is_opened_again_until_it_is_back(made) -> None:
    source, feed, reader = watched(made)
    source.fail.set()
    until(lambda: source.opened >= 4)
    lost = feed.state()
    assert lost.phase == "reconnecting" and "unplugged" in lost.error and lost.last_frame_ns
    since_ns = lost.since_ns
    until(lambda: source.opened >= 6)
    assert feed.state().since_ns == since_ns, "the loss began once"
    source.fail.clear()
    source.let(1)
    assert reader.next()[0] == 1, "frames are numbered through"
    assert feed.state().phase == "live" and feed.state().error == ""
    assert source.closed == source.opened - 1
    assert feed.events() == {"losses": 1, "reconnects": 1}


def test_camera_that_is_not_there_yet_is_waited_for(made) -> None:
    source = ToldSource()
    source.open_error = SourceError("no such camera")
    feed = made(Shop(cam=source))
    reader = Reader(feed)
    feed.show("cam")
    until(lambda: feed.state().phase == "reconnecting")
    assert feed.state().error == "no such camera" and feed.state().info is None
    source.open_error = None
    source.let(1)
    reader.next()
    assert feed.state().phase == "live" and feed.state().info.wh_px == (4, 3)


def test_camera_that_stalls_is_told_until_frames_come_again(made) -> None:
    source, feed, reader = watched(made)
    until(lambda: feed.state().phase == "stalled")
    source.let(1)
    reader.next()
    assert feed.state().phase == "live" and feed.events() == {"stalls": 1}
    assert source.opened == 1


def test_camera_that_is_not_to_come_back_has_failed_and_can_be_opened_again(made) -> None:
    source = ToldSource()
    shop = Shop(cam=source)
    shop.mortal.add("cam")
    feed = made(shop)
    reader = Reader(feed)
    feed.show("cam")
    source.let(1)
    reader.next()
    source.fail.set()
    until(lambda: feed.state().phase == "failed")
    assert "unplugged" in feed.state().error and source.opened == 1
    source.fail.clear()
    feed.reopen()
    source.let(1)
    reader.next()
    assert source.opened == 2


def test_camera_that_comes_back_as_another_is_told(made) -> None:
    source, feed, reader = watched(made)
    first = reader.first[0]
    source.fail.set()
    until(lambda: feed.state().phase == "reconnecting")
    source.wh_px = (8, 6)
    source.fail.clear()
    source.let(1)
    second = reader.next()[0]
    assert feed.info_of(first).wh_px == (4, 3) and feed.info_of(second).wh_px == (8, 6)


def test_source_is_changed_and_the_old_one_closed(made) -> None:
    one, two = ToldSource("one"), ToldSource("two")
    feed = made(Shop(one=one, two=two))
    reader = Reader(feed)
    feed.show("one")
    one.let(1)
    first, _ = reader.next()
    feed.show("two")
    two.let(1)
    second, _ = reader.next()
    assert second == first + 1
    assert feed.info_of(first).uri == "one" and feed.info_of(second).uri == "two"
    until(lambda: one.closed == 1)


def test_source_whose_driver_hangs_does_not_hold_up_the_next(made) -> None:
    stuck, good = ToldSource("stuck"), ToldSource("good")
    feed = made(Shop(stuck=stuck, good=good))
    reader = Reader(feed)
    feed.show("stuck")
    stuck.let(1)
    reader.next()
    stuck.hang.set()
    feed.show("good")
    good.let(1)
    reader.next()
    stuck.let(5)
    stuck.hang.clear()
    time.sleep(0.1)
    assert reader.take() == [], "frames of a source that was left"


def test_source_that_never_opens_gives_way_to_the_one_before(made) -> None:
    good = ToldSource("good")
    feed = made(Shop(good=good))
    reader = Reader(feed)
    feed.show("good")
    good.let(1)
    reader.next()
    feed.show("nonsense")
    until(lambda: feed.state().phase == "failed")
    feed.return_if_failed()
    good.let(1)
    reader.next()
    assert feed.state().uri == "good"
    assert "there is no nonsense" in feed.told[0]


def test_first_source_that_does_not_open_has_nothing_to_return_to(made) -> None:
    feed = made(Shop())
    feed.show("nonsense")
    until(lambda: feed.state().phase == "failed")
    feed.return_if_failed()
    assert feed.state().uri == "nonsense" and feed.told == []


def recording(made, count: int = 5, **options):
    source = ToldSource(count=count, seekable=True)
    shop = Shop(clip=source)
    shop.recordings.add("clip")
    feed = made(shop, **options)
    source.let(1000)
    return source, feed


def test_recording_waits_until_somebody_looks(made) -> None:
    source, feed = recording(made)
    feed.show("clip")
    until(lambda: feed.state().info is not None)
    time.sleep(0.2)
    assert source.next == 0
    reader = Reader(feed)
    reader.next()


def test_recording_stands_at_its_end_and_can_be_moved_in(made) -> None:
    source, feed = recording(made)
    reader = Reader(feed)
    feed.show("clip")
    until(lambda: feed.state().phase == "ended")
    assert feed.state().seekable and feed.state().duration_ns == 500_000_000
    while reader.take():
        pass
    feed.seek(300_000_000)
    until(lambda: feed.state().phase == "live" or source.opened == 2)
    until(lambda: feed.state().phase == "ended")
    assert reader.take()[0][1] == 5


def test_loop_begins_again(made) -> None:
    source, feed = recording(made, loops=lambda uri: True)
    Reader(feed)
    feed.show("clip")
    until(lambda: source.opened >= 3)
    assert feed.state().phase == "live"


def test_paused_recording_stands_steps_and_shows_where_it_is_moved(made) -> None:
    source, feed = recording(made, count=1000)
    reader = Reader(feed)
    feed.show("clip")
    reader.next()
    feed.pause(True)
    time.sleep(0.2)
    while reader.take():
        pass
    stood = source.next
    time.sleep(0.2)
    assert source.next == stood
    feed.step()
    assert reader.next()[1] == (stood + 1) % 256
    feed.seek(0)
    assert reader.next()[1] == 1
    assert reader.take() == []
    feed.pause(False)
    reader.next()


def test_paused_camera_is_still_read_but_not_shown(made) -> None:
    source, feed, reader = watched(made)
    feed.pause(True)
    source.let(5)
    until(lambda: source.next == 6)
    assert reader.take() == []
    feed.step()
    source.let(1)
    assert reader.next()[1] == 7


def test_gaps_that_the_source_leaves_stay_gaps(made) -> None:
    source, _, reader = watched(made)
    assert reader.first[0] == 0
    source.next = 5
    source.let(1)
    assert reader.next()[0] == 5


def test_tap_that_is_never_turned_on_ends() -> None:
    tap = Tap()
    tap.end()
    with pytest.raises(SourceEnded):
        tap.open()


def test_tap_delivers_what_waits_before_it_ends(made) -> None:
    source = ToldSource()
    feed = made(Shop(cam=source))
    reader = Reader(feed)
    feed.show("cam")
    source.let(1)
    until(lambda: source.next == 1)
    until(lambda: reader.tap._frame is not None)
    feed.remove(reader.tap)
    assert reader.tap.read(0.1) is not None
    with pytest.raises(SourceEnded):
        reader.tap.read(0.1)
