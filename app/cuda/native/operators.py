"""Lowering of single ONNX operators that compute; what only moves numbers is in layout.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import layout
from .builder import Builder, Handler
from .ir import (
    Binary,
    Conv,
    GraphNode,
    GridSample,
    LayerNorm,
    MatMul,
    Pool,
    Quant,
    Resize,
    Shape,
    Softmax,
    Unary,
    View,
    as_list,
)


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
            scales=build.scales_of(node, 1, 0),
        )
    )
    return y


def _pool(build: Builder, node: GraphNode, kind: str) -> View:
    a = node.attributes
    if set(a.get("dilations", [1])) != {1}:
        raise build.unable(node, "is dilated")
    x = build.planes(build.of(node.inputs[0]))
    y = build.new(build.shape(node), x.quant if kind == "max" else None)  # no number is new
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
    axes, x = node.attributes.get("axes", build.constant(node, 1)), build.of(node.inputs[0])
    last = len(x.shape) - (len(x.shape) if axes is None else np.size(axes))
    if axes is not None and sorted(a % len(x.shape) for a in as_list(axes)) != [
        *range(last, len(x.shape))
    ]:
        raise build.unable(node, "is no mean over the last axes")
    if x.shape[last:] == x.shape[2:4]:
        x = build.planes(x)
    else:  # one row for each mean
        first, count = x.shape[0] if last else 1, int(np.prod(x.shape[last:]))
        rows = build.dense(x).reshaped((first, x.size // first // count, 1, count))
        assert rows is not None
        x = rows
    y = build.new((*x.shape[:2], 1, 1))
    build.steps.append(Pool(x, y, "mean", _two(x.shape[2:]), (1, 1), (0, 0)))
    view = y.reshaped(build.shape(node))  # without the axes, where they are not kept
    assert view is not None
    return view


def _pow(build: Builder, node: GraphNode) -> View:
    power = build.constant(node, 1)
    if power is None or power.size != 1 or float(power.reshape(())) not in (0.5, 2.0):
        raise build.unable(node, "is neither a square nor a square root")
    if float(power.reshape(())) == 0.5:
        return _unary(build, node, "sqrt")
    x, y = build.of(node.inputs[0]), build.new(build.shape(node))
    build.steps.append(Binary(x, x, y, "mul"))
    return y


def _matmul(build: Builder, node: GraphNode) -> View:
    y = build.new(build.shape(node))
    if node.inputs[1] in build.folded and len(y.shape) in (2, 3):
        weight = build.folded[node.inputs[1]]
        if weight.ndim == 2:
            _linear(build, node, y, weight.T, None, build.scales_of(node, 1, 1))
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
    alpha, across = a.get("alpha", 1.0), bool(a.get("transB", 0))
    weight = (weight if across else weight.T) * alpha
    scales = build.scales_of(node, 1, 0 if across else 1) if alpha == 1 else None
    y = build.new(build.shape(node))
    shift = None if bias is None else bias.reshape(-1) * a.get("beta", 1.0)
    _linear(build, node, y, weight, shift, scales)
    return y


def _linear(
    build: Builder,
    node: GraphNode,
    y: View,
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    scales: NDArray[np.float32] | None,
) -> None:
    """y = x weightᵀ + bias for weight (out, in): a 1×1 convolution of a picture one pixel wide."""

    def columns(view: View) -> View:
        frames, rows, channels = (1, *view.shape)[-3:]
        f, r, c = (0, *view.strides)[-3:]
        return replace(view, shape=(frames, channels, rows, 1), strides=(f, c, r, 0))

    x = columns(build.of(node.inputs[0]))
    bias = np.zeros(len(weight)) if bias is None else bias
    kernel = np.ascontiguousarray(weight[:, :, None, None], np.float32)
    step = Conv(x, columns(y), kernel, bias.astype(np.float32), (1, 1), (0, 0), (1, 1), 1)
    build.steps.append(replace(step, name=node.name, scales=scales))


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
    x = build.planes(build.of(node.inputs[0]))
    y = build.new(build.shape(node), x.quant if mode == "nearest" else None)
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


def _layernormalization(build: Builder, node: GraphNode) -> View:
    x, a = build.of(node.inputs[0]), node.attributes
    axis = int(a.get("axis", -1)) % len(x.shape)
    if len(node.outputs) > 1 and any(node.outputs[1:]):
        raise build.unable(node, "gives mean and deviation too")
    shape = (*x.shape[:axis], int(np.prod(x.shape[axis:])))
    rows = build.dense(x).reshaped(shape)
    assert rows is not None
    scale, *more = (build.dense(build.of(n)).reshaped(shape[-1:]) for n in node.inputs[1:] if n)
    shift = more[0] if more else build.fixed(np.zeros(shape[-1:], np.float32))
    assert scale is not None and shift is not None
    y = build.new(shape)
    build.steps.append(LayerNorm(rows, scale, shift, y, float(a.get("epsilon", 1e-5))))
    whole = y.reshaped(x.shape)
    assert whole is not None
    return whole


def _gridsample(build: Builder, node: GraphNode) -> View:
    x, grid, a = *(build.of(name) for name in node.inputs), node.attributes
    way = str(a.get("mode", "linear")), str(a.get("padding_mode", "zeros"))
    if len(x.shape) != 4 or way not in (("bilinear", "zeros"), ("linear", "zeros")):
        raise build.unable(node, f"samples {len(x.shape) - 2} axes by {' and '.join(way)}")
    if a.get("align_corners", 0):
        raise build.unable(node, "samples with aligned corners")
    y = build.new(build.shape(node))
    build.steps.append(GridSample(build.planes(x), build.dense(grid), y))
    return y


def _quantizelinear(build: Builder, node: GraphNode) -> View:
    return build.rounded(node.inputs[0], _quant(build, node))


def _dequantizelinear(build: Builder, node: GraphNode) -> View | list[View]:
    """Who reads bytes gets numbers: the same view. Of a constant its numbers, where needed."""
    name, out = node.inputs[0], node.outputs[0]
    if name not in build.folded:
        x = build.of(name)
        if x.quant != _quant(build, node):
            raise build.unable(node, "takes numbers that were quantised otherwise, or not at all")
        return x
    values, scales, zero = (build.constant(node, i) for i in range(3))
    assert values is not None and scales is not None
    shape = [1] * values.ndim
    if scales.size > 1:
        axis = int(node.attributes.get("axis", 1)) % values.ndim
        if scales.ndim > 1 or scales.size != values.shape[axis]:
            raise build.unable(node, "has a scale for each block of a constant")
        shape[axis] = -1
    whole = values.astype(np.int64)
    if zero is not None:
        whole = whole - zero.astype(np.int64).reshape(shape if zero.size > 1 else ())
    steps = scales.astype(np.float32).reshape(shape)
    build.folded[out] = whole.astype(np.float32) * steps
    if whole.min(initial=0) >= -128 and whole.max(initial=0) <= 127 and (steps > 0).all():
        build.scales[out] = steps
    return []


def _quant(build: Builder, node: GraphNode) -> Quant:
    """Of a node for 8 bits, signed or not, and one scale."""
    scale, zero = build.constant(node, 1), build.constant(node, 2)
    kind = np.uint8 if zero is None else zero.dtype
    if scale is None or scale.size != 1 or (zero is not None and zero.size != 1):
        raise build.unable(node, "has several scales for what is computed")
    if kind not in (np.int8, np.uint8) or (zero is None and node.attributes.get("output_dtype")):
        raise build.unable(node, f"quantises to {kind}, neither int8 nor uint8")
    first = 0 if zero is None else int(zero.reshape(()))
    # unsigned: the same bytes, 128 lower
    return Quant(float(scale.reshape(())), first - 128 * (kind == np.uint8))


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
    "Sqrt": partial(_unary, kind="sqrt"),
    "Erf": partial(_unary, kind="erf"),
    "HardSigmoid": partial(_unary, kind="hardsigmoid", p=0.2, q=0.5),
    "HardSwish": partial(_unary, kind="hardsilu", p=1 / 6, q=0.5),
    "Clip": _clip,
    "Softmax": _softmax,
    "LayerNormalization": _layernormalization,
    "GridSample": _gridsample,
    "QuantizeLinear": _quantizelinear,
    "DequantizeLinear": _dequantizelinear,
    "Add": partial(_binary, op="add"),
    "Sub": partial(_binary, op="sub"),
    "Mul": partial(_binary, op="mul"),
    "Div": partial(_binary, op="div"),
    "Pow": _pow,
    "Identity": layout.identity,
    "Reshape": layout.reshape,
    "Flatten": layout.reshape,
    "Squeeze": layout.reshape,
    "Unsqueeze": layout.reshape,
    "Transpose": layout.transpose,
    "Slice": layout.sliced,
    "Split": layout.split,
    "Gather": layout.gather,
    "SpaceToDepth": layout.spacetodepth,
    "Concat": layout.concat,
}
