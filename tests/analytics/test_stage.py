"""Analytics in their place in a stream: source, model and clock change while ids go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from app.analytics.analytics import AnalyticsOptions
from app.analytics.events import FileNames
from app.analytics.stage import AnalyticsStage
from app.analytics.zones import Line, Mask, Zone
from app.config import Config
from app.core.detections import Detections, Result
from app.core.errors import ConfigError
from app.core.events import Event, Fired
from app.core.frame import Frame, SourceInfo
from app.core.states import SourceStatus
from app.options import TrackOptions
from tests.analytics.kit import LABELS, WH, detections, person

CAMERA, OTHER = SourceInfo("rtsp://door", live=True), SourceInfo("rtsp://yard", live=True)
PIXELS = np.zeros((WH[1], WH[0], 3), np.uint8)
STEP_NS = 50_000_000
LIVE = SourceStatus("live")


def stage(options: AnalyticsOptions | None = None, *, replay: bool = False) -> AnalyticsStage:
    made = AnalyticsStage(options or AnalyticsOptions(), replay=replay)
    made.open(CAMERA, LABELS)
    return made


def result(i: int, found: Detections, *, media: bool = False) -> Result:
    media_ns = i * STEP_NS if media else None
    return Result(Frame(PIXELS, i, 10**12 + i * STEP_NS, media_ns), found, 0)


def media(i: int, x: float) -> Result:
    return result(i, detections([person(x, 600)]), media=True)


def told(happened: tuple[Sequence[Event], Sequence[Fired]]) -> list[str]:
    return [event.type for event in happened[0]]


def see(made: AnalyticsStage, indices: range) -> list[Result]:
    return [made.update(result(i, detections([person(400, 600)]))) for i in indices]


def test_a_result_gets_ids_and_events() -> None:
    seen = see(stage(), range(4))
    assert [event.type for each in seen for event in each.events] == ["appear"]
    ids = seen[-1].detections.track_ids
    assert ids is not None and ids.tolist() == [1]


def test_ids_are_not_used_again_after_a_change_of_source_or_model() -> None:
    made = stage()
    see(made, range(4))
    made.open(OTHER, LABELS)
    seen = see(made, range(4, 8))
    assert [(e.type, e.source, e.track_id) for each in seen for e in each.events] == [
        ("gone", "rtsp://door", 1),
        ("appear", "rtsp://yard", 2),
    ]
    made.open(OTHER, ("human",))
    seen = see(made, range(8, 12))
    assert [(e.type, e.label, e.track_id) for each in seen for e in each.events] == [
        ("gone", "person", 2),
        ("appear", "human", 3),
    ]


def test_a_source_that_comes_back_keeps_its_tracks() -> None:
    made = stage()
    see(made, range(4))
    assert told(made.follow(LIVE)) == []
    away = SourceStatus("reconnecting", cause="the cable")
    lost = made.follow(away)
    assert told(lost) == ["source_lost"] and lost[0][0].cause == "the cable"
    assert told(made.follow(away)) == told(made.follow(away._replace(state="offline"))) == []
    made.open(SourceInfo("rtsp://door", live=True), LABELS)
    assert told(made.follow(LIVE)) == ["source_back"]
    ids = see(made, range(8, 9))[0].detections.track_ids
    assert ids is not None and ids.tolist() == [1]
    assert told(made.end(LIVE)) == ["gone", "ended"]


def test_the_end_has_not_the_cause_of_an_earlier_return() -> None:
    made = stage()
    see(made, range(4))
    events, _ = made.end(SourceStatus("live", cause="again after 2.3 s, at attempt 1"))
    assert events[-1].type == "ended" and events[-1].cause == "stopped"


def test_a_camera_that_was_never_there_is_lost_and_comes() -> None:
    made = stage()
    assert told(made.follow(SourceStatus("opening"))) == []
    lost = made.follow(SourceStatus("offline", cause="refused"))
    assert told(lost) == ["source_lost"] and not lost[0][0].time.startswith("1970")
    seen = see(made, range(4))
    assert told(made.follow(LIVE)) == ["source_back"]
    ids = [event.id for each in seen for event in each.events]
    assert ids and lost[0][0].id not in ids


def test_a_source_that_fails_is_lost_and_over_once() -> None:
    made, status = stage(), SourceStatus("failed", cause="unplugged")
    see(made, range(4))
    events = made.follow(status)
    assert told(events) == ["source_lost", "gone", "ended"]
    assert events[0][0].cause == events[0][2].cause == "unplugged"
    assert told(made.end(status)) == []


def test_a_recording_that_is_played_again_ends_again() -> None:
    made, over = stage(), SourceStatus("ended")
    see(made, range(4))
    assert told(made.follow(over)) == ["gone", "ended"]
    see(made, range(4, 8))
    assert told(made.end(over)) == ["gone", "ended"]


def test_without_tracks_there_are_only_the_events_of_the_source() -> None:
    made = AnalyticsStage(AnalyticsOptions(), replay=False, tracks=False)
    made.open(CAMERA, LABELS)
    seen = see(made, range(4))
    assert not any(each.events for each in seen) and seen[-1].detections.track_ids is None
    assert told(made.follow(SourceStatus("reconnecting"))) == ["source_lost"]
    assert told(made.end(LIVE)) == ["ended"]


def test_events_have_the_names_of_their_files() -> None:
    names = FileNames(snapshots="all", clips="all", after_s=0.2, folder="door/")
    made = AnalyticsStage(AnalyticsOptions(), replay=True, names=names)
    made.open(CAMERA, LABELS)
    events = [e for each in range(4) for e in made.update(media(each, 400)).events]
    events += [e for each in range(60, 64) for e in made.update(media(each, 1000)).events]
    events += made.end(LIVE)[0]
    one, gone, two, last = (e for e in events if e.track_id is not None)
    assert [e.type for e in (one, gone, two, last)] == ["appear", "gone", "appear", "gone"]
    assert one.snapshot == gone.snapshot == f"door/19700101T000000_{one.id}_best.jpg"
    assert one.clip == f"door/19700101T000000_{one.id}.mp4"
    assert two.snapshot == last.snapshot != one.snapshot
    assert events[-1].type == "ended" and events[-1].snapshot is None


def test_what_a_mask_hides_is_left_out_of_the_result() -> None:
    left = Mask(name="road", points=((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)))
    made = stage(AnalyticsOptions(masks=(left,)))
    seen = made.update(result(0, detections([person(400, 600), person(900, 600, score=0.6)])))
    assert seen.detections.scores.tolist() == pytest.approx([0.6])
    assert len(seen.zones) == 1


def test_times_are_of_the_recording_in_a_replay_and_of_the_wall_in_a_run() -> None:
    times = {}
    for replay in (True, False):
        made = stage(replay=replay)
        for i in range(4):
            seen = made.update(result(i, detections([person(400, 600)]), media=True))
            for event in seen.events:
                times[replay] = event.time
    assert times[True].startswith("1970-01-01T00:00:00.")
    assert not times[False].startswith("1970")


def test_labels_of_events_limit_what_appears() -> None:
    made = stage(AnalyticsOptions(labels=("car",)))
    assert not [event for each in see(made, range(4)) for event in each.events]
    assert told(made.end(LIVE)) == ["ended"]


def test_shapes_are_of_the_source_that_they_name() -> None:
    line = {"name": "a", "points": [[0, 0], [1, 1]]}
    config = Config(
        sources=("door=rtsp://a", "yard=rtsp://b"),
        line=({**line, "source": "yard"}, {**line, "name": "b"}),
    )
    names = {
        source: [each.name for each in AnalyticsOptions.of(config, source).lines]
        for source in ("door", "yard")
    }
    assert names == {"door": ["b"], "yard": ["a", "b"]}
    for wrong in (
        Config(sources=("door=rtsp://a", "yard=rtsp://b"), line=({**line, "source": "yrd"},)),
        Config(source="sample:", line=({**line, "source": "yard"},)),
    ):
        with pytest.raises(ConfigError, match="source"):
            AnalyticsOptions.of(wrong, "door")


DOOR = Zone(name="door", points=((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
HALL = Zone(name="hall", points=((0.5, 0), (1, 0), (1, 1), (0.5, 1)))


def kinds(results: Sequence[Result]) -> list[tuple[str, str | None]]:
    return [(e.type, e.zone or e.line) for each in results for e in each.events]


def test_another_zone_is_watched_from_the_next_frame_on_and_ids_go_on() -> None:
    made = stage(AnalyticsOptions(zones=(DOOR,)))
    assert kinds(see(made, range(10))) == [("appear", None), ("enter", "door")]
    made.reshape(AnalyticsOptions(zones=(HALL, DOOR)))
    assert kinds(see(made, range(10, 14))) == [], "door is as it was, and its stay goes on"
    made.reshape(AnalyticsOptions(zones=(HALL,)))
    seen = see(made, range(14, 18))
    assert kinds(seen) == [("leave", "door")]
    ids = seen[-1].detections.track_ids
    assert ids is not None and ids.tolist() == [1]


def test_a_zone_that_is_drawn_around_somebody_is_entered() -> None:
    made = stage()
    see(made, range(10))
    made.reshape(AnalyticsOptions(zones=(DOOR,)))
    assert kinds(see(made, range(10, 14))) == [("enter", "door")]


def test_a_line_counts_nothing_that_was_before_it_was_drawn() -> None:
    made = stage()

    def walk(indices: range) -> list[Result]:
        return [made.update(result(i, detections([person(100 + 20 * i, 600)]))) for i in indices]

    walk(range(20))  # from 100 to 480
    made.reshape(AnalyticsOptions(lines=(Line(name="old", points=((0.2, 1), (0.2, 0))),)))
    assert kinds(walk(range(20, 30))) == [], "it had passed x = 256 before"
    ahead = Line(name="new", points=((0.7, 1), (0.7, 0)))
    made.reshape(AnalyticsOptions(lines=(ahead,)))
    assert kinds(walk(range(30, 50))) == [("cross", "new")], "x = 896 comes now"


def test_what_does_not_fit_the_model_or_comes_before_it_is_refused() -> None:
    made = stage()
    with pytest.raises(ConfigError, match="perso"):
        made.check(AnalyticsOptions(zones=(replace(DOOR, labels=("perso",)),)))
    with pytest.raises(ConfigError, match="try again"):
        AnalyticsStage(AnalyticsOptions(), replay=False).check(AnalyticsOptions())


@pytest.mark.parametrize("follows", [True, False])
def test_an_object_keeps_its_id_while_the_camera_swings(follows: bool) -> None:
    import cv2

    noise = np.random.default_rng(0).integers(0, 256, (160, 400), np.uint8)
    wide = cv2.cvtColor(cv2.resize(noise, (WH[0] * 3, WH[1])), cv2.COLOR_GRAY2BGR)
    options = AnalyticsOptions(track=TrackOptions(camera_motion=follows))
    made, ids = stage(options), set()
    for i in range(16):
        left = 100 * (i % 4 if i % 8 < 4 else 4 - i % 4)  # to and fro, faster than anybody walks
        seen = result(i, detections([person(800 - left, 600)]))
        pixels = np.ascontiguousarray(wide[:, left : left + WH[0]])
        found = made.update(replace(seen, frame=replace(seen.frame, pixels=pixels))).detections
        assert found.track_ids is not None
        ids |= set(found.track_ids.tolist())
    assert (len(ids - {-1}) == 1) is follows
