"""How long does each launch of our own network take, by itself and all in a row?"""

from __future__ import annotations

from typing import Any

from app.cuda.context import GpuContext
from app.cuda.graph import CudaGraph, Mark
from app.cuda.native.engine import NativeEngine
from app.models.manifest import Model

FRAME_WH = (1920, 1080)
IN_A_ROW, ROUNDS = 20, 5  # launches in one graph; the fastest graph counts


def measure_layers(model: Model) -> dict[str, Any]:
    """In half precision, for one frame. ``us``: one launch among many of the same, whose data the
    caches hold; ``whole_us``: the network as it runs, gaps between launches included."""
    with GpuContext() as context:
        return _times(context, model)


def _times(context: GpuContext, model: Model) -> dict[str, Any]:
    spec = model.spec.for_frame(FRAME_WH)
    engine = NativeEngine(context, spec, model.weights, content=model.weights.read_bytes())
    stream = context.driver.Stream()
    network = engine.network(stream)
    launches: list[Any] = [*network.run_for(1)._launches]
    waves = engine._weights.arenas[0].waves  # the steps of each launch

    def microseconds(some: list[Any]) -> float:
        def work(mark: Mark) -> None:
            mark(0)
            for launch in some:
                launch(stream)
            mark(1)

        graph, times = CudaGraph(context, stream, work, marks=2), []
        for _ in range(ROUNDS):
            graph.launch()
            graph.wait()
            times.append(graph.between_ns(0, 1) / 1e3)
        graph.close()
        return min(times)

    rows = [
        {
            "layer": "; ".join(map(_name, wave)),
            "us": round(microseconds([launch] * IN_A_ROW) / IN_A_ROW, 2),
        }
        for wave, launch in zip(waves, launches, strict=True)
    ]
    whole = round(microseconds(launches), 1)
    network.close()
    engine.close()
    return {"input": list(spec.input.size_wh), "whole_us": whole, "launches": rows}


def _name(step: Any) -> str:
    """What it computes, and the shape that it writes."""
    kernel = "x".join(map(str, step.weight.shape)) if hasattr(step, "weight") else ""
    return f"{type(step).__name__} {kernel} to {'x'.join(map(str, step.y.shape))}"
