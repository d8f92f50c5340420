"""Real exports by Ultralytics and PyTorch: `models add FILE`, and the boxes of their own code.

Runs where ``ultralytics`` and ``onnxscript`` can be imported, or where KESTREL_ULTRALYTICS_PYTHON
names an interpreter that can.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.api import Detector
from app.commands.models import register
from app.core.errors import ModelError
from tests.models.ultralytics_exports import CASES, SIZE
from tests.shelf_kit import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # PyTorch's own exporter takes minutes
STRONGEST = 20  # so many boxes are compared: a network with random weights has thousands alike


@pytest.fixture(scope="module")
def python() -> str:
    named = os.environ.get("KESTREL_ULTRALYTICS_PYTHON")
    if named is None and not (find_spec("ultralytics") and find_spec("onnxscript")):
        pytest.skip("ultralytics is absent; KESTREL_ULTRALYTICS_PYTHON may name a Python with it")
    return named or sys.executable


def overlaps(first: Any, second: Any) -> Any:
    """Intersection over union of each with each, (N, M)."""
    a, b = np.asarray(first)[:, None], np.asarray(second)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    both = np.prod(sides.clip(0), axis=2)
    whole = np.prod(a[..., 2:] - a[..., :2], axis=2) + np.prod(b[..., 2:] - b[..., :2], axis=2)
    return both / (whole - both + 1e-9)


@pytest.mark.parametrize("name", CASES)
def test_an_export_is_added_by_its_name_alone_and_finds_the_same(
    name: str, python: str, tmp_path: Path
) -> None:
    import cv2

    script = str(Path(__file__).parent / "ultralytics_exports.py")
    picture = str(ROOT / "models" / "pictures" / "plain.jpg")
    folder = tmp_path / "export"
    folder.mkdir()
    command = [python, script, str(folder), picture, name]
    subprocess.run(command, check=True, timeout=550, cwd=folder)
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers().add_parser("models"), shelf_dir=tmp_path)
    words = ["models", "add", str(folder / f"{name}.onnx")]
    args = parser.parse_args([*words, "--size", f"{SIZE}x{SIZE}"] if name == "torch" else words)
    try:
        assert args.func(args) == 0
    except ModelError as fault:
        assert name in ("v11_obb", "v11_classify") and repr(name.removeprefix("v11_")) in str(fault)
        return
    boxes = json.loads((folder / "boxes.json").read_text())
    if not boxes:  # of a classifier
        return
    theirs = {key: np.array(values) for key, values in boxes.items()}
    least = float(np.sort(theirs["scores"])[::-1][:STRONGEST][-1])
    with Detector(tmp_path / f"{name}.toml", score=least / 1.05, iou=0.45) as detector:
        found = detector(cv2.imread(str(folder / "picture.png")))
    alike = overlaps(theirs["xyxy"], found.xyxy) >= 0.95
    alike &= theirs["classes"][:, None] == found.class_ids[None]
    alike &= np.isclose(theirs["scores"][:, None], found.scores[None], rtol=0.04, atol=0)
    assert alike[theirs["scores"] >= least].any(axis=1).all()
    if name != "v11_segment":  # they leave out what has an empty mask
        assert alike[:, found.scores >= least].any(axis=0).all()
    if "points" in theirs:
        assert found.keypoints is not None
        far = np.abs(theirs["points"][:, None] - found.keypoints[None, :, :, :2]).max(axis=(2, 3))
        assert (far < 1)[theirs["scores"] >= least].any(axis=1).all()
