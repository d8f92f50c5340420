"""Would an output overwrite an input, or another output?"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

from app.errors import ConfigError


def refuse_clashes(*, outputs: Mapping[str, str | None], inputs: Mapping[str, str | None]) -> None:
    """Raise ConfigError if an output is also an input or another output; devices may repeat."""
    files = {
        name: Path(value.removeprefix("file://"))
        for name, value in {**outputs, **inputs}.items()
        if value is not None and value != "-"
    }
    for one, other in combinations(files, 2):
        if one in outputs and _same(files[one], files[other]):
            raise ConfigError(
                f"{one} {files[one]} is also {other}, which it would overwrite; name another file"
            )


def _same(a: Path, b: Path) -> bool:
    try:
        if a.exists() and b.exists():
            return a.samefile(b) and a.is_file()
        return a.resolve() == b.resolve()
    except (OSError, ValueError):  # a URI, or a name that the system cannot have
        return False
