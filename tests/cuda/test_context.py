"""What a machine lacks for its GPU: one line with the cure, and exit code 5."""

import importlib.abc
import sys

import pytest

from app.commands.cli import main
from app.cuda.context import find_gpu
from tests.blob_detector import save_blob_detector


class Refusing(importlib.abc.MetaPathFinder):
    """PyCUDA's import fails with these words."""

    def __init__(self, words):
        self._words = words

    def find_spec(self, name, path=None, target=None):
        if name.startswith("pycuda"):
            raise ImportError(self._words)
        return None


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        ("No module named 'pycuda'", "PyCUDA is missing"),
        ("libcuda.so.1: cannot open shared object file", "no NVIDIA driver: libcuda.so.1"),
        (
            "pycuda/_driver.so: undefined symbol: cuGraphInstantiate",
            "the NVIDIA driver is older than the CUDA that PyCUDA was built with",
        ),
    ],
)
@pytest.mark.parametrize("engine", ["cuda", "tensorrt", "ort-cuda", "ort-tensorrt"])
def test_what_pycuda_lacks_is_told(monkeypatch, capsys, engine, words, cure, tiny_model):
    for name in [name for name in sys.modules if name.partition(".")[0] == "pycuda"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Refusing(words), *sys.meta_path])
    run = ["replay", "pattern:?frames=2", "--engine", engine, "--model", str(tiny_model)]
    assert main(run) == 5
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"kestrel: error: {cure}") and "use --engine cpu" in told


@pytest.mark.parametrize("engine", ["cuda", "ort-cuda"])
@pytest.mark.parametrize("error", [3, 100, 803])  # not initialised, no device, driver mismatch
def test_a_driver_that_does_not_start_is_told(device, capsys, engine, error, tiny_model):
    device.plant("cuInit", error)
    run = ["replay", "pattern:?frames=2", "--engine", engine, "--model", str(tiny_model)]
    assert main(run) == 5
    told = capsys.readouterr().err.splitlines()[-1]
    assert "the NVIDIA driver does not start: cuInit failed" in told and "nvidia-smi" in told


def test_a_driver_older_than_the_compiler_ends_with_5(device, monkeypatch, capsys, tmp_path):
    from app.cuda import kernels as kernel_files
    from app.cuda.kernels import find_compiler

    newer = find_compiler()
    newer.release = (13, 1)
    monkeypatch.setattr(kernel_files, "find_compiler", lambda: newer)
    device.plant("cuModuleLoadDataEx", 222)  # the PTX is of an unsupported version
    model = str(save_blob_detector(tmp_path))
    assert main(["replay", "pattern:?frames=2", "--engine", "cuda", "--model", model]) == 5
    told = capsys.readouterr().err.splitlines()[-1]
    assert "for CUDA 12.8 and older than the compiler, 13.1: install a newer driver" in told


def test_the_gpu_is_named_without_a_context(device):
    gpu = find_gpu()
    assert (gpu.name, gpu.capability) == ("Simulated CUDA device", (9, 0))
    assert gpu.driver == 12080
