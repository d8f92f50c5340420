"""A model at another input size or batch, where its graph allows that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from app.backends.ort import load_onnxruntime, one_line
from app.backends.other_input import with_input
from app.errors import ModelError
from app.shelf import Model

TOLERANCE = 1e-3  # of the largest value: other sums in another order


def at_size(model: Model, size_wh: tuple[int, int], folder: Path) -> Model:
    """The model with another input; ``folder`` takes its file where the graph fixes the size.

    Raises ModelError where the graph cannot have it.
    """
    if size_wh == model.spec.input.size_wh and not model.spec.input.fit:
        return model
    shape = (1, 3, size_wh[1], size_wh[0])
    weights = with_input(model.weights, shape, folder)
    # what is asked for is measured: all of that size
    spec = replace(model.spec, input=replace(model.spec.input, size_wh=size_wh, fit=0))
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
    weights = with_input(model.weights, frames.shape, folder)
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
