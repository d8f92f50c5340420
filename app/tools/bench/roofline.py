"""How far is each stage from what the machine can do, and what is the bottleneck?

A stage cannot be quicker than its operations at the measured arithmetic peak, nor than the bytes
that it must read and write at the measured bandwidth. Both are lower bounds: entropy decoding, say,
has no count of operations that would hold for every stream. All for one core and one frame; what a
GPU does is not judged by the processor's ceilings and gets none.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from app.backends.cpu import cores
from app.backends.work import Work
from app.letterbox import place
from app.model_spec import ModelSpec
from app.tools.bench.ceilings import Ceilings
from app.tools.bench.measure import STAGES, Alone, Measured

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


def roofline(alone: Alone, spec: ModelSpec, work: Work, peak: Ceilings) -> list[Line]:
    """A line per stage, in the order of a frame; ``spec`` with the input that was computed."""
    lines = []
    for stage in STAGES:
        measured_ms = alone.stages_ms.get(stage)
        if measured_ms is None or (alone.on_gpu and stage != "read"):
            lines.append(Line(stage, measured_ms=measured_ms))
            continue
        operations, nbytes = _must(stage, alone, spec, work)
        lines.append(_line(stage, operations, nbytes, measured_ms, work.precision, peak))
    return lines


def _must(stage: str, alone: Alone, spec: ModelSpec, work: Work) -> tuple[int | None, int]:
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
        return work.operations, work.weight_bytes + work.io_bytes
    outputs = work.io_bytes - 4 * 3 * spec.input.size_wh[0] * spec.input.size_wh[1]
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


def bottleneck(alone: Alone, lines: list[Line], run: Measured, work: Work, peak: Ceilings) -> str:
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
    return f"{_what(stage)} is {share:.0%} of the work of a frame{_cure(alone, line, work, peak)}."


def _what(stage: str) -> str:
    names = {"read": "Decoding", "upload": "Copying to the GPU", "download": "Copying back"}
    return names.get(stage, f"The {stage}" if stage == "network" else stage.capitalize())


def _cure(alone: Alone, line: Line, work: Work, peak: Ceilings) -> str:
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
        more = "" if work.precision == "int8" else "an 8-bit variant (models quantize) or "
        if work.precision == "fp32" and peak.bf16_gops and peak.bf16_gops > (peak.fp32_gops or 0):
            more = f"--engine openvino --precision bf16, {more}"
        return f"{at}: {more}{smaller}, tuning would not"
    return (
        f"{at}, as its layers are too thin to fill the arithmetic units: another engine or fewer, "
        f"wider layers would help more than quicker arithmetic; {cores()} cores share the work"
    )


def figures(lines: list[Line], sentence: str, work: Work, peak: Ceilings) -> dict[str, Any]:
    """For JSON."""
    return {
        "ceilings": asdict(peak),
        "network": asdict(work),
        "stages": [asdict(line) for line in lines],
        "bottleneck": sentence,
    }
