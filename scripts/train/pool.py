"""Make samples beforehand, the teacher's answers with them, and train on them several times over.

    python -m scripts.train.pool --data FOLDER --out POOL --count 40000 --teacher yolox_nano_416

Making a sample and asking the teacher costs a CPU about as much as learning from it; from a pool it
is done once. Each time another part of a sample is shown, mirrored or not. 40,000 of 320 px take
19 GB.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from scripts.train.command import add_set_arguments, guarded, read_samples
from scripts.train.loss import Targets
from scripts.train.network import STRIDES
from scripts.train.plan import Plan
from scripts.train.samples import Batches, Key, Samples, Source, quiet_worker
from scripts.train.team import ALONE
from scripts.train.window import Window

GENTLE_SHARE = 0.2  # of the samples: as the pictures are, nearly
FIELDS = ("boxes", "class_ids", "weights", "ignored", "ignored_ids")


class Pool(Source):
    """Samples from a folder that `build` made."""

    def __init__(self, folder: Path) -> None:
        try:
            about = json.loads((folder / "about.json").read_text())
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder} is no finished pool: {error}") from error
        self.class_names = tuple(about["labels"])
        self.size, self.teacher = int(about["size"]), str(about["teacher"])
        self._pixels = np.load(folder / "pixels.npy", mmap_mode="r")
        taught_mode: Literal["r"] | None = "r" if about["teacher"] else None  # or it is empty
        self._taught = np.load(folder / "taught.npy", mmap_mode=taught_mode)
        self._hints = np.load(folder / "hints.npy", mmap_mode=taught_mode)
        self.hint_width = self._hints.shape[-1]
        with np.load(folder / "labels.npz") as labels:
            self._labels = dict(labels)

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, key: Key) -> tuple[Tensor, Targets]:
        index, size, seed, _ = key
        assert size <= self.size, f"the pool's samples are of {self.size} px"

        def rows(name: str) -> Tensor:
            ends = self._labels["ignored_ends" if name.startswith("ignored") else "ends"]
            return torch.from_numpy(self._labels[name][ends[index] : ends[index + 1]])

        pixels = torch.from_numpy(np.array(self._pixels[index]))
        taught = torch.from_numpy(self._taught[index].astype(np.float32))
        hints = torch.from_numpy(np.array(self._hints[index]))
        boxes, class_ids, weights, ignored, ignored_ids = (rows(name) for name in FIELDS)
        target = Targets(boxes, class_ids, weights, ignored, ignored_ids, taught, hints)
        window = Window.draw(self.size, size, np.random.default_rng(seed))
        return window.of_pixels(pixels), window.of_targets(target)


def build(folder: Path, samples: Samples, plan: Plan, *, count: int, workers: int) -> None:
    """Make ``count`` samples of ``plan``; ``about.json`` is written last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "about.json").unlink(missing_ok=True)
    size, classes = plan.input_px, len(samples.class_names)
    cells = sum((size // stride) ** 2 for stride in STRIDES)
    pixels = _array(folder / "pixels.npy", np.uint8, (count, 3, size, size))
    taught = _array(
        folder / "taught.npy", np.float16, (count, cells if plan.teacher else 0, classes + 4)
    )
    hints: Any = None  # as wide as the teacher's features are: the first sample tells
    steps = -(-count // plan.batch)
    keys: list[Key] = []
    for batch in Batches(plan, samples.share(plan), 0, steps, ALONE):
        for index, _, seed, _ in batch:
            keys.append((index, size, seed, len(keys) % round(1 / GENTLE_SHARE) == 0))
    loader = DataLoader(
        samples,
        sampler=keys[:count],  # type: ignore[arg-type]
        batch_size=None,
        num_workers=workers,
        worker_init_fn=quiet_worker,
        prefetch_factor=16 if workers else None,
    )
    rows: dict[str, list[NDArray[np.generic]]] = {name: [] for name in FIELDS}
    for i, (picture, target) in enumerate(loader):
        pixels[i] = picture.numpy()
        if hints is None:
            rows_of_hints = (count, *target.hints.shape)
            hints = _array(folder / "hints.npy", np.int8, rows_of_hints)
        if plan.teacher:
            taught[i] = target.taught.numpy().clip(-1e4, 1e4)
            hints[i] = target.hints.numpy()
        for name in FIELDS:
            # a copy: what a worker sent is an open file for as long as it lives
            rows[name].append(getattr(target, name).numpy().copy())
        if (i + 1) % 1000 == 0:
            print(f"{i + 1} of {count}", flush=True)
    arrays: dict[str, Any] = {name: np.concatenate(parts) for name, parts in rows.items()}
    for name, field in (("ends", "boxes"), ("ignored_ends", "ignored")):
        arrays[name] = np.cumsum([0, *(len(part) for part in rows[field])])
    np.savez(folder / "labels.npz", **arrays)
    pixels.flush()
    if plan.teacher:
        taught.flush()
        hints.flush()
    about = {"labels": samples.class_names, "size": size, "teacher": plan.teacher, "count": count}
    (folder / "about.json").write_text(json.dumps(about))


def _array(path: Path, dtype: type, shape: tuple[int, ...]) -> Any:
    """An array in a file; one without elements cannot be mapped."""
    if 0 in shape:
        np.save(path, np.zeros(shape, dtype))
        return np.load(path)
    return np.lib.format.open_memmap(path, "w+", dtype, shape)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.train.pool",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_set_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="the pool's folder")
    parser.add_argument("--count", type=int, default=40_000)
    parser.add_argument("--input", type=int, default=320, help="side of a sample, px")
    parser.add_argument("--workers", type=int, default=2)
    a = parser.parse_args(arguments)
    samples, taught_by = read_samples(a)
    plan = Plan(1, a.input, seed=a.seed, repeat=tuple(a.repeat), teacher=taught_by, pool=True)
    build(a.out, samples, plan, count=a.count, workers=a.workers)


if __name__ == "__main__":
    sys.exit(guarded(main))
