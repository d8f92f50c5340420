"""Train a detector from nothing.

    python -m scripts.train --data FOLDER --out FOLDER [--epochs 60] [--resume]

FOLDER of ``--data`` is a set in COCO format (data.py says which). The run is seeded; stopped at any
time, it goes on with ``--resume``. Then: ``python -m scripts.train.export OUT/last.pt``.
"""

from __future__ import annotations

import argparse
import sys

import torch

from scripts.train.command import add_arguments, guarded, read_material, run
from scripts.train.network import Detector


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser, epochs=60, rate=2e-3)
    parser.add_argument("--input", type=int, default=320, help="side of the network's input, px")
    a = parser.parse_args(arguments)
    if a.input < 64 or a.input % 32:
        raise ValueError(f"--input is {a.input}; write a multiple of 32 from 64")
    torch.manual_seed(a.seed)
    material = read_material(a, input_px=a.input)
    network = Detector(len(material.pictures.class_names))
    run(a, network, material, input_px=a.input, fine=False)


if __name__ == "__main__":
    sys.exit(guarded(main))
