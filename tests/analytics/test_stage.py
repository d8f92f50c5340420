"""Analytics in their place in a stream: source, model and clock change while ids go on."""

from __future__ import annotations

import numpy as np
import pytest

from app.analytics.analytics import AnalyticsOptions
from app.analytics.stage import AnalyticsStage
from app.analytics.zones import Mask
from app.config import Config
from app.core.detections import Detections, Result
from app.core.errors import ConfigError
from app.core.frame import Frame, SourceInfo
from tests.analytics.kit import LABELS, WH, detections, person

CAMERA, OTHER = SourceInfo("rtsp://door", live=True), SourceInfo("rtsp://yard", live=True)
PIXELS = np.zeros((WH[1], WH[0], 3), np.uint8)
STEP_NS = 50_000_000


def stage(options: AnalyticsOptions | None = None, *, replay: bool = False) -> AnalyticsStage:
    made = AnalyticsStage(options or AnalyticsOptions(), replay=replay)
    made.open(CAMERA, LABELS)
    return made


def result(i: int, found: Detections, *, media: bool = False) -> Result:
    media_ns = i * STEP_NS if media else None
    return Result(Frame(PIXELS, i, 10**12 + i * STEP_NS, media_ns), found, 0)


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
    assert [event.type for event in made.follow("live")[0]] == []
    assert [event.type for event in made.follow("reconnecting")[0]] == ["source_lost"]
    assert [event.type for event in made.follow("reconnecting")[0]] == []
    made.open(SourceInfo("rtsp://door", live=True), LABELS)
    assert [event.type for event in made.follow("live")[0]] == ["source_back"]
    ids = see(made, range(8, 9))[0].detections.track_ids
    assert ids is not None and ids.tolist() == [1]
    assert [event.type for event in made.end()[0]] == ["gone", "ended"]


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
    assert [event.type for event in made.end()[0]] == ["ended"]


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
