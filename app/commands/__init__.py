"""The commands, and what their reports have in common: header, text table and destinations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .. import __version__
from ..core.errors import ConfigError
from ..ops.machine import device


def header(kind: str) -> dict[str, Any]:
    """How a report begins. ``kind``: "soak", or "run", "sweep", "startup", "cameras", "glass"."""
    return {
        "kind": kind,
        "kestrel": __version__,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": device(),
    }


def columns(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False
) -> list[str]:
    """The lines of a table. ``numbers``: all columns but the first are aligned to the right."""
    table = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if numbers and i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def figure(value: float | None, spec: str = ".2f") -> str:
    """A cell of a table; what is unavailable is a dash, never 0."""
    return "–" if value is None else format(value, spec)


@dataclass(frozen=True, slots=True)
class Destination:
    """What --json and --html name. ``json`` "-": standard output, and nothing else there.

    Raises ConfigError for a folder that does not exist, before anything is measured in vain.
    """

    json: str | None = None
    html: Path | None = None

    def __post_init__(self) -> None:
        for flag, path in self._files():
            if not path.parent.is_dir():
                raise ConfigError(f"{flag} {path}: the folder does not exist; make it first")

    def give(
        self,
        report: Mapping[str, Any],
        table: str,
        page: Callable[[Mapping[str, Any]], str] | None = None,
    ) -> int:
        """Print the table or the JSON, and write the files; ``page`` makes the HTML."""
        text = json.dumps(report, indent=1, allow_nan=False)
        print(text if self.json == "-" else table)
        for flag, path in self._files():
            content = page(report) if page and flag == "--html" else text + "\n"
            try:
                path.write_text(content, encoding="utf-8")
            except OSError as error:
                raise ConfigError(f"cannot write {flag} {path}: {error.strerror}") from error
        return 0

    def _files(self) -> list[tuple[str, Path]]:
        named = {"--json": None if self.json == "-" else self.json, "--html": self.html}
        return [(flag, Path(name)) for flag, name in named.items() if name is not None]
