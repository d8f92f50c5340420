"""The number of cameras is the highest that holds, and the report says what it cost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.commands.bench.cameras import Trial, most
from app.commands.cli import main
from app.ops.power import Energy

NO_ENERGY = Energy("", "no sensor")


@pytest.mark.parametrize("capacity", [0, 1, 5, 16, 63, 64, 200])
def test_the_most_that_hold_is_found(capacity: int) -> None:
    tried = []

    def trial(count: int) -> Trial:
        tried.append(count)
        age_ms = 100.0 if count <= capacity else 900.0
        return Trial(count, 15, age_ms, 0.0, 1.0, 50, 100, NO_ENERGY)

    found = most(trial, age_ms=400)
    assert (found.cameras if found else 0) == min(capacity, 64)
    assert len(tried) == len(set(tried)) <= 13


def test_frames_that_are_lost_are_too_many_cameras() -> None:
    assert not Trial(2, 15, 50.0, 0.02, 1.0, 50, 100, NO_ENERGY).holds(400)
    assert Trial(2, 15, 50.0, 0.0, 1.0, 50, 100, NO_ENERGY).holds(400)


def test_the_command_measures_and_reports(
    tiny_model: Path, tmp_path: Path, monkeypatch, valid
) -> None:
    monkeypatch.setattr("app.commands.bench.cameras.MOST", 2)
    monkeypatch.setattr("app.commands.bench.cameras.WARM_UP_S", 0.2)
    report = tmp_path / "report.json"
    words = ["bench", "--cameras", "--source", "sample:", "--model", str(tiny_model)]
    assert main([*words, "--seconds", "1", "--age-ms", "60000", "--json", str(report)]) == 0
    told = valid(json.loads(report.read_text()))
    assert told["kind"] == "cameras" and set(told["modes"]) >= {"all frames", "motion gate"}
    whole = told["modes"]["all frames"]
    assert whole is None or (whole["cameras"] <= 2 and whole["inferred"] > 0.5)


def test_a_camera_is_no_recording(tiny_model: Path) -> None:
    words = ["bench", "--cameras", "--source", "camera:0", "--model", str(tiny_model)]
    assert main(words) == 2
