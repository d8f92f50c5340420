"""Make the first filters smaller, and teach the first layers to give what they gave.

    python -m scripts.train.first CHECKPOINT --data FOLDER --out FIRST.pt

YOLOX's first filters, 6×6 pixels of the input at full size, have next to nothing in their last row
and column, and a twelfth of the network's time goes into them. Cut to 5×5, they take over by
regression what those knew; then they and the next layers, up to a quarter of the size, learn to
give what they gave before. No other layer changes, and no labels are needed.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import unfold

from app.models.manifest import SHELF_DIR, read_labels
from scripts.train.checkpoint import fit, load_network, write
from scripts.train.command import guarded, parser
from scripts.train.data import read_pictures
from scripts.train.loop import FROZEN, KEPT, Batches, Plan, follow, size_of
from scripts.train.network import Network
from scripts.train.prune import mean_products, regress

SIDE = 5
MEASURED = 30  # batches for the regression
LEAST_SPREAD = 0.02  # of a channel's values, to divide differences by


def narrow(network: Network, batches: Batches, count: int = MEASURED) -> None:
    """Take the last row and column from the first filters. ValueError when they are not 6×6."""
    layer = network.stem[0]
    assert isinstance(layer, nn.Conv2d)
    size, channels = layer.kernel_size[0], layer.in_channels
    if size != SIDE + 1:
        raise ValueError(f"the first filters are {size}×{size}; only {SIDE + 1}×{SIDE + 1} are cut")
    places = torch.arange(channels * size * size).reshape(channels, size, size)
    stay = places[:, :SIDE, :SIDE].flatten()
    products = torch.zeros(places.numel() + 1, places.numel() + 1, dtype=torch.double)
    for step in range(count):
        rows = unfold(batches.at(step)[0], size, padding=(size - 1) // 2, stride=layer.stride)
        products += mean_products(rows.transpose(0, 1).flatten(1)) / count
    assert layer.bias is not None
    flat, bias = regress(layer.weight.detach().flatten(1), layer.bias.detach(), products, stay)
    fit(layer, flat.reshape(-1, channels, SIDE, SIDE), bias)


def teach_first(network: Network, parent: Network, batches: Batches, plan: Plan) -> Network:
    """``network``, averaged, after its first layers have learned to give what ``parent``'s give."""
    groups = []
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(FROZEN))
        if parameter.requires_grad:
            groups.append({"params": [parameter], "times": plan.rate * size_of(name, parameter)})
    average = copy.deepcopy(network)
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    spread = torch.ones(1)
    for step in range(plan.steps):
        pixels, _ = batches.at(step)
        with torch.no_grad():
            wanted = parent.early(pixels)
        if not step:
            spread = wanted.std((0, 2, 3), keepdim=True).clamp(min=LEAST_SPREAD)
        loss = ((network.early(pixels) - wanted) / spread).square().mean()
        rate = plan.rate_at(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["times"]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        follow(average, network, min(KEPT, (step + 1) / (step + 20)))
        if step % 50 == 49:
            print(f"{(step + 1) * plan.batch} samples: {float(loss.detach()):.4f}", flush=True)
    return average


def main(arguments: list[str] | None = None) -> None:
    asked = parser("scripts.train.first", __doc__)
    add = asked.add_argument
    add("checkpoint", type=Path)
    add("--data", type=Path, required=True, help="folder as that of scripts.train")
    add("--also", type=Path, nargs="*", default=[], metavar="FOLDER")
    add("--side", type=int, default=320, help="of the network's input, px")
    add("--samples", type=int, default=4800)
    add("--out", type=Path, required=True)
    a = asked.parse_args(arguments)
    network, parent = load_network(a.checkpoint), load_network(a.checkpoint)
    for module in (network, parent):  # three times as quick on a CPU
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    labels = read_labels(SHELF_DIR / "coco80.txt")
    plan = Plan(a.samples, 8, rate=3e-3, side=a.side)
    batches = Batches(read_pictures(a.data, labels, taught={}, unlabelled=a.also), plan)
    narrow(network, batches)
    write(a.out, {"average": teach_first(network, parent, batches, plan).state_dict()})


if __name__ == "__main__":
    sys.exit(guarded(main))
