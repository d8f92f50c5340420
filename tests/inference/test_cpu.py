"""The CPU engine on tiny networks made here: binding, refusals, memory, telemetry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.core.errors import ModelError
from app.core.frame import Frame
from app.inference.cpu import CpuBackend
from app.models.manifest import InputSpec, ModelSpec

ROOT = Path(__file__).parents[2]
W, H = 32, 24


def network(
    path: Path,
    rows: np.ndarray,
    *,
    input_shape: list[Any] | None = None,
    output_shape: list[Any] | None = None,
    dtype: int = TensorProto.FLOAT,
    inputs: int = 1,
) -> Path:
    """A graph that answers ``rows`` + 0 × mean(input)."""
    shape = input_shape or [1, 3, H, W]
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], keepdims=0),
        helper.make_node("Mul", ["m", "zero"], ["z"]),
        helper.make_node("Add", ["rows", "z"], ["y"]),
    ]
    kind = np.float32 if dtype == TensorProto.FLOAT else np.float16
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info(f"x{i or ''}", dtype, shape) for i in range(inputs)],
        [helper.make_tensor_value_info("y", dtype, output_shape or list(rows.shape))],
        [
            numpy_helper.from_array(rows.astype(kind), "rows"),
            numpy_helper.from_array(np.array(0, kind), "zero"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


def spec(**parameters: Any) -> ModelSpec:
    return ModelSpec(
        name="made",
        file="made.onnx",
        input=InputSpec((W, H), resize="stretch"),
        family="yolov8",
        labels=("a", "b"),
        parameters=parameters,
    )


def detect(path: Path, model: ModelSpec, frames: int = 3, **options: Any) -> list[Any]:
    pixels = np.zeros((H * 2, W * 2, 3), np.uint8)
    found = []
    with CpuBackend(model, path, wake=lambda: None, score=0.5, iou=0.5, **options) as backend:
        for i in range(frames):
            slot = backend.slots[i % len(backend.slots)]
            slot.enqueue([Frame(pixels, i, 0)])
            found.append(slot.collect()[0][0])
    return found


ONE_BOX = np.zeros((1, 6, 10), np.float32)
ONE_BOX[0, :, 3] = (16, 12, 8, 6, 0.1, 0.9)


@pytest.mark.parametrize("output_shape", [[1, 6, 10], ["batch", 6, "anchors"]])
def test_fixed_and_symbolic_output_shapes_give_the_same_boxes(
    tmp_path: Path, output_shape: list[Any]
) -> None:
    path = network(tmp_path / "made.onnx", ONE_BOX, output_shape=output_shape)
    for found in detect(path, spec()):
        assert found.xyxy.tolist() == [[24, 18, 40, 30]], "twice the input's size"
        assert found.class_ids.tolist() == [1] and found.scores.tolist() == pytest.approx([0.9])


@pytest.mark.parametrize("output_shape", [[1, 2, 6], [1, "boxes", 6]])
def test_nms_in_the_graph_is_not_done_again(tmp_path: Path, output_shape: list[Any]) -> None:
    rows = np.array([[[0, 0, 8, 8, 0.9, 0], [0, 0, 8, 8, 0.8, 0]]], np.float32)
    path = network(tmp_path / "made.onnx", rows, output_shape=output_shape)
    assert all(len(found) == 2 for found in detect(path, spec(end_to_end=True)))


def test_a_symbolic_input_takes_the_manifests_size(tmp_path: Path) -> None:
    path = network(tmp_path / "made.onnx", ONE_BOX, input_shape=["batch", 3, "h", "w"])
    assert len(detect(path, spec())[0]) == 1


def test_spare_slots_share_the_workers(tmp_path: Path) -> None:
    path = network(tmp_path / "made.onnx", ONE_BOX)
    assert len(detect(path, spec(), frames=9, workers=2, spare_slots=1)) == 9


def test_an_input_size_that_the_graph_refuses_is_told(tmp_path: Path) -> None:
    path = network(tmp_path / "made.onnx", ONE_BOX, input_shape=[1, 3, 640, 640])
    with pytest.raises(ModelError, match=r"input\.size"):
        detect(path, spec())


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_shape": [1, 3]},
        {"dtype": TensorProto.FLOAT16},
        {"inputs": 2},
    ],
)
def test_a_network_that_takes_something_else_is_refused(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    path = network(tmp_path / "made.onnx", ONE_BOX, **wrong)
    with pytest.raises(ModelError, match="float32 tensor"):
        detect(path, spec())


def test_a_network_that_fails_while_it_runs_is_told(tmp_path: Path) -> None:
    shape = numpy_helper.from_array(np.array([7, 7], np.int64), "shape")
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [7, 7])],
        [shape],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(tmp_path / "made.onnx"))
    with pytest.raises(ModelError, match=r"inference failed|refuses an input") as caught:
        detect(tmp_path / "made.onnx", spec())
    assert "\n" not in str(caught.value)


def test_a_network_that_is_no_detector_is_refused(tmp_path: Path) -> None:
    path = network(tmp_path / "made.onnx", np.zeros((1, 1000), np.float32))
    with pytest.raises(ModelError, match=r"decoder\.family"):
        detect(path, spec())


def test_a_damaged_file_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "made.onnx"
    path.write_bytes(b"not an onnx file" * 100)
    with pytest.raises(ModelError, match="damaged") as caught:
        detect(path, spec())
    assert "\n" not in str(caught.value)


def test_nothing_is_bound_anew_per_frame(tmp_path: Path) -> None:
    path = network(tmp_path / "made.onnx", ONE_BOX)
    with CpuBackend(spec(), path, wake=lambda: None, score=0.5, iou=0.5) as backend:
        slot: Any = backend.slots[0]
        bound = slot.shapes.for_frame((W, H)).network
        before = (bound.tensor.ctypes.data, [o.ctypes.data for o in bound.run(1)[0]])
        for i in range(5):
            slot.enqueue([Frame(np.zeros((H, W, 3), np.uint8), i, 0)])
            slot.collect()
        assert before == (bound.tensor.ctypes.data, [o.ctypes.data for o in bound.run(1)[0]])


def test_onnx_runtime_leaves_no_telemetry_behind(tmp_path: Path) -> None:
    """Versions from 1.29 on write a device id into the user's cache unless told not to."""
    path = network(tmp_path / "made.onnx", ONE_BOX)
    home = tmp_path / "home"
    home.mkdir()
    code = (
        "from pathlib import Path; from app.models.onnx_session import open_session;"
        f"open_session(Path({str(path)!r}))"
    )
    bare = {"HOME": str(home), "PATH": os.environ["PATH"]}  # no CI=…, which would silence it too
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=bare, check=True)
    assert list(home.rglob("*")) == []
