"""`--engine auto` in the application: with the simulated GPU, and with nothing but the CPU."""

import json
import logging
import sys

import pytest

from app.commands.cli import main
from app.runtime import engines
from app.runtime.engines import without_gpu
from tests.blob_detector import save_blob_detector


@pytest.fixture
def words(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("KESTREL_CACHE", str(tmp_path / "cache"))
    caplog.set_level(logging.INFO)
    model = save_blob_detector(tmp_path)
    return ["replay", "pattern:?size=64x64&frames=8", "--model", str(model)]


def there(monkeypatch, tmp_path):
    node = tmp_path / "nvidia0"
    node.touch()
    monkeypatch.setattr(engines, "GPU_NODES", (str(node),))


def auto_lines(caplog):
    return [line for line in caplog.messages if line.startswith("engine auto")]


def test_both_are_measured_once(device, words, monkeypatch, tmp_path, caplog):
    there(monkeypatch, tmp_path)
    assert main(words) == 0
    (line,) = auto_lines(caplog)
    assert "the fastest: " in line and "cuda " in line and "cpu " in line
    assert "; not ort-tensorrt: ONNX Runtime" in line and "not ort-cuda" in line
    (file,) = (tmp_path / "cache" / "auto").iterdir()
    kept = json.loads(file.read_text())
    assert kept["key"]["gpu"] == ["Simulated CUDA device", [9, 0], 12080]
    assert set(kept["fps"]) == {"cuda", "cpu"} and all(v > 0 for v in kept["fps"].values())
    caplog.clear()
    assert main(words) == 0
    assert "as measured on" in auto_lines(caplog)[0]


def test_tensorrt_takes_part_once_its_engine_is_built(device, words, monkeypatch, tmp_path):
    from app.cuda.tensorrt import plan_cache
    from tests import fake_tensorrt

    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt.make(11))
    from app.config import Config
    from app.cuda import ort as ort_gpu, ort_providers
    from app.cuda.context import find_gpu
    from app.cuda.ort import tensorrt_cache
    from app.models.store import locate
    from app.runtime.engines import choose_from

    monkeypatch.setattr(ort_providers, "missing_provider", lambda engine: None)
    monkeypatch.setattr(ort_gpu, "tensorrt_version", lambda: "10.9.0")
    from app.pipeline.handoff import Policy

    model, gpu = locate(words[-1]), find_gpu()
    choice = choose_from(Config(), model, Policy.LATEST)
    assert list(choice.engines) == ["cuda", "ort-cuda", "cpu"]
    later = "its engine takes minutes to build; ask for it once by name"
    assert choice.skipped == {"tensorrt": later, "ort-tensorrt": later}
    where = {"device": gpu.name, "capability": gpu.capability}
    for cache in (
        tensorrt_cache(model.spec, model.weights, "auto", **where),
        plan_cache(model.spec, model.weights, "auto", driver=gpu.driver, **where),
    ):
        with cache.building():
            pass
    again = choose_from(Config(), model, Policy.LATEST)
    assert list(again.engines)[:2] == ["tensorrt", "ort-tensorrt"] and not again.skipped
    assert again.key != choice.key


def test_without_a_gpu_nothing_is_loaded_or_measured(words, monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(engines, "GPU_NODES", ())
    monkeypatch.setitem(sys.modules, "app.inference.auto", None)
    monkeypatch.setitem(sys.modules, "pycuda", None)
    assert main(words) == 0
    assert auto_lines(caplog) == ["engine auto: cpu, as there is no NVIDIA GPU"]
    assert not (tmp_path / "cache").exists()


def test_a_gpu_without_pycuda_is_told(monkeypatch, tmp_path):
    there(monkeypatch, tmp_path)
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    assert "PyCUDA is missing" in without_gpu()


def test_a_gpu_whose_driver_does_not_start_leaves_the_cpu(
    device, words, monkeypatch, tmp_path, caplog
):
    there(monkeypatch, tmp_path)
    device.plant("cuInit", 803)  # driver and library differ in version
    assert main(words) == 0
    (line,) = auto_lines(caplog)
    assert "cpu" in line and "driver does not start" in line


def test_a_precision_that_no_engine_has_exits_with_2(device, words, monkeypatch, tmp_path, capsys):
    there(monkeypatch, tmp_path)
    assert main([*words, "--precision", "int8"]) == 2
    assert "computes as the model's file says" in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["cuda", "ort-cuda"])
def test_a_precision_that_an_engine_lacks_is_refused_with_the_engine_that_has_it(
    words, engine, capsys
):
    assert main([*words, "--engine", engine, "--precision", "bf16"]) == 2
    told = capsys.readouterr().err
    assert f"precision bf16: --engine {engine}" in told and "with --engine openvino" in told


def test_bytes_are_computed_of_a_model_that_is_quantised(words, capsys):
    assert main([*words, "--engine", "cuda", "--precision", "int8"]) == 2
    assert "models quantize" in capsys.readouterr().err
