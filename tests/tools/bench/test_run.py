"""`bench` measures for real: the figures add up, whatever they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.cli import main


def test_table_and_json_hold_every_figure(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"
    words = ["bench", "--model", str(tiny_model), "--max-frames", "60", "--seconds", "0.5"]
    assert main([*words, "--json", str(out)]) == 0
    table = capsys.readouterr().out
    for word in ("preprocess", "network", "postprocess", "throughput", "overload", "memory"):
        assert word in table
    report = json.loads(out.read_text())
    throughput, overload = report["throughput"], report["overload"]
    assert throughput["processed"] == 60
    assert not {"replaced", "stale"} & set(throughput["dropped"]), "a replay drops nothing"
    assert overload["captured"] == overload["processed"] + sum(overload["dropped"].values())
    for stage in throughput["stages_ms"].values():
        assert 0 <= stage["p50"] <= stage["p95"] <= stage["p99"]
    assert report["rss_peak_mb"] >= report["rss_mb"] > 10
    energy = report["energy"]
    assert (energy["watts"] is None) == bool(energy["reason"]) and energy["watts"] != 0
    assert report["device"]["cores"] >= 1 and report["time"].endswith("+00:00")


def test_json_on_stdout_is_json(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "--model", str(tiny_model), "--max-frames", "20", "--seconds", "0.2"]
    assert main([*words, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "tiny"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--source", "no.mp4"], 3),
        (["--json", "/no/such/folder/out.json"], 2),
        (["--source", "pattern:?frames=1"], 2),
        (["--seconds", "0"], 2),
        (["--seconds", "inf"], 2),
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
