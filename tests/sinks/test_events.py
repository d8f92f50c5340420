"""Each appearance is told once, and each disappearance when it is one."""

from __future__ import annotations

import json

import pytest

from app.config import EventOptions
from app.core.errors import SinkError
from app.sinks.events import EventMessage, EventSink
from tests.sinks.kit import CAMERA, CLIP, LABELS, found, result

PERSON, DOG = (0, 0.9, 10, 20, 30, 40), (1, 0.5, 0, 0, 5, 6)


def told(views: list[list[tuple]], **options) -> list[dict]:
    """The events of frames 40 ms apart in which these were found; the sink is closed at the end."""
    events: list[EventMessage] = []
    sink = EventSink(EventOptions(**options), [events.append])
    sink.open(CLIP, LABELS)
    for i, view in enumerate(views):
        sink.emit(result(i, found(*view)))
    sink.close()
    return [json.loads(event.text) for event in events]


def kinds(events: list[dict]) -> list[tuple]:
    return [(event["event"], event["label"], event["frame"]) for event in events]


def test_what_flickers_appears_once_and_leaves_once() -> None:
    views = [[PERSON], [], [PERSON], [], [PERSON], [PERSON]] + [[]] * 10
    events = told(views, appear_frames=3, gone_s=0.2)
    assert kinds(events) == [("appear", "person", 4), ("disappear", "person", 11)]
    assert events[1]["seconds"] == 0.2  # from frame 0 to 5


def test_what_is_seen_too_shortly_is_not_told() -> None:
    assert told([[PERSON], [PERSON]] + [[]] * 10, appear_frames=3, gone_s=0.1) == []


def test_a_label_that_comes_back_appears_again_with_another_id() -> None:
    views = [[PERSON]] * 3 + [[]] * 5 + [[PERSON]] * 3
    events = told(views, appear_frames=2, gone_s=0.1)
    assert [kind for kind, *_ in kinds(events)] == ["appear", "disappear"] * 2
    assert len({event["id"] for event in events}) == 4


def test_labels_are_independent_and_can_be_chosen() -> None:
    views = [[PERSON, DOG]] * 3
    assert {e["label"] for e in told(views, appear_frames=1)} == {"person", "dog"}
    assert {e["label"] for e in told(views, appear_frames=1, labels=["dog"])} == {"dog"}


def test_a_label_that_the_model_does_not_know_is_told() -> None:
    with pytest.raises(SinkError, match=r"'cat'.*it knows person, dog, face"):
        told([], labels=["dog", "cat"])


def test_what_is_in_view_at_the_end_leaves_with_the_run() -> None:
    assert kinds(told([[DOG]] * 4, appear_frames=2)) == [
        ("appear", "dog", 1),
        ("disappear", "dog", 3),
    ]


def test_an_event_says_where_when_and_what() -> None:
    event = told([[PERSON]], appear_frames=1)[0]
    assert event["source"] == "clip.mp4" and event["media_ms"] == 0 and event["time"].endswith("Z")
    assert event["box"] == [10, 20, 30, 40] and event["score"] == 0.9


def test_a_clip_that_starts_again_ends_what_was_in_view() -> None:
    events: list[EventMessage] = []
    sink = EventSink(EventOptions(appear_frames=1, gone_s=1), [events.append])
    sink.open(CAMERA, LABELS)
    sink.emit(result(100, found(PERSON)))
    sink.emit(result(0, found()))
    assert [event.kind for event in events] == ["appear", "disappear"]
