"""The engine openvino: the CPU's boxes, its refusals, no word to anyone. Skips where it is absent.

It is looked for in .venv/openvino too, where CI puts it: in the environment itself `--engine auto`
would choose by measurement in every other test.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from app.commands.bench import roofline as ceilings
from app.commands.cli import main
from app.config import Config, Engine, Precision
from app.core.detections import Detections
from app.core.errors import ConfigError, DeviceError, ModelError
from app.inference import openvino as bf16
from app.inference.auto import same_boxes
from app.inference.cpu import CpuBackend
from app.inference.openvino import OpenVinoNetwork, load_openvino, openvino_version
from app.models.store import find_model
from app.pipeline.handoff import Policy
from app.runtime.engines import backend_factory, choose_from, known_frames, why_no_engine
from tests.inference.test_cpu import ONE_BOX, H, W, detect, network, spec

ROOT = Path(__file__).parents[2]


class Found(NamedTuple):
    """What an engine found in the known frames, and how it describes itself."""

    boxes: list[Detections]
    described: str


def found_by(engine: Engine, precision: Precision = "auto") -> Found:
    config, boxes = Config(engine=engine, precision=precision), []
    factory = backend_factory(config, find_model("kestrel"), Policy.LOSSLESS)
    with factory(lambda: None) as backend:
        slots = backend.slots
        for i, frame in enumerate(known_frames()):
            slots[i % len(slots)].enqueue([frame])
            boxes.append(slots[i % len(slots)].collect()[0][0])
        return Found(boxes, backend.description)


@pytest.fixture
def absent(monkeypatch):
    monkeypatch.setattr("app.inference.openvino.openvino_version", lambda: None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "openvino"]:
        monkeypatch.delitem(sys.modules, name)


def test_without_it_the_error_names_the_cure_and_auto_does_not_mention_it(absent):
    with pytest.raises(ConfigError, match="pip install -r requirements-openvino"):
        backend_factory(Config(engine="openvino"), find_model("kestrel"), Policy.LATEST)
    choice = choose_from(Config(), find_model("kestrel"), Policy.LATEST, no_gpu="none")
    assert list(choice.engines) == ["cpu"] and not choice.skipped


def test_it_computes_in_no_8_bits_of_its_own(openvino):
    with pytest.raises(ConfigError, match="precision int8: --engine openvino computes"):
        backend_factory(
            Config(engine="openvino", precision="int8"), find_model("kestrel"), Policy.LATEST
        )


def skip_without_bf16():
    try:
        bf16.need_bf16()
    except ConfigError as reason:
        pytest.skip(str(reason))


def test_bfloat16_when_asked_for_finds_nearly_the_cpus_boxes(openvino):
    skip_without_bf16()
    exact, rounded = (found_by("openvino", precision) for precision in ("auto", "bf16"))
    assert "bf16" in rounded.described and "bf16" not in exact.described
    for one, other in zip(exact.boxes, rounded.boxes, strict=True):
        assert one.class_ids.tolist() == other.class_ids.tolist()
        np.testing.assert_allclose(one.scores, other.scores, atol=0.03)
        np.testing.assert_allclose(one.xyxy, other.xyxy, atol=4)
    scores = (np.concatenate([each.scores for each in run.boxes]) for run in (exact, rounded))
    assert not np.array_equal(*scores)


class Processor:
    """A Core of one that knows only so much."""

    def __init__(self, *known):
        self._known = known

    def get_property(self, device, name):
        assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
        return self._known


def test_a_processor_without_bfloat16_is_told_so_before_anything_runs(openvino, monkeypatch):
    monkeypatch.setattr(bf16, "openvino_core", lambda: Processor("FP32", "INT8"))
    config = Config(engine="openvino", precision="bf16")
    with pytest.raises(ConfigError, match="has no instructions for bfloat16"):
        backend_factory(config, find_model("kestrel"), Policy.LATEST)


@pytest.fixture
def unproved(openvino, monkeypatch):
    monkeypatch.setattr(bf16, "need_bf16", lambda: None)
    bf16.prove_bf16.cache_clear()
    yield
    bf16.prove_bf16.cache_clear()


def test_the_ceiling_in_bfloat16_is_measured_or_unknown_and_never_loses_the_bench(
    unproved, monkeypatch
):
    rows = np.ones((8, 8), np.float32)
    try:
        bf16.prove_bf16()
    except ConfigError:
        assert ceilings._bf16_gops(rows, rows) is None
    else:
        assert 0 < ceilings._bf16_gops(rows, rows) < 1e5
        bf16.prove_bf16.cache_clear()
    monkeypatch.setattr(bf16, "_outputs", lambda *_: [np.full(3, np.nan)] * 2)
    assert ceilings._bf16_gops(rows, rows) is None


def test_openvinos_own_failure_in_the_proof_is_told_with_the_cure(unproved, monkeypatch):
    def fail(model, precision):
        raise RuntimeError("could not create a primitive\nat line 1")

    monkeypatch.setattr(bf16, "_outputs", fail)
    with pytest.raises(ConfigError, match=r"OpenVINO fails .*primitive.*; leave --precision out"):
        bf16.prove_bf16()


@pytest.mark.parametrize(("output", "told"), [(0, "convolutions"), (1, "products")])
def test_garbage_in_bfloat16_is_refused_and_not_shown_as_boxes(
    unproved, monkeypatch, tmp_path, output, told
):
    """As reported of processors with AVX512_BF16 and no AMX: openvinotoolkit/openvino#38256."""
    outputs = bf16._outputs

    def spoilt(model, precision):
        exact = outputs(model, "f32")
        if precision == "bf16":
            noise = np.random.default_rng(2).standard_normal(exact[output].shape)
            exact[output] = exact[output] + 2 * exact[output].std() * noise
        return exact

    monkeypatch.setattr(bf16, "_outputs", spoilt)
    path = network(tmp_path / "made.onnx", ONE_BOX)
    with pytest.raises(ConfigError, match=f"{told} in bfloat16 are wrong on this processor"):
        OpenVinoNetwork(spec(), path, 1, 1, precision="bf16")


