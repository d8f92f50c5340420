"""How does a network learn? The loop: batches, schedule, moving average, checkpoints, resume.

Every random choice follows from (seed, step), so a run that was cut off goes on as if it had not
been: same pictures, same sizes, same order.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from scripts.train.augment import GENTLE, CutOut, Recipe, sample
from scripts.train.checkpoint import read, write
from scripts.train.data import Labels, Picture, PictureSet
from scripts.train.loss import Targets, detection_loss
from scripts.train.network import Detector, cell_centres, normalise
from scripts.train.teacher import LEAST_PX as TEACHER_LEAST_PX
from scripts.train.teacher import Teacher
from scripts.train.team import ALONE, Team
from scripts.train.validate import Report, Validation

# (until this share of the steps, sizes relative to the input): small first, cheap and many
SIZES = ((0.45, (0.5, 0.6, 0.7)), (0.75, (0.7, 0.8, 0.9)), (1.0, (0.9, 1.0, 1.0, 1.1)))
FINE_SIZES = ((1.0, (0.8, 0.9, 1.0, 1.0, 1.1)),)  # of fine-tuning: it can walk already
CLEAN = 0.9  # from this share on: no mosaic, no pasting
MULTIPLE = 32


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is; a checkpoint of another plan is not resumed."""

    epochs: float
    input_px: int = 320
    batch: int = 32
    rate: float = 2e-3
    weight_decay: float = 0.03
    warm_up: int = 500
    average: float = 0.9995
    seed: int = 1
    repeat: tuple[tuple[str, float], ...] = ()
    fine: bool = False
    teacher: str = ""

    def steps(self, pictures: int) -> int:
        return max(1, math.ceil(self.epochs * pictures / self.batch))

    def rate_at(self, progress: float, step: int) -> float:
        """Linear warm-up, then a cosine to a fiftieth."""
        warm = min(1.0, (step + 1) / self.warm_up)
        return self.rate * warm * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)

    def size_at(self, progress: float, step: int) -> int:
        sizes = FINE_SIZES if self.fine else SIZES
        choices = next(s for until, s in sizes if progress <= until)
        factor = float(np.random.default_rng((self.seed, step, 7)).choice(choices))
        return max(MULTIPLE, round(self.input_px * factor / MULTIPLE) * MULTIPLE)


class Samples(Dataset[tuple[Tensor, Targets]]):
    """A sample by (picture, size, seed, whether clean)."""

    def __init__(
        self,
        pictures: Sequence[Picture],
        cut_outs: Sequence[CutOut],
        teacher: Teacher | None = None,
    ) -> None:
        self._pictures, self._cut_outs, self._teacher = pictures, cut_outs, teacher

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, key: Any) -> tuple[Tensor, Targets]:
        index, size, seed, clean = key
        pixels, labels = sample(
            self._pictures,
            index,
            size=size,
            rng=np.random.default_rng(seed),
            recipe=GENTLE if clean else Recipe(),
            cut_outs=self._cut_outs,
        )
        taught = np.zeros((0, 0), np.float32)
        if self._teacher is not None and size >= TEACHER_LEAST_PX:
            taught = self._teacher(pixels)
        tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        return tensor, _targets(labels, taught)


def _targets(labels: Labels, taught: NDArray[np.float32]) -> Targets:
    real, ignored = labels.select(~labels.ignored), labels.select(labels.ignored)
    arrays = (real.boxes, real.class_ids, real.weights, ignored.boxes, ignored.class_ids, taught)
    return Targets(*(torch.from_numpy(a) for a in arrays))


class Batches:
    """The keys of each step's samples, from ``first`` to ``last``; weighted, shuffled, seeded.

    Of several processes each gets its own part of every batch.
    """

    def __init__(
        self, plan: Plan, pictures: Sequence[Picture], first: int, last: int, team: Team
    ) -> None:
        self._team = team
        weights = dict(plan.repeat)
        share = np.array([weights.get(p.source, 1.0) for p in pictures])
        self._share = share / share.sum()
        self._plan, self._first, self._last = plan, first, last

    def __len__(self) -> int:
        return self._last - self._first

    def __iter__(self) -> Iterator[list[tuple[int, int, tuple[int, int, int], bool]]]:
        plan, count = self._plan, len(self._share)
        per_epoch = math.ceil(count / plan.batch)
        for step in range(self._first, self._last):
            epoch, place = divmod(step, per_epoch)
            rng = np.random.default_rng((plan.seed, epoch, 3))
            # systematic resampling: each picture as often as its share says, to the nearest one
            ticks = (np.arange(per_epoch * plan.batch) + rng.random()) / (per_epoch * plan.batch)
            order = np.searchsorted(np.cumsum(self._share), ticks).clip(max=count - 1)
            rng.shuffle(order)
            progress = step / self._last
            size = plan.size_at(progress, step)
            mine = order[place * plan.batch : (place + 1) * plan.batch]
            clean = progress >= CLEAN
            keys = [(int(i), size, (plan.seed, step, k), clean) for k, i in enumerate(mine)]
            yield keys[self._team.rank :: self._team.count]


