"""Training by labels and by the parent: batches, rates, average, checkpoints.

Every random choice follows from (seed, step), so a run that was cut off goes on as if it had not
been.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scripts.train.augment import sample
from scripts.train.checkpoint import read, write
from scripts.train.data import Labels, Picture, Pixels
from scripts.train.loss import Targets, face_loss, object_loss, parent_loss
from scripts.train.network import Network, cells
from scripts.train.validate import Validation

SIZES = (*[(10, 10)] * 4, (8, 10), (6, 10), (9, 9), (11, 11), (8, 8))  # h, w: tenths of a side
FROZEN = ("stem.", "stage_2.")
WARM_UP = 100  # steps
KEPT = 0.998  # of the moving average in a step
LOG_EVERY = 50  # steps


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is; a checkpoint of another plan is not resumed.

    ``rate``: of a tensor's size, what a step may change at most; 0 keeps all but the face towers.
    ``parent``: weight of the parent's answers.
    """

    samples: int
    batch: int = 16
    rate: float = 6e-4
    face_rate: float = 2e-3
    parent: float = 0.5
    side: int = 320  # of the network's input, px
    repeat: tuple[tuple[str, float], ...] = ()  # how often pictures of a source are shown
    seed: int = 1

    @property
    def steps(self) -> int:
        return max(1, self.samples // self.batch)

    def size_hw(self, rng: np.random.Generator) -> tuple[int, int]:
        """Of a batch: the input, or one about as large, or cut as a frame may cut it."""
        h, w = (round(self.side * n / 320) * 32 for n in SIZES[rng.integers(len(SIZES))])
        return h, w

    def rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine to 3 %."""
        warm = min(1.0, (step + 1) / WARM_UP)
        return warm * (0.03 + 0.97 * (1 + math.cos(math.pi * step / self.steps)) / 2)


class Batches:
    """The samples of each step."""

    def __init__(self, pictures: Sequence[Picture], plan: Plan) -> None:
        weights = dict(plan.repeat)
        share = np.array([weights.get(p.source, 1.0) for p in pictures])
        self._ticks = np.cumsum(share / share.sum())
        self._pictures, self.plan = pictures, plan

    def at(self, step: int) -> tuple[Tensor, list[Targets]]:
        """(B,3,H,W) float, channels last in memory, and what is in them."""
        rng = np.random.default_rng((self.plan.seed, step))
        size_hw = self.plan.size_hw(rng)
        made: list[tuple[Pixels, Labels]] = []
        for _ in range(self.plan.batch):
            four = np.searchsorted(self._ticks[:-1], rng.random(4))
            made.append(sample(self._pictures, four.tolist(), size_hw=size_hw, rng=rng))
        pixels = torch.from_numpy(np.stack([p for p, _ in made])).permute(0, 3, 1, 2).float()
        return pixels.contiguous(memory_format=torch.channels_last), [
            Targets.of(labels) for _, labels in made
        ]


def rates(network: Network, plan: Plan) -> list[dict[str, Any]]:
    """Adam's groups: moves are relative to each tensor's size, and what stays has no gradient.

    Folded weights differ a thousandfold in size (those of the first layer take pixels of 0..255),
    while Adam moves each by about its rate: one rate for all wipes out the small ones. The last
    layer of the classes stays: most of them are too rare in the set to be learned there. So do the
    first layers: edges are the same everywhere, and they cost the most memory and time.
    """
    groups = []
    for name, parameter in network.named_parameters():
        if name.startswith("faces."):
            groups.append({"params": [parameter], "times": plan.face_rate})
            continue
        frozen = "class_out" in name or name.startswith(FROZEN) or not plan.rate
        parameter.requires_grad_(not frozen)
        if frozen:
            continue
        groups.append({"params": [parameter], "times": plan.rate * size_of(name, parameter)})
    return groups


def size_of(name: str, parameter: Tensor) -> float:
    """What its steps are to be relative to."""
    size = float(parameter.detach().square().mean().sqrt())
    return max(size, 0.1) / 2 if name.endswith("bias") else size


def train(
    network: Network,
    parent: Network,
    plan: Plan,
    pictures: Sequence[Picture],
    *,
    out: Path,
    validation: Validation | None = None,
    resume: bool = False,
    save_every_s: float = 60.0,
    checks: int = 8,
) -> Network:
    """Train ``network`` by ``plan``; returns the averaged one.

    Writes ``out/last.pt`` every ``save_every_s`` seconds and at the end, and lines of
    ``out/curve.jsonl``. Raises ValueError when ``resume`` finds a checkpoint of another plan.
    """
    out.mkdir(parents=True, exist_ok=True)
    for module in (network, parent):  # three times as quick on a CPU
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(network).requires_grad_(False)
    parent.requires_grad_(False)
    optimizer = torch.optim.Adam(rates(network, plan), betas=(0.9, 0.99))
    first, path = 0, out / "last.pt"
    if resume and path.exists():
        first = _restore(read(path), plan, network, average, optimizer)

    def save(step: int) -> None:
        content = {
            "plan": _plain(plan),
            "step": step,
            "network": network.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        write(path, content)

    batches = Batches(pictures, plan)
    marks = {round(plan.steps * (i + 1) / checks) for i in range(checks)}
    started = saved = time.monotonic()
    sums: dict[str, float] = {}
    with (out / "curve.jsonl").open("a") as curve:

        def note(row: dict[str, Any]) -> None:
            curve.write(json.dumps(row) + "\n")
            curve.flush()
            print(row, flush=True)

        for step in range(first, plan.steps):
            rate = plan.rate_at(step)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["times"]
            pixels, targets = batches.at(step)
            loss, parts = losses(network, parent, plan, pixels, targets)
            if not math.isfinite(float(loss.detach())):
                raise RuntimeError(f"the loss is not finite at step {step}; lower --rate")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 10.0)
            optimizer.step()
            follow(average, network, min(KEPT, (step + 1) / (step + 20)))
            done, now = step + 1, time.monotonic()
            for name, value in parts.items():
                sums[name] = 0.98 * sums.get(name, value) + 0.02 * value
            if done % LOG_EVERY == 0:
                speed = (done - first) * plan.batch / (now - started)
                rounded = {name: round(value, 3) for name, value in sums.items()}
                note({"samples": done * plan.batch, "per_s": round(speed, 1), **rounded})
            if now - saved > save_every_s or done == plan.steps:
                save(done)
                saved = time.monotonic()
            if validation is not None and done in marks:
                note({"samples": done * plan.batch, "ap50": validation(average)})
                started += time.monotonic() - now
    return average


def losses(
    network: Network, parent: Network, plan: Plan, pixels: Tensor, targets: list[Targets]
) -> tuple[Tensor, dict[str, float]]:
    """Of a batch: the loss, and its parts for the log.

    The first layers, which are frozen, are the parent's too; they have no gradients unless
    ``pixels`` ask for them.
    """
    grid = cells((pixels.shape[2], pixels.shape[3]))
    face_id = network.classes
    with torch.set_grad_enabled(pixels.requires_grad):
        early = network.early(pixels)
    with torch.set_grad_enabled(plan.rate > 0):
        features = network.features(early)
    loss, parts = face_loss(network.face_rows(features), grid, targets, face_id=face_id)
    if plan.rate:
        raw = network.object_rows(features)
        with torch.no_grad():
            theirs = parent.object_rows(parent.features(early))
        of_objects, more, claimed = object_loss(raw, grid, targets, theirs)
        kept = parent_loss(raw, theirs, claimed)
        loss = loss + of_objects + plan.parent * kept
        parts |= more | {"parent": float(kept.detach())}
    return loss, parts


@torch.no_grad()
def follow(average: Network, network: Network, keep: float) -> None:
    """A step of the exponential moving average: what is validated and shipped."""
    for mine, theirs in zip(average.parameters(), network.parameters(), strict=True):
        mine.lerp_(theirs, 1 - keep)


def _plain(plan: Plan) -> dict[str, Any]:
    return dict(json.loads(json.dumps(asdict(plan))))


def _restore(
    saved: dict[str, Any],
    plan: Plan,
    network: Network,
    average: Network,
    optimizer: torch.optim.Optimizer,
) -> int:
    mine = _plain(plan)
    if other := {k: v for k, v in saved["plan"].items() if v != mine.get(k)}:
        raise ValueError(
            f"the run belongs to another plan: {other}; resume with it, or name an empty --out"
        )
    network.load_state_dict(saved["network"])
    average.load_state_dict(saved["average"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["step"])
