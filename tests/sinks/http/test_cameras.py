"""All cameras at a glance: what is told of each, and small pictures that cost little."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from tests.sinks.http.kit import Site, site
from tests.sinks.kit import LABELS, event

CAMERAS = "/api/v1/cameras"


def told(made: Site, path: str = CAMERAS) -> dict:
    status, body, _ = made.get(path)
    assert status == 200
    return json.loads(body)


def test_each_camera_is_told_with_what_is_in_view_and_its_last_event() -> None:
    with site(names=("door", "yard")) as made:
        first, second = told(made)["cameras"]
        assert first["frame"] is None and first["event"] is None and first["objects"] == {}
        made.feed(2, "door")
        made.service.events.happened(
            [event("appear", name="door"), event("enter", name="door", zone="mat")], []
        )
        first, second = told(made)["cameras"]
        assert (first["name"], first["state"], second["name"]) == ("door", "live", "yard")
        assert first["objects"] == {"person": 1} and first["event"]["zone"] == "mat"
        assert second["frame"] is None and second["event"] is None
        frame = first["frame"]
        made.feed(1, "door")
        assert told(made)["cameras"][0]["frame"] != frame


def test_of_a_camera_that_is_away_nothing_is_in_view() -> None:
    with site() as made:
        made.feed(2)
        made.stats.state = "offline"
        one = told(made)["cameras"][0]
        assert (one["state"], one["objects"]) == ("offline", {}) and one["frame"] is not None


def test_troubles_of_outputs_are_told() -> None:
    with site() as made:
        assert told(made)["troubles"] == []
        made.other.trouble = "the disk is full"
        assert told(made)["troubles"] == ["mqtt: the disk is full"]


@pytest.mark.parametrize(("asked", "width"), [("", 320), ("&width=100", 100), ("&width=1", 64)])
def test_a_still_is_as_small_as_asked_and_never_larger_than_the_frame(asked, width) -> None:
    with site() as made:
        assert made.get(f"{CAMERAS}/still.jpg")[0] == 503
        made.feed(1)
        status, body, headers = made.get(f"{CAMERAS}/still.jpg?frame=1{asked}")
        picture = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
        assert status == 200 and headers["content-type"] == "image/jpeg"
        assert picture is not None and picture.shape[:2] == (width * 3 // 4, width)
        made.feed(1)
        assert made.get(f"{CAMERAS}/still.jpg?{asked}")[1] != body


def test_what_is_wrong_is_told_and_labels_are_those_of_the_model() -> None:
    with site(names=("door", "yard")) as made:
        assert told(made, f"{CAMERAS}/labels?source=yard")["labels"] == list(LABELS)
        assert made.get(f"{CAMERAS}/still.jpg?source=attic")[0] == 404
        for width in ("x", "-5", "9" * 30, "%D9%A3"):
            assert made.get(f"{CAMERAS}/still.jpg?width={width}")[0] == 400
