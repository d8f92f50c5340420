"""The engine's steps in NumPy, plainly: what the kernels have to give."""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from app.cuda.native.ir import (
    Binary,
    Conv,
    Depthwise,
    GridSample,
    LayerNorm,
    MatMul,
    Pool,
    Resize,
    Softmax,
    Step,
    Unary,
    View,
)
from app.cuda.native.lower import Program
from app.cuda.native.schedule import waves


def run(program: Program, x: np.ndarray) -> list[np.ndarray]:
    """The outputs of a program for one input (frames,3,H,W); what was never written is NaN."""
    buffers = [np.full(n, np.nan, np.float32) for n in program.buffers]
    for index, values in program.constants.items():
        buffers[index][:] = values

    def at(view: View) -> np.ndarray:
        start = buffers[view.buffer][view.offset :]
        return as_strided(start, view.shape, [s * 4 for s in view.strides])

    at(program.input)[...] = x
    for step in (*program.once, *(step for wave in waves(program) for step in wave)):
        execute(step, at)
    return [at(view).copy() for view in program.outputs]


def execute(step: Step, at) -> None:
    """A step in the memory of which ``at`` gives views."""
    at(step.y)[...] = rounded(result(step, at), step.y.quant)
    if isinstance(step, Conv) and step.also is not None:
        ry, rx = (step.also.shape[i] // step.y.shape[i] for i in (2, 3))
        at(step.also)[...] = at(step.y).repeat(ry, axis=2).repeat(rx, axis=3)


def result(step: Step, at) -> np.ndarray:
    match step:
        case Conv():
            return convolved(step, at(step.x), None if step.added is None else at(step.added))
        case Pool():
            return pooled(step, at(step.x), at(step.y).shape)
        case Resize():
            return resized(step, at(step.x), at(step.y).shape)
        case Binary():
            a, b = at(step.a), at(step.b)
            value = {"add": a + b, "sub": a - b, "mul": a * b}.get(step.op)
            value = activated(a / b if value is None else value, step.activation)
            return tabled(value, step.table)
        case MatMul():
            return at(step.a) @ at(step.b)
        case Unary():
            return tabled(activated(at(step.x), step.activation), step.table)
        case Softmax():
            power = np.exp(at(step.x) - at(step.x).max(-1, keepdims=True))
            return power / power.sum(-1, keepdims=True)
        case LayerNorm():
            x = at(step.x)
            apart = x - x.mean(-1, keepdims=True)
            deviation = np.sqrt((apart**2).mean(-1, keepdims=True) + step.epsilon)
            return apart / deviation * at(step.scale) + at(step.shift)
        case GridSample():
            return sampled(at(step.x), at(step.grid))


def activated(v: np.ndarray, activation) -> np.ndarray:
    kind, p, q = activation
    match kind:
        case "none":
            return v
        case "clip":
            return np.clip(v, p, q)
        case "leaky":
            return np.where(v >= 0, v, v * p)
        case "exp":
            return np.exp(v)
        case "sigmoid":
            return sigmoid(v)
        case "silu":
            return v * sigmoid(v)
        case "erf":
            return np.vectorize(math.erf, otypes=[np.float32])(v)
        case "hardsigmoid":
            return np.clip(v * p + q, 0, 1)
        case "hardsilu":
            return v * np.clip(v * p + q, 0, 1)
        case "sqrt":
            return np.sqrt(v)
    raise ValueError(kind)


def bytes_of(v: np.ndarray, quant) -> np.ndarray:
    return np.clip(np.round(v / np.float32(quant.scale)) + quant.zero, -128, 127)


def rounded(v: np.ndarray, quant) -> np.ndarray:
    """To what bytes stand for; they lie here as floats."""
    if quant is None:
        return v
    return ((bytes_of(v, quant) - quant.zero) * np.float32(quant.scale)).astype(np.float32)


def tabled(v: np.ndarray, table) -> np.ndarray:
    return v if table is None else table.values[bytes_of(v, table.quant).astype(int) + 128]


def sigmoid(v: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-v))


