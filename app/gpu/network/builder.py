"""Where does each tensor of a graph lie while the graph becomes steps?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import ModelError
from app.gpu.network.graph import Graph, Node
from app.gpu.network.steps import Shape, Step, Unary, View, row_major

AXES = 6  # of a tensor, at most: what the strided kernels know


class Builder:
    """The steps and buffers so far, and where each tensor of the graph lies."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.steps: list[Step] = []
        self.buffers: list[int] = []
        self.constants: dict[int, NDArray[np.float32]] = {}
        self.views: dict[str, View] = {}
        self.views[graph.input] = self.new(graph.shapes[graph.input])

    def note(self, node: Node, views: Sequence[View]) -> None:
        """Where the node's outputs lie. Raises ModelError if that is not what the graph says."""
        for name, view in zip(node.outputs, views, strict=False):
            if len(view.shape) > AXES:
                raise self.unable(node, f"gives a tensor of more than {AXES} axes")
            if view.shape != self.graph.shapes[name]:
                raise self.unable(node, f"gives {view.shape}, not {self.graph.shapes[name]}")
            self.views[name] = view

    def unable(self, node: Node, why: str) -> ModelError:
        """The error for a node that the engine lacks."""
        return ModelError(
            f"the native engine cannot run {node.op} {node.name!r}: it {why}; use --engine ort-cuda"
        )

    def new(self, shape: Shape) -> View:
        """A tensor of its own, row-major."""
        self.buffers.append(int(np.prod(shape, dtype=np.int64)))
        return View(len(self.buffers) - 1, shape, row_major(shape))

    def of(self, name: str) -> View:
        """Where a tensor lies; constants get a buffer when they are first needed as tensors."""
        if name not in self.views:
            values = np.ascontiguousarray(self.graph.constants[name], np.float32)
            view = self.new(values.shape)
            self.constants[view.buffer] = values.reshape(-1)
            self.views[name] = view
        return self.views[name]

    def constant(self, node: Node, index: int) -> NDArray[Any] | None:
        """A constant input, or None where it is left out."""
        if index >= len(node.inputs) or not node.inputs[index]:
            return None
        if node.inputs[index] not in self.graph.constants:
            raise self.unable(node, f"needs input {index} to be constant")
        return self.graph.constants[node.inputs[index]]

    def shape(self, node: Node) -> Shape:
        """Of the node's first output."""
        return self.graph.shapes[node.outputs[0]]

    def dense(self, view: View) -> View:
        """The view if it has no gaps, or a copy of it that has none."""
        if view.contiguous:
            return view
        target = self.new(view.shape)
        self.steps.append(Unary(view, target))
        return target

    def planes(self, view: View) -> View:
        """(frames,C,H,W) whose rows and planes have no gaps; channels and frames may lie apart."""
        _, _, h, w = view.shape
        good = view.strides[3] in (0, 1) and (h == 1 or view.strides[2] == w)
        return view if good else self.dense(view)


# appends the steps of a node, if it needs any, and tells where its outputs lie
Handler = Callable[[Builder, Node], View | list[View]]
