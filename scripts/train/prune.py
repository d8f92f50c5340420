"""Make a trained network narrower, and teach it again: structured (channel) pruning.

    python -m scripts.train.prune CHECKPOINT --data FOLDER --out FOLDER [--keep 0.6] [--epochs 12]

Sixteen channels at a time, always those that cost the least loss for the time that they save: in
each group of layers that hang together (torch-pruning's dependency graph) the sixteen with the
least weight × gradient (Molchanov et al. 2019, "Importance estimation for neural network pruning")
are a candidate, which is taken away from a copy, and that copy's loss measured. The best go, until
the share ``--keep`` of the time is left. What stays is an ordinary, narrower network: faster
everywhere, with no sparse kernels. It works on any checkpoint of this trainer, yours too.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch_pruning
from torch import Tensor, nn

from scripts.train.checkpoint import load_trained, read
from scripts.train.command import add_arguments, guarded, read_source, run, same_classes
from scripts.train.loss import detection_loss
from scripts.train.network import Detector, cell_centres, normalise, take_shapes
from scripts.train.samples import Source, collate

AT_ONCE = 16  # channels: what vector units and tensor cores take at once
NARROWEST = 0.3  # of a layer: one that vanished would cut the network in two
ROUND = 0.02  # share taken away before the candidates are measured again
BATCHES = 8  # of 16 samples, for the loss
WAY = 10  # multiplications in the time that one output takes besides (ONNX Runtime on x86, float32)

Loss = Callable[[Detector], Tensor]


@dataclass(frozen=True, slots=True)
class Cut:
    """Channels of a layer, and with them all that hangs together with it."""

    layer: str
    channels: list[int]

    def make(self, network: Detector, example: Tensor) -> None:
        """Take the channels away, in place."""
        graph = torch_pruning.DependencyGraph().build_dependency(network, example)
        layer = network.get_submodule(self.layer)
        remove = torch_pruning.prune_conv_out_channels
        graph.get_pruning_group(layer, remove, idxs=self.channels).prune()


def prune(network: Detector, *, input_px: int, keep: float, loss: Loss) -> float:
    """Narrow ``network`` in place to the share ``keep`` of its cost; returns the share.

    ``loss`` is a network's loss, differentiable, over the same samples each time. The outputs' own
    convolutions keep their channels. Raises ValueError when it cannot go so far.
    """
    if not 0 < keep < 1:
        raise ValueError(f"--keep is {keep}; write a share between 0 and 1")
    example = torch.zeros(1, 3, input_px, input_px)
    whole = cost(network, example)
    least = {name: NARROWEST * conv.out_channels for name, conv in _convolutions(network)}
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    share = 1.0
    while share > keep:
        network.zero_grad(set_to_none=True)
        before = loss(network)
        before.backward()  # type: ignore[no-untyped-call]
        trials = []
        for cut in _candidates(network, example, least):
            trial = copy.deepcopy(network)
            cut.make(trial, example)
            with torch.no_grad():
                lost = float(loss(trial) - before)
            trials.append((lost / (share - cost(trial, example) / whole), cut))
        if not trials:
            raise ValueError(f"no more than {1 - share:.0%} could be taken away; raise --keep")
        goal = max(keep, share - ROUND)
        for price, cut in sorted(trials, key=lambda trial: trial[0]):
            cut.make(network, example)
            share = cost(network, example) / whole
            print(f"{share:.1%} left; {cut.layer}: the loss rises by {price / 100:.4f} for 1%")
            if share <= goal:
                break
    network.zero_grad(set_to_none=True)
    return share


def _candidates(network: Detector, example: Tensor, least: Mapping[str, float]) -> Iterator[Cut]:
    """For each group of layers the channels that matter least, by the gradients at hand."""
    graph = torch_pruning.DependencyGraph().build_dependency(network, example)
    names = {module: name for name, module in network.named_modules()}
    importance = torch_pruning.importance.GroupTaylorImportance(
        group_reduction="sum", normalizer=None
    )
    groups = graph.get_all_groups(ignored_layers=list(network.out), root_module_types=[nn.Conv2d])
    for group in groups:
        layer = group[0].dep.target.module
        if layer.out_channels - AT_ONCE >= max(AT_ONCE, least[names[layer]]):
            order = torch.argsort(importance(group))
            yield Cut(names[layer], sorted(order[:AT_ONCE].tolist()))


def loss_over(source: Source, *, size: int, batches: int = BATCHES) -> Loss:
    """The mean loss over some samples of ``source``, always the same; batch norms stay."""
    order = np.random.default_rng(1).integers(len(source), size=(batches, 16))
    cells = cell_centres((size, size))
    pairs = []
    for number, batch in enumerate(order):
        keys = [(int(i), size, (1, number, k), True) for k, i in enumerate(batch)]
        pairs.append(collate([source[key] for key in keys]))

    def loss(network: Detector) -> Tensor:
        network.eval()
        losses = [detection_loss(network(normalise(p)), cells, t)[0] for p, t in pairs]
        return torch.stack(losses).mean()

    return loss


@torch.no_grad()
def cost(network: nn.Module, example: Tensor) -> int:
    """What the convolutions cost for one picture, in the time of a multiplication."""
    total = 0

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d)
        total += output[0].numel() * (layer.weight[0].numel() + WAY)

    hooks = [layer.register_forward_hook(count) for _, layer in _convolutions(network)]
    network.eval()(example)
    for hook in hooks:
        hook.remove()
    return total


def _convolutions(network: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    return ((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.train.prune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path)
    add_arguments(parser, epochs=12, rate=1e-3)
    parser.add_argument("--keep", type=float, default=0.6, help="share of its time, 0..1")
    a = parser.parse_args(arguments)
    trained = load_trained(a.checkpoint)
    network, size = trained.network, trained.input_px
    source, taught_by = read_source(a)
    same_classes(trained, source)
    if a.resume and (a.out / "last.pt").exists():
        take_shapes(network, read(a.out / "last.pt")["network"])
    else:
        share = prune(network, input_px=size, keep=a.keep, loss=loss_over(source, size=size))
        parameters = sum(p.numel() for p in network.parameters())
        print(f"{share:.0%} of the cost is left, {parameters} parameters", flush=True)
    run(a, network, source, taught_by=taught_by, input_px=size, fine=True)


if __name__ == "__main__":
    sys.exit(guarded(main))
