"""Lowers a graph to steps, fuses them, and decides which tensors may be half precision.

What the engine lacks is an error that names the node and another engine.

Tensor cores multiply halves and sum in float32. After the last convolutions the numbers become
boxes and scores: a half between 256 and 512 is only good to a quarter of a pixel, so what they give
and all that follows stays float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ModelError
from .ir import (
    NOTHING,
    Binary,
    Conv,
    Graph,
    Pool,
    Resize,
    Softmax,
    Step,
    Unary,
    View,
    reads,
    row_major,
    with_views,
)
from .operators import NODES, Builder

MOST_ELEMENTS = 2**31 - 1  # of a tensor: kernels count in int


@dataclass(frozen=True, slots=True)
class Program:
    """Steps in order; ``buffers``: sizes in elements; ``constants``: contents of some buffers.

    ``half``: the buffers in half precision; the others are float32.
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
    builder = Builder(graph)
    for node in graph.nodes:
        if node.op not in NODES:
            raise builder.unable(node, "has no kernel")
        made = NODES[node.op](builder, node)
        builder.note(node, made if isinstance(made, list) else [made])
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


def halved(program: Program) -> Program:
    """The program with ``half`` filled in, and conversions where float32 begins."""
    half = _before_convolutions(program)
    buffers = list(program.buffers)
    steps: list[Step] = []
    converted: dict[View, View] = {}

    def floats(view: View) -> View:
        """The same values in float32; converted once for all that read them."""
        if view.buffer not in half:
            return view
        if view not in converted:
            buffers.append(view.size)
            dense = View(len(buffers) - 1, view.shape, row_major(view.shape))
            converted[view] = dense
            steps.append(Unary(view, dense))
        return converted[view]

    for step in program.steps:
        if step.y.buffer in half:
            steps.append(step)
        elif isinstance(step, Conv):
            added = None if step.added is None else floats(step.added)
            steps.append(replace(step, added=added))
        elif isinstance(step, Unary):
            steps.append(step)  # converts as it copies
        else:
            y = step.y
            steps.append(with_views(step, lambda view, y=y: view if view is y else floats(view)))
    outputs = tuple(floats(view) for view in program.outputs)
    return replace(
        program, steps=tuple(steps), buffers=tuple(buffers), outputs=outputs, half=frozenset(half)
    )


def _before_convolutions(program: Program) -> set[int]:
    """The buffers that a convolution reads, at once or by way of other steps.

    Several steps may write one buffer, before and after its parts are read: until nothing changes.
    """
    found: set[int] = set()
    before = -1
    while before != len(found):
        before = len(found)
        for step in reversed(program.steps):
            if step.y.buffer in found:
                found.update(view.buffer for view in reads(step))
            elif isinstance(step, Conv):
                found.add(step.x.buffer)
    return found


Change = tuple[set[int], Step]  # steps to drop, and what takes the place of the one before them


def fuse_activations(steps: Sequence[Step], kept: set[int]) -> list[Step]:
    """An activation right after the only step whose result it takes moves into that step.

    SiLU comes as sigmoid and product: x · sigmoid(x). ``kept``: buffers that are outputs.
    """
    steps, before = list(steps), -1
    while len(steps) != before:  # what was refused before may be possible now
        i, before = 0, len(steps)
        while i < len(steps):
            if change := _fusion(steps, i, kept):
                gone, steps[i] = change
                steps = [step for j, step in enumerate(steps) if j not in gone]
            else:
                i += 1
    return steps


def _fusion(steps: Sequence[Step], i: int, kept: set[int]) -> Change | None:
    """What step i can take in of the steps after it."""
    mine = steps[i].y.buffer
    if not isinstance(steps[i], Conv | Binary) or mine in kept or len(_makers(steps, mine)) != 1:
        return None
    match _users(steps, mine):
        case [after]:
            return _activate(steps, i, after) or _add_to(steps, i, after)
        case [first, second]:
            return _silu(steps, i, first, second)
    return None


def _users(steps: Sequence[Step], buffer: int) -> list[int]:
    """The steps that read a buffer, as often as they do."""
    return [j for j, step in enumerate(steps) for v in reads(step) if v.buffer == buffer]


def _makers(steps: Sequence[Step], buffer: int) -> list[int]:
    return [j for j, step in enumerate(steps) if step.y.buffer == buffer]


def _activate(steps: Sequence[Step], i: int, j: int) -> Change | None:
    """Step j is an activation of step i's result."""
    step, unary = steps[i], steps[j]
    if not isinstance(step, Conv | Binary) or not isinstance(unary, Unary):
        return None
    free = step.activation == NOTHING and not getattr(step, "late", False)
    whole = unary.x == step.y and unary.activation != NOTHING and unary.y.contiguous
    if not (free and whole and unary.y.shape == step.y.shape):
        return None
    return {j}, replace(step, y=unary.y, activation=unary.activation)


def _add_to(steps: Sequence[Step], i: int, j: int) -> Change | None:
    """Step j adds something, which is there already, to the result of convolution i."""
    step, sum_ = steps[i], steps[j]
    if not isinstance(step, Conv) or step.added is not None or not isinstance(sum_, Binary):
        return None
    if sum_.op != "add" or step.y not in (sum_.a, sum_.b) or sum_.a == sum_.b:
        return None
    other = sum_.b if sum_.a == step.y else sum_.a
    ready = max(_makers(steps, other.buffer), default=-1) < i
    if not (
        ready and other.frames_contiguous and sum_.y.contiguous and other.shape == step.y.shape
    ):
        return None
    late = step.activation != NOTHING
    if late and sum_.activation != NOTHING:
        return None
    activation = step.activation if late else sum_.activation
    return {j}, replace(step, y=sum_.y, added=other, late=late, activation=activation)


def _silu(steps: Sequence[Step], i: int, j: int, k: int) -> Change | None:
    """x · sigmoid(x) of step i's result x, in two steps."""
    step, first, second = steps[i], steps[j], steps[k]
    if not isinstance(step, Conv | Binary) or step.activation != NOTHING:
        return None
    if not isinstance(first, Unary) or not isinstance(second, Binary) or second.op != "mul":
        return None
    kind, p, q = first.activation
    names = {"sigmoid": "silu", "hardsigmoid": "hardsilu"}
    alone = _users(steps, first.y.buffer) == [k] and second.activation == NOTHING
    pair = (second.a, second.b) in ((step.y, first.y), (first.y, step.y))
    if kind not in names or not alone or not pair or not second.y.contiguous:
        return None
    return {j, k}, replace(step, y=second.y, activation=(names[kind], p, q))


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
            source, y = copy.x, copy.y
            steps = [
                with_views(step, lambda view, s=source, y=y: y if view == s else view)
                for step in steps
                if step is not copy
            ]
        else:
            i += 1
    return steps


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
