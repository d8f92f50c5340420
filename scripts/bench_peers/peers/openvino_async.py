"""OpenVINO's own pipeline: AsyncInferQueue, throughput hint, postprocessing in callbacks."""

from __future__ import annotations

from typing import Any

from app.core.errors import ConfigError
from app.inference.openvino import load_openvino, openvino_core, prove_bf16
from app.models.manifest import Model
from scripts.bench_peers.contract import Box, Clock, NotHere, Run
from scripts.bench_peers.plain import PlainParts, frames_of


def run(clip: str, model: Model, *, precision: str) -> Run:
    """``precision``: "f32", or "bf16", in which newer CPUs compute by default."""
    if precision == "bf16":
        need_bf16()
    try:
        ov = load_openvino()
    except ConfigError as fault:
        raise NotHere(str(fault)) from fault
    core = openvino_core()
    hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": precision}
    width, height = model.spec.input.size_wh
    network = core.read_model(str(model.weights))
    network.reshape([1, 3, height, width])
    compiled = core.compile_model(network, "CPU", hints)
    queue = ov.AsyncInferQueue(compiled)
    parts, clock = PlainParts(model.spec), Clock()
    found: dict[int, list[Box]] = {}

    def done(request: Any, job: tuple[int, Any]) -> None:
        index, frame = job  # callbacks hold Python's lock, so the clock is safe
        found[index] = parts.boxes(request.get_output_tensor(0).data, frame)
        clock.tick()

    queue.set_callback(done)
    for index, frame in enumerate(frames_of(clip)):
        queue.start_async([parts.tensor(frame)], (index, frame))
    queue.wait_all()
    return clock.run([found[i] for i in range(len(found))], requests=len(queue))


def need_bf16() -> None:
    """Raises NotHere where OpenVINO is missing or the processor does not compute so, or wrongly."""
    try:
        prove_bf16()
    except ConfigError as fault:
        raise NotHere(str(fault)) from fault
