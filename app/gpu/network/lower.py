"""How does each node of a graph become steps? Reshape, transpose, slice and split are views only.

What the engine lacks is an error that names the node and another engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import ModelError
from app.gpu.network.fuse import fuse_activations, write_in_place
from app.gpu.network.graph import Graph, Node, as_list
from app.gpu.network.steps import (
    Activation,
    Binary,
    Conv,
    Pool,
    Resize,
    Shape,
    Softmax,
    Step,
    Unary,
    View,
    row_major,
)

MOST_ELEMENTS = 2**31 - 1  # of a tensor: kernels count in int
AXES = 6  # of a tensor, at most: what the strided kernels know


@dataclass(frozen=True, slots=True)
class Program:
    """Steps in order; ``buffers``: sizes in elements; ``constants``: contents of some buffers.

    ``half``: the buffers in half precision (precision.py); the others are float32.
    """

    steps: tuple[Step, ...]
    buffers: tuple[int, ...]
    constants: dict[int, NDArray[np.float32]]
    input: View
    outputs: tuple[View, ...]
    half: frozenset[int] = frozenset()

    def itemsize(self, buffer: int) -> int:
        """Bytes of an element."""
        return 2 if buffer in self.half else 4


def lower(graph: Graph) -> Program:
    """Raises ModelError naming a node that the engine cannot do."""
    builder = _Builder(graph)
    for node in graph.nodes:
        builder.add(node)
    if max(builder.buffers) > MOST_ELEMENTS:
        raise ModelError("a tensor has more than 2³¹ elements: use a smaller --batch")
    outputs = [builder.dense(builder.of(name)) for name in graph.outputs]
    kept = {view.buffer for view in outputs}
    steps = write_in_place(fuse_activations(builder.steps, kept), kept)
    return Program(
        tuple(steps),
        tuple(builder.buffers),
        builder.constants,
        builder.views[graph.input],
        tuple(outputs),
    )


class _Builder:
    """Goes through the nodes and keeps where each tensor lies."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.steps: list[Step] = []
        self.buffers: list[int] = []
        self.constants: dict[int, NDArray[np.float32]] = {}
        self.views: dict[str, View] = {}
        self.views[graph.input] = self.new(graph.shapes[graph.input])

    def add(self, node: Node) -> None:
        """Append the steps of a node, or only note a view."""
        handler: Callable[[Node], Any] | None = getattr(self, f"_{node.op}".lower(), None)
        if handler is None:
            raise self.unable(node, "has no kernel")
        made = handler(node)
        made = made if isinstance(made, list) else [made]
        for name, view in zip(node.outputs, made, strict=False):
            if len(view.shape) > AXES:
                raise self.unable(node, f"gives a tensor of more than {AXES} axes")
            if view.shape != self.graph.shapes[name]:
                raise self.unable(node, f"gives {view.shape}, not {self.graph.shapes[name]}")
            self.views[name] = view

    def unable(self, node: Node, why: str) -> ModelError:
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

    # ---- one method for each kind of node, named as ONNX does ----

    def _conv(self, node: Node) -> View:
        weight, bias = self.constant(node, 1), self.constant(node, 2)
        assert weight is not None
        a = node.attributes
        if weight.ndim != 4:
            raise self.unable(node, "is not two-dimensional")
        dilation = _two(a.get("dilations", [1, 1]))
        x, y = self.planes(self.of(node.inputs[0])), self.new(self.shape(node))
        spans = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
        pads = _pads(node, x.shape, spans, y.shape)
        zero = np.zeros(len(weight), np.float32)
        self.steps.append(
            Conv(
                x,
                y,
                weight.astype(np.float32),
                zero if bias is None else bias.astype(np.float32),
                _two(a.get("strides", [1, 1])),
                pads,
                dilation,
                int(a.get("group", 1)),
                name=node.name,
            )
        )
        return y

    def _pool(self, node: Node, kind: str) -> View:
        a = node.attributes
        if set(a.get("dilations", [1])) != {1}:
            raise self.unable(node, "is dilated")
        x, y = self.planes(self.of(node.inputs[0])), self.new(self.shape(node))
        kernel = _two(a["kernel_shape"])
        self.steps.append(
            Pool(
                x,
                y,
                kind,
                kernel,
                _two(a.get("strides", [1, 1])),
                _pads(node, x.shape, kernel, y.shape),
                bool(a.get("count_include_pad", 0)),
            )
        )
        return y

    def _maxpool(self, node: Node) -> View:
        return self._pool(node, "max")

    def _averagepool(self, node: Node) -> View:
        return self._pool(node, "mean")

    def _globalaveragepool(self, node: Node) -> View:
        x, y = self.planes(self.of(node.inputs[0])), self.new(self.shape(node))
        self.steps.append(Pool(x, y, "mean", x.shape[2:], (1, 1), (0, 0)))  # type: ignore[arg-type]
        return y

    def _resize(self, node: Node) -> View:
        a = node.attributes
        mode = a.get("mode", "nearest")
        where = a.get("coordinate_transformation_mode", "half_pixel")
        nearest = a.get("nearest_mode", "round_prefer_floor")
        x, y = self.planes(self.of(node.inputs[0])), self.new(self.shape(node))
        whole = all(b % c == 0 for b, c in zip(y.shape[2:], x.shape[2:], strict=True))
        if mode == "nearest" and whole and (where, nearest) != ("half_pixel", "floor"):
            # growing by whole factors, every rounding picks the same pixel
            self.steps.append(Resize(x, y, linear=False, half_pixel=False))
        elif mode == "linear" and where in ("half_pixel", "pytorch_half_pixel", "asymmetric"):
            self.steps.append(Resize(x, y, linear=True, half_pixel=where != "asymmetric"))
        else:
            raise self.unable(node, f"resizes by {mode}, {where}, {nearest}")
        return y

    def _upsample(self, node: Node) -> View:
        return self._resize(node)

    def _unary(self, node: Node, activation: Activation) -> View:
        x, y = self.of(node.inputs[0]), self.new(self.shape(node))
        self.steps.append(Unary(x, y, activation))
        return y

    def _relu(self, node: Node) -> View:
        return self._unary(node, ("clip", 0.0, float("inf")))

    def _leakyrelu(self, node: Node) -> View:
        return self._unary(node, ("leaky", float(node.attributes.get("alpha", 0.01)), 0.0))

    def _sigmoid(self, node: Node) -> View:
        return self._unary(node, ("sigmoid", 0.0, 0.0))

    def _exp(self, node: Node) -> View:
        return self._unary(node, ("exp", 0.0, 0.0))

    def _hardsigmoid(self, node: Node) -> View:
        a = node.attributes
        return self._unary(
            node, ("hardsigmoid", float(a.get("alpha", 0.2)), float(a.get("beta", 0.5)))
        )

    def _hardswish(self, node: Node) -> View:
        return self._unary(node, ("hardsilu", 1 / 6, 0.5))

    def _clip(self, node: Node) -> View:
        low, high = self.constant(node, 1), self.constant(node, 2)
        a = node.attributes
        least = a.get("min", float("-inf")) if low is None else low
        most = a.get("max", float("inf")) if high is None else high
        return self._unary(node, ("clip", float(least), float(most)))

    def _identity(self, node: Node) -> View:
        return self.of(node.inputs[0])

    def _binary(self, node: Node, op: str) -> View:
        y = self.new(self.shape(node))
        a, b = (self.of(name).broadcast(y.shape) for name in node.inputs)
        self.steps.append(Binary(a, b, y, op))
        return y

    def _add(self, node: Node) -> View:
        return self._binary(node, "add")

    def _sub(self, node: Node) -> View:
        return self._binary(node, "sub")

    def _mul(self, node: Node) -> View:
        return self._binary(node, "mul")

    def _div(self, node: Node) -> View:
        return self._binary(node, "div")

    def _batchnormalization(self, node: Node) -> View:
        scale, shift, mean, variance = (
            np.asarray(self.constant(node, i), np.float64) for i in (1, 2, 3, 4)
        )
        factor = scale / np.sqrt(variance + float(node.attributes.get("epsilon", 1e-5)))
        x, y = self.planes(self.of(node.inputs[0])), self.new(self.shape(node))
        # a depthwise 1×1 convolution
        weight = factor.reshape(-1, 1, 1, 1).astype(np.float32)
        bias = (shift - mean * factor).astype(np.float32)
        self.steps.append(
            Conv(x, y, weight, bias, (1, 1), (0, 0), (1, 1), len(weight), name=node.name)
        )
        return y

    def _softmax(self, node: Node) -> View:
        x = self.of(node.inputs[0])
        axis = int(node.attributes.get("axis", -1)) % len(x.shape)
        order = [i for i in range(len(x.shape)) if i != axis] + [axis]
        x = self.dense(x.permuted(order))
        y = self.new(x.shape)
        self.steps.append(Softmax(x, y))
        return y.permuted([order.index(i) for i in range(len(order))])

    def _reshape(self, node: Node) -> View:
        x = self.of(node.inputs[0])
        view = x.reshaped(self.shape(node))
        if view is None:
            view = self.dense(x).reshaped(self.shape(node))
            assert view is not None
        return view

    _flatten = _squeeze = _unsqueeze = _reshape

    def _transpose(self, node: Node) -> View:
        x = self.of(node.inputs[0])
        return x.permuted(node.attributes.get("perm", list(reversed(range(len(x.shape))))))

    def _slice(self, node: Node) -> View:
        x, a = self.of(node.inputs[0]), node.attributes
        starts, ends = (
            as_list(a[key]) if key in a else as_list(self.constant(node, i))
            for i, key in ((1, "starts"), (2, "ends"))
        )
        axes = a.get("axes", self.constant(node, 3))
        steps = self.constant(node, 4)
        which = as_list(axes) if axes is not None else list(range(len(starts)))
        strides = as_list(steps) if steps is not None else [1] * len(starts)
        for axis, start, end, step in zip(which, starts, ends, strides, strict=True):
            if step < 1:
                raise self.unable(node, "goes backwards")
            span = range(*slice(start, end, step).indices(x.shape[axis]))
            x = x.sliced(axis % len(x.shape), span.start, len(span), step)
        return x

    def _split(self, node: Node) -> list[View]:
        x, a = self.of(node.inputs[0]), node.attributes
        axis = int(a.get("axis", 0)) % len(x.shape)
        sizes = [self.graph.shapes[name][axis] for name in node.outputs]
        starts = np.cumsum([0, *sizes[:-1]])
        return [x.sliced(axis, int(s), n) for s, n in zip(starts, sizes, strict=True)]

    def _gather(self, node: Node) -> View:
        x, index = self.of(node.inputs[0]), self.constant(node, 1)
        assert index is not None
        axis = int(node.attributes.get("axis", 0)) % len(x.shape)
        if index.ndim == 0:
            one = x.sliced(axis, int(index) % x.shape[axis], 1)
            return replace(
                one,
                shape=one.shape[:axis] + one.shape[axis + 1 :],
                strides=one.strides[:axis] + one.strides[axis + 1 :],
            )
        y = self.new(self.shape(node))
        if index.ndim != 1:
            raise self.unable(node, "gathers with a table")
        for place, start, count, step in _runs(as_list(index)):
            part = x.sliced(axis, start, count, step)
            self.steps.append(Unary(part, y.sliced(axis, place, count)))
        return y

    def _spacetodepth(self, node: Node) -> View:
        x, size = self.of(node.inputs[0]), int(node.attributes["blocksize"])
        n, c, h, w = x.shape
        view = x.reshaped((n, c, h // size, size, w // size, size))
        assert view is not None
        view = view.permuted([0, 3, 5, 1, 2, 4])
        y = self.new(view.shape)
        self.steps.append(Unary(view, y))
        whole = y.reshaped(self.shape(node))
        assert whole is not None
        return whole

    def _concat(self, node: Node) -> View:
        y = self.new(self.shape(node))
        axis = int(node.attributes["axis"]) % len(y.shape)
        start = 0
        for name in node.inputs:
            x = self.of(name)
            self.steps.append(Unary(x, y.sliced(axis, start, x.shape[axis])))
            start += x.shape[axis]
        return y


def _two(values: Sequence[Any]) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def _pads(node: Node, x: Shape, kernel: Sequence[int], y: Shape) -> tuple[int, int]:
    """Padding at the top and left; what is at the bottom and right follows from y's size."""
    a = node.attributes
    automatic = a.get("auto_pad", "NOTSET")
    if automatic in ("NOTSET", "VALID"):
        given = a.get("pads", [0, 0, 0, 0])
        return int(given[0]), int(given[1])
    strides = _two(a.get("strides", [1, 1]))
    total = [max(0, (y[2 + i] - 1) * strides[i] + kernel[i] - x[2 + i]) for i in range(2)]
    low = [t // 2 if automatic == "SAME_UPPER" else (t + 1) // 2 for t in total]
    return low[0], low[1]


def _runs(indices: list[int]) -> list[tuple[int, int, int, int]]:
    """Evenly spaced runs (place, start, count, step) of a list of indices."""
    runs, place = [], 0
    while place < len(indices):
        count = 1
        step = max(1, indices[place + 1] - indices[place]) if place + 1 < len(indices) else 1
        while (
            place + count < len(indices) and indices[place + count] == indices[place] + count * step
        ):
            count += 1
        runs.append((place, indices[place], count, step))
        place += count
    return runs
