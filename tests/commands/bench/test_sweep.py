"""`bench --sweep`: every combination is measured or refused with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from app.commands.bench.rounds import at_batch, at_size, parse_sweep
from app.commands.cli import main
from app.core.errors import ConfigError, ModelError
from app.models.store import find_model
from tests.blob_detector import save_blob_detector

SHORT = ("--source", "pattern:?frames=30", "--rounds", "2")


def test_every_combination_runs_in_each_round(
    bench: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    report = bench(*SHORT, "--engine", "cpu", "--sweep", "slots=1,2,3", "--sweep", "threads=1,2")
    names = [point["name"] for point in report["points"]]
    assert names[0] == "slots=1, threads=1" and len(names) == 6
    for point in report["points"]:
        assert len(point["rounds_fps"]) == 2 and point["refused"] is None
        workers = min(2, point["settings"]["slots"])
        assert f"{workers} workers" in point["engine"]
        assert point["stages_p50_ms"]["upload"] is None
    assert "slots=3, threads=2" in capsys.readouterr().out


def test_what_cannot_be_is_refused_beside_what_can(bench: Any) -> None:
    report = bench(*SHORT, "--engine", "cpu", "--sweep", "transfer=auto,pinned,mapped")
    free, pinned, mapped = report["points"]
    assert free["fps"] > 0
    for point in (pinned, mapped):
        assert point["fps"] is None and "nothing to transfer with --engine cpu" in point["refused"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["transfer=pinned,mapped"], "nothing to transfer with --engine cpu"),
        (["batch=1,2", "slots=1"], "has no meaning beside it"),
        (["colour=red"], "write KEY=A,B,C"),
        (["slots=1,1"], "listed twice"),
        (["slots=1", "slots=2"], "given twice"),
        (["slots=0"], "between 1 and 65"),
        (["engine=fast"], "choose one of auto, cpu"),
        (["size=3by4"], "write pixels"),
        (["model="], "a value is empty"),
    ],
)
def test_what_cannot_be_measured_at_all_is_a_usage_error(
    words: list[str], message: str, blob: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [part for word in words for part in ("--sweep", word)]
    assert main(["bench", "--engine", "cpu", "--model", str(blob), *SHORT, *given]) == 2
    assert message in capsys.readouterr().err


def test_batches_are_of_the_network_alone(bench: Any, tmp_path: Path) -> None:
    words = ("--model", str(fully_convolutional(tmp_path)), "--rounds", "1")
    report = bench(*words, "--sweep", "batch=1,4")
    assert report["measures"] == "network"
    for point in report["points"]:
        assert point["refused"] is None
        network_ms = point["stages_p50_ms"]["network"]
        assert point["fps"] == pytest.approx(1e3 / network_ms, rel=0.05)
        assert point["stages_p50_ms"]["read"] is None


def fully_convolutional(folder: Path) -> Path:
    """One convolution of stride 2, fixed to 64x64 by its input alone."""
    weights = onnx.numpy_helper.from_array(np.ones((5, 3, 2, 2), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2])],
        "conv",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (1, 3, 64, 64))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (1, 5, 32, 32))],
        [weights],
    )
    opset = helper.make_opsetid("", 13)
    path = folder / "conv.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), str(path))
    path.with_suffix(".toml").write_text(
        'file = "conv.onnx"\nlabels = ["a"]\n'
        '[input]\nsize = [64, 64]\n[decoder]\nfamily = "yolov8"\n'
    )
    return path


def test_a_graph_that_allows_it_gets_another_size(tmp_path: Path) -> None:
    model = at_size(find_model(str(fully_convolutional(tmp_path))), (96, 32), tmp_path)
    session = onnxruntime.InferenceSession(str(model.weights))
    assert session.get_inputs()[0].shape == [1, 3, 32, 96]
    assert model.spec.input.size_wh == (96, 32)


def test_a_graph_that_does_not_says_so(tmp_path: Path) -> None:
    model = find_model(str(save_blob_detector(tmp_path)))  # its grid of boxes is a constant
    with pytest.raises(ModelError, match=r"does not allow an input of \[1, 3, 96, 96\]"):
        at_size(model, (96, 96), tmp_path)


def test_a_batch_must_give_what_its_frames_give_alone(tmp_path: Path) -> None:
    model = find_model(str(fully_convolutional(tmp_path)))
    path, frames = at_batch(model, 3, tmp_path)
    assert onnxruntime.InferenceSession(str(path)).run(None, {"x": frames})[0].shape[0] == 3
    proto = onnx.load(str(model.weights))
    mixing = helper.make_node("ReduceMax", ["y"], ["z"], axes=[0], keepdims=1)
    proto.graph.node.append(mixing)
    proto.graph.output[0].name = "z"
    onnx.save(proto, str(model.weights))
    with pytest.raises(ModelError, match="mixes the frames of a batch of 3"):
        at_batch(model, 3, tmp_path)


def test_too_many_combinations_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 64"):
        parse_sweep(["slots=" + ",".join(map(str, range(1, 66)))])
