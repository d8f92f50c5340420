"""What does a network compute, with every size known? An ONNX file, made static and folded.

ONNX Runtime's basic optimiser does what any engine would do first: it fixes the sizes, computes
what is constant and puts batch norm into its convolution. A few dozen kinds of nodes are left.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.backends.ort import load_onnxruntime, one_line
from app.errors import ModelError

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """One operation: ONNX's name of it, names of its tensors ("" for one left out), attributes."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in an order that can be run; ``shapes`` of all tensors, ``constants`` of some."""

    input: str
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    shapes: Mapping[str, Shape]
    constants: Mapping[str, NDArray[Any]]


def read_static_graph(
    weights: Path, size_wh: tuple[int, int], *, frames: int = 1, content: bytes | None = None
) -> Graph:
    """The network for ``frames`` frames of ``size_wh``. Raises ModelError in one line.

    ``content``: what ``weights`` held when it was read; it may be another file by now.
    """
    import onnx
    import onnx.numpy_helper
    import onnx.shape_inference

    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    try:
        model = onnx.load(weights) if content is None else onnx.load_model_from_string(content)
        taken = _fix_input(model, (frames, 3, size_wh[1], size_wh[0]))
        if frames > 1 and taken:
            raise _one_at_a_time(weights)
        with tempfile.TemporaryDirectory() as folder:
            fixed, folded = Path(folder) / "fixed.onnx", Path(folder) / "folded.onnx"
            options.optimized_model_filepath = str(folded)
            onnx.save(model, str(fixed))
            ort.InferenceSession(str(fixed), options, providers=["CPUExecutionProvider"])
            model = onnx.shape_inference.infer_shapes(onnx.load(str(folded)))
    except ModelError:
        raise
    except Exception as error:  # neither library's errors have a common root
        raise ModelError(f"{weights} cannot be read: {one_line(error)}") from error
    graph = model.graph
    constants = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    known = [*graph.input, *graph.value_info, *graph.output]
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in known}
    nodes = tuple(_node(n, i) for i, n in enumerate(graph.node))
    for node in nodes:
        for name in node.outputs:
            if name and 0 in shapes.get(name, (0,)):
                raise ModelError(
                    f"{weights}: the size of {name!r} ({node.op} {node.name!r}) depends on the "
                    "picture; use --engine ort-cuda"
                )
    if frames > 1 and any(shapes[o.name][:1] != (frames,) for o in graph.output):
        raise _one_at_a_time(weights)
    inputs = [i.name for i in graph.input if i.name not in constants]
    return Graph(inputs[0], tuple(o.name for o in graph.output), nodes, shapes, constants)


def _one_at_a_time(weights: Path) -> ModelError:
    return ModelError(
        f"{weights}: this network takes one frame at a time; leave --batch out, or export it with "
        "a dynamic first axis"
    )


def _fix_input(model: Any, shape: Sequence[int]) -> int:
    """Write the sizes down, and forget what was inferred with others; how many frames the file
    itself asks for, 0 where it leaves that open."""
    names = {i.name for i in model.graph.initializer}
    (tensor,) = [i for i in model.graph.input if i.name not in names]
    asked = int(tensor.type.tensor_type.shape.dim[0].dim_value)
    for dim, size in zip(tensor.type.tensor_type.shape.dim, shape, strict=True):
        dim.Clear()
        dim.dim_value = size
    del model.graph.value_info[:]
    for output in model.graph.output:
        for dim in output.type.tensor_type.shape.dim:
            if not dim.dim_value:
                dim.Clear()
                dim.dim_param = f"open_{id(dim)}"
    return asked


def _node(node: Any, index: int) -> Node:
    import onnx.helper

    attributes = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        attributes[attribute.name] = value.decode() if isinstance(value, bytes) else value
    name = node.name or f"{node.op_type}_{index}"
    return Node(name, node.op_type, tuple(node.input), tuple(node.output), attributes)


def as_list(value: Any) -> list[int]:
    """Whole numbers of a constant or an attribute."""
    return [int(v) for v in np.asarray(value).reshape(-1)]
