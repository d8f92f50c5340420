"""Six people in a real clip with the real network: tracks, events and crossings.

The truth, from looking at the frames: ``intel_one_by_one`` (10 frames/s, 768 by 432) shows six
people one after the other. Each comes in at the lower edge, mostly left of the middle (the fifth
a little right of it), walks up to a high table right of the middle, stands there with feet at about
60 % of the width, and goes out to the right. So each crosses an upright line at 70 % of the width
once, from left to right, and nobody ever goes left.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.analytics.analytics import Analytics, AnalyticsOptions
from app.analytics.zones import Line
from app.commands.cli import main
from app.core.detections import Detections
from app.core.events import Event
from tests.models.test_default_model import assert_come_and_go

LABELS = ("person", "face")
PERIOD_NS = 100_000_000
LEAVE_FRAMES = (187, 439, 690, 857, 1189, 1348)  # when each is at 70 % of the width
LINE = Line(name="way out", points=((0.7, 1.0), (0.7, 0.0)), labels=("person",))


@pytest.fixture(scope="module")
def found(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Detections]:
    """What the default model finds in each frame."""
    out = tmp_path_factory.mktemp("clip") / "out.jsonl"
    clip = assets / "clips" / "intel_one_by_one.mp4"
    assert main(["replay", str(clip), "--json", str(out)]) == 0
    frames = []
    for line in out.read_text().splitlines():
        rows = json.loads(line)["detections"]
        frames.append(
            Detections(
                np.array([row["box"] for row in rows], np.float32).reshape(-1, 4),
                np.array([row["score"] for row in rows], np.float32),
                np.array([row["class_id"] for row in rows], np.int32),
            )
        )
    return frames


def events_of(found: list[Detections], keep: Callable[[int], bool], line: Line) -> list[Event]:
    analytics = Analytics(AnalyticsOptions(lines=(line,)), labels=LABELS, source="clip")
    events: list[Event] = []
    for i, detections in enumerate(found):
        if keep(i):
            media_ns = i * PERIOD_NS
            update = analytics.update(
                detections, wh_px=(768, 432), captured_ns=0, media_ns=media_ns, frame=i
            )
            events += update.events
    return events + analytics.end()[0]


WAYS: dict[str, Any] = {
    "all": lambda i: True,
    "every third dropped": lambda i: i % 3 != 2,
    "every second dropped": lambda i: i % 2 == 0,
    "two of three dropped": lambda i: i % 3 == 0,
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_six_people_come_and_leave_to_the_right(found: list[Detections], way: str) -> None:
    events = events_of(found, WAYS[way], LINE)
    people = [e for e in events if e.label == "person"]
    assert [e.track_id for e in people if e.type == "appear"] == sorted(
        {e.track_id for e in people}  # type: ignore[type-var]
    )
    assert sum(e.type == "appear" for e in people) == 6
    stays = [e.duration_s for e in people if e.type == "gone"]
    assert len(stays) == 6 and all(stay is not None and stay > 1 for stay in stays)
    crossings = [e for e in people if e.type == "cross"]
    assert [e.direction for e in crossings] == ["in"] * 6
    for event, frame in zip(crossings, LEAVE_FRAMES, strict=True):
        assert event.frame is not None and abs(event.frame - frame) <= 4
    assert len({e.track_id for e in crossings}) == 6


@pytest.mark.slow
def test_people_come_and_go(found: list[Detections], asset_manifest: dict[str, Any]) -> None:
    part = found[:740]  # three people of six, and the empty room before, between and after them
    seen = {i for i, each in enumerate(part) if LABELS.index("person") in each.class_ids}
    assert_come_and_go(seen, len(part), asset_manifest)


@pytest.mark.slow
def test_a_line_drawn_downwards_counts_them_out(found: list[Detections]) -> None:
    down = Line(name="way out", points=((0.7, 0.0), (0.7, 1.0)), labels=("person",))
    crossings = [e for e in events_of(found, WAYS["all"], down) if e.type == "cross"]
    assert [e.direction for e in crossings] == ["out"] * 6


@pytest.mark.slow
def test_the_same_clip_gives_the_same_bytes(found: list[Detections]) -> None:
    once, twice = (
        [json.dumps(e.as_json()) for e in events_of(found, WAYS["all"], LINE)] for _ in range(2)
    )
    assert once == twice and once
