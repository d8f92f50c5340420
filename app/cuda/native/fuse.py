"""Fusion: activations and copies move into the step before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .ir import (
    NOTHING,
    Binary,
    Conv,
    Pool,
    Resize,
    Softmax,
    Step,
    Unary,
    reads,
    with_views,
)

Users = dict[int, list[int]]  # of a buffer: the steps that read it, or that write it
Change = tuple[set[int], dict[int, Step]]  # steps to drop, steps to replace


def fuse_activations(steps: Sequence[Step], kept: set[int]) -> list[Step]:
    """An activation right after the only step whose result it takes moves into that step.

    SiLU comes as sigmoid and product: x · sigmoid(x). ``kept``: buffers that are outputs.
    """
    steps = list(steps)
    while True:
        users: Users = {}
        makers: Users = {}
        for i, step in enumerate(steps):
            for view in reads(step):
                users.setdefault(view.buffer, []).append(i)
            makers.setdefault(step.y.buffer, []).append(i)
        change = _one_fusion(steps, users, makers, kept)
        if change is None:
            return steps
        gone, new = change
        for i, step in new.items():
            steps[i] = step
        steps = [step for i, step in enumerate(steps) if i not in gone]


def _one_fusion(
    steps: Sequence[Step], users: Users, makers: Users, kept: set[int]
) -> Change | None:
    """The first change that can be made."""
    for i, step in enumerate(steps):
        if not isinstance(step, Conv | Binary):
            continue
        mine = step.y.buffer
        if mine in kept or len(makers[mine]) != 1:
            continue
        after = users.get(mine, [])
        change = None
        if len(after) == 1:
            change = _activate(steps, i, after[0]) or _add_to(steps, i, after[0], makers)
        elif len(after) == 2:
            change = _silu(steps, i, after, users)
        if change is not None:
            return change
    return None


def _activate(steps: Sequence[Step], i: int, j: int) -> Change | None:
    """Step j is an activation of step i's result."""
    step, unary = steps[i], steps[j]
    if not isinstance(step, Conv | Binary) or not isinstance(unary, Unary):
        return None
    free = step.activation == NOTHING and not getattr(step, "late", False)
    whole = unary.x == step.y and unary.activation != NOTHING and unary.y.contiguous
    if not (free and whole and unary.y.shape == step.y.shape):
        return None
    return {j}, {i: replace(step, y=unary.y, activation=unary.activation)}


def _add_to(steps: Sequence[Step], i: int, j: int, makers: Users) -> Change | None:
    """Step j adds something, which is there already, to the result of convolution i."""
    step, sum_ = steps[i], steps[j]
    if not isinstance(step, Conv) or step.added is not None or not isinstance(sum_, Binary):
        return None
    if sum_.op != "add" or step.y not in (sum_.a, sum_.b) or sum_.a == sum_.b:
        return None
    other = sum_.b if sum_.a == step.y else sum_.a
    ready = max(makers.get(other.buffer, [-1])) < i
    if not (
        ready and other.frames_contiguous and sum_.y.contiguous and other.shape == step.y.shape
    ):
        return None
    late = step.activation != NOTHING
    if late and sum_.activation != NOTHING:
        return None
    activation = step.activation if late else sum_.activation
    return {j}, {i: replace(step, y=sum_.y, added=other, late=late, activation=activation)}


def _silu(steps: Sequence[Step], i: int, after: list[int], users: Users) -> Change | None:
    """x · sigmoid(x) of step i's result x, in two steps."""
    step, first, second = steps[i], steps[after[0]], steps[after[1]]
    if not isinstance(step, Conv | Binary) or step.activation != NOTHING:
        return None
    if not isinstance(first, Unary) or not isinstance(second, Binary) or second.op != "mul":
        return None
    kind, p, q = first.activation
    names = {"sigmoid": "silu", "hardsigmoid": "hardsilu"}
    alone = users[first.y.buffer] == [after[1]] and second.activation == NOTHING
    pair = (second.a, second.b) in ((step.y, first.y), (first.y, step.y))
    if kind not in names or not alone or not pair or not second.y.contiguous:
        return None
    return set(after), {i: replace(step, y=second.y, activation=(names[kind], p, q))}


def write_in_place(steps: Sequence[Step], kept: set[int]) -> list[Step]:
    """A plain copy of a whole result: let its maker write to where the copy goes.

    So concatenation costs nothing where a part has one maker and all that touch it can do with the
    gaps.
    """
    steps = list(steps)
    i = 0
    while i < len(steps):
        copy = steps[i]
        if isinstance(copy, Unary) and copy.activation == NOTHING and _may_move(steps, copy, kept):
            steps = [_moved(step, copy) for step in steps if step is not copy]
        else:
            i += 1
    return steps


def _moved(step: Step, copy: Unary) -> Step:
    """The step, working where the copy would have put its result."""
    moved: Step = with_views(step, lambda view: copy.y if view == copy.x else view)
    return moved


def _may_move(steps: Sequence[Step], copy: Unary, kept: set[int]) -> bool:
    """Whether one step makes what is copied, and it and all readers can do with the new strides."""
    source, y = copy.x, copy.y
    others = [s for s in steps if s is not copy]
    makers = [s for s in others if s.y.buffer == source.buffer]
    if len(makers) != 1 or makers[0].y != source or source.buffer in kept:
        return False
    planes = len(y.shape) == 4 and y.strides[3] in (0, 1) and y.strides[2] in (0, y.shape[3])
    for step in others:
        seen = [v for v in (step.y, *reads(step)) if v.buffer == source.buffer]
        if any(v != source for v in seen):
            return False
        needs_planes = isinstance(step, Conv | Pool | Resize)
        if seen and (isinstance(step, Softmax) or (needs_planes and not planes)):
            return False
    return True
