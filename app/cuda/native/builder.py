"""The steps and buffers of a graph while it is lowered, and the weights that were quantised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ModelError
from .ir import Graph, GraphNode, Quant, Shape, Step, Unary, View, row_major

AXES = 6  # of a tensor, at most: what the strided kernels know


class Builder:
    """The steps and buffers so far, and where each tensor of the graph lies."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.steps: list[Step] = []
        self.buffers: list[int] = []
        self.constants: dict[int, NDArray[np.float32]] = {}
        self.folded = dict(graph.constants)  # with the numbers of those that are quantised
        self.scales: dict[str, NDArray[np.float32]] = {}  # of constants, to broadcast; if whole
        # multiples from -128 to 127 of them
        self.views: dict[str, View] = {}
        self.readers = Counter([*graph.outputs, *(name for n in graph.nodes for name in n.inputs)])
        self._fresh: tuple[str, int] = "", 0  # the last result, if a step of its own made it; steps
        self.views[graph.input] = self.new(graph.shapes[graph.input])

    def note(self, node: GraphNode, views: Sequence[View]) -> None:
        """Where the node's outputs lie. Raises ModelError if that is not what the graph says."""
        for name, view in zip(node.outputs, views, strict=False):
            if len(view.shape) > AXES:
                raise self.unable(node, f"gives a tensor of more than {AXES} axes")
            if view.shape != self.graph.shapes[name]:
                raise self.unable(node, f"gives {view.shape}, not {self.graph.shapes[name]}")
            self.views[name] = view
        own = len(self.steps) > self._fresh[1] and [self.steps[-1].y] == views
        self._fresh = node.outputs[0] if own else "", len(self.steps)

    def rounded(self, name: str, quant: Quant) -> View:
        """A tensor in bytes: made so at once where nobody else needs it."""
        x = self.of(name)
        if name != self._fresh[0] or self.readers[name] > 1 or x.quant is not None:
            return x if x.quant == quant else self.copied(x, quant)
        last = self.steps[-1]
        self.steps[-1] = replace(last, y=replace(x, quant=quant))
        return self.steps[-1].y

    def unable(self, node: GraphNode, why: str) -> ModelError:
        """The error for a node that the engine lacks."""
        return ModelError(
            f"the native engine cannot run {node.op} {node.name!r}: it {why}; use "
            "--engine tensorrt, or ort-cuda"
        )

    def new(self, shape: Shape, quant: Quant | None = None) -> View:
        """A tensor of its own, row-major."""
        self.buffers.append(int(np.prod(shape, dtype=np.int64)))
        return View(len(self.buffers) - 1, shape, row_major(shape), quant=quant)

    def of(self, name: str) -> View:
        """Where a tensor lies; constants get a buffer when they are first needed as tensors."""
        if name not in self.views:
            self.views[name] = self.fixed(self.folded[name])
        return self.views[name]

    def fixed(self, values: NDArray[Any]) -> View:
        """A tensor that is the same for every frame."""
        view = self.new(values.shape)
        self.constants[view.buffer] = np.ascontiguousarray(values, np.float32).reshape(-1)
        return view

    def constant(self, node: GraphNode, index: int) -> NDArray[Any] | None:
        """A constant input, or None where it is left out."""
        if index >= len(node.inputs) or not node.inputs[index]:
            return None
        if node.inputs[index] not in self.folded:
            raise self.unable(node, f"needs input {index} to be constant")
        return self.folded[node.inputs[index]]

    def scales_of(self, node: GraphNode, index: int, axis: int) -> NDArray[np.float32] | None:
        """Of a constant input, one for each place of ``axis``; None where there are none such."""
        scales = self.scales.get(node.inputs[index])
        if scales is None or scales.size not in (1, scales.shape[axis]):
            return None
        return np.broadcast_to(scales.reshape(-1), self.folded[node.inputs[index]].shape[axis])

    def shape(self, node: GraphNode) -> Shape:
        """Of the node's first output."""
        return self.graph.shapes[node.outputs[0]]

    def dense(self, view: View) -> View:
        """The view if it has no gaps, or a copy of it that has none."""
        return view if view.contiguous else self.copied(view, view.quant)

    def copied(self, view: View, quant: Quant | None = None) -> View:
        """A copy without gaps, rounded to ``quant``."""
        target = self.new(view.shape, quant)
        self.steps.append(Unary(view, target))
        return target

    def planes(self, view: View) -> View:
        """(frames,C,H,W) whose rows and planes have no gaps; channels and frames may lie apart."""
        _, _, h, w = view.shape
        good = view.strides[3] in (0, 1) and (h == 1 or view.strides[2] == w)
        return view if good else self.dense(view)


# appends the steps of a node, if it needs any, and tells where its outputs lie
Handler = Callable[[Builder, GraphNode], View | list[View]]
