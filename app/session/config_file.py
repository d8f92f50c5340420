"""Changes a TOML file of settings, whose comments and other keys stay as they are."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..config import SETTINGS, TABLES
from ..core.errors import ConfigError

Rows = Sequence[Mapping[str, Any]]
ROWS = tuple(each.path for each in SETTINGS if each.kind == "tuple[Table, ...]")


def save_tables(file: Path, tables: Mapping[str, Rows]) -> None:
    """Make ``[[zone]]``, ``[[line]]`` of ``file`` be these rows; other keys are left alone.

    The file is made where there is none. Raises ConfigError.
    """
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise _unwritable(file, error) from error
    replace_file(file, edited(text, {key: [*rows] for key, rows in tables.items()}))


def edited(text: str, changes: Mapping[str, Any]) -> str:
    """The text of a file with other values; raises ConfigError where it is no TOML.

    ``changes``: by ``key`` or ``table.key``; None takes one out. Of a list of tables a row is the
    one of before if it has its name, else if it has its points, else its source.
    """
    try:
        import tomlkit
        from tomlkit.exceptions import TOMLKitError
    except ImportError as error:
        raise ConfigError(
            f"saving settings needs tomlkit ({error}); pip install -r requirements.txt"
        ) from error
    try:
        tomlkit.parse(text)
        for path, value in changes.items():
            document = tomlkit.parse(text)  # anew, as comments were moved in its body
            _change(document, path, value)
            text = tomlkit.dumps(document)
        return text
    except TOMLKitError as error:
        raise ConfigError(f"settings cannot be saved in what is not TOML: {error}") from error


def replace_file(file: Path, text: str) -> None:
    """Make this the file's text, at once: nobody sees half of it, and no power cut leaves half.

    It keeps its mode; a link still leads to it. Raises ConfigError.
    """
    part = ""
    try:
        file = file.resolve()
        mode = file.stat().st_mode & 0o777 if file.exists() else 0o644
        fd, part = tempfile.mkstemp(prefix=f"{file.name}.", suffix=".part", dir=file.parent)
        with os.fdopen(fd, "w", encoding="utf-8", newline="") as out:
            os.fchmod(fd, mode)
            out.write(text)
            out.flush()
            os.fsync(fd)
        Path(part).replace(file)
    except (OSError, UnicodeEncodeError) as error:
        if part:
            Path(part).unlink(missing_ok=True)
        raise _unwritable(file, error) from error


def _unwritable(file: Path, error: Exception) -> ConfigError:
    told = getattr(error, "strerror", None) or error
    return ConfigError(f"cannot save settings in {file}: {told}; choose another file")


def _change(document: Any, path: str, value: Any) -> None:
    import tomlkit

    table, _, key = path.rpartition(".")
    if path in ROWS:
        _write_rows(document, key, value or [])
        return
    held = document.get(table) if table else document
    if held is None and value is None:
        return
    if not isinstance(held, dict):  # no such table yet, or its short form: store = "FOLDER"
        made = tomlkit.table()
        if held is not None:
            document.remove(table)
            made[fields(TABLES[table])[0].name] = held
        document.append(table, made)
    holder = document[table] if table else document
    if value is None:
        holder.pop(key, None)
    elif key not in holder:
        _put(holder, key, value)
    elif holder[key] != value:
        holder[key] = value


def _put(holder: Any, key: str, value: Any) -> None:
    """A new key behind the others, so that comments stay in front of the table they are about."""
    import tomlkit
    from tomlkit.items import AoT, Table

    container = holder.value if isinstance(holder, Table) else holder
    plain = [i for i, (k, v) in enumerate(container.body) if k and not isinstance(v, Table | AoT)]
    at = plain[-1] + 1 if plain else 0
    if at < len(container.body):
        container._insert_at(at, key, tomlkit.item(value))
    else:
        holder[key] = value


def _write_rows(document: Any, key: str, rows: Rows) -> None:
    import tomlkit
    from tomlkit.items import AoT

    held = document.get(key)
    old = [] if held is None else list(held)
    free = [dict(each.unwrap()) for each in old]
    left = set(range(len(old)))
    found: dict[int, int] = {}
    for mark in ("name", "points", "source"):
        for number, row in enumerate(rows):
            same = (i for i in sorted(left) if mark in row and free[i].get(mark) == row[mark])
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
    if len(made) == len(old) and all(a is b for a, b in zip(made, old, strict=True)):
        return  # changed in place
    rest = _take_rest(old[-1]) if isinstance(held, AoT) else []
    if not made:
        at = next((i for i, (k, _) in enumerate(document.body) if k and k.key == key), 0)
        document.pop(key, None)
        document.body[at:at] = rest
        return
    if isinstance(held, AoT) and all(a is b for a, b in zip(old, made, strict=False)):
        for table in made[len(old) :]:
            table.trivia.indent = "\n"  # a blank line
            held.append(table)
    else:
        tables = tomlkit.aot()
        for table in made:
            tables.append(table)
        if key in document:
            document[key] = tables
        else:
            document.append(key, tables)
    made[-1].value.body.extend(rest)


def _take_rest(row: Any) -> list[Any]:
    """Takes blank lines and comments off the end of a row: they are about what comes next."""
    from tomlkit.items import Whitespace

    body = row.value.body
    at = max((i for i, (key, _) in enumerate(body) if key), default=-1) + 1
    while at < len(body) and not isinstance(body[at][1], Whitespace):
        at += 1
    rest = body[at:]
    del body[at:]
    return list(rest)
