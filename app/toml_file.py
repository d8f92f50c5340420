"""The file of settings as TOML: its short forms, and the types that its keys have."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from .core.errors import ConfigError
from .core.filters import split_score
from .options import nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

log = logging.getLogger(__name__)

# keys of older files that went with what they set: such a file still runs
_WITHDRAWN = {
    "events": {"appear_frames": "confirm_score in [track]", "gone_s": "lost_s in [track]"},
}


def parse_toml(text: str) -> dict[str, Any]:
    """The values of a TOML text. Raises ValueError, or RecursionError."""
    data: dict[str, Any] = tomllib.loads(text)
    return data


def split_streams(values: dict[str, Any]) -> dict[str, Any]:
    """``[source] detect = …, record = …``, or ``[source.NAME]`` each, into lists of sources."""
    given = values.get("source")
    if not isinstance(given, dict):
        return values
    del values["source"]
    tables = given if all(isinstance(each, dict) for each in given.values()) else {"": given}
    for name, table in tables.items():
        if not (table.keys() <= {"detect", "record"} and isinstance(table.get("detect"), str)):
            others = table.keys() - {"detect", "record"}
            what = f"does not know {min(others)!r}" if others else "lacks detect"
            where = ".".join(filter(None, ("source", name)))
            raise ConfigError(f"[{where}] {what}; it takes detect = URI, and record = URI")
        for kind, target in (("detect", "sources"), ("record", "record_sources")):
            if kind in table:
                text = f"{name}={table[kind]}" if name else table[kind]
                values.setdefault(target, []).append(text)
    if list(tables) == [""] and len(values["sources"]) == 1:
        values["source"] = values.pop("sources")[0]
    return values


def split_scores(values: Mapping[str, Any]) -> dict[str, Any]:
    """``score`` may be a text that also has thresholds of classes: these go where they belong."""
    values = dict(values)
    if isinstance(values.get("score"), str):
        plain, pairs = split_score(values.pop("score"))
        if plain is not None:
            values["score"] = plain
        if pairs:
            values["class_scores"] = [*values.get("class_scores", ()), *pairs]
    return values


def leave_withdrawn(given: dict[str, Any], table: str, file: Path) -> None:
    """Take out, and tell, what set something that is no more."""
    for name in given.keys() & _WITHDRAWN.get(table, {}).keys():
        del given[name]
        log.warning(
            "--config %s, [%s]: %s does nothing any more; its place is taken by %s",
            *(file, table, name, _WITHDRAWN[table][name]),
        )


_TYPES: dict[str, type | tuple[type, ...]] = {"int": int, "float": (int, float), "bool": bool}
_WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}
_LISTS: dict[str, tuple[type, str]] = {
    "list[str]": (str, "texts"),
    "tuple[str, ...]": (str, "texts"),
    "tuple[int, ...]": (int, "whole numbers"),
    "tuple[Table, ...]": (dict, "tables, each headed by its name in double brackets"),
}


def misfits(data: Mapping[str, Any], kind: type, where: str) -> Iterator[tuple[str, ConfigError]]:
    """Each key that ``kind`` does not have, or whose value is of another type, with its fault."""
    known = {each.name: each for each in fields(kind)}
    for name, value in data.items():
        if name not in known:
            meant = nearest(name, known) or f"known are: {', '.join(known)}"
            yield name, ConfigError(f"{where}{name!r} is not a setting; {meant}")
            continue
        wanted = str(known[name].type).removesuffix(" | None")
        if wanted in _LISTS:
            member, words = _LISTS[wanted]
            fits = isinstance(value, list) and all(type(each) is member for each in value)
            wanted = f"a list of {words}"
        elif "table" in known[name].metadata:
            fits, wanted = isinstance(value, dict), "a table"
        else:
            wanted = wanted if wanted in _TYPES else "str"  # choices are texts
            fits = isinstance(value, _TYPES.get(wanted, str))
            fits = fits and (wanted == "bool" or not isinstance(value, bool))
        if not fits:
            word = _WORDS.get(wanted, wanted)
            yield name, ConfigError(f"{where}{name} must be {word}, is {value!r}")
