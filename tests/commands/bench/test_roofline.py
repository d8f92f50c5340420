"""What must be done is counted from the graph, and the ceilings are measured, sane and kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from app.commands.bench.measure import STAGES, Alone, Load, Measured
from app.commands.bench.roofline import (
    Ceilings,
    StageBound,
    bottleneck,
    ceilings,
    gemm_file,
    stage_bounds,
)
from app.core.errors import ModelError
from app.core.stats import Meter
from app.models.onnx_edit import to_int8
from app.models.onnx_session import ModelCost, model_cost
from app.models.store import find_model
from app.ops.power import Energy
from tests.shelf_kit import asset

WORK = ModelCost(800_000_000, 4_000_000, 1_200_000, 30_000_000, "fp32")
PEAK = Ceilings(100.0, 400.0, None, 10.0, "a processor", "2026-01-31")
ALONE_MS = {"read": 1.0, "preprocess": 0.5, "network": 10.0, "postprocess": 0.5}


def alone(**stages_ms: float) -> Alone:
    return Alone(100, (640, 480), 640 * 480 * 3, {**ALONE_MS, **stages_ms})


def measured(fps: float, load: Load | None = None) -> Measured:
    stats = replace(Meter().snapshot(), overall_fps=fps)
    return Measured(stats, "cpu", (), load or Load(), Energy("", "none"))


def test_operations_and_bytes_are_those_of_the_graph(blob: Path) -> None:
    work = model_cost(blob, (1, 3, 64, 64))
    first, last = 2 * 32 * 64 * (3 * 8 * 8), 2 * 64 * 32
    others = 32 * 64 + 64  # ReLU and sigmoid, one each
    assert work.operations == first + last + others
    assert work.io_bytes == 4 * (3 * 64 * 64 + 5 * 64)
    assert work.precision == "fp32" and work.weight_bytes == blob.stat().st_size


def test_a_known_network_has_its_published_operations() -> None:
    work = model_cost(asset("yolox_nano_416"), (1, 3, 416, 416))
    assert work.operations / 1e9 == pytest.approx(1.08, rel=0.03)  # as its authors say


def test_a_network_in_8_bits_is_seen_as_such(blob: Path, tmp_path: Path) -> None:
    quantised, shape = tmp_path / "blob_int8.onnx", (1, 3, 64, 64)
    to_int8(blob, quantised, [np.zeros((1, 3, 64, 64), np.float32)])
    works = [model_cost(weights, shape) for weights in (blob, quantised)]
    assert [work.precision for work in works] == ["fp32", "int8"]
    assert works[1].operations == pytest.approx(works[0].operations, rel=0.1)


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"no network")
    with pytest.raises(ModelError, match=r"x\.onnx does not run"):
        model_cost(path, (1, 3, 8, 8))


@pytest.mark.parametrize(
    ("operation", "kinds"), [("MatMul", ("f4", "f4")), ("MatMulInteger", ("u1", "i1"))]
)
def test_the_file_that_measures_arithmetic_is_sound_and_multiplies(
    operation: str, kinds: tuple[str, str]
) -> None:
    a = np.arange(12).reshape(3, 4).astype(kinds[0])
    b = np.arange(12).reshape(4, 3).astype(kinds[1])
    file = gemm_file(operation, a, b)
    onnx.checker.check_model(onnx.load_from_string(file), full_check=True)
    (product,) = onnxruntime.InferenceSession(file).run(None, {"a": a})
    assert product.tolist() == (a.astype(int) @ b.astype(int)).tolist()


def test_ceilings_are_measured_for_real_and_within_reason(measured_ceilings: Ceilings) -> None:
    peak = measured_ceilings
    assert peak.fp32_gops is not None and 0.1 < peak.fp32_gops < 10_000
    assert peak.int8_gops is not None and 0.1 < peak.int8_gops < 100_000
    assert 0.05 < peak.copy_gb_s < 2_000


def test_ceilings_are_measured_once_and_damage_is_no_ceiling(tmp_path: Path) -> None:
    asked: list[int] = []

    def measure() -> Ceilings:
        asked.append(1)
        return PEAK

    assert ceilings(measure) == ceilings(measure) == PEAK and len(asked) == 1
    (kept,) = (tmp_path / "cache" / "ceilings").glob("*.json")
    assert json.loads(kept.read_text())["copy_gb_s"] == 10.0
    kept.write_text("{}")
    assert ceilings(measure) == PEAK and len(asked) == 2


def test_bounds_are_the_higher_of_arithmetic_and_memory(blob: Path) -> None:
    lines = {
        line.stage: line for line in stage_bounds(alone(), find_model(str(blob)).spec, WORK, PEAK)
    }
    assert list(lines) == list(STAGES)
    network = lines["network"]
    assert network.bound_ms == pytest.approx(8.0) and network.limited_by == "arithmetic"
    assert network.of_ceiling == pytest.approx(0.8)
    read = lines["read"]  # 1.5 bytes a pixel written and read, 3 written, at 10 GB/s
    assert read.bound_ms == pytest.approx(640 * 480 * 6 / 10e6, rel=1e-3)
    assert read.limited_by == "memory" and read.operations is None
    assert lines["upload"] == StageBound("upload") and lines["sinks"] == StageBound("sinks")


def test_a_gpu_is_not_judged_by_the_processors_ceilings(blob: Path) -> None:
    gpu = alone(upload=0.2, download=0.1)
    lines = {line.stage: line for line in stage_bounds(gpu, find_model(str(blob)).spec, WORK, PEAK)}
    assert lines["network"].of_ceiling is None and lines["network"].measured_ms == 10.0
    assert gpu.bound_fps == pytest.approx(1e3 / 11)  # its computing, which copies hide behind


@pytest.mark.parametrize(
    ("changed", "share_of_bound", "said"),
    [
        ({}, 0.9, "The network is 83% of the work of a frame and at 80% of its ceiling: an 8-bit"),
        ({"network": 40.0}, 0.9, "at 20% of its ceiling, as its layers are too thin"),
        ({"read": 30.0}, 0.9, "Decoding is 73% of the work"),
        ({"preprocess": 30.0}, 0.9, "frames nearer to the network's size"),
        ({"postprocess": 30.0}, 0.9, "a higher --score"),
        ({}, 0.4, "The stages wait for each other"),
    ],
)
def test_one_sentence_names_the_bottleneck_and_what_helps(
    changed: dict[str, float], share_of_bound: float, said: str, blob: Path
) -> None:
    work = alone(**changed)
    lines = stage_bounds(work, find_model(str(blob)).spec, WORK, PEAK)
    sentence = bottleneck(work, lines, measured(share_of_bound * work.bound_fps), WORK, PEAK)
    assert said in sentence and sentence.endswith(".") and sentence.count(". ") == 0


def test_bfloat16_is_proposed_where_the_processor_has_it_and_is_not_used_yet(blob: Path) -> None:
    spec, run = find_model(str(blob)).spec, measured(alone().bound_fps)
    peak = replace(PEAK, bf16_gops=900.0)
    lines = stage_bounds(alone(), spec, WORK, peak)
    assert "--engine openvino --precision bf16" in bottleneck(alone(), lines, run, WORK, peak)
    used = replace(WORK, precision="bf16")
    lines = stage_bounds(alone(), spec, used, peak)
    (network,) = (line for line in lines if line.stage == "network")
    assert network.bound_ms == pytest.approx(8.0 / 9, rel=1e-4)
    assert "bf16" not in bottleneck(alone(), lines, run, used, peak)


def test_other_programs_are_named_before_the_pipeline_is_blamed(blob: Path) -> None:
    lines = stage_bounds(alone(), find_model(str(blob)).spec, WORK, PEAK)
    busy = Load(process_cpu_percent=40.0, machine_cpu_percent=95.0)
    sentence = bottleneck(alone(), lines, measured(50.0, busy), WORK, PEAK)
    assert sentence.startswith("Other programs take 55 % of the processor")


def test_the_load_of_a_run_too_short_to_tell_is_unknown_and_not_0() -> None:
    assert set(Load().figures().values()) == {None}
