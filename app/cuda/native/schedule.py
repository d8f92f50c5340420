"""What goes together in a launch, in which order, and where each buffer lies meanwhile."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from .autotune import parts_for, shared_sums
from .ir import Conv, Step, may_overlap, reads, writes
from .lower import Program

ALIGNMENT = 256  # bytes: what vector loads and tensor cores want
MOST = 16  # convolutions of a launch, as in kernels/conv.cu


def waves(program: Program) -> list[list[Step]]:
    """The steps in launches: convolutions of a kind of which none waits for another go together.

    The step with the longest way to the end is next, and all that are ready and of its kind go
    with it: the levels of a detector's head ride along with what comes before its last level.
    """
    steps = program.steps
    after: list[list[int]] = [[] for _ in steps]  # the steps that wait for each
    missing = [0] * len(steps)
    for j, step in enumerate(steps):
        for i in range(j):
            if any(may_overlap(a, b) for a in writes(steps[i]) for b in reads(step)):
                after[i].append(j)
                missing[j] += 1
    way = [0] * len(steps)
    for i in reversed(range(len(steps))):
        way[i] = 1 + max((way[j] for j in after[i]), default=0)
    ready = [i for i, count in enumerate(missing) if not count]
    order: list[list[Step]] = []
    while ready:
        ready.sort(key=lambda i: (-way[i], i))
        kind = _kind(program, steps[ready[0]])
        alike = [i for i in ready if _kind(program, steps[i]) == kind]
        now = alike[: MOST if isinstance(steps[ready[0]], Conv) else 1]
        order.append([steps[i] for i in now])
        ready = [i for i in ready if i not in now]
        for i in now:
            for j in after[i]:
                missing[j] -= 1
                if not missing[j]:
                    ready.append(j)
    return order


def _kind(program: Program, step: Step) -> Hashable:
    if not isinstance(step, Conv):
        return None
    return step.kernel, step.eight, *(v.buffer in program.half for v in (step.x, step.y))


def split(programs: Sequence[Program], multiprocessors: int) -> list[Program]:
    """The programs with ``parts`` of their convolutions filled in: as the first, for one frame,
    wants them, in all, so that a frame gets the same numbers in whatever company."""
    parts: dict[Hashable, int] = {}

    def layer(step: Conv) -> Hashable:
        return step.weight.tobytes(), step.y.shape[1:]

    for wave in waves(programs[0]):
        convolutions = [step for step in wave if isinstance(step, Conv)]
        found = parts_for(convolutions, multiprocessors) if convolutions else []
        for step, count in zip(convolutions, found, strict=True):
            parts.setdefault(layer(step), count)

    def change(step: Step) -> Step:
        if isinstance(step, Conv) and parts[layer(step)] > 1:
            return replace(step, parts=parts[layer(step)])
        return step

    return [replace(p, steps=tuple(map(change, p.steps))) for p in programs]


@dataclass(frozen=True, slots=True)
class Arena:
    """``waves``: the steps of each launch. ``offsets`` of the buffers and the ``size`` of all, in
    bytes; apart from those the buffers that are ``lasting``, of ``lasting_size``, whose contents no
    other run may touch. ``sums``: where each launch has parts of sums that blocks share;
    ``counters``: where, in what is lasting, it counts those that are there, from zeros on."""

    waves: Sequence[Sequence[Step]]
    offsets: tuple[int, ...]
    size: int
    lasting: frozenset[int]
    lasting_size: int
    sums: tuple[int, ...]
    counters: int


def plan(program: Program) -> Arena:
    """Largest buffers first, each at the lowest place that is free while it lives.

    The input and the outputs live throughout. Constants lie elsewhere, with the weights.
    """
    order = waves(program)
    last = len(order)
    born = [last] * len(program.buffers)
    died = [-1] * len(program.buffers)
    for i, wave in enumerate(order):
        for view in (view for step in wave for view in (*writes(step), *reads(step))):
            born[view.buffer] = min(born[view.buffer], i)
            died[view.buffer] = max(died[view.buffer], i)
    for buffer in {program.input.buffer, *(v.buffer for v in program.outputs)}:
        born[buffer], died[buffer] = 0, last
    lasting = frozenset(step.y.buffer for step in program.once)
    for buffer in (*program.constants, *lasting):
        died[buffer] = -1
    sizes = [_rounded(n * program.itemsize(b)) for b, n in enumerate(program.buffers)]
    shared = [shared_sums([s for s in wave if isinstance(s, Conv)]) for wave in order]
    sizes += [_rounded(4 * floats) for floats, _ in shared]
    born += range(last)
    died += [i if floats else -1 for i, (floats, _) in enumerate(shared)]
    placed: list[int] = []
    offsets = [0] * len(sizes)
    for b in sorted(range(len(sizes)), key=lambda b: -sizes[b]):
        if died[b] < born[b]:
            continue  # fused away, or not here
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
    end = 0
    for b in sorted(lasting):
        offsets[b], end = end, end + sizes[b]
    counters = end
    end += _rounded(4 * max((blocks for _, blocks in shared), default=0))
    count = len(program.buffers)
    places = tuple(offsets[:count]), size, lasting, end, tuple(offsets[count:]), counters
    return Arena(order, *places)


def _rounded(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT
