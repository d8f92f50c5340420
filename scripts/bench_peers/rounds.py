"""Rounds: each peer in a process of its own, all of them in every round, one at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.bench_peers.boxes import Frames
from scripts.bench_peers.contract import NotHere, Run

TIMEOUT_S = 900.0


class Failed(Exception):
    """A peer that is here did not get through; the report names it, and the verdict fails."""


@dataclass
class Outcome:
    """What a peer gave over all rounds. ``frames``: the boxes of its last run."""

    fps: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    frames: Frames = ()
    detail: dict[str, Any] = field(default_factory=dict)
    absent: str | None = None
    failed: str | None = None

    @property
    def out(self) -> bool:
        return self.absent is not None or self.failed is not None


Ask = Callable[[str], Run]


def interleave(
    names: Sequence[str], rounds: int, ask: Ask, tell: Callable[[str], None]
) -> dict[str, Outcome]:
    """``rounds`` times all peers, so that what else the machine does meets each of them alike.

    The order turns by one each round: none always runs after the same other one.
    """
    outcomes = {name: Outcome() for name in names}
    for turn in range(rounds):
        at = turn % len(names)
        for name in (*names[at:], *names[:at]):
            outcome = outcomes[name]
            if outcome.out:
                continue
            try:
                run = ask(name)
            except NotHere as reason:
                outcome.absent = str(reason)
                tell(f"{name}: not here: {reason}")
                continue
            except Failed as reason:
                outcome.failed = str(reason)
                tell(f"{name}: FAILED: {reason}")
                continue
            outcome.fps.append(run.fps)
            outcome.cpu_ms.append(run.cpu_ms)
            outcome.frames, outcome.detail = run.frames, run.detail
            tell(f"round {turn + 1}, {name}: {run.fps:.1f} FPS, {run.cpu_ms:.2f} ms CPU a frame")
    return outcomes


def in_a_process(clip: str, model: str, *, timeout_s: float = TIMEOUT_S) -> Ask:
    """Ask a peer in a fresh process of this Python."""

    def ask(name: str) -> Run:
        with tempfile.TemporaryDirectory() as folder:
            answer = Path(folder) / "answer.json"
            command = [sys.executable, "-m", "scripts.bench_peers", "--source", clip]
            command += ["--model", model, "--peer", name, "--json", str(answer)]
            return _read(_run(command, timeout_s), answer)

    return ask


def _run(command: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    quiet = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, env=quiet, check=False
        )
    except subprocess.TimeoutExpired as fault:
        raise Failed(f"no end within {timeout_s:g} s") from fault


def _read(done: subprocess.CompletedProcess[str], answer: Path) -> Run:
    if done.returncode or not answer.exists():
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Failed(f"exit code {done.returncode}: {last}")
    data = json.loads(answer.read_text())
    if "absent" in data:
        raise NotHere(data["absent"])
    return Run.from_json(data)
