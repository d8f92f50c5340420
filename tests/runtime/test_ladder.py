"""Networks that cannot take the place of the run's own are refused before it starts."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from app.commands.cli import main
from tests.shelf_kit import save_graph


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KESTREL_CACHE", str(tmp_path / "cache"))


def settings(folder: Path, *steps: str, age_ms: float = 1) -> list[str]:
    path = folder / "k.toml"
    path.write_text(f"max_age_ms = {age_ms}\nladder = {json.dumps(steps)}\nheadless = true\n")
    return ["run", "--config", str(path)]


@pytest.mark.parametrize(
    ("step", "code", "named"),
    [
        ("model light_person_192", 2, "does not know bicycle, car"),
        ("input 320x320", 2, "spares nothing"),
        ("input 640", 2, "spares nothing"),
        ("model nobody", 4, "no model 'nobody'"),
    ],
)
def test_a_network_that_cannot_stand_in_ends_the_run_before_it_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], step: str, code: int, named: str
) -> None:
    words = settings(tmp_path, step)
    assert main([*words, "--source", "pattern:?frames=3"]) == code
    assert named in capsys.readouterr().err
    assert main([*words, "--check"]) == 2


def test_of_an_input_that_is_cut_to_its_frames_no_side_may_grow(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """For 16:9 frames 256x256 is 256x160, and 320x192 half as much again."""
    with caplog.at_level(logging.ERROR):
        assert main([*settings(tmp_path, "input 256x256", "input 320x192"), "--check"]) == 2
    assert "320x192" in caplog.text and "256x256" in caplog.text
    assert main([*settings(tmp_path, "input 320x192", "input 256x160"), "--check"]) == 0


def test_a_size_between_the_multiples_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert main([*settings(tmp_path, "input 250"), "--check"]) == 2
    assert "multiples of 32" in caplog.text


def test_check_says_which_models_take_a_size_that_this_one_does_not(
    tmp_path: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The tiny network gives the same four boxes whatever it is shown: at 32x32 it is sound."""
    assert main([*settings(tmp_path, "input 256"), "--check"]) == 0
    words = [*settings(tmp_path, "input 32"), "--check", "--model", str(tiny_model)]
    manifest = tiny_model.with_suffix(".toml")
    manifest.write_text(manifest.read_text().replace("yolov8", "yolox"))
    with caplog.at_level(logging.ERROR):
        assert main(words) == 2
    assert "kestrel" in caplog.text


def test_a_run_walks_down_to_a_smaller_model_and_tells_its_boxes_by_the_run_s_labels(
    tmp_path: Path,
    tiny_model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``small`` calls "thing" its second class; the device is always hot."""
    monkeypatch.setattr("app.runtime.degradation.Thermal", lambda: lambda: "the device throttles")
    import numpy as np

    rows = np.zeros((1, 6, 4), np.float32)
    rows[0, :, 1] = (16, 16, 8, 8, 0.1, 0.8)
    small = save_graph(tmp_path / "small.onnx", {"out": rows}, shape=(1, 3, 32, 32))
    small.with_suffix(".toml").write_text(
        'file = "small.onnx"\nlabels = ["other", "thing"]\n'
        '[input]\nsize = [32, 32]\nresize = "stretch"\n[decoder]\nfamily = "yolov8"\n'
    )
    out = tmp_path / "out.jsonl"
    words = settings(tmp_path, f"model {small}", age_ms=60_000)
    words += ["--source", "pattern:?size=64x48&fps=30", "--json", str(out), "--max-frames", "90"]
    assert main([*words, "--model", str(tiny_model)]) == 0
    found = [d for line in out.read_text().splitlines() for d in json.loads(line)["detections"]]
    assert {d["label"] for d in found} == {"thing"} and {d["class_id"] for d in found} == {0}
    assert "ladder steps down" in capsys.readouterr().out
    assert [round(found[i]["score"], 1) for i in (0, -1)] == [0.9, 0.8]
