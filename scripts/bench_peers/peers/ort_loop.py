"""The loop one would write: cv2 reads, ONNX Runtime runs, one step after the other.

All libraries with their default threads; with ``provider`` also on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from app.models.manifest import Model
from app.models.onnx_session import load_onnxruntime
from scripts.bench_peers.contract import Clock, NotHere, Run
from scripts.bench_peers.plain import Pixels, PlainParts, frames_of


def run(clip: str, model: Model, *, provider: str) -> Run:
    """``provider`` as ONNX Runtime names it."""
    return loop(frames_of(clip), model, provider, {"provider": provider})


def loop(frames: Iterable[Pixels], model: Model, provider: str, told: Mapping[str, Any]) -> Run:
    """All ``frames`` on ``provider``; ``told``: see Run.detail."""
    ort = load_onnxruntime()
    parts, clock, found = PlainParts(model.spec), Clock(), []
    if provider not in ort.get_available_providers():
        raise NotHere(f"no GPU: this onnxruntime has no {provider}")
    session = ort.InferenceSession(str(model.weights), providers=[provider])
    if session.get_providers()[0] != provider:  # it falls back without a word
        raise NotHere(f"no GPU: {provider} does not start")
    name = session.get_inputs()[0].name
    for frame in frames:
        output = session.run(None, {name: parts.tensor(frame)})[0]
        found.append(parts.boxes(output, frame))
        clock.tick()
    return clock.run(found, **told)
