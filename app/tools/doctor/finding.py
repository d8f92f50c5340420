"""What does the doctor hand over: what is there, what is wrong, and the cure?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. An "error" prevents every run; a "warning" costs something."""

    level: Level
    what: str
    cure: str


@dataclass(frozen=True, slots=True)
class Section:
    """One subject: lines for people, ``facts`` for machines, and what is wrong."""

    name: str
    lines: Sequence[str]
    facts: dict[str, Any]
    findings: Sequence[Finding]


def warning(what: str, cure: str) -> Finding:
    """It runs, but slower, with less, or not for long."""
    return Finding("warning", what, cure)


def error(what: str, cure: str) -> Finding:
    """Nothing runs."""
    return Finding("error", what, cure)


def only(found: Iterable[Finding | None]) -> list[Finding]:
    """What the checks found, without those that found nothing."""
    return [each for each in found if each is not None]
