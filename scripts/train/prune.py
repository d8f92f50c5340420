"""Take away the channels that matter least for the time that they cost.

    python -m scripts.train.prune CHECKPOINT --data FOLDER --save 0.1 --out PRUNED.pt

A channel matters as much as the loss changes without it, to the first order and beside its mean
(Molchanov et al. 2019, "Importance estimation for neural network pruning"). Channels go in blocks
of eight, as processors compute them. The layers that read them get by regression from the channels
that stay what they knew of the others; the rest is for ``python -m scripts.train --from PRUNED.pt
--parent CHECKPOINT`` to teach.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from app.models.manifest import SHELF_DIR, read_labels
from scripts.train.checkpoint import fit, load_network, write
from scripts.train.command import guarded, parser
from scripts.train.data import read_pictures
from scripts.train.loop import Batches, Plan, losses
from scripts.train.network import Network

BLOCK = 8  # channels that ONNX Runtime computes together on AVX2
LEAST_SHARE = 0.25  # of a group's channels that stay
# Microseconds a thousand of, measured on one thread (AMD EPYC, AVX2): products of dense
# convolutions, values out of depthwise ones, values out of SiLU
DENSE_US, DEPTHWISE_US, SILU_US = 0.023, 0.52, 0.53
CLASSES_COUNT = 3.0  # times what the loss says, which is mostly about people
DAMPING = 1e-3  # of the regression, of the mean square of its inputs


@dataclass(eq=False)
class Group:
    """Channels that several layers share, all of which keep the same ones.

    ``makers``: convolutions of which they are the output. ``users``: dense convolutions that read
    them, and from which input channel on. ``matter``: of each channel, once measured.
    """

    width: int
    makers: list[str] = field(default_factory=list)
    users: list[tuple[str, int]] = field(default_factory=list)
    matter: Tensor = field(default_factory=lambda: torch.zeros(0))


def groups_of(network: Network) -> list[Group]:
    """All that can be thinned, in the order of the network."""
    layers = convolutions(network)
    values: dict[fx.Node, list[Group]] = {}
    merged: dict[Group, Group] = {}
    found: list[Group] = []

    def root(group: Group) -> Group:
        while group in merged:
            group = merged[group]
        return group

    for node in fx.symbolic_trace(network).graph.nodes:
        inputs = [values[n] for n in node.all_input_nodes if n in values]
        layer = layers.get(str(node.target)) if node.op == "call_module" else None
        if layer is not None and layer.groups > 1:
            root(inputs[0][0]).makers.append(node.target)
            values[node] = inputs[0]
        elif layer is not None:
            at = 0
            for group in inputs[0] if inputs else ():
                root(group).users.append((node.target, at))
                at += group.width
            found.append(Group(layer.out_channels, [node.target]))
            values[node] = found[-1:]
        elif node.target is torch.cat:
            values[node] = [group for channels in inputs for group in channels]
        elif node.target is operator.add and len(inputs) == 2:
            for one, other in zip(*inputs, strict=True):
                one, other = root(one), root(other)
                if one is not other:
                    one.makers += other.makers
                    one.users += other.users
                    merged[other] = one
            values[node] = inputs[0]
        elif inputs:
            values[node] = inputs[0]
    return [group for group in found if group not in merged and group.users]


def convolutions(network: Network) -> dict[str, nn.Conv2d]:
    return {n: m for n, m in network.named_modules() if isinstance(m, nn.Conv2d)}


def measure(
    network: Network, parent: Network, groups: Sequence[Group], batches: Batches, count: int
) -> dict[str, Tensor]:
    """Fill in what each channel matters over ``count`` batches.

    Returns mean products of the input channels of each user, and of a last one that is always 1.
    """
    layers = convolutions(network)
    matter: dict[str, Tensor] = {}
    products: dict[str, Tensor] = {}

    def watch(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        square = mean_products(x.detach().transpose(0, 1).flatten(1)) / count
        products[name] = products.get(name, torch.zeros_like(square)) + square
        beside = x.detach() - x.detach().mean((0, 2, 3), keepdim=True)

        def learn(gradient: Tensor) -> None:
            change = (gradient * beside).sum((2, 3)).square().sum(0)
            matter[name] = matter.get(name, torch.zeros_like(change)) + change

        x.register_hook(learn)  # type: ignore[no-untyped-call]

    users = {name for group in groups for name, _ in group.users}
    hooks = [layers[name].register_forward_pre_hook(partial(watch, name)) for name in users]
    network.requires_grad_(True)
    for step in range(count):
        pixels, targets = batches.at(step)
        loss, _ = losses(network, parent, batches.plan, pixels.requires_grad_(), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        network.zero_grad()
    for hook in hooks:
        hook.remove()
    for group in groups:
        parts = [matter[name][at : at + group.width] for name, at in group.users]
        group.matter = torch.stack(parts).sum(0)
        if ".classes." in group.makers[0]:
            group.matter *= CLASSES_COUNT
    return products


def choose(network: Network, groups: Sequence[Group], *, save: float, side: int) -> list[Tensor]:
    """The channels of each group that stay, so that a share ``save`` of the time is saved."""
    layers = convolutions(network)
    pixels = _pixels(network, side)
    maker = {name: i for i, group in enumerate(groups) for name in group.makers}
    reads: dict[str, list[int]] = {name: [] for name in layers}
    for i, group in enumerate(groups):
        for name, _ in group.users:
            reads[name].append(i)
    order = [group.matter.argsort(descending=True) for group in groups]
    widths = [group.width for group in groups]

    def cost_us(name: str) -> float:
        layer = layers[name]
        outputs = widths[maker[name]] if name in maker else layer.out_channels
        values = -(-outputs // BLOCK) * BLOCK * pixels[name] / 1000
        if layer.groups > 1:
            return values * (DEPTHWISE_US + SILU_US)
        inputs = sum(widths[i] for i in reads[name]) or layer.in_channels
        products = values * inputs * layer.kernel_size[0] ** 2
        return products * DENSE_US + values * (SILU_US if name in maker else 0)

    touched = [{*group.makers, *(name for name, _ in group.users)} for group in groups]
    whole = left = sum(map(cost_us, layers))
    while left > whole * (1 - save):
        best: tuple[float, int, float] | None = None
        for i, group in enumerate(groups):
            if widths[i] - BLOCK < group.width * LEAST_SHARE:
                continue
            lost = float(group.matter[order[i][widths[i] - BLOCK : widths[i]]].sum())
            before = sum(map(cost_us, touched[i]))
            widths[i] -= BLOCK
            saved = before - sum(map(cost_us, touched[i]))
            widths[i] += BLOCK
            if best is None or lost / saved < best[0]:
                best = lost / saved, i, saved
        if best is None:
            raise ValueError(f"a share of {save} cannot be saved; write a smaller --save")
        widths[best[1]] -= BLOCK
        left -= best[2]
    return [o[:width].sort().values for o, width in zip(order, widths, strict=True)]


def cut(
    network: Network,
    groups: Sequence[Group],
    kept: Sequence[Tensor],
    products: dict[str, Tensor],
) -> None:
    """Leave the ``kept`` channels of each group; what is gone is put as a sum of what stays."""
    made = {name: i for group, i in zip(groups, kept, strict=True) for name in group.makers}
    read: dict[str, list[Tensor]] = {}
    for group, indices in zip(groups, kept, strict=True):
        for name, at in group.users:
            read.setdefault(name, []).append(indices + at)
    for name, layer in convolutions(network).items():
        weight, bias = layer.weight.detach(), layer.bias
        assert bias is not None
        bias = bias.detach()
        if name in read:
            stay = torch.cat(read[name]).sort().values
            flat, bias = regress(weight[..., 0, 0], bias, products[name], stay)
            weight = flat[..., None, None]
        if name in made:
            weight, bias = weight[made[name]], bias[made[name]]
        fit(layer, weight, bias)


def mean_products(rows: Tensor) -> Tensor:
    """(I,n) to (I+1,I+1): of each two rows, and of a last one that is always 1."""
    rows = torch.cat((rows, torch.ones(1, rows.shape[1])))
    return (rows @ rows.T).double() / rows.shape[1]


def regress(weight: Tensor, bias: Tensor, products: Tensor, stay: Tensor) -> tuple[Tensor, Tensor]:
    """``weight`` (O,I) for the inputs ``stay`` alone, and ``bias``, so that what they give is the
    nearest to what all gave. ``products`` (I+1,I+1): mean products of inputs and 1."""
    gone = torch.ones(weight.shape[1], dtype=torch.bool).index_fill(0, stay, False)
    known = torch.cat((stay, torch.tensor([weight.shape[1]])))
    among = products[known][:, known]
    among = among + torch.eye(len(known)) * among.diagonal().mean() * DAMPING
    mix = torch.linalg.solve(among, products[known][:, gone.nonzero()[:, 0]]).float()
    more = weight[:, gone] @ mix.T
    return weight[:, stay] + more[:, :-1], bias + more[:, -1]


@torch.no_grad()
def _pixels(network: Network, side: int) -> dict[str, int]:
    """Of each convolution's output."""
    found: dict[str, int] = {}

    def note(name: str, _: nn.Module, __: Any, y: Tensor) -> None:
        found[name] = y.shape[2] * y.shape[3]

    layers = convolutions(network).items()
    hooks = [layer.register_forward_hook(partial(note, name)) for name, layer in layers]
    network(torch.zeros(1, 3, side, side))
    for hook in hooks:
        hook.remove()
    return found


