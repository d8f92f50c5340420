"""8 bits: what numbers become, and steps fused across a rounding.

A file with QuantizeLinear and DequantizeLinear rounds nearly every tensor. What is done to a number
after that, element by element, is one of 256 results: a table, looked up where the number arises.
So a convolution with its SiLU, rounded three times, stays one launch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import erf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ir import (
    NOTHING,
    Activation,
    Binary,
    Conv,
    Pool,
    Quant,
    Resize,
    Shape,
    Step,
    Table,
    Unary,
    View,
    reads,
    with_views,
    writes,
)

Floats = NDArray[np.float32]
OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
}


def to_bytes(values: Floats, quant: Quant) -> NDArray[np.int8]:
    """As QuantizeLinear: rounded half to even, cut off where no byte is left."""
    steps = np.rint(values / np.float32(quant.scale)) + np.float32(quant.zero)
    return np.asarray(np.clip(np.nan_to_num(steps, nan=-128), -128, 127), np.int8)


def from_bytes(values: NDArray[np.int8], quant: Quant) -> Floats:
    """As DequantizeLinear."""
    steps = values.astype(np.float32) - np.float32(quant.zero)
    return np.asarray(steps * np.float32(quant.scale), np.float32)


def rounded(values: Floats, quant: Quant | None) -> Floats:
    """What is read of numbers that were written so."""
    return values if quant is None else from_bytes(to_bytes(values, quant), quant)


def all_values(quant: Quant) -> Floats:
    """(256,): of each byte."""
    return from_bytes(np.arange(-128, 128).astype(np.int8), quant)


def activated(v: Floats, activation: Activation) -> Floats:
    """As ``activate`` of kernels/conv_int8.cu."""
    kind, p, q = activation
    ways: Mapping[str, Callable[[], Any]] = {
        "none": lambda: v,
        "clip": lambda: np.clip(v, p, q),
        "leaky": lambda: np.where(v >= 0, v, v * np.float32(p)),
        "exp": lambda: np.exp(v),
        "sigmoid": lambda: 1 / (1 + np.exp(-v)),
        "silu": lambda: v / (1 + np.exp(-v)),
        "hardsigmoid": lambda: np.clip(v * np.float32(p) + np.float32(q), 0, 1),
        "hardsilu": lambda: v * np.clip(v * np.float32(p) + np.float32(q), 0, 1),
        "erf": lambda: [erf(x) for x in v],
        "sqrt": lambda: np.sqrt(v),
    }
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(ways[kind](), np.float32)


def looked_up(values: Floats, table: Table | None) -> Floats:
    """What comes out of a table."""
    if table is None:
        return values
    return np.asarray(table.values[to_bytes(values, table.quant).astype(int) + 128])


def fold(steps: Sequence[Step], kept: set[int]) -> list[Step]:
    """Element by element steps of rounded numbers become tables of what rounds them.

    ``kept``: buffers that are outputs.
    """
    steps, before = list(steps), -1
    while len(steps) != before:  # what was refused before may be possible now
        i, before = 0, len(steps)
        while i < len(steps):
            change = _paired(steps, i, kept) or _taken_in(steps, i, kept)
            steps, i = (change, i) if change else (steps, i + 1)
    return steps


def _users(steps: Sequence[Step], buffer: int) -> list[Step]:
    return [step for step in steps for view in reads(step) if view.buffer == buffer]


def _maker(steps: Sequence[Step], view: View) -> Step | None:
    """The only step that writes to its buffer, if it writes this view."""
    makers = [step for step in steps if step.y.buffer == view.buffer]
    return makers[0] if len(makers) == 1 and makers[0].y == view else None


def _result(step: Unary, values: Floats) -> Floats:
    return looked_up(activated(values, step.activation), step.table)


def _paired(steps: Sequence[Step], i: int, kept: set[int]) -> list[Step] | None:
    """Step i is of a rounded tensor and of another that was made from it, as x · sigmoid(x)."""
    step = steps[i]
    if not isinstance(step, Binary):
        return None
    for a, b in ((step.a, step.b), (step.b, step.a)):
        other = _maker(steps, b)
        made = isinstance(other, Unary) and other.x == a
        if a.quant is None or not (made or a == b):
            continue
        first = second = all_values(a.quant)
        if isinstance(other, Unary) and a != b:
            second = rounded(_result(other, first), b.quant)
        pair = (first, second) if a == step.a else (second, first)
        with np.errstate(all="ignore"):
            values = activated(OPERATORS[step.op](*pair), step.activation)
        one = Unary(a, step.y, table=Table(a.quant, looked_up(values, step.table)))
        changed = [one if s is step else s for s in steps]
        idle = other is not None and not _users(changed, b.buffer) and b.buffer not in kept
        return [s for s in changed if s is not other] if made and idle else changed
    return None


def _taken_in(steps: Sequence[Step], i: int, kept: set[int]) -> list[Step] | None:
    """Step i takes in the only one that reads what it rounds."""
    step = steps[i]
    if not isinstance(step, Conv | Binary | Unary) or step.y.quant is None or step.y.buffer in kept:
        return None
    users = _users(steps, step.y.buffer)
    if len(users) != 1 or _maker(steps, step.y) is not step:
        return None
    if isinstance(step, Conv) and (not step.int8 or step.late or step.also is not None):
        return None
    (user,) = users
    if step.table is None:
        table = Table(step.y.quant, all_values(step.y.quant))
    else:
        table = replace(step.table, values=rounded(step.table.values, step.y.quant))
    one: Step | None = None
    if isinstance(user, Unary) and user.x == step.y and _lies_well(step, user.y):
        one = replace(step, y=user.y, table=replace(table, values=_result(user, table.values)))
    elif isinstance(user, Binary) and isinstance(step, Conv) and step.added is None:
        one = _summed(steps, i, user, table)
    if one is None:
        return None
    return [one if s is step else s for s in steps if s is not user]


def _lies_well(step: Step, y: View) -> bool:
    return not isinstance(step, Conv) or (y.shape == step.y.shape and y.raster)


def _summed(steps: Sequence[Step], i: int, user: Binary, table: Table) -> Step | None:
    """Convolution i, which then adds what was there before it."""
    step = steps[i]
    assert isinstance(step, Conv)
    if user.op != "add" or user.activation != NOTHING or user.table or user.a == user.b:
        return None
    other = user.b if user.a == step.y else user.a
    ready = not any(view.buffer == other.buffer for s in steps[i:] for view in writes(s))
    if step.y not in (user.a, user.b) or not ready or not _lies_well(step, user.y):
        return None
    if len(other.shape) != 4 or other.shape != user.y.shape or not other.raster:
        return None
    return replace(step, y=user.y, added=other, late=True, table=table)


def takes_bytes(step: Step) -> bool:
    """Whether the kernel of a step reads and writes bytes as they come, or needs none."""
    if isinstance(step, Unary | Binary) or (isinstance(step, Conv) and step.int8):
        return True
    if (isinstance(step, Pool) and step.kind == "max") or (
        isinstance(step, Resize) and not step.linear
    ):
        return step.x.quant == step.y.quant  # bytes as they are
    return not in_bytes(step)


def in_bytes(step: Step) -> bool:
    """Whether any of a step's tensors holds bytes, or it rounds to them in between."""
    parts = (getattr(step, name) for name in step.__slots__)
    return any(isinstance(p, Table) or (isinstance(p, View) and p.quant) for p in parts)


def settle(steps: Sequence[Step], new: Callable[[Shape], View]) -> list[Step]:
    """Conversions around the steps whose kernels know no bytes. ``new`` makes a tensor."""
    settled: list[Step] = []
    plain: dict[View, View] = {}  # converted once for all that read them
    for step in steps:
        if takes_bytes(step):
            settled.append(step)
            continue
        for view in reads(step):
            if view.quant is not None and view not in plain:
                plain[view] = new(view.shape)
                settled.append(Unary(view, plain[view]))
        after = [Unary(new(step.y.shape), step.y)] if step.y.quant is not None else []
        changes = plain | {unary.y: unary.x for unary in after}
        settled.append(with_views(step, lambda view, changes=changes: changes.get(view, view)))
        settled += after
    return settled
