"""The registry of detector families: each file of this folder declares some, but base.py and
row_forms.py."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from .base import Family, Parameter

__all__ = ["ANY_SIZE", "FAMILIES", "FAMILY_NAMES", "decoder_keys", "find_family"]


def _declared() -> dict[tuple[str, str | None], Family]:
    """The forms that each file declares, by name and variant. Raises TypeError without any."""
    found: dict[tuple[str, str | None], Family] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        if module.name.endswith((".base", ".row_forms")):
            continue
        declared = [v for v in vars(import_module(module.name)).values() if isinstance(v, Family)]
        if not declared:
            raise TypeError(f"{module.name} must set FAMILY = Family(...)")
        for family in declared:
            if found.setdefault((family.name, family.variant), family) is not family:
                raise TypeError(f"{module.name}: another file declares family {family.title}, too")
    return found


_BY_NAME = _declared()
FAMILIES: tuple[Family, ...] = tuple(_BY_NAME.values())
FAMILY_NAMES: tuple[str, ...] = tuple(dict.fromkeys(family.name for family in FAMILIES))
ANY_SIZE: tuple[str, ...] = tuple(dict.fromkeys(f.name for f in FAMILIES if f.any_size))


def find_family(name: str, parameters: Mapping[str, Any]) -> Family:
    """The form of a family that a manifest's [decoder] means. Raises KeyError for unknown names."""
    for family in FAMILIES:
        if family.name == name and family.variant and parameters.get(family.variant):
            return family
    return _BY_NAME[name, None]


def decoder_keys(name: str) -> dict[str, Parameter]:
    """What a manifest's [decoder] may have besides ``family``, by key, in all forms of a family."""
    return {p.name: p for family in FAMILIES if family.name == name for p in family.keys}
