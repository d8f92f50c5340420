"""Outputs go on when another source or model takes over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.core.errors import SinkError
from app.core.frame import SourceInfo
from app.core.interfaces import Updatable
from app.core.stats import Meter
from app.pipeline.sink_group import SinkGroup, Superseded
from app.sinks.adapters import ResultMailbox
from app.sinks.console import SummarySink
from app.sinks.json_lines import JsonLinesSink
from app.sinks.video import VideoFileSink
from tests.fakes import FakeSink
from tests.sinks.kit import CAMERA, CLIP, LABELS, found, result

BOX = (0, 0.9, 10, 10, 90, 90)


def group(*sinks, on_fault=None) -> tuple[SinkGroup, list[SourceInfo]]:
    """With the source that the next results are from."""
    source = [CLIP]
    return SinkGroup(sinks, Meter(), info_of=lambda index: source[0], on_fault=on_fault), source


def never(error: BaseException) -> None:
    raise error


def test_json_lines_go_on_with_the_new_names(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sinks, source = group(JsonLinesSink(str(path)))
    sinks.open(CLIP, LABELS)
    sinks.emit(result(0, found(BOX)))
    sinks.relabel(("cat",))
    source[0] = CAMERA
    sinks.emit(result(1, found(BOX)))
    sinks.close(never)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["source"] for line in lines] == ["clip.mp4", "camera:0"]
    assert [line["detections"][0]["label"] for line in lines] == ["person", "cat"]


def test_summary_counts_labels_of_both_models_together() -> None:
    sink = SummarySink()
    sink.open(CLIP, ("person",))
    sink.emit(result(0, found(BOX)))
    sink.update(CLIP, ("cat", "person"))
    sink.emit(result(1, found((1, 0.95, *BOX[2:]), BOX)))
    assert {each.label: each.frames for each in sink.labels()} == {"person": 2, "cat": 1}


def test_files_can_be_updated_and_the_rest_is_opened_anew() -> None:
    assert isinstance(VideoFileSink("x.mp4"), Updatable)
    network = FakeSink()
    sinks, source = group(network)
    sinks.open(CLIP, LABELS)
    sinks.emit(result(0, found(BOX)))
    assert network.closed == 0
    source[0] = CAMERA
    sinks.emit(result(0, found(BOX)))
    assert network.closed == 1 and network.opened == CAMERA
    sinks.close(never)
    sinks.close(never)
    assert network.closed == 2


def test_output_that_fails_is_told_once_and_the_others_go_on() -> None:
    class Closed(FakeSink):
        def open(self, source, labels) -> None:
            raise SinkError("no such folder")

    told: list[str] = []
    good, full = FakeSink(), FakeSink(fail_at=1, error=SinkError("the disk is full"))
    sinks, _ = group(Closed(), full, good, on_fault=lambda error: told.append(str(error)))
    sinks.open(CLIP, LABELS)
    for i in range(3):
        sinks.emit(result(i, found(BOX)))
    sinks.relabel(LABELS)
    assert told == [str(each) for each in sinks.faults] == ["no such folder", "the disk is full"]
    assert good.frames == [0, 1, 2] and full.closed == 1


def test_a_thread_that_has_lost_its_turn_reaches_no_sink() -> None:
    sink = FakeSink()
    sinks, _ = group(sink)
    sinks.open(CLIP, LABELS)
    assert sinks.claim(-1)
    with pytest.raises(Superseded):
        sinks.emit(result())
    assert sink.frames == []


def test_mailbox_gives_each_result_with_the_names_of_its_model() -> None:
    sink = ResultMailbox()
    sink.open(CLIP, LABELS)
    sink.emit(result(0))
    sink.open(CLIP, ("cat",))  # another model: what waits is not its own
    assert sink.take_labelled() is None
    sink.emit(result(1))
    newest = sink.take_labelled()
    assert newest is not None and newest[0].frame.index == 1 and newest[1] == ("cat",)


@pytest.mark.parametrize(
    ("hidden", "kept"), [((), [0, 1, 0]), (("person",), [1]), (("person", "dog"), [])]
)
def test_hidden_classes_leave_with_their_keypoints(hidden, kept) -> None:
    detections = found(
        (0, 0.9, 0, 0, 9, 9),
        (1, 0.8, 0, 0, 9, 9),
        (0, 0.7, 0, 0, 9, 9),
        keypoints=[[[1, 1]], [[2, 2]], [[3, 3]]],
    )
    left = detections.without(LABELS, frozenset(hidden))
    assert left.class_ids.tolist() == kept and len(left.keypoints) == len(kept)
    assert detections.without(LABELS, ()) is detections