class Average:
    """Exponential moving average of a network's state: what is validated and shipped."""

    def __init__(self, network: Detector, decay: float) -> None:
        self.network: Detector = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        self.updates += 1
        decay = self._decay * (1 - math.exp(-self.updates / 500))
        mine, theirs = self.network.state_dict(), network.state_dict()
        for name, value in mine.items():
            if value.is_floating_point():
                value.lerp_(theirs[name].to(value), 1 - decay)
            else:
                value.copy_(theirs[name])


def train(
    network: Detector,
    plan: Plan,
    pictures: PictureSet,
    validation: Validation | None,
    *,
    out: Path,
    device: torch.device,
    cut_outs: Sequence[CutOut] = (),
    teacher: Teacher | None = None,
    workers: int = 1,
    resume: bool = False,
    save_every_s: float = 120.0,
    checks: int = 10,
    team: Team = ALONE,
) -> Detector:
    """Train ``network`` by ``plan``; returns the averaged one.

    Writes ``out/last.pt`` every ``save_every_s`` seconds and at the end, and a line of
    ``out/log.jsonl`` each 50 steps and at each of ``checks`` validations. Raises ValueError when
    ``resume`` finds a checkpoint of another plan.
    """
    out.mkdir(parents=True, exist_ok=True)
    network.to(device).train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = Average(network, plan.average)
    optimizer = torch.optim.AdamW(_groups(network, plan.weight_decay), lr=plan.rate)
    last = plan.steps(len(pictures.pictures))
    first = 0
    path = out / "last.pt"
    if resume and path.exists():
        first = _restore(path, plan, network, average, optimizer, device)

    def checkpoint(step: int) -> None:
        content = {
            "shape": asdict(network.shape),
            "plan": asdict(plan),
            "labels": pictures.class_names,
            "step": step,
            "steps": last,
            "network": network.state_dict(),
            "average": average.network.state_dict(),
            "updates": average.updates,
            "optimizer": optimizer.state_dict(),
        }
        write(path, content)

    loader = DataLoader(
        Samples(pictures.pictures, cut_outs, teacher),
        batch_sampler=Batches(plan, pictures.pictures, first, last, team),
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_quiet_worker,
        prefetch_factor=4 if workers else None,
        pin_memory=device.type == "cuda",
    )
    started = saved = shown = time.monotonic()
    seen = 0
    marks = {round(last * (i + 1) / checks) for i in range(checks)}
    cells: dict[int, Tensor] = {}
    with (out / "log.jsonl").open("a") as log:

        def note(row: dict[str, Any]) -> None:
            log.write(json.dumps(row) + "\n")
            log.flush()

        for step, (pixels, targets) in enumerate(loader, start=first):
            progress = step / last
            rate = plan.rate_at(progress, step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            size = pixels.shape[2]
            if size not in cells:
                cells[size] = cell_centres((size, size), device)
            batch = normalise(pixels.to(device, non_blocking=True))
            with torch.autocast(device.type, torch.bfloat16):
                raw = network(batch)
            loss, parts = detection_loss(raw, cells[size], [t.to(device) for t in targets])
            if not math.isfinite(parts["class"] + parts["box"]):
                raise RuntimeError(f"the loss is not finite at step {step}; lower --rate")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            team.average_gradients(network)
            nn.utils.clip_grad_norm_(network.parameters(), 10.0)
            optimizer.step()
            average.update(network)
            seen += len(pixels) * team.count
            done, now = step + 1, time.monotonic()
            if not team.leads:
                continue
            if done % 50 == 0:
                speed = seen / (now - started)
                note({"step": done, "size": size, "rate": rate, **parts, "per_s": round(speed, 1)})
                if now - shown > 15:
                    shown = now
                    left = (last - done) * plan.batch / speed / 60
                    print(
                        f"step {done}/{last} size {size} class {parts['class']:.3f} box "
                        f"{parts['box']:.3f} {speed:.0f} pictures/s, {left:.0f} min left or less",
                        flush=True,
                    )
            if now - saved > save_every_s or done == last:
                checkpoint(done)
                saved = time.monotonic()
            if validation is not None and done in marks:
                report = validation(average.network, device)
                note({"step": done, "validation": report})
                print(f"step {done}/{last} {summary(report)}", flush=True)
    return average.network


def summary(report: Report) -> str:
    """One line: AP50 by part and label."""
    parts = [
        f"{part} {label} {row['ap50']:.3f}"
        for part, rows in report.items()
        for label, row in rows.items()
        if row["ap50"] is not None
    ]
    return "AP50: " + ", ".join(parts)


def _groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weights decay; biases and batch norms do not."""
    learned = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in learned if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in learned if p.ndim < 2], "weight_decay": 0.0},
    ]


def _restore(
    path: Path,
    plan: Plan,
    network: Detector,
    average: Average,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> int:
    saved = read(path, device)
    other = {k: v for k, v in saved["plan"].items() if v != asdict(plan)[k]}
    if other:
        raise ValueError(
            f"{path} belongs to another plan: {other}; resume with it, or name an empty --out"
        )
    network.load_state_dict(saved["network"])
    average.network.load_state_dict(saved["average"])
    average.updates = saved["updates"]
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["step"])


def _collate(samples: list[tuple[Tensor, Targets]]) -> tuple[Tensor, list[Targets]]:
    return torch.stack([pixels for pixels, _ in samples]), [targets for _, targets in samples]


def _quiet_worker(_: int) -> None:
    """One thread each, and the training first."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    os.nice(5)
