"""Command-line flags from the declarations in config.py, and a parser that names what was meant."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..config import SETTINGS, TABLES, Config, Setting, make_config, nearest
from ..core.credentials import mask_text


class Parser(argparse.ArgumentParser):
    """Names the nearest option or choice for one that is unknown; takes no abbreviations."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse does; options that this parser does not know end the program."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self._refuse(unknown)
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """See argparse.ArgumentParser; what was typed may hold a password."""
        super().error(mask_text(message))

    def _refuse(self, unknown: Sequence[str]) -> NoReturn:
        meant = nearest(unknown[0].partition("=")[0], self._option_string_actions)
        self.error("; ".join(filter(None, (f"unrecognized arguments: {' '.join(unknown)}", meant))))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as fault:
            meant = nearest(str(value), [str(each) for each in action.choices or ()])
            if not meant:
                raise
            raise argparse.ArgumentError(action, f"{fault.message}; {meant}") from None


def add_flags(parser: argparse.ArgumentParser, command: str) -> None:
    """The flags that ``command`` takes. One that is not given is not in the parsed arguments."""
    groups = {
        name: parser.add_argument_group(f"[{name}]", (kind.__doc__ or "").splitlines()[0])
        for name, kind in TABLES.items()
        if any(each.table == name and command in each.key.commands for each in SETTINGS)
    }
    for each in SETTINGS:
        if command in each.key.commands:
            group = groups.get(each.table, parser)
            text = each.key.helps.get(command, each.key.help).replace("%", "%%")
            group.add_argument(
                each.flag, dest=each.path, default=argparse.SUPPRESS, help=text, **_taking(each)
            )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML")


def _taking(setting: Setting) -> dict[str, Any]:
    """How argparse reads the values of a key."""
    kind, key = setting.kind, setting.key
    if kind == "bool":
        return {"action": argparse.BooleanOptionalAction}
    if key.choices:
        return {"choices": key.choices}
    words = {"metavar": key.metavar or ("N" if kind in ("int", "float") else setting.name.upper())}
    if kind in ("tuple[str, ...]", "list[str]"):
        return {"action": "append", **words}
    types = {"int": int, "float": float, "tuple[int, ...]": _numbers}
    return {"type": types.get(kind, str), **words}


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 0,1") from None


def config_of(args: argparse.Namespace) -> Config:
    """The Config of the flags that were given, and of the file that --config names."""
    known = {each.path for each in SETTINGS}
    flags = {name: value for name, value in vars(args).items() if name in known}
    return make_config(flags, args.config)
