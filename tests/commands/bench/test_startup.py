"""`bench --startup`: real processes are timed by what they say, and their faults are told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.commands.cli import main


def test_the_parts_of_a_start_add_up(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    report = bench("--startup", "--rounds", "2", "--source", "pattern:?frames=5")
    assert len(report["runs"]) == 2
    for run in report["runs"]:
        assert 0 < run["imports_ms"] < run["total_ms"] <= report["highest_ms"]
        longest = max(run["source_open_ms"], run["model_load_ms"])
        parts = run["imports_ms"] + longest + run["first_inference_ms"]
        assert parts == pytest.approx(run["total_ms"], abs=0.5)
    assert {"app", "numpy"} <= set(report["slowest_imports_ms"])
    assert "command to first boxes" in capsys.readouterr().out


def test_a_start_that_fails_is_told_with_its_own_error(
    blob: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "--startup", "--rounds", "1", "--model", str(blob), "--source", "no.mp4"]
    assert main(words) == 3
    assert "no.mp4" in capsys.readouterr().err


def test_arguments_are_parsed_without_what_only_models_needs() -> None:
    code = (
        "import sys\n"
        "from app.commands.cli import make_parser as _parser\n"
        "_parser('run').parse_args(['run'])\n"
        "late = {'app.commands.models', 'app.commands.evaluate', 'http.client', 'urllib.request'}\n"
        "import app.models.store\n"
        "late &= set(sys.modules)\n"
        "sys.exit(f'imported: {late}' if late else 0)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
