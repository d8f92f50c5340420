"""How far each stage is from this machine's ceilings of arithmetic and memory bandwidth.

ONNX is protobuf: a message is a row of fields, each its number and kind, then its value.
Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto

Arithmetic: a product of matrices that fit the caches, by the library that runs the networks (in
bfloat16 OpenVINO), so that "of the peak" compares like with like. Bandwidth: a copy far larger than
the caches, the bytes read and written counted. Measured once per processor and version, and
remembered.

A stage cannot be quicker than its operations at the measured arithmetic peak, nor than the bytes
that it must read and write at the measured bandwidth. Both are lower bounds: entropy decoding, say,
has no count of operations that would hold for every stream. All for one core and one frame; what a
GPU does is not judged by the processor's ceilings and gets none.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from timeit import repeat
from typing import Any

import numpy as np

from ...core.errors import ConfigError
from ...core.letterbox import place
from ...inference.cpu import cores
from ...inference.openvino import one_thread, openvino_core, openvino_version, prove_bf16
from ...models.cache import cache_dir, write_whole
from ...models.manifest import ModelSpec
from ...models.onnx_session import ModelCost, one_line, open_session
from ...ops.machine import device
from .measure import STAGES, Alone, Measured

log = logging.getLogger(__name__)


IR_VERSION, OPSET = 8, 13
TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6}  # TensorProto.DataType


def gemm_file(operation: str, a: Any, b: Any) -> bytes:
    """c = a · b, with b inside the file; ``operation``: MatMul or MatMulInteger."""
    result = "float32" if operation == "MatMul" else "int32"
    shape = (a.shape[0], b.shape[1])
    node = _field(1, "a") + _field(1, "b") + _field(2, "c") + _field(4, operation)
    graph = b"".join(
        (
            _field(1, node),
            _field(2, "gemm"),
            _field(5, _tensor("b", b)),
            _field(11, _value("a", a.dtype.name, a.shape)),
            _field(12, _value("c", result, shape)),
        )
    )
    opset = _field(1, "") + _field(2, OPSET)
    return _field(1, IR_VERSION) + _field(7, graph) + _field(8, opset)


def _tensor(name: str, array: Any) -> bytes:
    dims = b"".join(_field(1, n) for n in array.shape)
    data = np.ascontiguousarray(array).tobytes()
    return dims + _field(2, TYPES[array.dtype.name]) + _field(8, name) + _field(9, data)


def _value(name: str, dtype: str, shape: Sequence[int]) -> bytes:
    dims = b"".join(_field(1, _field(1, n)) for n in shape)
    tensor = _field(1, TYPES[dtype]) + _field(2, dims)
    return _field(1, name) + _field(2, _field(1, tensor))


def _field(number: int, value: int | str | bytes) -> bytes:
    """A number, or what has a length: text, bytes or a message."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; the eighth says that more follow."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


