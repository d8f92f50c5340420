"""Where does a report go, and what do all reports begin with?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from app import __version__
from app.errors import ConfigError
from app.tools.machine import device

SCHEMA = Path(__file__).with_name("schema.json")


def header(kind: str) -> dict[str, Any]:
    """``kind``: "run", "sweep" or "startup", as in schema.json."""
    return {
        "kind": kind,
        "kestrel": __version__,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": device(),
    }


@dataclass(frozen=True, slots=True)
class Destination:
    """What --json and --html name. ``json`` "-": standard output, and nothing else there."""

    json: str | None = None
    html: Path | None = None

    def check(self) -> None:
        """Raise ConfigError before anything is measured in vain."""
        files = {"--json": self.json if self.json != "-" else None, "--html": self.html}
        for flag, file in files.items():
            if file is not None and not Path(file).parent.is_dir():
                raise ConfigError(f"{flag} {file}: the folder does not exist; make it first")

    def give(self, report: Mapping[str, Any], table: str) -> int:
        """Print and write."""
        text = json.dumps(report, indent=1)
        print(text if self.json == "-" else table)
        if self.json not in (None, "-"):
            _write("--json", Path(str(self.json)), text + "\n")
        if self.html is not None:
            from app.tools.bench.html import page

            _write("--html", self.html, page(report))
        return 0


def _write(flag: str, path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {flag} {path}: {error.strerror}") from error
