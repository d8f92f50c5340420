"""Ultralytics' ``predict(stream=True)`` with an untrained network of the same cost.

Its own loop reads, preprocesses and postprocesses; only the boxes cannot be compared. Untrained, it
finds next to nothing, which spares it NMS and is in its favour.
"""

from __future__ import annotations

from app.models.manifest import Model
from scripts.bench_peers.contract import Box, Clock, Run
from scripts.bench_peers.peers.openvino_async import need_bf16
from scripts.bench_peers.same_cost import Library, load_ultralytics, network_of_cost


def run(clip: str, model: Model, *, library: Library) -> Run:
    """The network is built and timed before the clock starts, or found from an earlier run."""
    if library == "openvino":
        need_bf16()  # first of all, so that OpenVINO's telemetry stays out
    yolo = load_ultralytics()
    weights, fit = network_of_cost(model, library)
    spec, clock, found = model.spec, Clock(), []
    results = yolo(str(weights), task="detect").predict(
        source=clip,
        stream=True,
        imgsz=fit["input"][::-1],
        conf=spec.score,
        iou=spec.iou,
        device="cpu",
        verbose=False,
    )
    for result in results:
        rows = result.boxes.data.tolist()  # x0, y0, x1, y1, score, class
        found.append([Box(int(row[5]), row[4], *row[:4]) for row in rows])
        clock.tick()
    return clock.run(found, network=fit)
