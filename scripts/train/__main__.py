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
from scripts.train.command import add_arguments, guarded, read_source, run, same_classes
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
    source, taught_by = read_source(a)
    network = Detector(len(source.class_names))
    if a.start:
        trained = load_trained(a.start)
        same_classes(trained, source)
        network = trained.network
        fold(network)
        if a.freeze_stem:
            network.stem.requires_grad_(False)
    fine = a.start is not None
    run(a, network, source, taught_by=taught_by, input_px=a.input, fine=fine)


if __name__ == "__main__":
    sys.exit(guarded(main))
