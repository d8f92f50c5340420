"""`bench` measures for real: the figures add up, whatever they are."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from app.commands.bench import _pattern_wh
from app.commands.bench.measure import STAGES
from app.commands.cli import main


def test_table_and_json_hold_every_figure(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    report = bench("--max-frames", "60", "--seconds", "0.5")
    table = capsys.readouterr().out
    for word in ("preprocess", "network", "throughput", "live", "overload", "memory", "roofline"):
        assert word in table
    throughput, overload = report["throughput"], report["overload"]
    assert throughput["processed"] == 60
    assert not {"replaced", "stale"} & set(throughput["dropped"]), "a replay drops nothing"
    for run in (report["live"], overload):
        assert run["captured"] == run["processed"] + sum(run["dropped"].values())
    for stage in throughput["stages_ms"].values():
        assert stage is None or 0 <= stage["p50"] <= stage["p95"] <= stage["p99"]
    assert report["rss_peak_mb"] >= report["rss_mb"] > 10
    energy = report["energy"]
    assert (energy["watts"] is None) == bool(energy["reason"])
    assert report["device"]["cores"] >= 1 and report["time"].endswith("+00:00")
    assert report["roofline"]["bottleneck"] in table


@pytest.mark.parametrize(
    ("frame", "pattern"),
    [((640, 480), (640, 480)), ((1920, 1080), (739, 416)), ((90, 160), (416, 739))],
)
def test_the_pattern_has_the_shape_of_the_recording(
    frame: tuple[int, int], pattern: tuple[int, int]
) -> None:
    assert _pattern_wh(frame) == pattern


def test_what_the_processor_has_no_part_in_is_null_and_never_0(bench: Any) -> None:
    report = bench("--engine", "cpu", "--max-frames", "20", "--seconds", "0.2")
    stages = report["throughput"]["stages_ms"]
    assert stages["upload"] is None and stages["download"] is None
    assert all(stages[name] for name in STAGES if name not in ("upload", "download"))
    lines = {line["stage"]: line for line in report["roofline"]["stages"]}
    assert lines["upload"]["measured_ms"] is None and lines["network"]["of_ceiling"] > 0
    alone = report["alone"]
    parts = [ms for ms in alone["stages_ms"].values() if ms is not None]
    assert alone["work_ms"] == pytest.approx(sum(parts), rel=1e-3)
    assert alone["bound_fps"] == pytest.approx(
        report["device"]["cores"] * 1e3 / alone["work_ms"], rel=1e-2
    )


def test_the_schema_refuses_what_is_not_so(bench: Any, valid: Any) -> None:
    report = bench("--max-frames", "20", "--seconds", "0.2")
    for spoil in (
        lambda r: r.pop("kind"),
        lambda r: r["throughput"]["stages_ms"].pop("upload"),
        lambda r: r["energy"].update(watts=0),
        lambda r: r["alone"].update(bound_fps="fast"),
    ):
        other = copy.deepcopy(report)
        spoil(other)
        with pytest.raises(AssertionError):
            valid(other)


def test_json_on_stdout_is_json(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "--model", str(tiny_model), "--max-frames", "20", "--seconds", "0.2"]
    assert main([*words, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "tiny"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--source", "no.mp4"], 3),
        (["--json", "/no/such/folder/out.json"], 2),
        (["--html", "/no/such/folder/out.html"], 2),
        (["--source", "pattern:?frames=1"], 2),
        (["--seconds", "0"], 2),
        (["--seconds", "inf"], 2),
        (["--sweep", "slots=1,2", "--rounds", "0"], 2),
        (["--startup", "--rounds", "0"], 2),
    ],
)
def test_mistakes_are_told(
    words: list[str], code: int, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--model", str(tiny_model), "--max-frames", "5", *words]) == code
    assert capsys.readouterr().err.count("kestrel: error:") == 1


def test_a_source_without_end_is_measured_for_max_frames(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "--source", "pattern:", "--model", str(tiny_model)]
    assert main([*words, "--max-frames", "30", "--seconds", "0.2"]) == 0
    assert "over 30 frames" in capsys.readouterr().out