class Machine:
    """A Core of a machine with these devices, all of which compute as this one's processor."""

    def __init__(self, core, *devices):
        self.available_devices, self._core, self.asked = list(devices), core, []
        self.read_model = core.read_model

    def compile_model(self, model, device, options):
        self.asked.append((device, options))
        return self._core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


@pytest.mark.parametrize(
    ("engine", "precision", "hint"),
    [
        ("openvino:GPU", "auto", "f32"),
        ("openvino:GPU", "fp16", "f16"),
        ("openvino:NPU", "auto", None),
    ],
)
def test_a_gpu_or_npu_computes_where_openvino_finds_one(
    openvino, monkeypatch, engine, precision, hint
):
    machine = Machine(bf16.openvino_core(), "CPU", "GPU.0", "GPU.1", "NPU")
    monkeypatch.setattr(bf16, "openvino_core", lambda: machine)
    found = found_by(engine, precision)
    assert found.described.startswith(engine.partition(":")[2].lower())
    assert {device for device, _ in machine.asked} == {engine.partition(":")[2]}
    for _, options in machine.asked:  # those of a processor would be refused
        assert options.get("INFERENCE_PRECISION_HINT") == hint
        assert "INFERENCE_NUM_THREADS" not in options
    assert same_boxes(found_by("cpu").boxes, found.boxes)


@pytest.mark.parametrize("device", ["GPU", "NPU"])
def test_a_device_that_is_not_there_is_told_with_the_cure(openvino, monkeypatch, device):
    monkeypatch.setattr(bf16, "openvino_core", lambda: Machine(bf16._core(), "CPU"))
    with pytest.raises(DeviceError, match=f"finds no {device} here, but CPU: install"):
        found_by(f"openvino:{device}")
    assert device in (why_no_engine(f"openvino:{device}") or "")


@pytest.mark.parametrize(
    ("engine", "precision"),
    [("openvino:GPU", "bf16"), ("openvino:NPU", "fp32"), ("openvino", "fp16")],
)
def test_a_precision_that_a_device_has_not_is_refused(openvino, engine, precision):
    with pytest.raises(ConfigError, match=f"precision {precision}: --engine {engine}"):
        found_by(engine, precision)


def test_compiled_networks_are_kept_and_a_damaged_one_is_made_anew(openvino, monkeypatch, tmp_path):
    monkeypatch.setenv("KESTREL_CACHE", str(tmp_path / "cache"))
    first = found_by("openvino")
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    times = {path: path.stat().st_mtime_ns for path in kept}
    assert kept and same_boxes(first.boxes, found_by("openvino").boxes)
    assert {path: path.stat().st_mtime_ns for path in kept} == times
    for path in kept:
        path.write_bytes(path.read_bytes()[:1000])
    assert same_boxes(first.boxes, found_by("openvino").boxes)


