"""Smaller networks: what is quantised, what stays, and that they still find the same."""

import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from app.core.errors import ConfigError, ModelError
from app.models.onnx_edit import to_fp16, to_half_weights, to_int8, unquantised
from app.models.onnx_session import open_session
from tests.blob_detector import save_blob_detector
from tests.shelf_kit import asset


@pytest.fixture
def blob(tmp_path):
    return save_blob_detector(tmp_path)


def pictures(count=6):
    rng = np.random.default_rng(3)
    return [rng.random((1, 3, 64, 64), np.float32) for _ in range(count)]


def run(path, tensor):
    session = open_session(path)
    return session.run(None, {session.get_inputs()[0].name: tensor})[0]


def operators(path):
    return [node.op_type for node in onnx.load(str(path)).graph.node]


def test_what_follows_the_last_convolution_and_that_one_stay_in_float(blob):
    graph = onnx.load(str(blob)).graph
    assert unquantised(graph) == ["last", "sigmoid", "reshape", "concat"]


def test_int8_quantises_the_rest_and_finds_the_same(blob, tmp_path):
    out = tmp_path / "q.onnx"
    to_int8(blob, out, pictures())
    assert "QuantizeLinear" in operators(out)
    weights = {i.name: numpy_helper.to_array(i) for i in onnx.load(str(out)).graph.initializer}
    assert {weights["narrow"].dtype, weights["wide_quantized"].dtype} == {
        np.dtype(np.float32),
        np.dtype(np.int8),
    }
    for tensor in pictures(2):
        assert np.abs(run(out, tensor) - run(blob, tensor)).max() < 0.06


def test_int8_for_a_gpu_is_symmetric_throughout(blob, tmp_path):
    out = tmp_path / "q.onnx"
    to_int8(blob, out, pictures(), target="gpu")
    zeros = [i for i in onnx.load(str(out)).graph.initializer if "zero_point" in i.name]
    assert zeros
    for tensor in zeros:
        values = numpy_helper.to_array(tensor)
        assert values.dtype == np.int8, tensor.name  # no bias, of which TensorRT takes no 32 bits
        assert not values.any(), tensor.name


def test_half_weights_halve_the_file_and_keep_float_arithmetic(blob, tmp_path):
    out = tmp_path / "h.onnx"
    to_half_weights(blob, out)
    assert out.stat().st_size < 0.65 * blob.stat().st_size
    for tensor in pictures(2):
        assert np.abs(run(out, tensor) - run(blob, tensor)).max() < 2e-3


def test_a_weight_too_large_for_half_precision_stays_as_it_is(blob, tmp_path):
    model = onnx.load(str(blob))
    wide = next(i for i in model.graph.initializer if i.name == "wide")
    values = numpy_helper.to_array(wide).copy()
    values[0, 0, 0, 0] = 1e6
    wide.CopyFrom(numpy_helper.from_array(values, "wide"))
    onnx.save(model, str(blob))
    to_half_weights(blob, tmp_path / "h.onnx")
    kept = {i.name: i.data_type for i in onnx.load(str(tmp_path / "h.onnx")).graph.initializer}
    assert kept["wide"] == onnx.TensorProto.FLOAT


def test_fp16_computes_in_half_and_takes_and_gives_float32(blob, tmp_path):
    out = tmp_path / "f.onnx"
    to_fp16(blob, out)
    session = open_session(out)
    assert session.get_inputs()[0].type == session.get_outputs()[0].type == "tensor(float)"
    types = {i.data_type for i in onnx.load(str(out)).graph.initializer}
    assert onnx.TensorProto.FLOAT not in types
    tensor = pictures(1)[0]
    assert np.abs(run(out, tensor) - run(blob, tensor)).max() < 0.05


@pytest.mark.parametrize("convert", [to_fp16, to_half_weights])
def test_no_onnx_file_is_a_model_error(convert, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match=r"bad\.onnx cannot be converted"):
        convert(tmp_path / "bad.onnx", tmp_path / "out.onnx")


def test_no_onnx_file_cannot_be_quantised(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match=r"bad\.onnx cannot be quantised"):
        to_int8(tmp_path / "bad.onnx", tmp_path / "out.onnx", pictures())


def test_without_onnx_the_cure_is_told(blob, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"pip install -r requirements-models\.txt"):
        to_half_weights(blob, tmp_path / "h.onnx")


def test_a_real_network_of_others_quantises(tmp_path):
    weights = asset("fastestdet_352")
    rng = np.random.default_rng(0)
    tensors = [rng.random((1, 3, 352, 352), np.float32) for _ in range(2)]
    to_int8(weights, tmp_path / "q.onnx", tensors)
    assert (tmp_path / "q.onnx").stat().st_size < 0.5 * weights.stat().st_size
    assert run(tmp_path / "q.onnx", tensors[0]).shape == (1, 85, 22, 22)
