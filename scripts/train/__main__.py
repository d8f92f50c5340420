"""Train a detector from nothing.

    python -m scripts.train --data FOLDER --out FOLDER [--teacher MODEL]
    python -m scripts.train --data FOLDER --out FOLDER --from CHECKPOINT [--teacher MODEL]

FOLDER of ``--data`` is a set in COCO format (data.py says which). The run is seeded; stopped at any
time, it goes on with ``--resume``. ``--from`` is the second stage: it goes on from the averaged
network of an earlier run, batch norm folded, at full size, with a schedule of its own. Then:
``python -m scripts.train.export OUT/last.pt --name NAME``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from scripts.train.checkpoint import load_trained
from scripts.train.command import add_arguments, guarded, read_material, run, same_classes
from scripts.train.network import Detector, fold


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser, epochs=60, rate=2e-3)
    parser.add_argument("--from", dest="start", type=Path, metavar="CHECKPOINT")
    parser.add_argument(
        "--freeze-stem",
        action="store_true",
        help="with --from: keep the first layers, twice as fast",
    )
    parser.add_argument("--input", type=int, default=320, help="side of the network's input, px")
    a = parser.parse_args(arguments)
    if a.input < 64 or a.input % 32:
        raise ValueError(f"--input is {a.input}; write a multiple of 32 from 64")
    torch.manual_seed(a.seed)
    material = read_material(a, input_px=a.input)
    network = Detector(len(material.pictures.class_names))
    if a.start:
        trained = load_trained(a.start)
        same_classes(trained, material)
        network = trained.network
        fold(network)
        if a.freeze_stem:
            network.stem.requires_grad_(False)
    run(a, network, material, input_px=a.input, fine=a.start is not None)


if __name__ == "__main__":
    sys.exit(guarded(main))
