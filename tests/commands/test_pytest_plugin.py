"""A user's own clips as tests: pytest itself, run on a folder of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.commands.cli import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clips(tmp_path: Path, tiny_model: Path) -> Path:
    """A folder with one clip and its golden file."""
    folder = tmp_path / "clips"
    folder.mkdir()
    clip, model = str(folder / "porch.mp4"), ["--model", str(tiny_model)]
    assert main(["replay", "pattern:?size=64x48&frames=12", *model, "--record", clip]) == 0
    assert main(["replay", clip, *model, "--json", f"{clip}.golden.jsonl"]) == 0
    return folder


def words(clips: Path, model: Path, *more: str) -> list[str]:
    settings = clips / "pytest.ini"
    settings.write_text("[pytest]\n")
    plugin = ["-p", "app.commands.pytest_plugin", "-p", "no:cacheprovider", "-c", str(settings)]
    return [*plugin, "--kestrel-model", str(model), *more, str(clips)]


def test_a_clip_with_its_golden_file_is_a_test_that_passes(clips: Path, tiny_model: Path) -> None:
    command = [sys.executable, "-m", "pytest", *words(clips, tiny_model)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0 and "1 passed" in done.stdout


@pytest.fixture
def run_pytest(clips: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]):
    """``run_pytest(WORD…)``: in this process; its exit code, and what it says."""

    def run(*more: str) -> tuple[int, str]:
        # the simulated device's handler of faults stays, which faulthandler would replace
        code = pytest.main(["-s", "-p", "no:faulthandler", *words(clips, tiny_model, *more)])
        return int(code), capsys.readouterr().out

    return run


def test_a_difference_fails_in_one_line_and_can_be_accepted(clips: Path, run_pytest) -> None:
    golden = clips / "porch.mp4.golden.jsonl"
    lines = [json.loads(line) for line in golden.read_text().splitlines()]
    lines[7]["detections"][0]["box"] = [0, 0, 5, 5]
    golden.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, told = run_pytest()
    assert code == 1 and "1 of 12 frames differ" in told and "Traceback" not in told
    assert run_pytest("--kestrel-update")[0] == 0
    assert run_pytest()[0] == 0


def test_a_golden_file_without_its_clip_fails(clips: Path, run_pytest) -> None:
    (clips / "porch.mp4").unlink()
    code, told = run_pytest()
    assert code == 1 and "there is no file or folder" in told
