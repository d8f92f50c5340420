"""A table of the configuration file as one of the frozen dataclasses of this package."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ..core.errors import ConfigError

T = TypeVar("T")


def read_table(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """The dataclass ``kind`` with the values of ``table``.

    Keys have the names of its fields; arrays become tuples. Raises ConfigError that names ``where``
    ("[[zone]] 2"), the key, and what it may be.
    """
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            cure = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known)}"
            raise ConfigError(f"{where} has an unknown key {key!r}: {cure}")
    for name, each in known.items():
        if name not in table and each.default is MISSING and each.default_factory is MISSING:
            raise ConfigError(f"{where} lacks {name!r}; write {name} = …")
    return kind(**{k: _value(v, hints[k], f"{k} in {where}") for k, v in table.items()})


def one_of(value: str, known: Iterable[str], where: str) -> str:
    """``value`` where it is among ``known``; raises ConfigError that tells the nearest."""
    names = list(known)
    if value in names:
        return value
    near = difflib.get_close_matches(value, names, 1)
    cure = f"did you mean {near[0]!r}?" if near else f"it may be {', '.join(names[:20]) or 'none'}"
    raise ConfigError(f"{where} is {value!r}, which is not known: {cure}")


def _value(value: Any, hint: Any, where: str) -> Any:
    kind, inner = get_origin(hint), get_args(hint)
    if kind is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} is {value!r}; it must be an array in brackets")
        if inner[-1] is not Ellipsis and len(value) != len(inner):
            raise ConfigError(f"{where} has {len(value)} values; it must have {len(inner)}")
        return tuple(_value(each, inner[0], where) for each in value)
    if inner and kind is not None and not isinstance(kind, type):  # Literal
        return (
            one_of(value, inner, where) if isinstance(value, str) else _wrong(value, inner, where)
        )
    if inner:  # a type or None
        return _value(value, inner[0], where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        _wrong(value, hint.__name__, where)
    return value


def _wrong(value: Any, wanted: Any, where: str) -> Any:
    raise ConfigError(f"{where} is {value!r}; it must be of type or among {wanted}")
