"""Events are paired by what they mean and when, not by their ids."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from app.analytics.what_if import compare
from app.core.errors import ConfigError


def row(kind: str, at_s: float, **more: Any) -> dict[str, Any]:
    return {"type": kind, "media_ms": at_s * 1e3, "label": "person", **more}


def told(before: list, after: list) -> list[tuple[str, str]]:
    return [(change.kind, change.how) for change in compare(before, after).changes]


def test_ids_of_tracks_and_a_frame_are_no_difference() -> None:
    before = [row("enter", 1.0, zone="door", track_id=1), row("leave", 5.0, zone="door")]
    after = [row("enter", 1.04, zone="door", track_id=9), row("leave", 5.0, zone="door")]
    assert compare(before, after) == ([], 2)


def test_time_duration_label_and_direction_are() -> None:
    assert told([row("enter", 1.0, zone="a")], [row("enter", 1.5, zone="a")]) == [
        ("different", "0.50 s later")
    ]
    leave = row("leave", 9.0, zone="a", duration_s=3.0)
    assert told([leave], [{**leave, "duration_s": 4.0}]) == [
        ("different", "duration_s 4.0 instead of 3.0")
    ]
    cross = row("cross", 2.0, line="l", direction="in")
    assert told([cross], [{**cross, "direction": "out"}]) == [
        ("different", "direction out instead of in")
    ]


def test_what_is_too_far_apart_or_elsewhere_is_new_and_gone() -> None:
    assert told([row("enter", 1.0, zone="a")], [row("enter", 3.0, zone="a")]) == [
        ("gone", ""),
        ("new", ""),
    ]
    assert told([row("enter", 1.0, zone="a")], [row("enter", 1.0, zone="b")]) == [
        ("gone", ""),
        ("new", ""),
    ]


def test_the_nearest_are_paired() -> None:
    before = [row("appear", 1.0), row("appear", 1.9)]
    assert told(before, [row("appear", 1.9)]) == [("gone", "")]
    (change,) = compare(before, [row("appear", 1.9)]).changes
    assert change.row["media_ms"] == 1000


def test_events_of_the_source_are_left_out() -> None:
    assert compare([row("ended", 1.0)], [row("source_lost", 1.0)]) == ([], 0)


def test_a_wall_clock_is_not_compared_with_none() -> None:
    live = {"type": "appear", "time": "2026-11-29T12:00:00.000Z"}
    bare = {"type": "appear", "time": "1970-01-01T00:00:01.000Z"}
    with pytest.raises(ConfigError, match="--trace"):
        compare([live], [bare])
    with pytest.raises(ConfigError, match="time"):
        compare([{"type": "appear"}], [])


ROWS = st.lists(
    st.builds(
        row,
        st.sampled_from(["appear", "gone"]),
        st.integers(0, 100).map(lambda n: n / 7),
        label=st.sampled_from(["person", "car"]),
    ),
    max_size=12,
)


@given(ROWS, ROWS)
def test_every_event_is_told_once(before: list, after: list) -> None:
    changes, same = compare(before, after)
    kinds = [change.kind for change in changes]
    paired = same + kinds.count("different")
    assert paired + kinds.count("gone") == len(before)
    assert paired + kinds.count("new") == len(after)
    assert compare(before, before) == ([], len(before))
