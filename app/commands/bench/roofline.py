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
from time import perf_counter
from typing import Any

import numpy as np

from ...core.errors import ConfigError
from ...core.letterbox import place
from ...inference.cpu import cores
from ...inference.openvino import one_thread, openvino_core, openvino_version, prove_bf16
from ...models.manifest import ModelSpec
from ...models.onnx_session import ModelCost, one_line, open_session
from ...models.store import cache_dir, write_whole
from ...ops.machine import device
from .measure import STAGES, Alone, Measured

log = logging.getLogger(__name__)


IR_VERSION, OPSET = 8, 13
TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6}  # TensorProto.DataType


def gemm_file(operation: str, a: Any, b: Any) -> bytes:
    """c = a · b, with b inside the file; ``operation``: MatMul or MatMulInteger."""
    result = "float32" if operation == "MatMul" else "int32"
    shape = (a.shape[0], b.shape[1])
    node = _text(1, "a") + _text(1, "b") + _text(2, "c") + _text(4, operation)
    graph = b"".join(
        (
            _message(1, node),
            _text(2, "gemm"),
            _message(5, _tensor("b", b)),
            _message(11, _value("a", a.dtype.name, a.shape)),
            _message(12, _value("c", result, shape)),
        )
    )
    opset = _text(1, "") + _number(2, OPSET)
    return _number(1, IR_VERSION) + _message(7, graph) + _message(8, opset)


def _tensor(name: str, array: Any) -> bytes:
    dims = b"".join(_number(1, n) for n in array.shape)
    data = np.ascontiguousarray(array).tobytes()
    return dims + _number(2, TYPES[array.dtype.name]) + _text(8, name) + _message(9, data)


def _value(name: str, dtype: str, shape: Sequence[int]) -> bytes:
    dims = b"".join(_message(1, _number(1, n)) for n in shape)
    tensor = _number(1, TYPES[dtype]) + _message(2, dims)
    return _text(1, name) + _message(2, _message(1, tensor))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode())


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


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

    def operations_per_s(self, precision: str) -> float | None:
        """What the convolutions of a network in ``precision`` can reach.

        Half precision is computed in float32 on processors.
        """
        gops = {"int8": self.int8_gops, "bf16": self.bf16_gops}.get(precision, self.fp32_gops)
        return None if gops is None else gops * 1e9


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
    return round(2 * SIDE**3 / _best_s(multiply) / 1e9, 2)


def _copy_gb_s() -> float:
    source = np.ones(COPIED_BYTES, np.uint8)
    target = np.zeros_like(source)
    return round(2 * COPIED_BYTES / _best_s(lambda: np.copyto(target, source)) / 1e9, 2)


