"""Where does each buffer lie in one block of device memory? As close as liveness allows."""

from __future__ import annotations

from dataclasses import dataclass

from app.gpu.network.lower import Program
from app.gpu.network.steps import reads

ALIGNMENT = 256  # bytes: what vector loads and tensor cores want


@dataclass(frozen=True, slots=True)
class Arena:
    """``offsets`` of the buffers and the ``size`` of all, in bytes."""

    offsets: tuple[int, ...]
    size: int


def plan(program: Program) -> Arena:
    """Largest buffers first, each at the lowest place that is free while it lives.

    The input and the outputs live throughout. Constants lie elsewhere, with the weights.
    """
    last = len(program.steps)
    born = [last] * len(program.buffers)
    died = [-1] * len(program.buffers)
    for i, step in enumerate(program.steps):
        for view in (step.y, *reads(step)):
            born[view.buffer] = min(born[view.buffer], i)
            died[view.buffer] = max(died[view.buffer], i)
    for buffer in {program.input.buffer, *(v.buffer for v in program.outputs)}:
        born[buffer], died[buffer] = 0, last
    for buffer in program.constants:
        died[buffer] = -1
    sizes = [_rounded(n * program.itemsize(b)) for b, n in enumerate(program.buffers)]
    placed: list[int] = []
    offsets = [0] * len(program.buffers)
    for b in sorted(range(len(program.buffers)), key=lambda b: -sizes[b]):
        if died[b] < born[b]:
            continue  # fused away, or a constant
        busy = sorted(
            (offsets[o], offsets[o] + sizes[o])
            for o in placed
            if born[o] <= died[b] and born[b] <= died[o]
        )
        place = 0
        for start, end in busy:
            if place + sizes[b] <= start:
                break
            place = max(place, end)
        offsets[b] = place
        placed.append(b)
    size = max((offsets[b] + sizes[b] for b in placed), default=0)
    return Arena(tuple(offsets), size)


def _rounded(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT
