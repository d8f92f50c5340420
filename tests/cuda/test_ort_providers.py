"""Options, precision and what is missing: what ONNX Runtime's providers are asked for."""

import sys
import types
from dataclasses import replace

import numpy as np
import pytest

from app.core.errors import ConfigError, DeviceError
from app.cuda import ort_providers
from app.cuda.engine_cache import QUANTISED, choose_precision
from app.cuda.ort import EXTRAS, extras_of, session_options, session_providers
from app.cuda.ort_providers import load_libraries, missing_provider, tensorrt_version, unloadable
from app.models.onnx_session import NetworkIO, load_onnxruntime, network_io, open_session
from tests.inference.test_cpu import H, W, network, spec

FIXED = NetworkIO("images", (1, 3, 64, 96), (("out", (1, 6, 10)),), False, (1, 3, 64, 96))
STREAM = 0x7F00_1234


def options(engine, precision, network=FIXED, **more):
    return session_providers(
        engine, stream=STREAM, device=1, precision=precision, network=network, **more
    )


def test_cuda_runs_on_the_slots_stream():
    ((name, found),) = options("ort-cuda", "auto")
    assert name == "CUDAExecutionProvider"
    assert found["user_compute_stream"] == str(STREAM) and found["has_user_compute_stream"] == "1"
    assert found["device_id"] == "1" and found["use_tf32"] == "1"
    assert options("ort-cuda", "fp32")[0][1]["use_tf32"] == "0"
    assert all(isinstance(value, str) for value in found.values())


@pytest.mark.parametrize(
    ("precision", "flags"), [("fp32", ("0", "0")), ("fp16", ("1", "0")), ("int8", ("1", "1"))]
)
def test_tensorrt_comes_first_and_cuda_runs_what_it_cannot(tmp_path, precision, flags):
    (first, found), (second, rest) = options("ort-tensorrt", precision, engine_cache=tmp_path)
    assert (first, second) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert (found["trt_fp16_enable"], found["trt_int8_enable"]) == flags
    assert found["trt_engine_cache_enable"] == "1"
    assert found["trt_engine_cache_path"] == str(tmp_path)
    assert found["user_compute_stream"] == rest["user_compute_stream"] == str(STREAM)
    assert not any("profile" in key for key in found)


@pytest.mark.parametrize(
    ("release", "varies", "precision", "extras"),
    [
        ("1.28.0", False, "auto", ["prefer_nhwc", "enable_cuda_graph"]),
        ("1.27.1", False, "auto", ["prefer_nhwc"]),  # waits for each replay
        ("1.32.0", True, "auto", ["prefer_nhwc"]),  # outputs that come to the host
        ("1.32.0", False, "fp32", ["enable_cuda_graph"]),
    ],
)
def test_cuda_graphs_and_nhwc_where_they_help(monkeypatch, release, varies, precision, extras):
    monkeypatch.setattr(load_onnxruntime(), "__version__", release)
    network = FIXED if not varies else replace(FIXED, varies=True)
    assert extras_of(network, precision) == extras
    ((_, found),) = options("ort-cuda", precision, network, extras=extras)
    assert [name for name in found if found[name] == "1" and name in EXTRAS] == extras
    trt, cuda = options("ort-tensorrt", "fp16", network, extras=extras)
    assert not EXTRAS.keys() & trt[1].keys() and "enable_cuda_graph" not in cuda[1]


def test_sizes_left_open_without_a_name_are_given_as_a_profile():
    network = NetworkIO("x", (1, 3, 64, 96), (), False, (None, 3, None, None))
    found = options("ort-tensorrt", "fp16", network)[0][1]
    assert {found[f"trt_profile_{w}_shapes"] for w in ("min", "opt", "max")} == {"x:1x3x64x96"}


def test_sizes_left_open_with_a_name_are_written_down(tmp_path):
    rows = np.zeros((1, 6, 10), np.float32)
    path = network(tmp_path / "open.onnx", rows, input_shape=["batch", 3, "high", W])
    io = network_io(open_session(path), spec())
    assert io.open_dims == {"batch": 1, "high": H} and not io.nameless
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(path), session_options(io), providers=["CPUExecutionProvider"]
    )
    assert session.get_inputs()[0].shape == [1, 3, H, W]
    path = network(tmp_path / "nameless.onnx", rows, input_shape=[None, 3, H, W])
    assert network_io(open_session(path), spec()).nameless


@pytest.mark.parametrize(
    ("engine", "asked", "quantised", "found"),
    [
        ("ort-cuda", "auto", False, "auto"),
        ("ort-cuda", "auto", True, "auto"),
        ("ort-cuda", "fp32", False, "fp32"),
        ("ort-tensorrt", "auto", False, "fp16"),
        ("ort-tensorrt", "auto", True, "int8"),
        ("ort-tensorrt", "fp32", False, "fp32"),
        ("ort-tensorrt", "int8", True, "int8"),
    ],
)
def test_the_precision_that_is_computed_in(engine, asked, quantised, found):
    assert choose_precision(engine, asked, quantised=quantised) == found


