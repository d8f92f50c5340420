"""Average a network's weights with its parent's: what the parent knew comes back, most of what was
learned stays (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").

    python -m scripts.train.blend CHECKPOINT --share 0.5 --out BLENDED.pt

The face towers, which the parent has not, stay as they are; they fit the blend better after a short
run of ``python -m scripts.train --from BLENDED.pt --faces-only``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from app.models.store import find_model
from scripts.train.checkpoint import load_network, write
from scripts.train.command import guarded, parser
from scripts.train.from_onnx import from_onnx
from scripts.train.network import Network


@torch.no_grad()
def blend(network: Network, parent: Network, share: float) -> Network:
    """``network`` with each weight moved towards the parent's; a ``share`` of 1 moves none."""
    theirs = dict(parent.named_parameters())
    for name, mine in network.named_parameters():
        if not name.startswith("faces."):
            mine.lerp_(theirs[name], 1 - share)
    return network


def main(arguments: list[str] | None = None) -> None:
    asked = parser("scripts.train.blend", __doc__)
    add = asked.add_argument
    add("checkpoint", type=Path)
    add("--parent", default="yolox_nano_416", metavar="MODEL")
    add("--share", type=float, default=0.5, help="of the taught network; 0 is the parent")
    add("--out", type=Path, required=True)
    a = asked.parse_args(arguments)
    if not 0 <= a.share <= 1:
        raise ValueError(f"--share is {a.share}; write a number from 0 to 1")
    network = load_network(a.checkpoint)
    parent = from_onnx(find_model(a.parent).weights)
    write(a.out, {"average": blend(network, parent, a.share).state_dict()})


if __name__ == "__main__":
    sys.exit(guarded(main))
