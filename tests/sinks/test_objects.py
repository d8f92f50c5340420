"""Counts follow the events: in view, in zones, over lines; few labels whatever the model."""

from __future__ import annotations

import pytest

from app.core.errors import ConfigError
from app.sinks.objects import MOST_LABELS, ObjectTally
from tests.sinks.kit import event


def test_counts_go_up_and_down_with_the_events() -> None:
    tally = ObjectTally(["door", "yard"], ["gate"])
    tally.happened([event("appear", 1), event("appear", 2), event("appear", 3, label="dog")], [])
    tally.happened([event("enter", 1, zone="door"), event("enter", 2, zone="door")], [])
    tally.happened([event("cross", 1, line="gate", direction="in")], [])
    assert tally.retained() == {
        "objects": {"person": 2, "dog": 1},
        "zones/door": {"person": 2},
        "zones/yard": {},
        "lines/gate": {"in": {"person": 1}, "out": {}},
    }
    tally.happened([event("leave", 1, zone="door", duration_s=7.0)], [])
    tally.happened([event("gone", 1), event("ended", None)], [])
    assert tally.retained()["objects"] == {"person": 1, "dog": 1}
    assert tally.retained()["zones/door"] == {"person": 1}
    counts = tally.counts()
    assert counts.appeared == {"person": 2, "dog": 1}
    assert counts.entered["door", "person"] == 2 and counts.crossed["gate", "in", "person"] == 1
    dwell = counts.dwell["door", "person"]
    assert sum(dwell.counts) == 1 and dwell.counts[3] == 1 and dwell.sum_s == 7.0


def test_labels_are_bounded() -> None:
    tally = ObjectTally()
    for i in range(1000):
        tally.happened([event("appear", i, label=f"label {i}")], [])
    counts = tally.counts()
    assert len(counts.now) == MOST_LABELS + 1 and counts.now["other"] == 1000 - MOST_LABELS
    tally.happened([event("gone", i, label=f"label {i}") for i in range(1000)], [])
    assert not tally.counts().now


def test_a_name_is_one_level_of_a_topic() -> None:
    assert "zones/a_b_c" in ObjectTally(["a/b#c"]).retained()


@pytest.mark.parametrize("kind", ["zones", "lines"])
def test_two_names_on_one_topic_are_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match="rename one"):
        ObjectTally(**{kind: ["a+b", "a/b"]})