def windows(x, y_shape, *, kernel, stride, pad, fill, dilation=(1, 1)) -> np.ndarray:
    """(frames, C, oh, ow, kh, kw) of (frames,C,H,W)."""
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    after = [
        max(0, (y_shape[2 + i] - 1) * stride[i] + spans[i] - x.shape[2 + i] - pad[i])
        for i in (0, 1)
    ]
    edges = ((0, 0), (0, 0), (pad[0], after[0]), (pad[1], after[1]))
    padded = np.pad(x, edges, constant_values=fill)
    view = sliding_window_view(padded, spans, axis=(2, 3))
    view = view[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    return view[:, :, : y_shape[2], : y_shape[3]]


def convolved(step: Conv, x: np.ndarray, added: np.ndarray | None) -> np.ndarray:
    if step.before is not None:
        x = depthwise(step.before, x, step.y.shape)
    out, per_group, kh, kw = step.weight.shape
    y_shape = step.y.shape
    view = windows(
        x,
        y_shape,
        kernel=(kh, kw),
        stride=step.stride,
        pad=step.pad,
        fill=0,
        dilation=step.dilation,
    )
    parts = []
    for g in range(step.groups):
        mine = view[:, g * per_group : (g + 1) * per_group]
        weight = step.weight[g * out // step.groups : (g + 1) * out // step.groups]
        columns = mine.transpose(0, 1, 4, 5, 2, 3).reshape(len(x), per_group * kh * kw, -1)
        parts.append(weight.reshape(len(weight), -1) @ columns)
    total = np.concatenate(parts, 1).reshape(y_shape) + step.bias[None, :, None, None]
    if added is not None and not step.late:
        total = total + added
    total = tabled(activated(total, step.activation), step.table)
    return total + added if step.late else total


def depthwise(step: Depthwise, x: np.ndarray, y_shape) -> np.ndarray:
    """Each channel convolved for itself."""
    how = {name: getattr(step, name) for name in ("stride", "pad", "dilation")}
    view = windows(x, y_shape, kernel=step.weight.shape[2:], fill=0, **how)
    total = np.einsum("nchwij,cij->nchw", view, step.weight[:, 0])
    return activated(total + step.bias[None, :, None, None], step.activation)


def pooled(step: Pool, x: np.ndarray, y_shape) -> np.ndarray:
    words = {"kernel": step.kernel, "stride": step.stride, "pad": step.pad}
    if step.kind == "max":
        return windows(x, y_shape, fill=-np.inf, **words).max((4, 5))
    total = windows(x, y_shape, fill=0, **words).sum((4, 5))
    if step.counted:
        return total / np.prod(step.kernel)
    return total / windows(np.ones_like(x), y_shape, fill=0, **words).sum((4, 5))


def resized(step: Resize, x: np.ndarray, y_shape) -> np.ndarray:
    if not step.linear:
        rows, columns = (
            np.arange(n) * m // n for n, m in zip(y_shape[2:], x.shape[2:], strict=True)
        )
        return x[:, :, rows][:, :, :, columns]
    value = x
    for axis in (2, 3):
        n, m = y_shape[axis], x.shape[axis]
        shift = 0.5 if step.half_pixel else 0.0
        where = np.clip((np.arange(n) + shift) * (m / n) - shift, 0, m - 1)
        low = where.astype(int)
        high = np.minimum(low + 1, m - 1)
        share = (where - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(4)])
        value = value.take(low, axis) * (1 - share) + value.take(high, axis) * share
    return value


def sampled(x: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """(frames,C,oh,ow): linear, zeros outside."""
    frames, _, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    fx, fy = (np.clip(((grid[..., k] + 1) * n - 1) / 2, -2, n + 0.5) for k, n in enumerate((w, h)))
    x0, y0 = np.floor(fx).astype(int), np.floor(fy).astype(int)
    frame = np.arange(frames)[:, None, None]

    def corner(dy, dx):
        weight = np.where(dy, fy - y0, 1 - (fy - y0)) * np.where(dx, fx - x0, 1 - (fx - x0))
        found = padded[frame, :, y0 + dy + 2, x0 + dx + 2]  # (frames,oh,ow,C)
        return (found * weight[..., None]).transpose(0, 3, 1, 2)

    return sum(corner(dy, dx) for dy in (0, 1) for dx in (0, 1))
