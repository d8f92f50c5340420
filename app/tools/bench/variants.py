"""A model at another input size or batch, where its graph allows that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from app.backends.ort import load_onnxruntime, one_line, open_session
from app.errors import ConfigError, ModelError
from app.shelf import Model

TOLERANCE = 1e-3  # of the largest value: other sums in another order


def at_size(model: Model, size_wh: tuple[int, int], folder: Path) -> Model:
    """The model with another input; ``folder`` takes its file where the graph fixes the size.

    Raises ModelError where the graph cannot have it.
    """
    if size_wh == model.spec.input.size_wh:
        return model
    spec = replace(model.spec, input=replace(model.spec.input, size_wh=size_wh))
    shape = (1, 3, size_wh[1], size_wh[0])
    weights = _opened(model, shape, folder)
    _run(weights, model, np.zeros(shape, np.float32))
    return replace(model, spec=spec, weights=weights)


def at_batch(model: Model, batch: int, folder: Path) -> tuple[Path, np.ndarray[Any, Any]]:
    """A file that takes ``batch`` frames at once, and an input for it.

    Raises ModelError unless it gives for each frame what the model gives for it alone.
    """
    width, height = model.spec.input.size_wh
    rng = np.random.default_rng(0)
    frames = rng.random((batch, 3, height, width), np.float32)
    if batch == 1:
        return model.weights, frames
    weights = _opened(model, frames.shape, folder)
    together = _run(weights, model, frames)
    for i in sorted({0, batch - 1}):
        for many, single in zip(
            together, _run(model.weights, model, frames[i : i + 1]), strict=True
        ):
            bound = TOLERANCE * max(1.0, float(np.abs(single).max()))
            same = many.shape == (batch, *single.shape[1:]) and single.shape[0] == 1
            if not same or not np.allclose(many[i], single[0], rtol=0, atol=bound):
                raise ModelError(
                    f"model {model.spec.name}: the graph mixes the frames of a batch of {batch}, "
                    "or is made for one; export it with an open batch dimension"
                )
    return weights, frames


def _opened(model: Model, shape: Sequence[int], folder: Path) -> Path:
    """A file whose input fits ``shape``: the model's own, if its sizes are open."""
    told = open_session(model.weights).get_inputs()[0].shape
    if all(not isinstance(n, int) or n == size for n, size in zip(told, shape, strict=True)):
        return model.weights
    try:
        import onnx
    except ImportError as fault:
        raise ConfigError(
            f"model {model.spec.name} has a fixed input of {told}; to try others: pip install onnx"
        ) from fault
    proto = onnx.load(str(model.weights))
    graph = proto.graph
    constants = {c.name for c in graph.initializer}
    (tensor,) = (i for i in graph.input if i.name not in constants)
    for dim, size in zip(tensor.type.tensor_type.shape.dim, shape, strict=True):
        dim.ClearField("dim_param")
        dim.dim_value = size
    del graph.value_info[:]  # shapes of the layers, which are others now
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    if shape[0] != 1:
        _widen_reshapes(onnx, graph, shape[0])
    path = folder / f"{model.weights.stem}_{'x'.join(map(str, shape))}.onnx"
    onnx.save(proto, str(path))
    return path


def _widen_reshapes(onnx: Any, graph: Any, batch: int) -> None:
    """Reshape targets that begin with a batch of 1 get the new one; whether that is right, shows
    the comparison with single frames."""
    targets = {n.input[1] for n in graph.node if n.op_type == "Reshape"}
    holders = [c for c in graph.initializer if c.name in targets]
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0] in targets:
            holders += [a.t for a in node.attribute if a.name == "value"]
    for holder in holders:
        sizes = onnx.numpy_helper.to_array(holder).copy()
        if sizes.size > 1 and sizes[0] == 1:
            sizes[0] = batch
            holder.CopyFrom(onnx.numpy_helper.from_array(sizes, holder.name))


def _run(weights: Path, model: Model, tensor: np.ndarray[Any, Any]) -> list[Any]:
    ort = load_onnxruntime()
    try:
        session = ort.InferenceSession(str(weights), providers=["CPUExecutionProvider"])
        outputs: list[Any] = session.run(None, {session.get_inputs()[0].name: tensor})
    except Exception as fault:  # ONNX Runtime's own errors have no common root
        raise ModelError(
            f"model {model.spec.name}: its graph does not allow an input of "
            f"{list(tensor.shape)} ({one_line(fault)})"
        ) from fault
    return outputs
