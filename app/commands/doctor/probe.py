"""Doctor: its findings, and the readers of the machine that tests replace."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ...core.package import child_command

Level = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. An "error" prevents every run; a "warning" costs something."""

    level: Level
    what: str
    cure: str


@dataclass(slots=True)
class Section:
    """One subject: lines for people, ``facts`` for machines, and what is wrong.

    A subject is one function: it gathers the facts, says what it saw, and judges it.
    """

    name: str
    lines: Sequence[str]
    facts: dict[str, Any]
    findings: list[Finding] = field(default_factory=list)

    def warn(self, what: str, cure: str) -> None:
        """It runs, but slower, with less, or not for long."""
        self.findings.append(Finding("warning", what, cure))

    def error(self, what: str, cure: str) -> None:
        """Nothing runs."""
        self.findings.append(Finding("error", what, cure))


TIMEOUT_S = 30.0  # the first import of a large library from a slow card


class Answer(NamedTuple):
    """What a command said; ``code``: negative for a signal, 127 where there is no such command."""

    code: int
    out: str
    err: str = ""


def run_command(words: Sequence[str]) -> Answer:
    """Run it, for ``TIMEOUT_S`` at most."""
    try:
        done = subprocess.run(
            list(words),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return Answer(124, "", f"no answer within {TIMEOUT_S:g} s")
    except OSError as fault:
        return Answer(127, "", str(fault.strerror))
    return Answer(done.returncode, done.stdout, done.stderr)


def package_version(name: str) -> str | None:
    """Of an installed distribution; None where it is not installed by pip (or not at all)."""
    try:
        return installed_version(name)
    except PackageNotFoundError:
        return None


def started_with() -> dict[str, str]:
    """The environment that the user gave us; OpenCV, once imported, has changed our own."""
    try:
        pairs = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return dict(os.environ)
    return dict(os.fsdecode(pair).split("=", 1) for pair in pairs if b"=" in pair)


@dataclass(frozen=True, slots=True)
class Probe:
    """Files below ``root``, commands, the environment and pip's packages."""

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=started_with)
    run: Callable[[Sequence[str]], Answer] = run_command
    which: Callable[[str], str | None] = shutil.which
    version: Callable[[str], str | None] = package_version
    may_use: Callable[[Path], bool] = lambda path: os.access(path, os.R_OK | os.W_OK)

    def path(self, name: str) -> Path:
        """``name`` is absolute, as on the machine itself."""
        return self.root / name.lstrip("/")

    def read(self, name: str) -> str | None:
        """The text of a file, None where it cannot be read."""
        try:
            return self.path(name).read_text("utf-8", errors="replace").strip("\0\n ")
        except OSError:
            return None

    def glob(self, pattern: str) -> list[str]:
        """Absolute names that match, sorted."""
        found = self.root.glob(pattern.lstrip("/"))
        return sorted(f"/{path.relative_to(self.root)}" for path in found)

    def first(self, names: Sequence[str]) -> str | None:
        """The first of the names that is there."""
        return next((name for name in names if self.path(name).exists()), None)

    def ask(self, question: str) -> tuple[dict[str, Any] | None, str]:
        """The answer of questions.py, given by a child, or why there is none."""
        answer = self.run(child_command("commands.doctor.questions:answer", question))
        lines = answer.out.strip().splitlines()
        if answer.code == 0 and lines:
            told: dict[str, Any] = json.loads(lines[-1])
            return told, ""
        said = answer.err.strip().splitlines()
        if answer.code < 0:
            return None, f"ended by signal {-answer.code}" + (f": {said[-1]}" if said else "")
        return None, said[-1] if said else f"exit code {answer.code}"
