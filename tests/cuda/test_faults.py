"""What goes wrong on a GPU ends the run with one clear message, exit code 5, and nothing left.

On the simulated device only: no real one fails on request.
"""

import shutil
from functools import partial

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from app.commands.cli import main
from app.core.errors import DeviceError, ModelError
from app.cuda import kernels as kernel_files
from app.cuda.backend import CudaBackend
from app.cuda.native.engine import NativeEngine
from app.models.store import locate
from tests.blob_detector import save_blob_detector
from tests.cuda.test_cuda_backend import backend, blob, square_at

__all__ = ["blob"]  # a fixture


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """A copy of the kernels that a test may break; those that it leaves are compiled already."""
    folder = tmp_path / "kernels"
    shutil.copytree(kernel_files.KERNEL_DIR, folder)
    monkeypatch.setattr(kernel_files, "KERNEL_DIR", folder)
    return folder


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def replay(blob, out, frames=40):
    source = f"pattern:?size=64x64&frames={frames}"
    words = ["replay", source, "--engine", "cuda", "--json", str(out)]
    return main([*words, "--model", str(blob.manifest)])


def test_a_kernel_that_does_not_compile(device, blob, kernels, tmp_path, capsys):
    change(kernels / "tensor.cu", "enum { ADD", "no such word; enum { ADD")
    assert replay(blob, tmp_path / "out.jsonl") == 5
    assert "kernel tensor does not compile" in capsys.readouterr().err


def test_an_illegal_access_ends_the_run_at_once(device, blob, kernels, tmp_path, capsys):
    """After some frames; those before are delivered, and a new context works."""
    change(
        kernels / "postprocess.cu",
        "    while (size < n) size *= 2;",
        "    while (size < n) size *= 2;\n"
        "    static int launches;\n"
        "    if (t == 0 && ++launches > 40) *(volatile int*)8 = 1;",
    )
    out = tmp_path / "out.jsonl"
    assert replay(blob, out) == 5
    assert "illegal memory access" in capsys.readouterr().err
    # the trials of both ways of transfer take some launches
    assert 0 < len(out.read_text().splitlines()) < 40
    device.reports()
    with backend(blob, transfer="pinned"):
        pass


LOST = 999  # CUDA_ERROR_UNKNOWN: what a GPU that fell off the bus answers to everything


@pytest.mark.parametrize("call", ["cuGraphLaunch", "cuEventSynchronize", "cuLaunchHostFunc"])
def test_a_device_that_is_lost_ends_the_run(device, blob, tmp_path, call, capsys):
    if call == "cuGraphLaunch":
        pytest.importorskip("cuda.bindings.driver")
    out = tmp_path / "out.jsonl"
    device.plant(call, LOST, after=20, times=10_000)
    assert replay(blob, out, frames=200) == 5
    told = capsys.readouterr().err
    assert "Simulated CUDA device failed" in told or "CUDA error 999" in told
    device.unplant()
    device.reports()


def test_memory_that_runs_out_after_an_hour_is_told_as_such(device, blob):
    """A larger frame needs more of it; the context is sound, so all is given back."""
    with pytest.raises(DeviceError, match=r"out of memory.*other programs"), backend(blob) as gpu:
        for i in range(20):
            gpu.slots[0].enqueue([square_at(i)])
            gpu.slots[0].collect()
        device.plant("cuMemHostAlloc", 2, times=100)
        gpu.slots[0].enqueue([square_at(0, side=256)])


def test_a_network_that_gives_nan(device, tmp_path, caplog):
    path = save_blob_detector(tmp_path)
    model = onnx.load(str(path))
    (bias,) = [t for t in model.graph.initializer if t.name == "narrow_bias"]
    bias.CopyFrom(numpy_helper.from_array(np.array([np.nan], np.float32), "narrow_bias"))
    onnx.save(model, str(path))
    blob = locate(str(path))
    with (
        pytest.raises(ModelError, match=r"gives NaN.*--precision fp32"),
        backend(blob) as gpu,
    ):
        for i in range(40):
            gpu.slots[0].enqueue([square_at(i)])
            assert len(gpu.slots[0].collect()[0][0]) == 0
    assert "gives NaN" in caplog.text


def test_half_precision_that_is_too_narrow_is_told(device, tmp_path, caplog):
    """65,504 is the largest half: sums beyond become infinite, their difference is NaN."""
    path = save_blob_detector(tmp_path)
    model = onnx.load(str(path))
    tensors = {t.name: t for t in model.graph.initializer}
    wide = numpy_helper.to_array(tensors["wide"]) * 1e6
    tensors["wide"].CopyFrom(numpy_helper.from_array(wide.astype(np.float32), "wide"))
    narrow = np.zeros((1, 32, 1, 1), np.float32)
    narrow[0, 0], narrow[0, 1] = 1, -1
    tensors["narrow"].CopyFrom(numpy_helper.from_array(narrow, "narrow"))
    onnx.save(model, str(path))
    blob = locate(str(path))
    for half, broken in ((True, True), (False, False)):
        caplog.clear()
        with CudaBackend(
            blob.spec,
            blob.weights,
            wake=lambda: None,
            score=0.5,
            iou=0.3,
            make_engine=partial(NativeEngine, half=half),
        ) as gpu:
            gpu.slots[0].enqueue([square_at(3)])
            gpu.slots[0].collect()
        assert ("gives NaN" in caplog.text) == broken
