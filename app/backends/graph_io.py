"""What does an ONNX file take and give? Asked of ONNX Runtime, quietly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.backends.ort import one_line, open_session
from app.errors import ModelError
from app.recognise import GraphIO, TensorInfo

__all__ = ["GraphIO", "TensorInfo", "blank_run", "read_graph"]


def read_graph(path: Path) -> GraphIO:
    """Inputs, outputs and metadata of an ONNX file. Raises ModelError, in one line."""
    session = open_session(path, optimise=False)
    return GraphIO(
        inputs=tuple(_info(t) for t in session.get_inputs()),
        outputs=tuple(_info(t) for t in session.get_outputs()),
        metadata=dict(session.get_modelmeta().custom_metadata_map),
    )


def blank_run(path: Path, size_wh: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """The outputs, by name, for one evenly gray tensor of (width, height)."""
    session = open_session(path, optimise=False)
    tensor = session.get_inputs()[0]
    dtype = np.float16 if tensor.type == "tensor(float16)" else np.float32
    try:
        blank = np.full((1, 3, size_wh[1], size_wh[0]), 0.5, dtype)
        arrays = session.run(None, {tensor.name: blank})
    except Exception as fault:  # ONNX Runtime's own errors have no common root
        at = f"{size_wh[0]}x{size_wh[1]}"
        raise ModelError(f"{path} does not run at {at}: {one_line(fault)}") from fault
    return dict(zip([t.name for t in session.get_outputs()], arrays, strict=True))


def _info(tensor: Any) -> TensorInfo:
    shape = tuple(n if isinstance(n, int) else None for n in tensor.shape)
    return TensorInfo(tensor.name, shape, tensor.type)
