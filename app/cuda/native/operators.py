"""Lowering of single ONNX operators: arithmetic, and views or copies for layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ModelError
from .ir import (
    Binary,
    Conv,
    Graph,
    GraphNode,
    MatMul,
    Pool,
    Resize,
    Shape,
    Softmax,
    Step,
    Unary,
    View,
    as_list,
    row_major,
)

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

    def note(self, node: GraphNode, views: Sequence[View]) -> None:
        """Where the node's outputs lie. Raises ModelError if that is not what the graph says."""
        for name, view in zip(node.outputs, views, strict=False):
            if len(view.shape) > AXES:
                raise self.unable(node, f"gives a tensor of more than {AXES} axes")
            if view.shape != self.graph.shapes[name]:
                raise self.unable(node, f"gives {view.shape}, not {self.graph.shapes[name]}")
            self.views[name] = view

    def unable(self, node: GraphNode, why: str) -> ModelError:
        """The error for a node that the engine lacks."""
        return ModelError(
            f"the native engine cannot run {node.op} {node.name!r}: it {why}; use "
            "--engine tensorrt, or ort-cuda"
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

    def constant(self, node: GraphNode, index: int) -> NDArray[Any] | None:
        """A constant input, or None where it is left out."""
        if index >= len(node.inputs) or not node.inputs[index]:
            return None
        if node.inputs[index] not in self.graph.constants:
            raise self.unable(node, f"needs input {index} to be constant")
        return self.graph.constants[node.inputs[index]]

    def shape(self, node: GraphNode) -> Shape:
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
Handler = Callable[[Builder, GraphNode], View | list[View]]


def _conv(build: Builder, node: GraphNode) -> View:
    weight, bias = build.constant(node, 1), build.constant(node, 2)
    assert weight is not None
    a = node.attributes
    if weight.ndim != 4:
        raise build.unable(node, "is not two-dimensional")
    dilation = _two(a.get("dilations", [1, 1]))
    x, y = build.planes(build.of(node.inputs[0])), build.new(build.shape(node))
    spans = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    pads = _pads(node, x.shape, spans, y.shape)
    zero = np.zeros(len(weight), np.float32)
    build.steps.append(
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


def _pool(build: Builder, node: GraphNode, kind: str) -> View:
    a = node.attributes
    if set(a.get("dilations", [1])) != {1}:
        raise build.unable(node, "is dilated")
    x, y = build.planes(build.of(node.inputs[0])), build.new(build.shape(node))
    kernel = _two(a["kernel_shape"])
    build.steps.append(
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


def _globalaveragepool(build: Builder, node: GraphNode) -> View:
    x, y = build.planes(build.of(node.inputs[0])), build.new(build.shape(node))
    build.steps.append(Pool(x, y, "mean", x.shape[2:], (1, 1), (0, 0)))  # type: ignore[arg-type]
    return y


def _reducemean(build: Builder, node: GraphNode) -> View:
    axes = node.attributes.get("axes", build.constant(node, 1))
    if len(build.of(node.inputs[0]).shape) != 4 or [a % 4 for a in as_list(axes)] != [2, 3]:
        raise build.unable(node, "is no mean over pictures")
    y = build.new((*build.of(node.inputs[0]).shape[:2], 1, 1))
    x = build.planes(build.of(node.inputs[0]))
    build.steps.append(Pool(x, y, "mean", _two(x.shape[2:]), (1, 1), (0, 0)))
    view = y.reshaped(build.shape(node))  # without the axes, where they are not kept
    assert view is not None
    return view


def _matmul(build: Builder, node: GraphNode) -> View:
    y = build.new(build.shape(node))
    if node.inputs[1] in build.graph.constants and len(y.shape) in (2, 3):
        weight = build.graph.constants[node.inputs[1]]
        if weight.ndim == 2:
            _linear(build, node, y, weight.T, None)
            return y
    a, b = (build.of(name) for name in node.inputs)
    if len(y.shape) > 4 or min(len(a.shape), len(b.shape)) < 2:
        raise build.unable(node, "multiplies more than a few matrices, or vectors")
    (*many, m, n), k = y.shape, a.shape[-1]
    build.steps.append(MatMul(a.broadcast((*many, m, k)), b.broadcast((*many, k, n)), y))
    return y


def _gemm(build: Builder, node: GraphNode) -> View:
    weight, bias, a = build.constant(node, 1), build.constant(node, 2), node.attributes
    assert weight is not None
    if a.get("transA", 0) or (bias is not None and bias.size != build.shape(node)[1]):
        raise build.unable(node, "is no layer of constant weights")
    weight = (weight if a.get("transB", 0) else weight.T) * a.get("alpha", 1.0)
    y = build.new(build.shape(node))
    shift = None if bias is None else bias.reshape(-1) * a.get("beta", 1.0)
    _linear(build, node, y, weight, shift)
    return y


def _linear(
    build: Builder, node: GraphNode, y: View, weight: NDArray[Any], bias: NDArray[Any] | None
) -> None:
    """y = x weightᵀ + bias for weight (out, in): a 1×1 convolution of a picture one pixel wide."""

    def columns(view: View) -> View:
        frames, rows, channels = (1, *view.shape)[-3:]
        f, r, c = (0, *view.strides)[-3:]
        return View(view.buffer, (frames, channels, rows, 1), (f, c, r, 0), view.offset)

    x = columns(build.of(node.inputs[0]))
    bias = np.zeros(len(weight)) if bias is None else bias
    kernel = np.ascontiguousarray(weight[:, :, None, None], np.float32)
    step = Conv(x, columns(y), kernel, bias.astype(np.float32), (1, 1), (0, 0), (1, 1), 1)
    build.steps.append(replace(step, name=node.name))


def _convtranspose(build: Builder, node: GraphNode) -> View:
    """Where windows do not overlap: a 1×1 convolution to each place of a window."""
    weight, bias, a = build.constant(node, 1), build.constant(node, 2), node.attributes
    assert weight is not None
    side = weight.shape[2:]
    plain = (
        a.get("group", 1) == 1 and not any(a.get("pads", [0])) and {*a.get("dilations", [1])} == {1}
    )
    if weight.ndim != 4 or not plain or tuple(a.get("strides", [1, 1])) != side:
        raise build.unable(node, "has windows that overlap")
    x = build.planes(build.of(node.inputs[0]))
    frames, _, h, w = x.shape
    (kh, kw), out = side, weight.shape[1]
    y = build.new((frames, out, h, kh, w, kw))
    if y.size != int(np.prod(build.shape(node))):
        raise build.unable(node, "pads its result")
    shift = np.zeros(out) if bias is None else bias
    parts = build.new((frames, kh * kw * out, h, w))
    rows = weight.transpose(2, 3, 1, 0).reshape(kh * kw * out, -1, 1, 1).astype(np.float32)
    shifts = np.tile(shift, kh * kw).astype(np.float32)
    build.steps.append(Conv(x, parts, rows, shifts, (1, 1), (0, 0), (1, 1), 1, name=node.name))
    whole = parts.reshaped((frames, kh, kw, out, h, w))
    assert whole is not None
    build.steps.append(Unary(whole.permuted([0, 3, 4, 1, 5, 2]), y))
    picture = y.reshaped(build.shape(node))
    assert picture is not None
    return picture


def _resize(build: Builder, node: GraphNode) -> View:
    a = node.attributes
    mode = a.get("mode", "nearest")
    where = a.get("coordinate_transformation_mode", "half_pixel")
    nearest = a.get("nearest_mode", "round_prefer_floor")
    x, y = build.planes(build.of(node.inputs[0])), build.new(build.shape(node))
    whole = all(b % c == 0 for b, c in zip(y.shape[2:], x.shape[2:], strict=True))
    if mode == "nearest" and whole and (where, nearest) != ("half_pixel", "floor"):
        # growing by whole factors, every rounding picks the same pixel
        build.steps.append(Resize(x, y, linear=False, half_pixel=False))
    elif mode == "linear" and where in ("half_pixel", "pytorch_half_pixel", "asymmetric"):
        build.steps.append(Resize(x, y, linear=True, half_pixel=where != "asymmetric"))
    else:
        raise build.unable(node, f"resizes by {mode}, {where}, {nearest}")
    return y


def _unary(build: Builder, node: GraphNode, kind: str, p: float = 0.0, q: float = 0.0) -> View:
    """``p`` and ``q`` stand where the node has no attributes alpha and beta."""
    x, y = build.of(node.inputs[0]), build.new(build.shape(node))
    p, q = (float(node.attributes.get(key, v)) for key, v in (("alpha", p), ("beta", q)))
    build.steps.append(Unary(x, y, (kind, p, q)))
    return y


def _clip(build: Builder, node: GraphNode) -> View:
    low, high = build.constant(node, 1), build.constant(node, 2)
    a = node.attributes
    least = a.get("min", float("-inf")) if low is None else low
    most = a.get("max", float("inf")) if high is None else high
    return _unary(build, node, "clip", float(least), float(most))


def _binary(build: Builder, node: GraphNode, op: str) -> View:
    y = build.new(build.shape(node))
    a, b = (build.of(name).broadcast(y.shape) for name in node.inputs)
    build.steps.append(Binary(a, b, y, op))
    return y


def _batchnormalization(build: Builder, node: GraphNode) -> View:
    scale, shift, mean, variance = (
        np.asarray(build.constant(node, i), np.float64) for i in (1, 2, 3, 4)
    )
    factor = scale / np.sqrt(variance + float(node.attributes.get("epsilon", 1e-5)))
    x, y = build.planes(build.of(node.inputs[0])), build.new(build.shape(node))
    # a depthwise 1×1 convolution
    weight = factor.reshape(-1, 1, 1, 1).astype(np.float32)
    bias = (shift - mean * factor).astype(np.float32)
    build.steps.append(
        Conv(x, y, weight, bias, (1, 1), (0, 0), (1, 1), len(weight), name=node.name)
    )
    return y


def _softmax(build: Builder, node: GraphNode) -> View:
    x = build.of(node.inputs[0])
    axis = int(node.attributes.get("axis", -1)) % len(x.shape)
    order = [i for i in range(len(x.shape)) if i != axis] + [axis]
    x = build.dense(x.permuted(order))
    y = build.new(x.shape)
    build.steps.append(Softmax(x, y))
    return y.permuted([order.index(i) for i in range(len(order))])


def _two(values: Sequence[Any]) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def _pads(node: GraphNode, x: Shape, kernel: Sequence[int], y: Shape) -> tuple[int, int]:
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


def _identity(build: Builder, node: GraphNode) -> View:
    return build.of(node.inputs[0])


def _reshape(build: Builder, node: GraphNode) -> View:
    x = build.of(node.inputs[0])
    view = x.reshaped(build.shape(node))
    if view is None:
        view = build.dense(x).reshaped(build.shape(node))
        assert view is not None
    return view


def _transpose(build: Builder, node: GraphNode) -> View:
    x = build.of(node.inputs[0])
    return x.permuted(node.attributes.get("perm", list(reversed(range(len(x.shape))))))


def _slice(build: Builder, node: GraphNode) -> View:
    x, a = build.of(node.inputs[0]), node.attributes
    starts, ends = (
        as_list(a[key]) if key in a else as_list(build.constant(node, i))
        for i, key in ((1, "starts"), (2, "ends"))
    )
    axes = a.get("axes", build.constant(node, 3))
    steps = build.constant(node, 4)
    which = as_list(axes) if axes is not None else list(range(len(starts)))
    strides = as_list(steps) if steps is not None else [1] * len(starts)
    for axis, start, end, step in zip(which, starts, ends, strides, strict=True):
        if step < 1:
            raise build.unable(node, "goes backwards")
        span = range(*slice(start, end, step).indices(x.shape[axis]))
        x = x.sliced(axis % len(x.shape), span.start, len(span), step)
    return x


def _split(build: Builder, node: GraphNode) -> list[View]:
    x, a = build.of(node.inputs[0]), node.attributes
    axis = int(a.get("axis", 0)) % len(x.shape)
    sizes = [build.graph.shapes[name][axis] for name in node.outputs]
    starts = np.cumsum([0, *sizes[:-1]])
    return [x.sliced(axis, int(s), n) for s, n in zip(starts, sizes, strict=True)]


def _gather(build: Builder, node: GraphNode) -> View:
    x, index = build.of(node.inputs[0]), build.constant(node, 1)
    assert index is not None
    axis = int(node.attributes.get("axis", 0)) % len(x.shape)
    if index.ndim == 0:
        one = x.sliced(axis, int(index) % x.shape[axis], 1)
        return replace(
            one,
            shape=one.shape[:axis] + one.shape[axis + 1 :],
            strides=one.strides[:axis] + one.strides[axis + 1 :],
        )
    y = build.new(build.shape(node))
    if index.ndim != 1:
        raise build.unable(node, "gathers with a table")
    for place, start, count, step in _runs(as_list(index)):
        part = x.sliced(axis, start, count, step)
        build.steps.append(Unary(part, y.sliced(axis, place, count)))
    return y


def _spacetodepth(build: Builder, node: GraphNode) -> View:
    x, size = build.of(node.inputs[0]), int(node.attributes["blocksize"])
    n, c, h, w = x.shape
    view = x.reshaped((n, c, h // size, size, w // size, size))
    assert view is not None
    view = view.permuted([0, 3, 5, 1, 2, 4])
    y = build.new(view.shape)
    build.steps.append(Unary(view, y))
    whole = y.reshaped(build.shape(node))
    assert whole is not None
    return whole


def _concat(build: Builder, node: GraphNode) -> View:
    y = build.new(build.shape(node))
    axis = int(node.attributes["axis"]) % len(y.shape)
    start = 0
    for name in node.inputs:
        x = build.of(name)
        build.steps.append(Unary(x, y.sliced(axis, start, x.shape[axis])))
        start += x.shape[axis]
    return y


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


# by their names in ONNX
NODES: Mapping[str, Handler] = {
    "Conv": _conv,
    "BatchNormalization": _batchnormalization,
    "MaxPool": partial(_pool, kind="max"),
    "AveragePool": partial(_pool, kind="mean"),
    "GlobalAveragePool": _globalaveragepool,
    "ReduceMean": _reducemean,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "ConvTranspose": _convtranspose,
    "Resize": _resize,
    "Upsample": _resize,
    "Relu": partial(_unary, kind="clip", q=float("inf")),
    "LeakyRelu": partial(_unary, kind="leaky", p=0.01),
    "Sigmoid": partial(_unary, kind="sigmoid"),
    "Exp": partial(_unary, kind="exp"),
    "Erf": partial(_unary, kind="erf"),
    "HardSigmoid": partial(_unary, kind="hardsigmoid", p=0.2, q=0.5),
    "HardSwish": partial(_unary, kind="hardsilu", p=1 / 6, q=0.5),
    "Clip": _clip,
    "Softmax": _softmax,
    "Add": partial(_binary, op="add"),
    "Sub": partial(_binary, op="sub"),
    "Mul": partial(_binary, op="mul"),
    "Div": partial(_binary, op="div"),
    "Identity": _identity,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Transpose": _transpose,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "SpaceToDepth": _spacetodepth,
    "Concat": _concat,
}
