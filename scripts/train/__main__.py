"""Transfer: teach a published YOLOX-Nano faces and small inputs, and keep what it knows.

    python -m scripts.train.teach --data FOLDER --also FOLDER --out LABELS.npz
    python -m scripts.train --data FOLDER --also FOLDER --taught LABELS.npz --out RUN
    python -m scripts.train.blend RUN/last.pt --share 0.5 --out HALF.pt
    python -m scripts.train --from HALF.pt --faces-only --data FOLDER --out RUN2
    python -m scripts.train.export RUN2/last.pt --name NAME

and a smaller one of it, which it teaches itself:

    python -m scripts.train.prune RUN2/last.pt --data FOLDER --side 256 --out PRUNED.pt
    python -m scripts.train --from PRUNED.pt --parent RUN2/last.pt --side 256 --data FOLDER …

FOLDER of ``--data`` is a set in COCO format (data.py says which). The run is seeded; stopped at any
time, it goes on with ``--resume``. ``--from`` starts at the averaged network of another run.
"""

from __future__ import annotations

import argparse
import copy
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from app.models.manifest import SHELF_DIR, read_labels
from app.models.store import find_model
from scripts.train.checkpoint import load_network
from scripts.train.command import guarded, parser
from scripts.train.data import read_pictures
from scripts.train.from_onnx import from_onnx
from scripts.train.loop import Plan, train
from scripts.train.validate import Validation


def main(arguments: list[str] | None = None) -> None:
    asked = parser("scripts.train", __doc__)
    add = asked.add_argument
    add("--data", type=Path, required=True, help="folder: images/, train.json, val.json (COCO)")
    add("--also", type=Path, nargs="*", default=[], metavar="FOLDER",
        help="pictures without labels, which only teachers know")  # fmt: skip
    add("--taught", type=Path, nargs="*", default=[], metavar="NPZ", help="of scripts.train.teach")
    add("--parent", default="yolox_nano_416", metavar="MODEL",
        help="where the transfer starts: a model, or a checkpoint")  # fmt: skip
    add("--from", dest="start", type=Path, metavar="CHECKPOINT", help="start there instead")
    add("--out", type=Path, required=True, help="where checkpoints and the curve go")
    add("--side", type=int, default=320, help="of the network's input, px")
    add("--samples", type=int, default=100_000)
    add("--batch", type=int, default=16)
    add("--rate", type=float, default=6e-4, help="of a tensor's size, what a step may change")
    add("--keep", type=float, default=0.5, help="weight of the parent's own answers")
    add("--faces-only", action="store_true", help="teach the face towers alone")
    add("--repeat", type=_weight, action="append", default=[], metavar="SOURCE=N",
        help="show the pictures of a source N times as often")  # fmt: skip
    add("--part", type=_part, action="append", default=[], metavar="NAME=SOURCE,SOURCE",
        help="report the accuracy on these sources of val apart")  # fmt: skip
    add("--checks", type=int, default=8, metavar="N", help="validations on the way")
    add("--seed", type=int, default=1)
    add("--threads", type=int, default=2)
    add("--resume", action="store_true", help="go on from OUT/last.pt")
    a = asked.parse_args(arguments)
    if (a.out / "last.pt").exists() and not a.resume:
        raise ValueError(f"{a.out} holds a run already; --resume goes on with it")
    torch.set_num_threads(a.threads)
    cv2.setNumThreads(1)
    torch.manual_seed(a.seed)
    labels = read_labels(SHELF_DIR / "coco80.txt")
    taught = {key: value for path in a.taught for key, value in np.load(path).items()}
    pictures = read_pictures(a.data, labels, taught=taught, unlabelled=a.also)
    print(f"{len(pictures)} pictures", flush=True)
    plan = Plan(
        a.samples,
        a.batch,
        rate=0.0 if a.faces_only else a.rate,
        parent=a.keep,
        side=a.side,
        repeat=tuple(a.repeat),
        seed=a.seed,
    )
    path = Path(a.parent)
    parent = load_network(path) if path.suffix == ".pt" else from_onnx(find_model(a.parent).weights)
    train(
        load_network(a.start) if a.start else copy.deepcopy(parent),
        parent,
        plan,
        pictures,
        out=a.out,
        validation=Validation(a.data, labels, size=a.side, parts=dict(a.part)),
        resume=a.resume,
        checks=a.checks,
    )


def _weight(text: str) -> tuple[str, float]:
    source, _, number = text.partition("=")
    try:
        weight = float(number)
    except ValueError:
        weight = -1.0
    if weight <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: write SOURCE=N, N above 0")
    return source, weight


def _part(text: str) -> tuple[str, list[str]]:
    name, _, sources = text.partition("=")
    if not sources:
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=SOURCE,SOURCE")
    return name, sources.split(",")


if __name__ == "__main__":
    sys.exit(guarded(main))
