"""Engines of TensorRT that were built elsewhere: what their files say, and who may read them."""

import json

import pytest

from app.commands.cli import main
from app.core.errors import ModelError
from app.models.engine_file import draft_engine, read_engine
from app.models.onnx_session import open_session

PLAN = b"ftrt and then the plan"


def saved(folder, metadata=None):
    path = folder / "best.engine"
    noted = b""
    if metadata is not None:
        text = json.dumps(metadata).encode()
        noted = len(text).to_bytes(4, "little") + text
    path.write_bytes(noted + PLAN)
    return path


def test_what_an_exporter_wrote_is_told_apart_from_the_plan(tmp_path):
    assert read_engine(saved(tmp_path)) == (PLAN, {})
    assert read_engine(saved(tmp_path, {"task": "detect"})) == (PLAN, {"task": "detect"})
    path = tmp_path / "short.plan"
    for content in (b"", b"\1", b"\5\0\0\0[1,2]", b"\2\0\0\0{}"):
        path.write_bytes(content)
        assert read_engine(path).metadata == {}
    with pytest.raises(ModelError, match="cannot read"):
        read_engine(tmp_path / "absent.engine")


def test_a_draft_has_labels_in_their_order_and_the_size_as_width_and_height(tmp_path):
    names = {"10": "k", "2": "c", "0": "a"}
    spec = draft_engine(saved(tmp_path, {"names": names, "imgsz": [384, 640]})).spec
    assert spec.labels == ("a", "c", "k") and spec.input.size_wh == (640, 384)
    assert spec.family == "yolov8" and spec.file == "best.engine" and not spec.parameters
    noted = {"names": {"0": "a"}, "imgsz": [64, 64], "args": {"nms": True}}
    assert draft_engine(saved(tmp_path, noted)).spec.parameters == {"end_to_end": True}


def test_what_is_not_noted_can_be_said(tmp_path):
    path = saved(tmp_path)
    with pytest.raises(ModelError, match=r"--family .*yolox.* --labels FILE --size"):
        draft_engine(path)
    spec = draft_engine(path, family="yolox", labels=["a"], size_wh=(416, 416)).spec
    assert spec.family == "yolox" and spec.input.size_wh == (416, 416)


def test_another_task_is_refused(tmp_path):
    with pytest.raises(ModelError, match="exported for the task 'classify'"):
        draft_engine(saved(tmp_path, {"task": "classify"}))


def test_only_tensorrt_runs_it(tmp_path, capsys):
    path = saved(tmp_path, {"names": {"0": "a"}, "imgsz": [64, 64]})
    with pytest.raises(ModelError, match="only --engine tensorrt runs"):
        open_session(path)
    words = ["replay", "pattern:?frames=2", "--model", str(path), "--engine", "openvino"]
    assert main(words) == 2
    assert "use --engine tensorrt, or its ONNX file" in capsys.readouterr().err
