"""Lowers a graph to fused steps, and decides which tensors may be half precision.

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
from .builder import Builder
from .fuse import fuse
from .ir import (
    Conv,
    Graph,
    GridSample,
    LayerNorm,
    Softmax,
    Step,
    Unary,
    View,
    moved,
    reads,
    row_major,
    with_views,
    writes,
)
from .operators import NODES
from .quantise import fold, in_bytes, settle

MOST_ELEMENTS = 2**31 - 1  # of a tensor: kernels count in int


@dataclass(frozen=True, slots=True)
class Program:
    """Steps in order; ``buffers``: sizes in elements; ``constants``: contents of some buffers.

    ``half``: the buffers in half precision, ``int8`` those of bytes; the others are float32.
    ``once``: what writes the parts of outputs that are the same for every frame.
    """

    steps: tuple[Step, ...]
    buffers: tuple[int, ...]
    constants: dict[int, NDArray[np.float32]]
    input: View
    outputs: tuple[View, ...]
    half: frozenset[int] = frozenset()
    once: tuple[Step, ...] = ()
    int8: frozenset[int] = frozenset()

    def itemsize(self, buffer: int) -> int:
        """Bytes of an element."""
        return 1 if buffer in self.int8 else 2 if buffer in self.half else 4


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
    last = [builder.of(name) for name in graph.outputs]
    outputs = [builder.copied(view) if view.quant else builder.dense(view) for view in last]
    kept = {view.buffer for view in outputs}
    steps = fold(settle(fuse(builder.steps, kept), builder.new), kept)
    views = [view for step in steps for view in (*writes(step), *reads(step))]
    once = [
        s.y.buffer in kept and all(v.buffer in builder.constants for v in reads(s)) for s in steps
    ]
    return Program(
        tuple(step for step, first in zip(steps, once, strict=True) if not first),
        tuple(builder.buffers),
        builder.constants,
        builder.views[graph.input],
        tuple(outputs),
        once=tuple(step for step, first in zip(steps, once, strict=True) if first),
        int8=frozenset(view.buffer for view in views if view.quant is not None),
    )


def halved(program: Program) -> Program:
    """The program with ``half`` filled in, conversions where float32 begins, channels last."""
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
        if step.y.buffer in half or in_bytes(step):
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
    changed = replace(
        program, steps=tuple(steps), buffers=tuple(buffers), outputs=outputs, half=frozenset(half)
    )
    return channels_last(changed)


def channels_last(program: Program) -> Program:
    """The channels of a pixel side by side, in the buffers of planes that lie between the input and
    the outputs: a convolution then reads 8 of them at once."""
    fixed = {program.input.buffer, *(v.buffer for v in program.outputs), *program.constants}
    seen: dict[int, list[View]] = {}  # of each buffer first a view that writes it
    for step in (*program.once, *program.steps):
        for view in (*writes(step), *reads(step)):
            seen.setdefault(view.buffer, []).append(view)
            if isinstance(step, Softmax | LayerNorm):
                fixed.add(view.buffer)
        if isinstance(step, GridSample):
            fixed.add(step.grid.buffer)
    targets: dict[int, tuple[View, View]] = {}  # the whole buffer, as it lies and as it shall lie
    for buffer in (program.half | program.int8).intersection(seen) - fixed:
        if any(len(view.shape) != 4 for view in seen[buffer]):
            continue
        frames, _, h, w = seen[buffer][0].shape
        channels = program.buffers[buffer] // (frames * h * w)
        shape = frames, channels, h, w
        whole = replace(seen[buffer][0], shape=shape, strides=row_major(shape), offset=0)
        last = frames, h, w, channels
        target = replace(whole, shape=last, strides=row_major(last)).permuted([0, 3, 1, 2])
        alike = all(v.shape[2:] == (h, w) and moved(v, whole, target) for v in seen[buffer])
        if channels % 8 == 0 and alike:
            targets[buffer] = whole, target

    def change(view: View) -> View:
        return moved(view, *targets[view.buffer]) or view if view.buffer in targets else view

    steps, once = (
        tuple(with_views(step, change) for step in some) for some in (program.steps, program.once)
    )
    return replace(program, steps=steps, once=once)


def _before_convolutions(program: Program) -> set[int]:
    """The buffers that a convolution reads, at once or by way of other steps. What becomes bytes
    is not among them: halves would be rounded to other bytes now and then.

    Several steps may write one buffer, before and after its parts are read: until nothing changes.
    """
    found: set[int] = set()
    before = -1
    while before != len(found):
        before = len(found)
        for step in (*reversed(program.steps), *program.once):
            if any(view.buffer in found and view.quant is None for view in writes(step)):
                views = [*writes(step), *reads(step)]
                if isinstance(step, GridSample):
                    views.remove(step.grid)  # fractions of a pixel
                found.update(view.buffer for view in views)
            elif isinstance(step, Conv):
                found.add(step.x.buffer)
    return found - program.int8
