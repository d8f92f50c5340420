"""Lowering of ONNX operators that only move numbers: as views, or copies where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .builder import Builder
from .ir import GraphNode, Unary, View, as_list


def identity(build: Builder, node: GraphNode) -> View:
    return build.of(node.inputs[0])


def reshape(build: Builder, node: GraphNode) -> View:
    x = build.of(node.inputs[0])
    view = x.reshaped(build.shape(node))
    if view is None:
        view = build.dense(x).reshaped(build.shape(node))
        assert view is not None
    return view


def transpose(build: Builder, node: GraphNode) -> View:
    x = build.of(node.inputs[0])
    return x.permuted(node.attributes.get("perm", list(reversed(range(len(x.shape))))))


def sliced(build: Builder, node: GraphNode) -> View:
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


def split(build: Builder, node: GraphNode) -> list[View]:
    x, a = build.of(node.inputs[0]), node.attributes
    axis = int(a.get("axis", 0)) % len(x.shape)
    sizes = [build.graph.shapes[name][axis] for name in node.outputs]
    starts = np.cumsum([0, *sizes[:-1]])
    return [x.sliced(axis, int(s), n) for s, n in zip(starts, sizes, strict=True)]


def gather(build: Builder, node: GraphNode) -> View:
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
    y = build.new(build.shape(node), x.quant)
    if index.ndim != 1:
        raise build.unable(node, "gathers with a table")
    for place, start, count, step in _runs(as_list(index)):
        part = x.sliced(axis, start, count, step)
        build.steps.append(Unary(part, y.sliced(axis, place, count)))
    return y


def spacetodepth(build: Builder, node: GraphNode) -> View:
    x, size = build.of(node.inputs[0]), int(node.attributes["blocksize"])
    n, c, h, w = x.shape
    view = x.reshaped((n, c, h // size, size, w // size, size))
    assert view is not None
    view = view.permuted([0, 3, 5, 1, 2, 4])
    whole = build.copied(view, view.quant).reshaped(build.shape(node))
    assert whole is not None
    return whole


def concat(build: Builder, node: GraphNode) -> View:
    parts = [build.of(name) for name in node.inputs]
    alike = {x.quant for x in parts}
    y = build.new(build.shape(node), alike.pop() if len(alike) == 1 else None)
    axis = int(node.attributes["axis"]) % len(y.shape)
    start = 0
    for x in parts:
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
