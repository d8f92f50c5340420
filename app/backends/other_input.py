"""Can an ONNX file be given an input of another size or batch? A copy that at least says so.

Whether its graph really allows that, shows a run; whether a batch is computed rightly, a comparison
with its frames one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.backends.ort import open_session
from app.errors import ConfigError


def with_input(path: Path, shape: Sequence[int], folder: Path) -> Path:
    """A file whose input is ``shape`` (N, C, H, W): ``path`` itself, if its sizes are open.

    Else a copy in ``folder``, for which the onnx package is needed.
    """
    told = open_session(path).get_inputs()[0].shape
    if all(not isinstance(n, int) or n == size for n, size in zip(told, shape, strict=True)):
        return path
    try:
        import onnx
    except ImportError as fault:
        raise ConfigError(
            f"{path.name} has an input of {told}; to try others: pip install onnx"
        ) from fault
    proto = onnx.load(str(path))
    graph = proto.graph
    constants = {c.name for c in graph.initializer}
    (tensor,) = (i for i in graph.input if i.name not in constants)
    for dim, size in zip(tensor.type.tensor_type.shape.dim, shape, strict=True):
        dim.dim_value = size
    del graph.value_info[:]  # shapes of the layers, which are others now
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    if shape[0] != 1:
        _widen_reshapes(onnx, graph, shape[0])
    copy = folder / f"{path.stem}_{'x'.join(map(str, shape))}.onnx"
    onnx.save(proto, str(copy))
    return copy


def _widen_reshapes(onnx: Any, graph: Any, batch: int) -> None:
    """Reshape targets that begin with a batch of 1 get the new one."""
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
