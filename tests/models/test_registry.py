"""The registry of families: a part that is forgotten or wrong fails when the family is declared."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from app.models import families
from app.models.families import FAMILIES, decoder_keys, find_family
from app.models.families.base import STRIDES_PARAMETER, Family, Parameter

ROOT = Path(__file__).parents[2]


def whole() -> dict[str, Any]:
    """The parts of a sound family."""
    return {f.name: getattr(find_family("yolox", {}), f.name) for f in fields(Family)}


NEEDED = ("name", "outputs", "input", "score", "any_size", "recognise", "doubt", "decoder")


@pytest.mark.parametrize("part", NEEDED)
def test_a_forgotten_part_fails_when_the_family_is_declared(part: str) -> None:
    parts = whole()
    Family(**parts)
    del parts[part]
    with pytest.raises(TypeError, match=part):
        Family(**parts)


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        *(("score", 35), ("input", {"chanels": "RGB"})),
        ("parameters", (STRIDES_PARAMETER, STRIDES_PARAMETER)),
    ],
)
def test_a_wrong_part_fails_when_the_family_is_declared(part: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"yolox.*{part}"):
        Family(**{**whole(), part: wrong})


def test_a_default_that_a_manifest_could_not_have_fails_when_it_is_declared() -> None:
    with pytest.raises(ValueError, match="reg_max"):
        Parameter("reg_max", 0, "a whole number above 0", lambda value: value > 0)


def test_a_file_without_a_family_and_one_declared_twice_are_told(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    module = tmp_path / "other_detector.py"
    module.write_text("")
    with pytest.raises(TypeError, match=r"other_detector must set FAMILY"):
        families._declared()
    module.write_text("from .yolox import FAMILY as _yolox\nfrom dataclasses import replace\n"
                      "FAMILY = replace(_yolox)\n")  # fmt: skip
    sys.modules.pop("app.models.families.other_detector")
    try:
        with pytest.raises(TypeError, match="declares family yolox"):
            families._declared()
    finally:
        sys.modules.pop("app.models.families.other_detector")


def test_a_manifest_chooses_the_form_by_its_key() -> None:
    plain = find_family("yolov8", {"end_to_end": False})
    assert plain is find_family("yolov8", {}) and plain.needs_nms
    assert not find_family("yolov8", {"end_to_end": True}).needs_nms
    assert set(decoder_keys("yolov8")) == {"end_to_end"}


def test_what_a_manifest_leaves_out_takes_the_familys_default() -> None:
    nanodet = find_family("nanodet", {})
    assert nanodet.complete({"reg_max": 9}) == {"strides": [8, 16, 32], "reg_max": 9}
    assert replace(nanodet, parameters=()).complete({"reg_max": 9}) == {}


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.device], ids=lambda f: f.title)
def test_the_kernel_that_a_family_declares_exists(family: Family) -> None:
    assert family.device is not None
    source = (ROOT / "kernels" / "postprocess.cu").read_text("utf-8")
    assert re.search(rf"__global__ void {family.device.name}\(", source)


def test_the_registry_loads_no_engine() -> None:
    code = "import sys, app.models.families; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not {"onnx", "onnxruntime", "cv2", "openvino"} & set(done.stdout.split())
