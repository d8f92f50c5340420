"""Every fault in a manifest names the file and the key."""

import copy
from typing import Any

import pytest

from app.core.errors import ModelError
from app.models.families import FAMILY_NAMES
from app.models.manifest import InputSpec, parse_manifest

GOOD: dict[str, Any] = {
    "file": "a.onnx",
    "labels": ["person"],
    "input": {"size": [64, 32]},
    "decoder": {"family": "yolox", "strides": [8, 16, 32]},
}


def changed(key: str, value: Any) -> dict[str, Any]:
    data = copy.deepcopy(GOOD)
    table, _, leaf = key.rpartition(".")
    target = data.setdefault(table, {}) if table else data
    if value is None:
        del target[leaf]
    else:
        target[leaf] = value
    return data


def test_what_is_left_out_takes_its_default():
    spec = parse_manifest(GOOD, name="a", where="a.toml")
    assert spec.input == InputSpec(size_wh=(64, 32))
    assert (spec.score, spec.iou, spec.default, spec.sha256) == (0.35, 0.45, False, None)
    assert spec.parameters == {"strides": [8, 16, 32]}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("file", None),
        ("file", 3),
        ("file", ""),
        ("file", "../a.onnx"),
        ("file", ".."),
        ("labels", None),
        ("labels", []),
        ("labels", [1]),
        ("labels", "coco80.txt"),
        ("sha256", "ABC"),
        ("sha256", "0" * 63),
        ("url", 1),
        ("default", "false"),
        ("colour", "blue"),
        ("input", [1]),
        ("input.size", None),
        ("input.size", [64]),
        ("input.size", [64, 0]),
        ("input.size", [64, 1.5]),
        ("input.size", [64, float("inf")]),
        ("input.size", [True, 64]),
        ("input.layout", "NHWC"),
        ("input.channels", "GRAY"),
        ("input.scale", "1/255"),
        ("input.scale", float("nan")),
        ("input.scale", float("inf")),
        ("input.mean", [0, 0]),
        ("input.mean", [0, 0, float("nan")]),
        ("input.std", [1, 0, 1]),
        ("input.resize", "fill"),
        ("input.align", "left"),
        ("input.pad", 256),
        ("input.pad", 0.5),
        ("input.zoom", 1),
        ("input.fit", -32),
        ("input.fit", 1.5),
        ("input.fit", 48),
        ("input.fit", "32"),
        ("input.size", [64, 8193]),
        ("decoder.strides", 8),
        ("decoder.strides", []),
        ("decoder.strides", [8, 16, 32, 64, 128, 256]),
        ("decoder.strides", [8, "16"]),
        ("decoder.strides", [8, 16.0]),
        ("decoder.strides", [0, 8]),
        ("decoder.strides", [True, 8]),
        ("decoder.strides", [16, 8]),
        ("decoder.strides", [8, 8]),
        ("decoder.stride", [8]),
        ("decoder.reg_max", 7),
        ("decoder.family", None),
        ("decoder.family", "ssd"),
        ("thresholds.score", 1.5),
        ("thresholds.iou", True),
        ("thresholds.max", 1),
        ("accuracy", 0.5),
    ],
)
def test_fault_names_file_and_key(key, value):
    with pytest.raises(ModelError) as fault:
        parse_manifest(changed(key, value), name="a", where="models/a.toml")
    assert "models/a.toml" in str(fault.value)
    assert f"`{key}`" in str(fault.value)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("family", "resize", "good"),
    [
        *(("yolov8", "letterbox", True), ("yunet", "letterbox", True)),
        *(("yolov8", "stretch", False), ("fastestdet", "letterbox", False)),
    ],
)
def test_only_letterboxes_of_families_for_any_size_are_cut(family, resize, good):
    data = changed("input.fit", 32)
    data["input"]["resize"], data["decoder"] = resize, {"family": family}
    if good:
        spec = parse_manifest(data, name="a", where="a.toml")
        assert spec.for_frame((640, 100)).input.size_wh == (64, 32)
        assert spec.for_frame((100, 640)).input.size_wh == (32, 32)
        return
    with pytest.raises(ModelError, match=r"`input\.fit`.*letterbox.*yolov8"):
        parse_manifest(data, name="a", where="a.toml")


def test_an_input_of_one_size_is_never_cut():
    spec = parse_manifest(GOOD, name="a", where="a.toml")
    assert spec.for_frame((640, 100)) is spec


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_every_family_is_accepted(family):
    data = copy.deepcopy(GOOD)
    data["decoder"] = {"family": family}
    assert parse_manifest(data, name="a", where="a.toml").family == family


@pytest.mark.parametrize(
    ("family", "key", "value", "good"),
    [
        ("nanodet", "reg_max", 1, True),
        ("nanodet", "reg_max", 64, True),
        ("nanodet", "reg_max", 0, False),
        ("nanodet", "reg_max", 65, False),
        ("nanodet", "reg_max", 7.0, False),
        ("nanodet", "reg_max", True, False),
        ("nanodet", "end_to_end", True, False),
        ("yolov8", "end_to_end", True, True),
        ("yolov8", "end_to_end", 1, False),
        ("yolov8", "end_to_end", "false", False),
        ("yolox", "strides", [8, 16, 32, 8, 16, 32], True),
        ("yolox", "strides", [8, 16, 32, 8, 16], False),
        ("yunet", "strides", [8, 16, 8, 16], False),
        ("yunet", "strides", [8], True),
        ("fastestdet", "strides", [8], False),
    ],
)
def test_decoder_parameters_are_those_of_the_family(family, key, value, good):
    data = copy.deepcopy(GOOD)
    data["decoder"] = {"family": family, key: value}
    if good:
        assert parse_manifest(data, name="a", where="a.toml").parameters == {key: value}
        return
    with pytest.raises(ModelError, match=rf"a\.toml: `decoder.{key}`"):
        parse_manifest(data, name="a", where="a.toml")
