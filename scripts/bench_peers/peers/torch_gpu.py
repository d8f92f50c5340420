"""PyTorch on the GPU: upload, preprocess, network in half precision and NMS; boxes come back."""

from __future__ import annotations

from app.models.manifest import Model
from scripts.bench_peers.contract import Box, Clock, NotHere, Run
from scripts.bench_peers.plain import frames_of


def run(clip: str, model: Model, *, compiled: bool) -> Run:
    """Eager, or through torch.compile with CUDA graphs."""
    from scripts.device.contestants import NotHere as Missing, torch_boxes

    clock, found = Clock(), []
    try:
        with torch_boxes(model, compiled=compiled) as detect:
            for frame in frames_of(clip):
                rows = detect(frame).tolist()
                found.append([Box(int(row[5]), row[4], *row[:4]) for row in rows])
                clock.tick()
    except Missing as reason:
        raise NotHere(f"no GPU: {reason}") from reason
    return clock.run(found, compiled=compiled)
