"""Fuses steps, so that a frame takes few launches and few passes over memory.

Activations, sums, depthwise convolutions and nearest enlargements become part of a convolution;
copies vanish where what they copy can be made in its place at once. Where numbers are rounded to 8
bits in between, nothing is left out that changes what they are rounded to (quantise.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .ir import (
    NOTHING,
    Binary,
    Conv,
    Depthwise,
    GridSample,
    LayerNorm,
    Pool,
    Resize,
    Softmax,
    Step,
    Unary,
    View,
    moved,
    reads,
    with_views,
    writes,
)
from .quantise import fold

WIDEST = 256  # output channels of a convolution that takes in a depthwise one: each tile of them
# computes that anew
BEFORE = ("none", "clip", "silu", "hardsilu")  # activations in between that the kernel has
APART = ("sqrt",)  # that no convolution has


def fuse(steps: Sequence[Step], kept: set[int]) -> list[Step]:
    """The same results in fewer steps. ``kept``: buffers that are outputs."""
    steps = fuse_depthwise(fuse_activations(steps, kept), kept)
    before = -1
    while before != len(steps):
        before = len(steps)
        steps = read_at_origin(join_copies(steps), kept)
        steps = fold(spread(write_in_place(steps, kept), kept), kept)
    return fuse_focus(enlarge(steps), kept)


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
    if steps[i].y.quant is not None:
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
    free = free and not (isinstance(step, Conv) and unary.activation[0] in APART)
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


def fuse_depthwise(steps: Sequence[Step], kept: set[int]) -> list[Step]:
    """A depthwise 3×3 convolution that only a dense 1×1 one reads becomes part of it."""
    gone: set[int] = set()
    fused = list(steps)
    for j, step in enumerate(steps):
        if not isinstance(step, Conv) or step.groups > 1 or len(step.weight) > WIDEST:
            continue
        if step.weight.shape[2:] != (1, 1) or step.stride != (1, 1) or step.pad != (0, 0):
            continue
        mine = step.x.buffer
        makers = _makers(steps, mine)
        if len(makers) != 1 or mine in kept or _users(steps, mine) != [j]:
            continue
        first = steps[makers[0]]
        if (
            isinstance(first, Conv)
            and first.kernel == "depthwise"
            and first.added is None
            and first.weight.shape[2:] == (3, 3)
            and first.activation[0] in BEFORE
            and first.y == step.x
            and first.y.quant is None
        ):
            how = Depthwise(
                *(first.weight, first.bias, first.stride, first.pad, first.dilation),
                first.activation,
            )
            fused[j] = replace(step, x=first.x, before=how)
            gone.add(makers[0])
    return [step for i, step in enumerate(fused) if i not in gone]


def join_copies(steps: Sequence[Step]) -> list[Step]:
    """Copies of neighbouring channels to neighbouring places, one after the other, become one: both
    halves of a split tensor, of which one is also read elsewhere, can then be written in place."""
    joined: list[Step] = []
    for step in steps:
        before = joined[-1] if joined else None
        if isinstance(before, Unary) and isinstance(step, Unary):
            x, y = _neighbours(before.x, step.x), _neighbours(before.y, step.y)
            if x and y and before.copies and step.copies:
                joined[-1] = replace(step, x=x, y=y)
                continue
        joined.append(step)
    return joined


def _neighbours(a: View, b: View) -> View | None:
    """Both in one, where the channels of ``b`` follow those of ``a``."""
    if len(a.shape) != 4 or a.strides != b.strides or a.buffer != b.buffer:
        return None
    frames, channels, *hw = a.shape
    alike = b.shape == (frames, b.shape[1], *hw)
    if not alike or b.offset != a.offset + channels * a.strides[1] or not a.strides[1]:
        return None
    return replace(a, shape=(frames, channels + b.shape[1], *hw))


def read_at_origin(steps: Sequence[Step], kept: set[int]) -> list[Step]:
    """Copies of a copy take from what was copied first."""
    steps = list(steps)
    for copy in [s for s in steps if isinstance(s, Unary) and s.copies]:
        made = copy.y.buffer
        users = [steps[i] for i in _users(steps, made)]
        if made in kept or len(_makers(steps, made)) != 1 or copy.x.quant != copy.y.quant:
            continue
        if not all(isinstance(user, Unary) and moved(user.x, copy.y, copy.x) for user in users):
            continue

        def origin(view: View, copy: Unary = copy) -> View:
            return moved(view, copy.y, copy.x) or view if view.buffer == copy.y.buffer else view

        steps = [with_views(step, origin) for step in steps if step is not copy]
    return steps


def fuse_focus(steps: Sequence[Step], kept: set[int]) -> list[Step]:
    """A convolution of a picture's even and odd pixels, put side by side as channels, becomes one
    of the picture, with a larger window."""
    steps = list(steps)
    for conv in [s for s in steps if isinstance(s, Conv) and s.kernel == "dense"]:
        makers = [steps[i] for i in _makers(steps, conv.x.buffer)]
        copies = [step for step in makers if isinstance(step, Unary)]
        users = [steps[i] for i in _users(steps, conv.x.buffer)]
        side = round(len(copies) ** 0.5)
        if side < 2 or users != [conv] or conv.dilation != (1, 1) or conv.groups > 1:
            continue
        picture = _interleaved(copies, side)
        if picture is None or conv.x.buffer in kept or len(copies) != len(makers):
            continue
        if picture.quant != conv.x.quant:
            continue
        channels = picture.shape[1]
        out, _, kh, kw = conv.weight.shape
        weight = np.zeros((out, channels, kh * side, kw * side), np.float32)
        for copy in copies:
            dy, dx = divmod(copy.x.offset - picture.offset, picture.strides[2])
            first = (copy.y.offset - conv.x.offset) // conv.x.strides[1]
            part = conv.weight[:, first : first + channels]
            weight[:, :, dy::side, dx // picture.strides[3] :: side] = part
        whole = replace(
            conv,
            x=picture,
            weight=weight,
            stride=(conv.stride[0] * side, conv.stride[1] * side),
            pad=(conv.pad[0] * side, conv.pad[1] * side),
        )
        steps = [whole if s is conv else s for s in steps if not any(s is c for c in copies)]
    return steps


def _interleaved(copies: Sequence[Unary], side: int) -> View | None:
    """The picture of which these are all that lie ``side`` pixels apart; None if they are not."""
    first = min((copy.x for copy in copies), key=lambda view: view.offset)
    if len(first.shape) != 4 or not all(copy.copies for copy in copies):
        return None
    frames, channels, h, w = first.shape
    rows, columns = first.strides[2:]
    if rows % side or columns % side or rows != columns * w * side:
        return None
    strides = (*first.strides[:2], rows // side, columns // side)
    picture = replace(first, shape=(frames, channels, h * side, w * side), strides=strides)
    wanted = {
        picture.sliced(2, i, h, side).sliced(3, j, w, side)
        for i in range(side)
        for j in range(side)
    }
    return picture if {copy.x for copy in copies} == wanted else None


def write_in_place(steps: Sequence[Step], kept: set[int]) -> list[Step]:
    """A plain copy of results: let their makers write to where the copy goes.

    So concatenation costs nothing where all that touch a part can do with the gaps.
    """
    steps = list(steps)
    i = 0
    while i < len(steps):
        changed = _without_copy(steps, i, kept)
        steps, i = (changed, i) if changed is not None else (steps, i + 1)
    return steps


def _without_copy(steps: Sequence[Step], i: int, kept: set[int]) -> list[Step] | None:
    """The steps without copy i, or None where one of them could not do with the new strides."""
    copy = steps[i]
    if not isinstance(copy, Unary) or not copy.copies:
        return None
    source, target = copy.x, copy.y
    others = [*steps[:i], *steps[i + 1 :]]
    if source.buffer in kept or not _makers(others, source.buffer):
        return None
    if source.quant != target.quant and (source.quant or _users(others, source.buffer)):
        return None  # others need the numbers as they were
    changed = []
    for step in others:
        views = {v: v for v in (*writes(step), *reads(step)) if v.buffer == source.buffer}
        for view in views:
            new = moved(view, source, target)
            if new is None or isinstance(step, Softmax | LayerNorm | GridSample):
                return None
            if isinstance(step, Conv | Pool | Resize) and not new.raster:
                return None
            views[view] = new
        changed.append(with_views(step, lambda v, new=views: new.get(v, v)) if views else step)
    return changed


def spread(steps: Sequence[Step], kept: set[int]) -> list[Step]:
    """Convolutions of whose result parts of the channels go through activations or copies, each
    elsewhere: one convolution for each part, which writes there."""
    steps = list(steps)
    for buffer in {step.y.buffer for step in steps if isinstance(step, Conv)} - kept:
        makers = [steps[i] for i in _makers(steps, buffer)]
        users = [steps[i] for i in _users(steps, buffer)]
        parts = {id(maker): _parts(maker, users) for maker in makers}
        # each element goes to one user: as many are read as are made, and all find theirs
        given, taken = (
            sum(v.size for s in some for v in f(s) if v.buffer == buffer)
            for some, f in ((makers, writes), (users, reads))
        )
        if given == taken and all(parts.values()):
            parts |= {id(user): [] for user in users}
            steps = [part for step in steps for part in parts.get(id(step), [step])]
    return steps


def _parts(maker: Step, users: Sequence[Step]) -> list[Step]:
    """The convolution cut into those that write what each user would; [] if that cannot be."""
    if not isinstance(maker, Conv) or maker.groups > 1 or maker.activation != NOTHING:
        return []
    if maker.added is not None or maker.table is not None or maker.y.quant is not None:
        return []
    parts: list[Step] = []
    start, end = 0, len(maker.weight)
    while start < end:
        found = (
            (count, user, moved(maker.y.sliced(1, start, count), user.x, user.y))
            for count in range(end - start, 0, -1)
            for user in users
            if isinstance(user, Unary) and not user.table and user.activation[0] not in APART
        )
        count, user, y = next(
            (f for f in found if f[2] is not None and f[2].raster), (0, None, None)
        )
        if user is None or y is None:
            return []
        mine = slice(start, start + count)
        part = replace(maker, y=y, weight=maker.weight[mine], bias=maker.bias[mine])
        scales = None if maker.scales is None else maker.scales[mine]
        parts.append(replace(part, scales=scales, activation=user.activation))
        start += count
    return parts


def enlarge(steps: Sequence[Step]) -> list[Step]:
    """A nearest enlargement by whole numbers, or a copy, of a convolution's result: the convolution
    writes there too."""
    steps = list(steps)
    for more in [s for s in steps if isinstance(s, Resize | Unary)]:
        plain = not more.linear if isinstance(more, Resize) else more.copies
        sizes = list(zip(more.y.shape, more.x.shape, strict=True))
        if not plain or len(sizes) != 4 or not more.y.raster or any(n % m for n, m in sizes):
            continue
        if more.x.quant != more.y.quant:
            continue
        for i, maker in enumerate(steps):
            if isinstance(maker, Conv) and maker.y == more.x and maker.also is None:
                steps[i] = replace(maker, also=more.y)
                steps = [step for step in steps if step is not more]
                break
    return steps
