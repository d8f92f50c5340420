"""Which tensors may be half precision? All from which a convolution is still to come.

Tensor cores multiply halves and sum in float32. After the last convolutions the numbers become
boxes and scores: a half between 256 and 512 is only good to a quarter of a pixel, so what they give
and all that follows stays float32.
"""

from __future__ import annotations

from dataclasses import replace

from app.gpu.network.lower import Program
from app.gpu.network.steps import Conv, Step, Unary, View, reads, row_major, with_views


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