SIDE = 384
COPIED_BYTES = 64 * 2**20
ROUNDS = 15  # the best counts: a ceiling is what interruptions only lower


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Of one core. None: could not be measured."""

    fp32_gops: float | None
    int8_gops: float | None
    bf16_gops: float | None
    copy_gb_s: float
    cpu: str
    date: str

    def gops(self, precision: str) -> float | None:
        """G operations/s that the convolutions of a network in ``precision`` can reach.

        Half precision is computed in float32 on processors.
        """
        return {"int8": self.int8_gops, "bf16": self.bf16_gops}.get(precision, self.fp32_gops)


def ceilings(measure: Callable[[], Ceilings] | None = None) -> Ceilings:
    """Those remembered for this processor, or measured now (about a second)."""
    machine = device()
    parts = ("cpu", "cores", "numpy", "onnxruntime", "onnxruntime-gpu")
    known = {**{part: machine[part] for part in parts}, "openvino": openvino_version()}
    key = hashlib.sha256(json.dumps([2, known], sort_keys=True).encode()).hexdigest()[:16]
    path = cache_dir("ceilings") / f"{key}.json"
    try:
        return Ceilings(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError) as fault:
        log.warning("%s cannot be used (%s); measuring anew", path, fault)
    made = (measure or measure_ceilings)()
    try:
        write_whole(path, json.dumps(asdict(made)).encode())
    except OSError as fault:
        log.warning("cannot remember the machine's ceilings: %s", fault)
    return made


def measure_ceilings() -> Ceilings:
    """On one thread at a time."""
    rng = np.random.default_rng(0)
    floats = rng.random((2, SIDE, SIDE), np.float32)
    bytes_ = rng.integers(0, 127, (2, SIDE, SIDE))
    return Ceilings(
        fp32_gops=_gops("MatMul", floats[0], floats[1]),
        int8_gops=_gops("MatMulInteger", bytes_[0].astype(np.uint8), bytes_[1].astype(np.int8)),
        bf16_gops=_bf16_gops(floats[0], floats[1]),
        copy_gb_s=_copy_gb_s(),
        cpu=str(device()["cpu"]),
        date=datetime.now(timezone.utc).date().isoformat(),
    )


def _gops(operation: str, a: Any, b: Any) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gemm.onnx"
        path.write_bytes(gemm_file(operation, a, b))
        session = open_session(path, threads=1)
    feeds = {"a": a}
    return _rate(lambda: session.run(None, feeds))


def _bf16_gops(a: Any, b: Any) -> float | None:
    if openvino_version() is None:
        return None
    try:
        prove_bf16()
        model = openvino_core().read_model(gemm_file("MatMul", a, b))
        request = one_thread(model, "bf16").create_infer_request()
    except (ConfigError, RuntimeError) as fault:  # no reason to lose the rest of a measurement
        log.info("no ceiling in bfloat16: %s", one_line(fault))
        return None
    feeds = {"a": a}
    return _rate(lambda: request.infer(feeds, share_inputs=True, share_outputs=True))


def _rate(multiply: Callable[[], object]) -> float:
    """G operations a second."""
    return round(2 * SIDE**3 / min(repeat(multiply, number=1, repeat=ROUNDS)) / 1e9, 2)


def _copy_gb_s() -> float:
    source = np.ones(COPIED_BYTES, np.uint8)
    target = np.zeros_like(source)
    best_s = min(repeat(lambda: np.copyto(target, source), number=1, repeat=ROUNDS))
    return round(2 * COPIED_BYTES / best_s / 1e9, 2)


NEAR = 0.5  # of its ceiling: from here on a stage is limited by the machine, not by its program
IDLE = 0.75  # of the bound: below, the stages wait for each other
OTHERS_PERCENT = 15.0  # of all cores, used by other programs: no quiet machine
TAP_OPERATIONS = 8  # of a bilinear value: three interpolations, and scaling
NV12_BYTES_PER_PX = 1.5
COPIES = ": smaller frames, raw YUYV or NV12 from the camera, or transfer mapped would help"
CURES = {  # what to call a stage that takes the most time, and what helps
    "read": (
        "Decoding",
        ": a smaller or less compressed recording, or a hardware decoder, would help",
    ),
    "upload": ("Copying to the GPU", COPIES),
    "preprocess": ("Preprocess", ": frames nearer to the network's size would help"),
    "postprocess": (
        "Postprocess",
        ": a higher --score leaves fewer candidates, which would help",
    ),
    "download": ("Copying back", COPIES),
}


@dataclass(frozen=True, slots=True)
class StageBound:
    """One stage. None: unknown, or the engine has no such stage."""

    stage: str
    operations: int | None = None
    bytes: int | None = None
    bound_ms: float | None = None
    limited_by: str | None = None  # "arithmetic" or "memory": which of the two bounds is higher
    measured_ms: float | None = None
    of_ceiling: float | None = None  # bound / measured: 1 is as quick as can be


def stage_bounds(
    alone: Alone, spec: ModelSpec, cost: ModelCost, peak: Ceilings
) -> list[StageBound]:
    """A line per stage, in the order of a frame; ``spec`` with the input that was computed."""
    lines = []
    for stage in STAGES:
        ms = alone.stages_ms.get(stage)
        if ms is None or (alone.on_gpu and stage != "read"):
            lines.append(StageBound(stage, measured_ms=ms))
            continue
        operations, nbytes = _must(stage, alone, spec, cost)
        # pixels are computed in whole numbers of 8 bits or in float32, whatever the network is
        gops = peak.gops(cost.precision if stage == "network" else "fp32")
        memory_ms = nbytes / peak.copy_gb_s / 1e6
        arithmetic_ms = operations / gops / 1e6 if operations and gops else 0.0
        bound_ms = max(memory_ms, arithmetic_ms)
        limit = "arithmetic" if arithmetic_ms > memory_ms else "memory"
        lines.append(
            StageBound(
                *(stage, operations, nbytes, round(bound_ms, 5), limit),
                *(round(ms, 4), round(bound_ms / ms, 4)),
            )
        )
    return lines


def _must(stage: str, alone: Alone, spec: ModelSpec, cost: ModelCost) -> tuple[int | None, int]:
    """Operations, and bytes that any program of this stage reads and writes."""
    width, height = alone.frame_wh
    tensor_bytes = 4 * 3 * spec.input.size_wh[0] * spec.input.size_wh[1]
    if stage == "read":  # the decoded picture is written, read, and becomes the frame
        return None, int(width * height * NV12_BYTES_PER_PX * 2) + alone.frame_bytes
    if stage == "preprocess":
        taken = spec.input
        box = place(
            alone.frame_wh,
            taken.size_wh,
            resize=taken.resize,
            align=taken.align,
            pixel_aspect=alone.pixel_aspect,
        )
        values = 3 * box.w * box.h
        touched = min(alone.frame_bytes, 4 * values)  # four neighbours each, if they are not shared
        return TAP_OPERATIONS * values, touched + tensor_bytes
    if stage == "network":
        return cost.operations, cost.weight_bytes + cost.io_bytes
    return None, cost.io_bytes - tensor_bytes


def bottleneck(
    alone: Alone, lines: list[StageBound], run: Measured, cost: ModelCost, peak: Ceilings
) -> str:
    """One sentence: what limits the frames per second, and what would help."""
    fps = run.stats.overall_fps
    stage = max(alone.stages_ms, key=lambda name: alone.stages_ms[name])
    share = alone.stages_ms[stage] / alone.work_ms
    if fps < IDLE * alone.bound_fps:
        got = f"{fps:.0f} of the {alone.bound_fps:.0f} FPS that the work of a frame allows"
        others = (run.load.machine_cpu_percent or 0) - (run.load.process_cpu_percent or 0)
        if others > OTHERS_PERCENT:
            return (
                f"Other programs take {others:.0f} % of the processor, which leaves {got}: close "
                "them and measure again."
            )
        return (
            f"The stages wait for each other, {got}: other slots, workers and threads (--sweep) "
            "or a longer recording may do better."
        )
    (line,) = (each for each in lines if each.stage == stage)
    at = "" if line.of_ceiling is None else f" and at {line.of_ceiling:.0%} of its ceiling"
    if stage == "network":
        what, cure = "The network", _network_cure(alone, line, cost, peak)
    else:
        what, cure = CURES[stage]
    return f"{what} is {share:.0%} of the work of a frame{at}{cure}."


def _network_cure(alone: Alone, line: StageBound, cost: ModelCost, peak: Ceilings) -> str:
    smaller = "a smaller model or input would help"
    if alone.on_gpu:
        return f": a lower --precision, a larger batch or {smaller}"
    if line.of_ceiling is not None and line.of_ceiling >= NEAR:
        more = "" if cost.precision == "int8" else "an 8-bit variant (models quantize) or "
        if cost.precision == "fp32" and peak.bf16_gops and peak.bf16_gops > (peak.fp32_gops or 0):
            more = f"--engine openvino --precision bf16, {more}"
        return f": {more}{smaller}, tuning would not"
    return (
        ", as its layers are too thin to fill the arithmetic units: another engine or fewer, "
        f"wider layers would help more than quicker arithmetic; {cores()} cores share the work"
    )


def figures(
    lines: list[StageBound], sentence: str, cost: ModelCost, peak: Ceilings
) -> dict[str, Any]:
    """For JSON."""
    return {
        "ceilings": asdict(peak),
        "network": asdict(cost),
        "stages": [asdict(line) for line in lines],
        "bottleneck": sentence,
    }
