"""Writes zones and lines into a TOML file, whose comments and other tables stay as they are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError

Rows = Sequence[Mapping[str, Any]]


def save_tables(file: Path, tables: Mapping[str, Rows]) -> None:
    """Make ``[[zone]]``, ``[[line]]`` of ``file`` be these rows; other keys are left alone.

    A row is the one of before if it has its name, else if it has its points. The file is replaced
    at once, never half written; it is made where there is none. Raises ConfigError.
    """
    try:
        import tomlkit
        from tomlkit.exceptions import TOMLKitError
    except ImportError as error:
        raise ConfigError(
            f"saving zones needs tomlkit ({error}); pip install -r requirements.txt"
        ) from error
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        document = tomlkit.parse(text)
        for key, rows in tables.items():
            _write(document, key, rows)
        part = file.with_name(f"{file.name}.{os.getpid()}.part")
        part.write_text(tomlkit.dumps(document), encoding="utf-8")
        if file.exists():
            part.chmod(file.stat().st_mode & 0o777)
        part.replace(file.resolve())
    except (OSError, UnicodeDecodeError) as error:
        told = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot save zones in {file}: {told}; choose another file") from error
    except TOMLKitError as error:
        raise ConfigError(f"cannot save zones in {file}, as it is not TOML: {error}") from error


def _write(document: Any, key: str, rows: Rows) -> None:
    import tomlkit
    from tomlkit.items import AoT

    held = document.get(key)
    old = [] if held is None else list(held)
    free = [dict(each.unwrap()) for each in old]
    left = set(range(len(old)))
    found: dict[int, int] = {}
    for mark in ("name", "points"):
        for number, row in enumerate(rows):
            same = (i for i in sorted(left) if free[i].get(mark) == row[mark])
            if number not in found and (i := next(same, None)) is not None:
                found[number] = i
                left.discard(i)
    made = [old[found[i]] if i in found else tomlkit.table() for i in range(len(rows))]
    for table, row in zip(made, rows, strict=True):
        for name in [name for name in table if name not in row]:
            table.remove(name)
        for name, value in row.items():
            if name not in table or table[name].unwrap() != value:
                table[name] = value
    if not made:
        document.pop(key, None)
    elif len(made) == len(old) and all(a is b for a, b in zip(made, old, strict=True)):
        return  # changed in place
    elif isinstance(held, AoT) and all(a is b for a, b in zip(old, made, strict=False)):
        for table in made[len(old) :]:
            held.append(table)
    else:
        tables = tomlkit.aot()
        for table in made:
            tables.append(table)
        if key in document:
            document[key] = tables
        else:
            document.append(key, tables)
