"""Events as JSON, their ids under replay, rules, and what is refused at the start."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.analytics.analytics import Analytics, AnalyticsOptions
from app.analytics.rules import Rule
from app.analytics.zones import Line, Zone
from app.core.errors import ConfigError

from .kit import LABELS, SECOND, person, run
from .test_zones import OPTIONS, through

ALLOWED = {
    *("type", "id", "time", "source", "name", "track_id", "label", "zone", "line", "direction"),
    *("duration_s", "score", "box", "snapshot", "clip"),
    *("count", "speed_kmh", "frame", "media_ms"),  # added
}


def lines(offset_ns: int = 0) -> list[str]:
    told = run(OPTIONS, through(), offset_ns=offset_ns)
    return [json.dumps(event.as_json()) for event in told.events]


def test_a_replay_tells_the_same_byte_for_byte() -> None:
    assert lines() == lines()


def test_ids_are_rising_ulids_whose_time_is_the_event_s() -> None:
    events = [json.loads(line) for line in lines(1_700_000_000 * SECOND)]
    ids = [event["id"] for event in events]
    assert ids == sorted(set(ids))
    assert all(len(i) == 26 and set(i) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ") for i in ids)
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    ms = 0
    for letter in ids[0][:10]:
        ms = ms * 32 + alphabet.index(letter)
    assert events[0]["time"].startswith("2023-11-14T22:13:20") and ms // 1000 == 1_700_000_000


def test_only_what_the_contract_names_is_there_and_nothing_empty() -> None:
    for line in lines():
        event = json.loads(line)
        assert set(event) <= ALLOWED
        assert None not in event.values()
        assert {"type", "id", "time", "source"} <= set(event)
        if "score" in event:
            assert 0 <= event["score"] <= 1 and len(event["box"]) == 4


def test_a_source_that_is_lost_and_back() -> None:
    analytics = Analytics(AnalyticsOptions(), labels=LABELS, source="rtsp://door", name="door")
    (lost,), _ = analytics.source_lost(SECOND)
    (back,), _ = analytics.source_back(3 * SECOND)
    assert (lost.type, back.type, lost.name) == ("source_lost", "source_back", "door")
    assert lost.id < back.id


def rule(**more: Any) -> Rule:
    return Rule(**{"name": "r", "when": "enter", "then": ("mqtt",), **more})


def fires(*rules: Rule, frames: Any = None, offset_ns: int = 0) -> list[str]:
    options = AnalyticsOptions(zones=OPTIONS.zones, lines=OPTIONS.lines, rules=rules)
    told = run(options, through() if frames is None else frames, offset_ns=offset_ns)
    return [fired.event.type for fired in told.fired]


def test_a_rule_is_about_its_events_only() -> None:
    assert fires(rule()) == ["enter"]
    assert fires(rule(zone="door", labels=("person",))) == ["enter"]
    assert fires(rule(labels=("car",))) == []
    assert fires(rule(when="cross", line="mid", direction="in")) == ["cross"]
    assert fires(rule(when="cross", direction="out")) == []


def test_a_rule_waits_for_those_who_stay() -> None:
    assert fires(rule(min_s=1.0)) == ["enter"]  # 1.4 s in the zone
    standing = [(i / 30, [person(640, 650)]) for i in range(120)]
    assert fires(rule(min_s=3.0), frames=standing) == ["enter"]
    assert fires(rule(min_s=30.0), frames=standing) == []
    assert fires(rule(when="leave", min_s=1.0)) == ["leave"]
    assert fires(rule(when="leave", min_s=3.0)) == []


def test_a_rule_cools_down() -> None:
    many = [(t + 20 * k, boxes) for k in range(4) for t, boxes in through()]
    assert len(fires(rule(), frames=many)) == 4
    assert len(fires(rule(cooldown_s=30), frames=many)) == 2


def test_a_rule_has_its_hours() -> None:
    hour = 3600 * SECOND
    assert fires(rule(between="22:00-06:00"), offset_ns=23 * hour) == ["enter"]
    assert fires(rule(between="22:00-06:00"), offset_ns=3 * hour) == ["enter"]
    assert fires(rule(between="22:00-06:00"), offset_ns=12 * hour) == []
    assert fires(rule(between="08:00-18:00"), offset_ns=12 * hour) == ["enter"]


@pytest.mark.parametrize(
    ("tables", "named"),
    [
        ({"zone": [{"name": "a"}]}, "points"),
        ({"zone": [{"name": "a", "point": []}]}, "points"),
        ({"zone": [{"name": "a", "points": [[0, 0], [1, 0], [2, 1]]}]}, "units"),
        ({"zone": [{"name": "a", "points": [[0, 0], [1, 0], [0.5, 0]]}]}, "points"),
        ({"zone": [{"name": "a", "points": [[0, 0], [1, 0]]}]}, "points"),
        ({"zone": {"name": "a"}}, "zone"),
        ({"line": [{"name": "a", "points": [[0, 0], [0, 0]]}]}, "points"),
        ({"line": [{"name": "a", "points": [[0, 0], [1, 1]], "labels": ["dog"]}]}, "labels"),
        ({"line": [{"name": "a", "points": [[0, 0], [1, 1]], "anchor": "feet"}]}, "anchor"),
        ({"line": 2 * [{"name": "a", "points": [[0, 0], [1, 1]]}]}, "name"),
        ({"rule": [{"name": "r", "when": "enters", "then": ["mqtt"]}]}, "when"),
        ({"rule": [{"name": "r", "when": "enter", "then": ["mail"]}]}, "then"),
        ({"rule": [{"name": "r", "when": "enter", "then": []}]}, "then"),
        ({"rule": [{"name": "r", "when": "enter", "then": ["mqtt"], "zone": "x"}]}, "zone"),
        ({"rule": [{"name": "r", "when": "cross", "then": ["mqtt"], "min_s": 2}]}, "min_s"),
        ({"rule": [{"name": "r", "when": "enter", "then": ["mqtt"], "min_s": "2"}]}, "min_s"),
        ({"rule": [{"name": "r", "when": "gone", "then": ["mqtt"], "between": "9-5"}]}, "between"),
        ({"track": {"lost": 3}}, "lost_s"),
        ({"track": {"reach": -1}}, "reach"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_key(tables: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        AnalyticsOptions.from_tables(tables).check(LABELS, actions=("mqtt", "clip"))


def test_tables_become_options() -> None:
    options = AnalyticsOptions.from_tables(
        {
            "track": {"lost_s": 3},
            "zone": [{"name": "door", "points": [[0, 0], [1, 0], [1, 1]], "dwell_s": [5]}],
            "line": [{"name": "mid", "points": [[0, 0.5], [1, 0.5]]}],
            "rule": [
                {
                    **{"name": "in", "when": "enter", "zone": "door", "labels": ["person"]},
                    **{"min_s": 2, "between": "22:00-06:00", "cooldown_s": 60, "then": ["mqtt"]},
                }
            ],
            "http": {"address": "8080"},
        }
    )
    options.check(LABELS, actions=("mqtt",))
    corner = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))
    assert options.zones == (Zone(name="door", points=corner, dwell_s=(5.0,)),)
    assert options.lines == (Line(name="mid", points=((0.0, 0.5), (1.0, 0.5))),)
    assert options.rules[0].then == ("mqtt",) and options.track.lost_s == 3.0
