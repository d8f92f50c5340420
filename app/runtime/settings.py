"""The settings of a run as its page sees them: described, read, checked, written and taken up."""

from __future__ import annotations

import hashlib
import json
import math
import re
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, asdict, fields, replace
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from ..analytics.rules import Rule
from ..analytics.zones import Line, Mask, Zone
from ..config import (
    SETTINGS,
    TABLES,
    Config,
    ConfigFile,
    Setting,
    nearest,
    parse_toml,
    read_config_file,
)
from ..core.credentials import HIDDEN, mask_credentials, mask_text
from ..core.errors import ConfigError
from ..core.events import EventType
from ..core.interfaces import SettingFault, SettingsRefused, Written
from ..pipeline.handoff import Policy
from ..pipeline.privacy import PrivateArea
from .filters import FILTERS
from .service import Reloader
from .tracking import ACTIONS
from .zones import KINDS, RunShapes

# what a page may not change: who may use it, where files are, what was decided at the start
_KEPT = ("headless", "window", "overwrite", "devices", "max_frames")
MOST_FAULTS = 16  # told at once
SEARCH_S = 2.5  # for cameras to answer, and then for what they tell of themselves
_FILES = re.compile("FILE|DIR")
_ROWS: dict[str, type] = {
    **{"zone": Zone, "line": Line, "mask": Mask, "privacy": PrivateArea, "rule": Rule}
}
_TYPES = {"int": "integer", "float": "number", "bool": "boolean"}
_CHOICES = {"when": get_args(EventType), "then": ACTIONS}  # of a rule, where they are plain texts


def _is_open(each: Setting) -> bool:
    key = each.key
    closed = each.table == "http" or each.path in _KEPT or key.writes
    closed = closed or bool(_FILES.search(key.metavar or ""))
    return not closed and ("run" in key.commands or not key.commands or each.path == "source")


OPEN = {each.path: each for each in SETTINGS if _is_open(each)}