def _best_s(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        start = perf_counter()
        work()
        best = min(best, perf_counter() - start)
    return best


NEAR = 0.5  # of its ceiling: from here on a stage is limited by the machine, not by its program
IDLE = 0.75  # of the bound: below, the stages wait for each other
OTHERS_PERCENT = 15.0  # of all cores, used by other programs: no quiet machine
TAP_OPERATIONS = 8  # of a bilinear value: three interpolations, and scaling
NV12_BYTES_PER_PX = 1.5


@dataclass(frozen=True, slots=True)
class Line:
    """One stage. None: unknown, or the engine has no such stage."""

    stage: str
    operations: int | None = None
    bytes: int | None = None
    bound_ms: float | None = None
    limited_by: str | None = None  # "arithmetic" or "memory": which of the two bounds is higher
    measured_ms: float | None = None
    of_ceiling: float | None = None  # bound / measured: 1 is as quick as can be

    def text(self) -> str:
        """For people."""
        if self.measured_ms is None:
            return f"{self.stage:12} –"
        row = f"{self.stage:12}{self.measured_ms:9.3f} ms"
        if self.bound_ms is None or self.of_ceiling is None:
            return row
        work = "" if not self.operations else f"{self.operations / 1e6:8.1f} M operations,"
        return (
            f"{row}{work:23}{(self.bytes or 0) / 1e6:7.2f} MB: at best {self.bound_ms:.3f} ms by "
            f"{self.limited_by}, {self.of_ceiling:.0%} of the ceiling"
        )


def roofline(alone: Alone, spec: ModelSpec, cost: ModelCost, peak: Ceilings) -> list[Line]:
    """A line per stage, in the order of a frame; ``spec`` with the input that was computed."""
    lines = []
    for stage in STAGES:
        measured_ms = alone.stages_ms.get(stage)
        if measured_ms is None or (alone.on_gpu and stage != "read"):
            lines.append(Line(stage, measured_ms=measured_ms))
            continue
        operations, nbytes = _must(stage, alone, spec, cost)
        lines.append(_line(stage, operations, nbytes, measured_ms, cost.precision, peak))
    return lines


def _must(stage: str, alone: Alone, spec: ModelSpec, cost: ModelCost) -> tuple[int | None, int]:
    """Operations, and bytes that any program of this stage reads and writes."""
    width, height = alone.frame_wh
    if stage == "read":  # the decoded picture is written, read, and becomes the frame
        return None, int(width * height * NV12_BYTES_PER_PX * 2) + alone.frame_bytes
    if stage == "preprocess":
        tensor_values = 3 * spec.input.size_wh[0] * spec.input.size_wh[1]
        place_ = place(
            alone.frame_wh, spec.input.size_wh, resize=spec.input.resize, align=spec.input.align
        )
        values = 3 * place_.w * place_.h
        touched = min(alone.frame_bytes, 4 * values)  # four neighbours each, if they are not shared
        return TAP_OPERATIONS * values, touched + 4 * tensor_values
    if stage == "network":
        return cost.operations, cost.weight_bytes + cost.io_bytes
    outputs = cost.io_bytes - 4 * 3 * spec.input.size_wh[0] * spec.input.size_wh[1]
    return None, outputs


def _line(
    stage: str, operations: int | None, nbytes: int, ms: float, precision: str, peak: Ceilings
) -> Line:
    memory_ms = nbytes / (peak.copy_gb_s * 1e9) * 1e3
    # pixels are computed in whole numbers of 8 bits or in float32, whatever the network is
    per_s = peak.operations_per_s(precision if stage == "network" else "fp32")
    arithmetic_ms = operations / per_s * 1e3 if operations and per_s else 0.0
    bound_ms = max(memory_ms, arithmetic_ms)
    return Line(
        stage=stage,
        operations=operations,
        bytes=nbytes,
        bound_ms=round(bound_ms, 5),
        limited_by="arithmetic" if arithmetic_ms > memory_ms else "memory",
        measured_ms=round(ms, 4),
        of_ceiling=round(bound_ms / ms, 4),
    )


def bottleneck(
    alone: Alone, lines: list[Line], run: Measured, cost: ModelCost, peak: Ceilings
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
    return f"{_what(stage)} is {share:.0%} of the work of a frame{_cure(alone, line, cost, peak)}."


def _what(stage: str) -> str:
    names = {"read": "Decoding", "upload": "Copying to the GPU", "download": "Copying back"}
    return names.get(stage, f"The {stage}" if stage == "network" else stage.capitalize())


def _cure(alone: Alone, line: Line, cost: ModelCost, peak: Ceilings) -> str:
    at = "" if line.of_ceiling is None else f" and at {line.of_ceiling:.0%} of its ceiling"
    if line.stage == "read":
        return f"{at}: a smaller or less compressed recording, or a hardware decoder, would help"
    if line.stage in ("upload", "download"):
        return ": smaller frames, raw YUYV or NV12 from the camera, or transfer mapped would help"
    if line.stage == "preprocess":
        return f"{at}: frames nearer to the network's size would help"
    if line.stage == "postprocess":
        return f"{at}: a higher --score leaves fewer candidates, which would help"
    smaller = "a smaller model or input would help"
    if alone.on_gpu:
        return f": a lower --precision, a larger batch or {smaller}"
    if line.of_ceiling is not None and line.of_ceiling >= NEAR:
        more = "" if cost.precision == "int8" else "an 8-bit variant (models quantize) or "
        if cost.precision == "fp32" and peak.bf16_gops and peak.bf16_gops > (peak.fp32_gops or 0):
            more = f"--engine openvino --precision bf16, {more}"
        return f"{at}: {more}{smaller}, tuning would not"
    return (
        f"{at}, as its layers are too thin to fill the arithmetic units: another engine or fewer, "
        f"wider layers would help more than quicker arithmetic; {cores()} cores share the work"
    )


def figures(lines: list[Line], sentence: str, cost: ModelCost, peak: Ceilings) -> dict[str, Any]:
    """For JSON."""
    return {
        "ceilings": asdict(peak),
        "network": asdict(cost),
        "stages": [asdict(line) for line in lines],
        "bottleneck": sentence,
    }
