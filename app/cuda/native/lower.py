"""Lowers a graph to steps, and decides which tensors may be half precision.

What the engine lacks is an error that names the node and another engine.

Tensor cores multiply halves and sum in float32. After the last convolutions the numbers become
boxes and scores: a half between 256 and 512 is only good to a quarter of a pixel, so what they give
and all that follows stays float32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ModelError
from .fuse import fuse_activations, write_in_place
from .ir import Conv, Graph, Step, Unary, View, reads, row_major, with_views
from .operators import ARITHMETIC, LAYOUT, Builder

MOST_ELEMENTS = 2**31 - 1  # of a tensor: kernels count in int
NODES = {**ARITHMETIC, **LAYOUT}


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