class RunSettings:
    """See core.interfaces.LiveSettings. ``file``: where the run's configuration is from.

    ``config``: what it began with. ``reloader`` takes changes up; it is set once the run is built.
    """

    reloader: Reloader | None = None

    def __init__(self, file: ConfigFile | None, config: Config, shapes: RunShapes) -> None:
        self._file, self._config_at_start, self._shapes = file, config, shapes
        self._lock = threading.Lock()

    @property
    def schema(self) -> Mapping[str, Any]:
        """See core.interfaces."""
        return settings_schema()

    def read(self) -> dict[str, Any]:
        """See core.interfaces; raises SettingsRefused where the file cannot be read by now."""
        text, running = self._text(), self._running()
        told: dict[str, Any] = {
            "etag": _etag(text),
            "file": None if self._file is None else self._file.path.name,
            "values": _nested({path: OPEN[path] for path in OPEN}, _held(self._values(text))),
            "in_force": _nested(OPEN, {path: OPEN[path].of(running) for path in OPEN}),
            "flags": sorted(self._flags()),
            "after_restart": [],
        }
        if self._file is not None:
            told["after_restart"] = self._waiting(text, self._config(text), running)
        return told

    def discover(self) -> list[dict[str, Any]]:
        """See core.interfaces; takes up to twice SEARCH_S."""
        from ..sources.onvif import discover

        return [asdict(each) for each in discover(timeout_s=SEARCH_S)]

    def write(self, changes: Mapping[str, Any], etag: str | None) -> Written:
        """See core.interfaces."""
        if self._file is None:
            why = "this run has no file to keep settings in; start it with --config FILE"
            raise SettingsRefused("unwritable", _fault(None, why))
        text = self._text()
        if etag is not None and etag != _etag(text):
            raise SettingsRefused("stale")
        before = _held(self._values(text))
        wanted, wrong = _sifted(_flat(changes), before)
        if isinstance(before.get("score"), str):  # a text that also has those of classes
            both = read_config_file(self._file.path, text)
            for key in {"score", "class_scores"} - wanted.keys():
                wanted[key] = both.get(key)
        wanted = {path: v for path, v in wanted.items() if v != before.get(path)}
        made, faults = self._checked(text, wanted)
        if wrong or faults:
            raise SettingsRefused("wrong", *wrong, *faults)
        with self._lock:
            if self._text() != text:
                raise SettingsRefused("stale")
            self._save(made)
        self._take_up(made, wanted)
        told = (
            f"{path} = {_words(path, before.get(path))} -> {_words(path, value)}"
            for path, value in wanted.items()
        )
        return Written(tuple(wanted), tuple(self._flags() & wanted.keys()), "; ".join(told))

    # -- the file ----------------------------------------------------------------------------------

    def _text(self) -> str:
        try:
            return "" if self._file is None else self._file.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsRefused("unwritable", _fault(None, f"{error}")) from error

    def _values(self, text: str) -> dict[str, Any]:
        """The keys of the file as they stand there; tables in their long form."""
        try:
            return _long(parse_toml(text))
        except (ValueError, RecursionError) as error:
            raise SettingsRefused("unwritable", _fault(None, f"it is not TOML: {error}")) from error

    def _config(self, text: str) -> Config:
        assert self._file is not None
        try:
            return self._file.read(text)
        except ConfigError as error:
            raise SettingsRefused("unwritable", _fault(None, str(error))) from error

    def _save(self, text: str) -> None:
        from ..session.config_file import replace_file

        assert self._file is not None
        try:
            replace_file(self._file.path, text)
        except ConfigError as error:
            raise SettingsRefused("unwritable", _fault(None, str(error))) from error

    def _flags(self) -> set[str]:
        """What was given on the command line."""
        flags = set() if self._file is None else set(self._file.flags)
        return flags | {"source", "sources"} if flags & {"source", "sources"} else flags

    # -- the run -----------------------------------------------------------------------------------

    def _running(self) -> Config:
        shapes: dict[str, Any] = {kind: tuple(self._shapes.rows(kind)) for kind in KINDS}
        config = self._config_at_start if self.reloader is None else self.reloader.config
        return replace(config, **shapes)

    def _waiting(self, text: str, config: Config, running: Config) -> list[str]:
        """What the file says otherwise than the run does."""
        named = _held(self._values(text)).keys()
        return [
            each.path
            for each in SETTINGS
            if _plain(each.of(config)) != _plain(each.of(running))
            # the limits of snapshots and clips follow those of the store
            and (each.table not in ("events", "clips") or each.path in named)
        ]

    def _take_up(self, text: str, wanted: Collection[str]) -> None:
        """What was written and can be in force at once; what cannot be is told by ``read``."""
        if self.reloader is None:  # a window that has found no model
            return
        config, running = self._config(text), self._running()
        names = {OPEN[path].table or path for path in wanted}
        names |= {"events", "clips"} if "store" in names else set()  # their limits follow it
        try:
            self.reloader.apply(replace(running, **{n: getattr(config, n) for n in names}))
        except ConfigError:
            return

    # -- checking ----------------------------------------------------------------------------------

    def _checked(self, text: str, wanted: Mapping[str, Any]) -> tuple[str, list[SettingFault]]:
        """The file's text with the changes, and all that is wrong with them."""
        from ..session.config_file import edited

        def faults(changes: Mapping[str, Any]) -> tuple[str, list[str]]:
            try:
                made = edited(text, changes)
                return made, self._faults(made)
            except ConfigError as error:
                return text, [str(error)]

        made, found = faults(wanted)
        known = faults({})[1] if found else []  # what is wrong without the change, too
        told: list[SettingFault] = []
        rest = dict(wanted)
        while found := [each for each in found if each not in known]:
            without = {p: faults({k: v for k, v in rest.items() if k != p})[1] for p in rest}
            keys = [next((p for p in without if each not in without[p]), None) for each in found]
            told += [_fault(key, each) for key, each in zip(keys, found, strict=True)]
            if None in keys or len(told) > MOST_FAULTS:
                break
            rest = {path: value for path, value in rest.items() if path not in keys}
            found = faults(rest)[1]
        return made, told

    def _faults(self, text: str) -> list[str]:
        from .check import faults_of

        assert self._file is not None
        try:
            config = self._file.read(text)
        except ConfigError as error:
            start = f"--config {self._file.path}: "
            return [str(each).removeprefix(start) for each in error.each]
        return [str(each) for each in faults_of(config, Policy.LATEST, running=self._running())]


def _fault(key: str | None, text: str) -> SettingFault:
    """Messages say what is wrong, and after a semicolon what helps."""
    reason, mark, cure = mask_text(text).rpartition("; ")
    if not mark:
        return SettingFault(key, cure, "correct it, or leave it out")
    return SettingFault(key, reason, cure)


def _etag(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]


# -- values ----------------------------------------------------------------------------------------


