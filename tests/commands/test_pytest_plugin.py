"""A user's own clips as tests: pytest itself, run on a folder of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.commands.cli import main
from app.sources.uri import SAMPLE_PATH

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clips(tmp_path: Path, tiny_model: Path) -> Path:
    """A folder with one clip and its golden file."""
    folder = tmp_path / "clips"
    folder.mkdir()
    shutil.copy(SAMPLE_PATH, folder / "porch.mp4")
    golden = folder / "porch.mp4.golden.jsonl"
    words = ["replay", str(folder / "porch.mp4"), "--model", str(tiny_model)]
    assert main([*words, "--json", str(golden)]) == 0
    return folder


def run_pytest(clips: Path, model: Path, *words: str) -> tuple[int, str]:
    settings = clips / "pytest.ini"
    settings.write_text("[pytest]\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "app.commands.pytest_plugin",
        "-c",
        str(settings),
    ]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "--kestrel-model", str(model), *words, str(clips)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
    )
    return done.returncode, done.stdout


def test_a_clip_with_its_golden_file_is_a_test_that_passes(clips: Path, tiny_model: Path) -> None:
    code, told = run_pytest(clips, tiny_model)
    assert code == 0 and "1 passed" in told


def test_a_difference_fails_in_one_line_and_can_be_accepted(clips: Path, tiny_model: Path) -> None:
    golden = clips / "porch.mp4.golden.jsonl"
    lines = [json.loads(line) for line in golden.read_text().splitlines()]
    lines[7]["detections"][0]["box"] = [0, 0, 5, 5]
    golden.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, told = run_pytest(clips, tiny_model)
    assert code == 1 and "1 of 240 frames differ" in told and "Traceback" not in told
    assert run_pytest(clips, tiny_model, "--kestrel-update")[0] == 0
    assert run_pytest(clips, tiny_model)[0] == 0


def test_a_golden_file_without_its_clip_fails(clips: Path, tiny_model: Path) -> None:
    (clips / "porch.mp4").unlink()
    code, told = run_pytest(clips, tiny_model)
    assert code == 1 and "there is no file or folder" in told
