"""How does a network learn? The loop: batches, schedule, moving average, checkpoints, resume.

Every random choice follows from (seed, step), so a run that was cut off goes on as if it had not
been: same pictures, same sizes, same order.
"""

from __future__ import annotations

import copy
import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from scripts.train.checkpoint import read, write
from scripts.train.hints import Hints
from scripts.train.loss import detection_loss
from scripts.train.network import Detector, cell_centres, normalise
from scripts.train.plan import Plan
from scripts.train.samples import Batches, Source, collate, quiet_worker
from scripts.train.team import ALONE, Team
from scripts.train.validate import Report, Validation


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
    source: Source,
    validation: Validation | None,
    *,
    out: Path,
    device: torch.device,
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
    hints = Hints(network, source.hint_width).to(device) if plan.hints else None
    parts_learned = nn.ModuleList([network, *([hints] if hints else [])])
    learned = [p for p in parts_learned.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(_groups(learned, plan.weight_decay), lr=plan.rate)
    last = plan.steps(len(source))
    first = 0
    path = out / "last.pt"
    if resume and path.exists():
        first = _restore(path, plan, network, average, hints, optimizer, device)

    def checkpoint(step: int) -> None:
        content = {
            "shape": asdict(network.shape),
            "plan": asdict(plan),
            "labels": source.class_names,
            "step": step,
            "steps": last,
            "network": network.state_dict(),
            "average": average.network.state_dict(),
            "updates": average.updates,
            "hints": hints.state_dict() if hints else {},
            "optimizer": optimizer.state_dict(),
        }
        write(path, content)

    loader = DataLoader(
        source,
        batch_sampler=Batches(plan, source.share(plan), first, last, team),
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=quiet_worker,
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
                features = network.features(batch)
                raw = network.answers(features)
            targets = [t.to(device) for t in targets]
            loss, parts = detection_loss(raw, cells[size], targets)
            if hints is not None and len(targets[0].hints):
                hint_loss = hints(features, targets)
                loss = loss + plan.hints * hint_loss
                parts["hints"] = hint_loss.item()
            if not math.isfinite(parts["class"] + parts["box"]):
                raise RuntimeError(f"the loss is not finite at step {step}; lower --rate")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            team.average_gradients(learned)
            nn.utils.clip_grad_norm_(learned, 10.0)
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


def _groups(learned: list[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    """Weights decay; biases and batch norms do not."""
    return [
        {"params": [p for p in learned if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in learned if p.ndim < 2], "weight_decay": 0.0},
    ]


def _restore(
    path: Path,
    plan: Plan,
    network: Detector,
    average: Average,
    hints: Hints | None,
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
    if hints is not None:
        hints.load_state_dict(saved["hints"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["step"])