def test_a_cache_that_cannot_be_written_only_costs_time(openvino, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KESTREL_CACHE", str(tmp_path / "file" / "cache"))
    assert same_boxes(found_by("cpu").boxes, found_by("openvino").boxes)


@pytest.mark.parametrize("engine", ["openvino", "auto"])
def test_check_proves_bfloat16(unproved, monkeypatch, engine, caplog):
    words = ["replay", "sample:", "--check", "--engine", engine, "--precision", "bf16"]
    monkeypatch.setattr(bf16, "_outputs", lambda *_: [np.full(3, np.nan)] * 2)
    assert main(words) == 2
    assert "in bfloat16 are wrong on this processor" in caplog.text


def test_auto_in_bfloat16_is_openvino_alone(openvino):
    skip_without_bf16()
    config = Config(precision="bf16")
    choice = choose_from(config, find_model("kestrel"), Policy.LATEST, no_gpu="none")
    assert list(choice.engines) == ["openvino"] and "bf16" in choice.skipped["cpu"]


def test_it_finds_the_cpus_boxes_in_the_bundled_clip(openvino):
    cpu, openvino = found_by("cpu"), found_by("openvino")
    assert len(cpu.boxes) >= 8 and same_boxes(cpu.boxes, openvino.boxes)


def test_auto_measures_it_beside_the_cpu(openvino):
    choice = choose_from(Config(), find_model("kestrel"), Policy.LATEST, no_gpu="none")
    assert list(choice.engines) == ["openvino", "cpu"] and choice.agree == {"openvino": "cpu"}
    assert choice.key["openvino"] == openvino_version() is not None


@pytest.mark.parametrize(
    ("input_shape", "output_shape"),
    [(None, None), (["batch", 3, "h", "w"], ["batch", 6, "anchors"])],
)
def test_open_sizes_take_the_manifests(openvino, tmp_path, input_shape, output_shape):
    path = network(
        tmp_path / "made.onnx", ONE_BOX, input_shape=input_shape, output_shape=output_shape
    )
    for found in detect(path, spec(), open_network=OpenVinoNetwork):
        assert found.xyxy.tolist() == [[24, 18, 40, 30]]


def test_nms_in_the_graph_is_read_anew_each_frame(openvino, tmp_path):
    rows = np.array([[[0, 0, 8, 8, 0.9, 0], [0, 0, 8, 8, 0.8, 0]]], np.float32)
    path = network(tmp_path / "made.onnx", rows, output_shape=[1, "boxes", 6])
    found = detect(path, spec(end_to_end=True), open_network=OpenVinoNetwork)
    assert all(len(each) == 2 for each in found)


@pytest.mark.parametrize("wrong", [{"input_shape": [1, 3]}, {"inputs": 2}])
def test_what_is_no_detector_is_refused_as_on_the_cpu(openvino, tmp_path, wrong):
    path = network(tmp_path / "made.onnx", ONE_BOX, **wrong)
    with pytest.raises(ModelError):
        detect(path, spec(), open_network=OpenVinoNetwork)


def test_another_fixed_size_is_refused_and_not_reshaped(openvino, tmp_path):
    path = network(tmp_path / "made.onnx", ONE_BOX, input_shape=[1, 3, 2 * H, 2 * W])
    with pytest.raises(ModelError, match=r"input\.size"):
        detect(path, spec(), open_network=OpenVinoNetwork)


def test_a_damaged_file_is_told_in_one_line(openvino, tmp_path):
    path = tmp_path / "made.onnx"
    path.write_bytes(b"not an onnx file" * 100)
    with pytest.raises(ModelError, match="OpenVINO cannot take") as caught:
        detect(path, spec(), open_network=OpenVinoNetwork)
    assert "\n" not in str(caught.value)


def test_slots_share_no_memory_and_nothing_is_bound_anew(openvino, tmp_path):
    path = network(tmp_path / "made.onnx", ONE_BOX)
    options = {"score": 0.5, "iou": 0.5, "open_network": OpenVinoNetwork}
    with CpuBackend(spec(), path, wake=lambda: None, **options) as backend:
        first, second = (slot.shapes.for_frame((W, H)).network for slot in backend.slots)
        assert first.tensor.ctypes.data != second.tensor.ctypes.data
        ((one,),), ((other,),), ((again,),) = first.run(1), second.run(1), first.run(1)
        assert one.ctypes.data == again.ctypes.data != other.ctypes.data


def test_it_leaves_no_word_of_itself(openvino, tmp_path):
    """On import it would tell its maker and keep an id of the device in the user's home."""
    fake = tmp_path / "fake"
    (fake / "openvino_telemetry").mkdir(parents=True)
    (fake / "openvino_telemetry/__init__.py").write_text("raise SystemExit('telemetry ran')")
    home = tmp_path / "home"
    home.mkdir()
    code = (
        "from app.inference.openvino import openvino_core; openvino_core();"
        "import sys; sys.exit('openvino_telemetry' in sys.modules)"
    )
    where = os.pathsep.join([str(fake), *filter(None, sys.path)])
    bare = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": where}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=bare, check=True, timeout=120)
    assert list(home.rglob("*")) == []


def test_load_gives_the_same_module_twice(openvino):
    assert load_openvino() is load_openvino()


def test_a_signal_still_arrives_after_networks_have_come_and_gone(openvino):
    """OpenVINO gives the thread a stack for signals, and takes back the wrong one of two."""
    code = (
        "import signal, sys; from app.inference.openvino import OpenVinoNetwork as Network\n"
        "from app.models.store import find_model; model = find_model('kestrel')\n"
        "one, other = (Network(model.spec, model.weights, 1, 1) for _ in range(2))\n"
        "del one; del other\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try: signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt: sys.exit(7)\n"
    )
    where = os.pathsep.join(filter(None, sys.path))
    env = {**os.environ, "PYTHONPATH": where}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=False, timeout=120)
    assert done.returncode == 7
