"""Filters of a run: by source, changed while it runs, and before anything is made of detections."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.commands.cli import main
from app.config import Config, make_config
from app.core.detections import Result
from app.core.errors import ConfigError
from app.core.frame import SourceInfo
from app.models.store import find_model
from app.pipeline.handoff import Policy
from app.runtime.build import RunPlan, build
from app.runtime.filters import RunFilters, filters_of
from app.runtime.inputs import make_inputs

ROWS = (
    {"source": "back", "score": "0.3", "classes": "face"},
    {"min_box": 20},
    {"source": "front", "class_scores": ["person=0.2"], "min_box": "5%"},
)
TWO = ("front=rtsp://a", "back=rtsp://b")


def test_a_row_is_of_one_source_or_of_all_and_stands_over_the_run() -> None:
    config = Config(sources=TWO, filter=ROWS, classes=("person,face",), max_detections=9)
    front, back = filters_of(config, "front"), filters_of(config, "back")
    assert (front.classes, front.min_box, front.lowest(0.5)) == (("person", "face"), "5%", 0.2)
    assert (back.classes, back.min_box, back.lowest(0.5)) == (("face",), "20", 0.3)
    assert front.max_detections == back.max_detections == 9


def test_a_file_has_them_in_tables(tmp_path: Path) -> None:
    file = tmp_path / "k.toml"
    file.write_text(
        'sources = ["front=rtsp://a", "back=rtsp://b"]\nscore = "0.4,person=0.6"\n'
        '[[filter]]\nsource = "back"\nclasses = ["face"]\nmax_box = "50%"\n'
    )
    config = make_config({}, file)
    assert (config.score, list(config.class_scores)) == (0.4, ["person=0.6"])
    assert filters_of(config, "back").max_box == "50%"
    assert filters_of(config, "front").max_box == ""
    assert make_config({"score": "face=0.9"}, file).class_scores == ("face=0.9",)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"source": "side"}, "front, back"),
        ({"clases": "face"}, "did you mean 'classes'"),
        ({"min_box": "x"}, "24x48"),
    ],
)
def test_a_wrong_row_is_named(row: dict, told: str) -> None:
    with pytest.raises(ConfigError, match=r"\[\[filter\]\] 1") as fault:
        filters_of(Config(sources=TWO, filter=(row,)), "front")
    assert told in str(fault.value)


def test_an_unknown_class_is_refused_before_it_runs(caplog: pytest.LogCaptureFixture) -> None:
    for words in (["--classes", "persn"], ["--score", "persn=0.5"]):
        assert main(["replay", "sample:", "--check", *words]) == 2
        assert "some of them: person" in caplog.text
        caplog.clear()


class Changes:
    """A sink that changes the filters at a frame, and keeps what there was."""

    def __init__(self, filters: RunFilters | None = None) -> None:
        self.filters, self.results = filters, list[Result]()
        self.plan: dict[int, dict] = {}

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        pass

    def emit(self, result: Result) -> None:
        self.results.append(result)
        if table := self.plan.get(result.frame.index):
            assert self.filters is not None
            self.filters.write(table)

    def close(self) -> None:
        pass


def replayed(plan: dict[int, dict], **config) -> list[Result]:
    sink, made = Changes(), Config(source="sample:", max_frames=40, engine="cpu", **config)
    sink.plan = plan
    run = build(
        RunPlan(
            config=made,
            policy=Policy.LOSSLESS,
            model=find_model("kestrel"),
            inputs=make_inputs(made, Policy.LOSSLESS),
            sinks=[sink],
        )
    )
    sink.filters = run.filters
    assert run.finish().error is None
    return sink.results


def seen(results: Sequence[Result]) -> list[set[int]]:
    return [set(result.detections.class_ids.tolist()) for result in results]


def test_what_is_changed_holds_from_the_next_frames_on_without_a_restart() -> None:
    plan = {9: {"classes": "face"}, 24: {"classes": "", "class_scores": "face=1"}}
    results = replayed(plan, workers=1, slots=1)
    plain = replayed({}, workers=1, slots=1)
    assert [r.frame.index for r in results] == list(range(40)), "no frame is lost"
    assert seen(results)[:10] == seen(plain)[:10]
    for result, before in zip(results[12:25], plain[12:25], strict=True):
        assert set(result.detections.class_ids.tolist()) <= {80}
        others = int((before.detections.class_ids != 80).sum())
        assert result.hidden.get("classes", 0) == others > 0
    assert all(80 not in each for each in seen(results)[28:])
    assert any(80 in each for each in seen(plain)[28:])


def test_a_threshold_below_that_of_the_run_brings_more(tmp_path: Path) -> None:
    plain = replayed({}, score=0.85)
    low = replayed({}, score=0.85, class_scores=("face=0.1",))
    later = replayed({9: {"class_scores": "face=0.1"}}, score=0.85, workers=1, slots=1)

    def faces(results: Sequence[Result]) -> list[int]:
        return [int((r.detections.class_ids == 80).sum()) for r in results]

    def people(results: Sequence[Result]) -> list[int]:
        return [int((r.detections.class_ids == 0).sum()) for r in results]

    assert sum(faces(low)) > sum(faces(plain)) and people(low) == people(plain)
    assert faces(later)[12:] == faces(low)[12:] and faces(later)[:10] == faces(plain)[:10]
    assert people(later) == people(plain)


def test_tracks_and_lines_know_nothing_of_what_is_hidden(tmp_path: Path) -> None:
    out, events = tmp_path / "out.jsonl", tmp_path / "events.jsonl"
    words = ["--classes", "face", "--json", str(out), "--events", str(events)]
    assert main(["replay", "sample:", "--max-frames", "120", *words]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {d["label"] for line in lines for d in line["detections"]} == {"face"}
    assert any(line.get("hidden", {}).get("classes") for line in lines)
    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert {event["label"] for event in told if "label" in event} == {"face"}


def test_sources_of_a_run_have_their_own(tmp_path: Path) -> None:
    out, file = tmp_path / "out.jsonl", tmp_path / "k.toml"
    file.write_text(
        'sources = ["a=sample:", "b=sample:"]\n[[filter]]\nsource = "b"\nclasses = "person"\n'
    )
    words = ["run", "--headless", "--config", str(file), "--json", str(out), "--max-frames", "40"]
    assert main(words) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    labels = {
        name: {d["label"] for line in lines if line["name"] == name for d in line["detections"]}
        for name in ("a", "b")
    }
    assert labels == {"a": {"person", "face"}, "b": {"person"}}
