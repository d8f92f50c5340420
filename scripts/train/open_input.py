"""How does an exported network take any size of input, not only the one it was exported with?

Of the graph only the tables of cells belong to a size. They are computed from the sizes of the maps
instead: beforehand by engines that fix a size, with each frame by others, for less than a hundredth
of the network's time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from scripts.train.network import STRIDES

CENTRES, STEPS = "centres", "strides"  # (1,2,N) and (1,1,N), as scripts.train.export names them


def open_input(model: Any) -> None:
    """Leave height and width open, in place. ValueError for a graph that export did not write."""
    graph = model.graph
    maps = _maps(graph)
    if len(maps) != len(STRIDES) or not _remove_tables(graph):
        raise ValueError("this is no graph of scripts.train.export, or its input is open already")
    nodes = list(graph.node)
    del graph.node[:]
    last = max(i for i, node in enumerate(nodes) if set(node.output) & set(maps))
    graph.node.extend([*nodes[: last + 1], *_tables(graph, maps), *nodes[last + 1 :]])
    for axis, name in ((2, "height"), (3, "width")):
        _open(graph.input[0], axis, name)
    _open(graph.output[0], 2, "cells")
    del graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)


def _maps(graph: Any) -> list[str]:
    """The raw maps of the levels: what is reshaped before all of it is concatenated."""
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        parts = [makers.get(name) for name in node.input]
        if node.op_type == "Concat" and all(p and p.op_type == "Reshape" for p in parts):
            return [p.input[0] for p in parts if p]
    return []


def _remove_tables(graph: Any) -> bool:
    """The tables of one size, also where they are kept in half precision and cast."""
    tables = [t for t in graph.initializer if t.name.removesuffix("_half") in (CENTRES, STEPS)]
    for table in tables:
        graph.initializer.remove(table)
    for node in [n for n in graph.node if n.op_type == "Cast" and n.output[0] in (CENTRES, STEPS)]:
        graph.node.remove(node)
    return len(tables) == 2


def _tables(graph: Any, maps: list[str]) -> list[Any]:
    """Nodes that give CENTRES and STEPS: a running sum of the stride is a cell's far edge."""
    nodes: list[Any] = []

    def constant(name: str, values: Any, kind: type = np.int64) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(values, kind), name))
        return name

    def node(operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> list[str]:
        made = helper.make_node(operator, inputs, outputs, name=outputs[0], **attributes)
        nodes.append(made)
        return outputs

    down, across = constant("cells_down", 0), constant("cells_across", 1)
    row = constant("cells_row", [1, 1, -1])
    levels = []
    for name, stride in zip(maps, STRIDES, strict=True):
        at = f"cells_{stride}"
        node("Shape", [name], [f"{at}_hw"], start=2, end=4)
        node("Expand", [constant(f"{at}_step", stride, np.float32), f"{at}_hw"], [f"{at}_steps"])
        node("CumSum", [f"{at}_steps", across], [f"{at}_right"])
        node("CumSum", [f"{at}_steps", down], [f"{at}_bottom"])
        rows = [
            node("Reshape", [f"{at}_{part}", row], [f"{at}_{part}_row"])[0]
            for part in ("right", "bottom", "steps")
        ]
        levels += node("Concat", rows, [at], axis=1)
    node("Concat", levels, ["cells"], axis=2)
    parts = constant("cells_parts", [2, 1])
    node("Split", ["cells", parts], ["cells_corners", STEPS], axis=1)
    node("Mul", [STEPS, constant("cells_half", 0.5, np.float32)], ["cells_half_steps"])
    node("Sub", ["cells_corners", "cells_half_steps"], [CENTRES])
    return nodes


def _open(value: Any, axis: int, name: str) -> None:
    dim = value.type.tensor_type.shape.dim[axis]
    dim.Clear()
    dim.dim_param = name