def _long(data: dict[str, Any]) -> dict[str, Any]:
    """``store = "FOLDER"`` as ``[store] path = "FOLDER"``."""
    return {
        name: {fields(TABLES[name])[0].name: value}
        if name in TABLES and not isinstance(value, dict)
        else value
        for name, value in data.items()
    }


def _held(data: Mapping[str, Any]) -> dict[str, Any]:
    """What is there of ``OPEN``, by path."""
    flat = dict(data)
    for table in TABLES:
        flat |= {f"{table}.{key}": value for key, value in data.get(table, {}).items()}
    return {path: flat[path] for path in OPEN if path in flat}


def _nested(known: Mapping[str, Setting], flat: Mapping[str, Any]) -> dict[str, Any]:
    """As in the file; what is secret is hidden."""
    told: dict[str, Any] = {}
    for path in known:
        if path in flat:
            table, _, key = path.rpartition(".")
            (told.setdefault(table, {}) if table else told)[key] = _shown(path, flat[path])
    return told


def _shown(path: str, value: Any) -> Any:
    if value is not None and OPEN[path].key.secret:
        return HIDDEN
    if path == "source" and isinstance(value, str):
        return mask_credentials(value)
    if path == "sources":
        return [mask_credentials(each) if isinstance(each, str) else each for each in value]
    return _plain(value)


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _words(path: str, value: Any) -> str:
    """A value in a line of the log."""
    if path in ROW_KEYS:
        return f"{len(value or ())} tables"
    return "default" if value is None else json.dumps(_shown(path, value), ensure_ascii=False)


def _sifted(
    wanted: Mapping[str, Any], before: Mapping[str, Any]
) -> tuple[dict[str, Any], list[SettingFault]]:
    """What can be looked at, and the faults of the rest.

    What was hidden, and came back so, is as it is in the file.
    """
    texts = [before.get("source"), *(before.get("sources") or ())]
    uris = [_named(text)[1] for text in texts if isinstance(text, str)]
    known = {mask_credentials(uri): uri for uri in uris}

    def whole(text: Any) -> Any:
        if not isinstance(text, str):
            return text
        name, uri = _named(text)
        return name + known.get(uri, uri)

    made, faults = dict[str, Any](), list[SettingFault]()
    for path, value in wanted.items():
        if misfits := list(_misfits(path, value)):
            faults += misfits
            continue
        secret = OPEN[path].key.secret
        if path == "source":
            value = whole(value)
        elif path == "sources" and isinstance(value, list):
            value = [whole(each) for each in value]
        elif secret and value == HIDDEN:
            value = before.get(path, HIDDEN)
        elif path in ROW_KEYS:
            value = _without_none(value)
        if (secret or path in ("source", "sources")) and HIDDEN in str(value):
            why = f"it holds {HIDDEN} in place of what is not shown"
            faults.append(SettingFault(path, why, "write it whole"))
        else:
            made[path] = value
    return made, faults


def _named(text: str) -> tuple[str, str]:
    """``NAME=`` and the URI of a source; "" where it has no name."""
    name = re.match(r"(?:[A-Za-z0-9][A-Za-z0-9_-]{0,31}=)?", text)
    assert name is not None
    return name[0], text[name.end() :]


def _flat(changes: Mapping[str, Any]) -> dict[str, Any]:
    """By path."""
    flat: dict[str, Any] = {}
    for name, value in changes.items():
        if name in TABLES and isinstance(value, Mapping):
            flat |= {f"{name}.{key}": each for key, each in value.items()}
        else:
            flat[name] = value
    return flat


def _misfits(path: str, value: Any) -> Iterator[SettingFault]:
    """Of what is no setting, or no value that a file can hold."""
    if path not in OPEN:
        if any(each.path == path for each in SETTINGS):
            yield SettingFault(path, "it cannot be changed here", "change it in the file")
        else:
            table, dot, _ = path.rpartition(".")
            known = [each for each in OPEN if table and each.startswith(table + dot)] or OPEN
            cure = nearest(path, known) or f"there are {', '.join(known)}"
            yield SettingFault(path, "is not a setting", cure)
        return
    if path in ROW_KEYS and value is not None:
        known = settings_schema()["properties"][path]["items"]["properties"]
        if not isinstance(value, list) or not all(isinstance(row, Mapping) for row in value):
            yield SettingFault(path, "it must be a list of tables", "send a list of objects")
            return
        for key in {key: None for row in value for key in row if key not in known}:
            cure = nearest(key, known) or f"it takes {', '.join(known)}"
            yield SettingFault(path, f"{key[:80]!r} is not known here", cure)
        value = _without_none(value)
    if (wrong := _unwritable(value)) is not None:
        yield SettingFault(path, wrong, "send another value")


