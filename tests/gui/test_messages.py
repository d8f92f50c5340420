"""Messages say what went wrong, since when, what is being done, and what can be done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.gui.messages import hint, messages
from app.session.state import Choice, SessionState, SourceState
from tests.gui.kit import RUNNING

S = 1_000_000_000
NOW = 100 * S
CAMERA = replace(
    RUNNING,
    source=SourceState("camera:0", "camera:0", "live", last_frame_ns=NOW, info=RUNNING.source.info),
)


def said(state: SessionState, result_ns: int = NOW):
    return messages(state, now_ns=NOW, result_ns=result_ns)


def with_feed(**changes) -> SessionState:
    return replace(CAMERA, source=replace(CAMERA.source, **changes))


def test_all_is_well() -> None:
    assert said(CAMERA) == said(RUNNING) and said(CAMERA).source is None
    assert not said(CAMERA).dimmed


def test_lost_camera_dims_and_says_since_when_and_that_it_is_tried_again() -> None:
    lost = with_feed(
        phase="reconnecting", error="camera:0 is gone", last_frame_ns=NOW - 7 * S, since_ns=NOW
    )
    message = said(lost).source
    assert message is not None and message.severity == "error"
    assert "camera:0 is gone" in message.text and "(7 s)" in message.text
    assert "No frames" in message.text and said(lost).dimmed


def test_camera_that_never_opened_claims_no_last_picture() -> None:
    waited_for = with_feed(
        phase="offline", error="no camera", last_frame_ns=0, since_ns=NOW - 5 * S
    )
    message = said(waited_for).source
    assert message is not None and "No frames" not in message.text
    assert "no camera" in message.text and "(5 s)" in message.text


def test_source_that_takes_long_to_open_is_told_over_the_old_picture() -> None:
    opening = with_feed(phase="opening", since_ns=NOW - 2 * S, last_frame_ns=0)
    assert said(opening).source.text == "Opening camera:0…" and said(opening).dimmed
    assert said(opening, result_ns=0).source is None
    assert said(with_feed(phase="opening", since_ns=NOW, last_frame_ns=0)).source is None


def test_silent_camera_is_told_but_not_one_that_is_paused_or_a_recording() -> None:
    silent = with_feed(phase="stalled", last_frame_ns=NOW - 3 * S)
    assert "(3 s)" in said(silent).source.text and said(silent).dimmed
    recording = with_feed(last_frame_ns=NOW - 3 * S, recording=True, paused=True)
    assert said(recording).source is None


def test_recording_that_does_not_open_can_be_tried_again() -> None:
    message = said(with_feed(phase="failed", error="clip.mp4 is broken")).source
    assert message is not None and message.text == "clip.mp4 is broken" and message.button


def test_engine_that_does_not_answer_is_told() -> None:
    stuck = said(CAMERA, result_ns=NOW - 4 * S)
    assert stuck.engine is not None and "(4 s)" in stuck.engine.text and stuck.dimmed
    paused = said(with_feed(paused=True), result_ns=NOW - 4 * S)
    assert paused.engine is None


def test_failure_of_the_model_is_told_with_its_cure() -> None:
    message = said(replace(CAMERA, failure="weights are damaged: fetch them")).engine
    assert message is not None and "fetch them" in message.text
    assert message.deed == "retry_engine"


@pytest.mark.parametrize("ago_s", [0, 60])
def test_switch_shows_once_it_takes_long(ago_s: int) -> None:
    building = replace(CAMERA, building=Choice("large", "cuda"), building_since_ns=NOW - ago_s * S)
    message = said(building).engine
    if not ago_s:
        assert message is None
    else:
        assert message is not None and "60 s" in message.text and message.deed == "cancel"


def test_hint_says_what_is_being_waited_for() -> None:
    opening = SessionState(source=SourceState("camera:0", "camera:0", "opening"))
    assert "camera:0" in hint(opening, NOW)
    building = replace(
        opening, building=Choice(), building_since_ns=NOW - 5 * S, building_text="fetching x"
    )
    assert "fetching x" in hint(building, NOW) and "5 s" in hint(building, NOW)
    assert hint(replace(opening, failure="broken"), NOW) == ""