@pytest.mark.parametrize(
    ("engine", "asked", "quantised", "cure"),
    [
        ("ort-cuda", "fp16", False, "models quantize NAME --to fp16"),
        ("ort-tensorrt", "int8", False, "--to int8 --for gpu --calibrate SOURCE"),
        ("ort-tensorrt", "fp16", True, "is quantised to 8 bits"),
    ],
)
def test_a_precision_that_cannot_be_is_refused(engine, asked, quantised, cure):
    with pytest.raises(ConfigError, match=cure):
        choose_precision(engine, asked, quantised=quantised)


def test_a_quantised_file_is_known_by_its_nodes(tmp_path):
    from onnx import TensorProto, helper, save

    plain = network(tmp_path / "plain.onnx", np.zeros((1, 6, 10), np.float32))
    node = helper.make_node("QuantizeLinear", ["x", "s"], ["y"])
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "g",
        [value("x", TensorProto.FLOAT, [1]), value("s", TensorProto.FLOAT, [])],
        [value("y", TensorProto.UINT8, [1])],
    )
    save(helper.make_model(graph), str(tmp_path / "qdq.onnx"))
    assert QUANTISED not in plain.read_bytes()
    assert QUANTISED in (tmp_path / "qdq.onnx").read_bytes()


def fake_runtime(monkeypatch, *providers):
    """An ONNX Runtime with these providers."""
    fake = types.SimpleNamespace(__version__="1.99", get_available_providers=lambda: providers)
    monkeypatch.setattr(ort_providers, "load_onnxruntime", lambda: fake)
    return fake


@pytest.mark.parametrize("engine", ["ort-cuda", "ort-tensorrt"])
def test_a_wheel_without_the_provider_names_the_cure(monkeypatch, engine):
    fake_runtime(monkeypatch, "CPUExecutionProvider")
    monkeypatch.setattr(ort_providers, "_installed", lambda wheel: wheel == "onnxruntime")
    told = missing_provider(engine)
    assert "1.99 has no" in told and "requirements-cuda.txt" in told
    assert "--engine cuda or cpu" in told


def test_both_wheels_are_told_whether_or_not_the_provider_is_there(monkeypatch, caplog):
    monkeypatch.setattr(ort_providers, "_installed", lambda wheel: True)
    fake_runtime(monkeypatch, "CPUExecutionProvider")
    assert "both installed" in missing_provider("ort-cuda")
    fake_runtime(monkeypatch, "CUDAExecutionProvider")
    assert missing_provider("ort-cuda") is None
    assert "both installed" in caplog.text


def test_what_preloading_prints_stays_off_standard_output(monkeypatch, capsys, caplog):
    caplog.set_level("DEBUG")
    fake = fake_runtime(monkeypatch)
    fake.preload_dlls = lambda: sys.stdout.write("Failed to load libcudnn.so.9")
    fake.set_default_logger_severity = lambda level: None
    load_libraries("ort-cuda")
    assert capsys.readouterr().out == "" and "libcudnn.so.9" in caplog.text


@pytest.mark.parametrize(
    ("provider", "cure"),
    [
        ("CUDAExecutionProvider", "pip install 'onnxruntime-gpu[cuda,cudnn]'"),
        ("TensorrtExecutionProvider", "pip install tensorrt-cu13"),
    ],
)
def test_a_library_that_is_missing_is_named(monkeypatch, tmp_path, provider, cure):
    fake = fake_runtime(monkeypatch)
    fake.cuda_version, fake.__file__ = "13.0", str(tmp_path / "__init__.py")
    told = unloadable(provider)
    assert "cannot open shared object file" in told and cure in told and "CUDA 13" in told


def test_a_tensorrt_that_is_too_new_is_told_with_the_one_it_needs(monkeypatch, tmp_path):
    fake = fake_runtime(monkeypatch)
    fake.cuda_version, fake.__file__ = "13.0", str(tmp_path / "__init__.py")

    def missing(path):
        raise OSError("libnvinfer.so.10: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(ort_providers.ctypes, "CDLL", missing)
    told = unloadable("TensorrtExecutionProvider")
    assert "pip install 'tensorrt-cu13<11'" in told and "--engine tensorrt" in told


def test_tensorrt_is_the_wheels_or_the_systems_or_missing(monkeypatch):
    monkeypatch.setattr(ort_providers.ctypes.util, "find_library", lambda name: None)
    with pytest.raises(DeviceError, match=r"TensorRT is missing: pip install 'tensorrt-cu13<11'"):
        tensorrt_version()
    wheel = types.ModuleType("tensorrt")
    wheel.__version__, wheel.__spec__ = "10.9.0.34", types.SimpleNamespace(name="tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", wheel)
    assert tensorrt_version() == "10.9.0.34"