def _without_none(rows: Any) -> Any:
    return rows and [{k: v for k, v in row.items() if v is not None} for row in rows]


def _unwritable(value: Any, depth: int = 0) -> str | None:
    """Why no file can hold it; None itself takes a key out."""
    if isinstance(value, Mapping | list | tuple):
        inner = list(value.values()) if isinstance(value, Mapping) else list(value)
        if depth > 4:
            return "it is nested too deeply"
        if any(each is None for each in inner):
            return "a list or table holds null"
        return next(filter(None, (_unwritable(each, depth + 1) for each in inner)), None)
    if isinstance(value, float) and not math.isfinite(value):
        return "it is not finite"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "it is too large"
    if isinstance(value, str) and re.search("[\ud800-\udfff\0]", value):
        return "it holds what is no text"
    return None


# -- what there is ---------------------------------------------------------------------------------


@cache
def settings_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the keys that may be changed, from their declarations.

    ``x-live``: a change is in force at once. ``x-secret``: it is never shown. ``x-example``: how it
    is written. null takes a key out of the file.
    """
    properties: dict[str, Any] = {}
    for path, each in OPEN.items():
        if not each.table:
            properties[path] = _schema_of(each)
            continue
        if each.table not in properties:
            about = " ".join((TABLES[each.table].__doc__ or "").split())
            properties[each.table] = _object(about, {})
        properties[each.table]["properties"][each.name] = _schema_of(each)
    return _object(
        "Settings of the configuration file; those that are not there are absent.", properties
    )


def _object(about: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": about,
        "properties": properties,
        "additionalProperties": False,
    }


def _schema_of(each: Setting) -> dict[str, Any]:
    key, kind = each.key, each.kind
    told: dict[str, Any] = {"description": key.help}
    if key.choices:
        told["enum"] = [*key.choices, None]
    elif each.path in ROW_KEYS:
        rows = _row_schema(_ROWS[each.path]) if each.path in _ROWS else _filter_schema()
        told |= {"type": ["array", "null"], "items": rows, "maxItems": 256}
    elif kind.startswith(("tuple", "list")):
        told |= {"type": ["array", "null"], "items": {"type": "string"}}
    else:
        plain = _TYPES.get(kind, "string")
        # of all classes, or with those of some: "0.4,person=0.5"
        told["type"] = [plain, "string", "null"] if each.path == "score" else [plain, "null"]
    if key.limits:
        told["minimum"], told["maximum"] = key.limits
    if each.default not in (None, (), []):
        told["default"] = each.default
    if key.metavar:
        told["x-example"] = key.metavar
    told["x-live"] = key.reload
    if key.secret:
        told["x-secret"] = True
    return told


def _row_schema(kind: type) -> dict[str, Any]:
    """Of a table such as ``[[zone]]``, from the dataclass that it is read into."""
    hints = get_type_hints(kind)
    properties = {each.name: _hint_schema(hints[each.name], each.name) for each in fields(kind)}
    made = _object(" ".join((kind.__doc__ or "").split()), properties)
    for each in fields(kind):
        if each.default is not MISSING and each.default not in (None, ()):
            properties[each.name]["default"] = each.default
    properties["source"] = {"type": "string", "description": "of several the one that it is about"}
    return {**made, "required": [f.name for f in fields(kind) if f.default is MISSING]}


def _hint_schema(hint: Any, name: str = "") -> dict[str, Any]:
    inner, origin = get_args(hint), get_origin(hint)
    if origin is tuple:
        items = _hint_schema(inner[0], name)
        if inner[-1] is Ellipsis:
            return {"type": "array", "items": items}
        return {"type": "array", "items": items, "minItems": len(inner), "maxItems": len(inner)}
    if inner and type(None) in inner:
        return _hint_schema(inner[0], name)
    if inner:
        return {"enum": list(inner)}
    if hint is str and name in _CHOICES:
        return {"enum": list(_CHOICES[name])}
    return {"type": _TYPES.get(hint.__name__, "string")}


def _filter_schema() -> dict[str, Any]:
    properties = {name: _schema_of(OPEN[name]) for name in FILTERS}
    properties["source"] = {"type": "string", "description": "of several the one that it is about"}
    return _object("Filters of one source, over those of the whole run.", properties)


ROW_KEYS = tuple(each.path for each in SETTINGS if each.kind == "tuple[Table, ...]")
