"""`bench --glass`: from a time code on the screen to the picture of it in the window."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.commands.bench.glass import PARTS, WARM_UP, Painted, _codes, first_paintings
from app.commands.cli import main
from tests.gui.x11 import ROOT, x_display

MS = 1_000_000


def picture(captured_ms: int, ready_ms: int, painted_ms: int) -> Painted:
    gray = np.zeros((1, 1), np.uint8)
    return Painted(captured_ms * MS, ready_ms * MS, 3 * MS, painted_ms * MS, gray)


def test_the_first_painting_of_a_code_counts_and_its_parts_are_the_whole() -> None:
    number = WARM_UP + 1000
    shown = [(WARM_UP, 0), (number, 1000 * MS), (number, 1010 * MS)]
    pictures = [
        (picture(900, 950, 960), []),  # no code in it
        (picture(1020, 1030, 1040), [WARM_UP, 500]),  # one that has not been shown
        (picture(1050, 1060, 1070), [WARM_UP]),  # painted before
    ]
    (row,) = first_paintings(shown, pictures)
    assert dict(zip(PARTS, row, strict=True)) == {
        "capture": 20.0,
        "wait": 7.0,
        "inference": 3.0,
        "paint": 10.0,
    }
    assert sum(row) == 40.0


def test_the_newest_code_in_a_picture_is_the_one_on_the_screen() -> None:
    shown = [(WARM_UP, 0), (WARM_UP + 1, 100 * MS)]
    rows = first_paintings(shown, [(picture(120, 130, 140), [WARM_UP, WARM_UP + 1])])
    assert [sum(row) for row in rows] == [40.0]


def test_codes_are_read_from_a_picture() -> None:
    codes, detect = _codes()
    scene = np.full((300, 400), 255, np.uint8)
    scene[100:160, 150:210] = codes[321]
    assert detect(scene) == [321]
    assert detect(np.full((300, 400), 255, np.uint8)) == []


@pytest.mark.slow
def test_a_window_is_measured_on_a_virtual_display(
    tiny_model: Path, tmp_path: Path, valid: Callable[[Any], None]
) -> None:
    report = tmp_path / "glass.json"
    words = ["--glass", "--seconds", "4", "--model", str(tiny_model), "--json", str(report)]
    with x_display() as display:
        environ = {**os.environ, "DISPLAY": display, "QT_QPA_PLATFORM": "xcb"}
        run = [sys.executable, "-m", "app", "bench", *words]
        subprocess.run(run, cwd=ROOT, env=environ, check=True, timeout=150)
    told = json.loads(report.read_text())
    valid(told)
    assert told["codes"]["seen"] >= 5
    whole, parts = told["glass_ms"]["p50"], told["parts_ms"]
    assert 0 < whole < 10_000
    assert all(parts[name]["p50"] <= told["glass_ms"]["p99"] for name in PARTS)


def test_without_a_display_or_a_length_the_error_names_the_cure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    assert main(["bench", "--glass"]) == 2
    assert "--source" in capsys.readouterr().err
    assert main(["bench", "--glass", "--seconds", "600"]) == 2
