"""What does a network say of the samples of a pool, for a narrower one to learn to say it, too?

    python -m scripts.train.reteach CHECKPOINT --pool FOLDER --out FOLDER

The teacher's scores stay for the classes that it knows; for the others (a YOLOX teacher knows no
faces) those of CHECKPOINT, the network that was pruned, take the place of silence. Pixels, labels
and hints are shared with the old pool, not copied.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from scripts.train.checkpoint import load_trained
from scripts.train.command import guarded
from scripts.train.network import cell_centres, decode_boxes, normalise

SHARED = ("about.json", "pixels.npy", "labels.npz", "hints.npy")
BATCH = 32


@torch.no_grad()
def reteach(checkpoint: Path, pool: Path, out: Path) -> None:
    """Write ``out``, a pool like ``pool`` with answers for every class."""
    trained = load_trained(checkpoint)
    network = trained.network.eval()
    pixels, old = (np.load(pool / f"{name}.npy", mmap_mode="r") for name in ("pixels", "taught"))
    out.mkdir(parents=True, exist_ok=True)
    for name in SHARED:
        link = out / name
        link.unlink(missing_ok=True)
        link.symlink_to((pool / name).resolve())
    new = np.lib.format.open_memmap(out / "taught.npy", mode="w+", dtype=old.dtype, shape=old.shape)
    cells = cell_centres((trained.input_px, trained.input_px))
    for start in range(0, len(pixels), BATCH):
        raw = network(normalise(torch.from_numpy(np.array(pixels[start : start + BATCH]))))
        said = torch.cat([raw[..., 4:].sigmoid(), decode_boxes(raw[..., :4], cells)], -1).numpy()
        new[start : start + BATCH] = merged(old[start : start + BATCH].astype(np.float32), said)
        if start % (100 * BATCH) == 0:
            print(f"{start} of {len(pixels)} samples", flush=True)
    new.flush()


def merged(teacher: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(B,N,C+4) twice: the teacher's scores where it knows, and the box of the surer one."""
    scores = np.where(teacher[..., :-4] >= 0, teacher[..., :-4], own[..., :-4])
    known = np.where(teacher[..., :-4] >= 0, teacher[..., :-4], -1).max(-1, keepdims=True)
    unknown = np.where(teacher[..., :-4] >= 0, -1, own[..., :-4]).max(-1, keepdims=True)
    boxes = np.where(known >= unknown, teacher[..., -4:], own[..., -4:])
    return np.concatenate([scores, boxes], -1)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.train.reteach",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    a = parser.parse_args(arguments)
    reteach(a.checkpoint, a.pool, a.out)


if __name__ == "__main__":
    sys.exit(guarded(main))