def main(arguments: list[str] | None = None) -> None:
    asked = parser("scripts.train.prune", __doc__)
    add = asked.add_argument
    add("checkpoint", type=Path)
    add("--data", type=Path, required=True, help="folder as that of scripts.train")
    add("--also", type=Path, nargs="*", default=[], metavar="FOLDER")
    add("--taught", type=Path, nargs="*", default=[], metavar="NPZ")
    add("--save", type=float, default=0.1, help="share of the time, by count of operations")
    add("--side", type=int, default=320, help="of the network's input, px")
    add("--batches", type=int, default=24, help="of 16 pictures, to measure on")
    add("--out", type=Path, required=True)
    a = asked.parse_args(arguments)
    if not 0 < a.save < 1:
        raise ValueError(f"--save is {a.save}; write a number between 0 and 1")
    network, parent = load_network(a.checkpoint), load_network(a.checkpoint)
    labels = read_labels(SHELF_DIR / "coco80.txt")
    taught = {key: value for path in a.taught for key, value in np.load(path).items()}
    pictures = read_pictures(a.data, labels, taught=taught, unlabelled=a.also)
    groups = groups_of(network)
    batches = Batches(pictures, Plan(a.batches * 16, side=a.side))
    products = measure(network, parent, groups, batches, a.batches)
    kept = choose(network, groups, save=a.save, side=a.side)
    cut(network, groups, kept, products)
    for group, indices in zip(groups, kept, strict=True):
        if len(indices) < group.width:
            print(f"{group.makers[0]}: {len(indices)} of {group.width}")
    write(a.out, {"average": network.state_dict()})


if __name__ == "__main__":
    sys.exit(guarded(main))
