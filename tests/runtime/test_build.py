"""A plan of a run and what is built from it, whichever command made the plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.config import Config, make_config
from app.core.errors import ConfigError
from app.models.store import find_model
from app.pipeline.handoff import Policy
from app.runtime.build import RunPlan, build
from app.runtime.engines import spec_computed, thresholds
from app.runtime.inputs import NamedInput, make_input
from app.runtime.outputs import without_outputs
from tests.fakes import FakeSink


def plan(tiny_model: Path, **settings: object) -> RunPlan:
    config = Config(model=str(tiny_model), source="pattern:?frames=6&size=64x48", **settings)  # type: ignore[arg-type]
    return RunPlan(
        config=config,
        policy=Policy.LOSSLESS,
        model=find_model(str(tiny_model)),
        inputs=[NamedInput("", make_input(config, Policy.LOSSLESS))],
    )


def test_a_plan_gives_a_run_with_its_outputs_sinks_and_summary(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, sink = tmp_path / "out.jsonl", FakeSink()
    made = plan(tiny_model, json=str(out), max_frames=4, engine="cpu")
    run = build(replace(made, sinks=[sink]))
    assert not out.exists(), "nothing is opened before it starts"
    ending = run.finish()
    run.report(ending)
    assert (ending.stopped, ending.error) == (False, None)
    assert len(out.read_text().splitlines()) == len(sink.frames) == 4
    assert run.pipeline.backend_kind == "cpu"
    assert "4 processed" in capsys.readouterr().out


def test_an_error_ends_the_run_and_is_raised_after_the_summary(
    tiny_model: Path, tmp_path: Path
) -> None:
    run = build(plan(tiny_model, json=str(tmp_path)))  # a folder
    ending = run.finish()
    with pytest.raises(ConfigError, match="is a directory"):
        run.report(ending)


def test_what_would_overwrite_its_source_is_not_built(tiny_model: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.touch()
    made = plan(tiny_model)
    with pytest.raises(ConfigError, match="would overwrite"):
        build(replace(made, config=replace(made.config, source=str(clip), json=str(clip))))


def test_a_measurement_writes_nothing() -> None:
    flags = {"json": "a", "record": "b/", "http": "80", "mqtt": "mqtt://h/t", "threads": 2}
    assert without_outputs(make_config(flags)) == Config(threads=2)


def test_thresholds_are_those_asked_for_else_the_models(tiny_model: Path) -> None:
    spec = find_model(str(tiny_model)).spec
    assert thresholds(Config(), spec) == (spec.score, spec.iou)
    assert thresholds(Config(score=0.9), spec) == (0.9, spec.iou)
    assert thresholds(Config(iou=0.0), spec) == (spec.score, 0.0)


def test_engines_that_never_cut_their_input_compute_all_of_it() -> None:
    spec = find_model("kestrel").spec
    assert spec_computed("cuda", spec).input.fit == spec.input.fit > 0
    assert spec_computed("ort-tensorrt", spec).input.fit == 0
