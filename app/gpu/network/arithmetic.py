"""Which steps compute a convolution, a pooling, an activation or another node of arithmetic?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from app.gpu.network.builder import Builder, Handler
from app.gpu.network.graph import Node
from app.gpu.network.steps import (
    Activation,
    Binary,
    Conv,
    Pool,
    Resize,
    Shape,
    Softmax,
    Unary,
    View,
)


def _conv(build: Builder, node: Node) -> View:
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


def _pool(build: Builder, node: Node, kind: str) -> View:
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


def _globalaveragepool(build: Builder, node: Node) -> View:
    x, y = build.planes(build.of(node.inputs[0])), build.new(build.shape(node))
    build.steps.append(Pool(x, y, "mean", x.shape[2:], (1, 1), (0, 0)))  # type: ignore[arg-type]
    return y


def _resize(build: Builder, node: Node) -> View:
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


def _unary(build: Builder, node: Node, activation: Activation) -> View:
    x, y = build.of(node.inputs[0]), build.new(build.shape(node))
    build.steps.append(Unary(x, y, activation))
    return y


def _leakyrelu(build: Builder, node: Node) -> View:
    return _unary(build, node, ("leaky", float(node.attributes.get("alpha", 0.01)), 0.0))


def _hardsigmoid(build: Builder, node: Node) -> View:
    a = node.attributes
    return _unary(
        build, node, ("hardsigmoid", float(a.get("alpha", 0.2)), float(a.get("beta", 0.5)))
    )


def _clip(build: Builder, node: Node) -> View:
    low, high = build.constant(node, 1), build.constant(node, 2)
    a = node.attributes
    least = a.get("min", float("-inf")) if low is None else low
    most = a.get("max", float("inf")) if high is None else high
    return _unary(build, node, ("clip", float(least), float(most)))


def _binary(build: Builder, node: Node, op: str) -> View:
    y = build.new(build.shape(node))
    a, b = (build.of(name).broadcast(y.shape) for name in node.inputs)
    build.steps.append(Binary(a, b, y, op))
    return y


def _batchnormalization(build: Builder, node: Node) -> View:
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


def _softmax(build: Builder, node: Node) -> View:
    x = build.of(node.inputs[0])
    axis = int(node.attributes.get("axis", -1)) % len(x.shape)
    order = [i for i in range(len(x.shape)) if i != axis] + [axis]
    x = build.dense(x.permuted(order))
    y = build.new(x.shape)
    build.steps.append(Softmax(x, y))
    return y.permuted([order.index(i) for i in range(len(order))])


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


# by their names in ONNX
ARITHMETIC: Mapping[str, Handler] = {
    "Conv": _conv,
    "BatchNormalization": _batchnormalization,
    "MaxPool": partial(_pool, kind="max"),
    "AveragePool": partial(_pool, kind="mean"),
    "GlobalAveragePool": _globalaveragepool,
    "Resize": _resize,
    "Upsample": _resize,
    "Relu": partial(_unary, activation=("clip", 0.0, float("inf"))),
    "LeakyRelu": _leakyrelu,
    "Sigmoid": partial(_unary, activation=("sigmoid", 0.0, 0.0)),
    "Exp": partial(_unary, activation=("exp", 0.0, 0.0)),
    "HardSigmoid": _hardsigmoid,
    "HardSwish": partial(_unary, activation=("hardsilu", 1 / 6, 0.5)),
    "Clip": _clip,
    "Softmax": _softmax,
    "Add": partial(_binary, op="add"),
    "Sub": partial(_binary, op="sub"),
    "Mul": partial(_binary, op="mul"),
    "Div": partial(_binary, op="div"),
}
