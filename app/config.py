"""What can be set, with which default, unit and limits? Flags over TOML file over defaults."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from app.errors import ConfigError
from app.ladder import parse_ladder
from app.named_sources import parse_sources
from app.output_options import (
    ClipOptions,
    EventOptions,
    HttpOptions,
    MqttOptions,
    RecordOptions,
    WebhookOptions,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Engine = Literal["auto", "cpu", "openvino", "cuda", "ort-cuda", "ort-tensorrt"]
ENGINES: tuple[str, ...] = get_args(Engine)
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
Transfer = Literal["auto", "pinned", "mapped"]
TRANSFERS: tuple[str, ...] = get_args(Transfer)
RtspTransport = Literal["auto", "tcp", "udp"]
RTSP_TRANSPORTS: tuple[str, ...] = get_args(RtspTransport)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One run. None means: chosen by what is there, and told in the log."""

    source: str | None = None
    sources: tuple[str, ...] = ()  # run: several at once, each URI or NAME=URI
    devices: tuple[int, ...] = ()  # run: GPUs, one process each, over which sources are spread
    batch: int | None = None  # frames of several sources that go through the network at once
    model: str | None = None
    engine: Engine = "auto"
    precision: Precision = "auto"
    headless: bool = False
    window: bool = False
    json: str | None = None
    expect: str | None = None
    max_frames: int | None = None
    max_age_ms: float | None = None
    ladder: tuple[str, ...] = ()  # run: what to spare when frames grow older than max_age_ms
    score: float | None = None
    iou: float | None = None
    isolate: bool | None = None
    realtime: bool = False
    open_timeout_s: float = 10.0
    read_timeout_s: float = 10.0
    canary_s: float | None = None
    trace: str | None = None  # run: written, replay: repeated
    rtsp_transport: RtspTransport = "auto"
    reconnect: bool = True  # run: a camera or stream that is lost is opened again
    wait: bool = False  # run: also wait for one that is not there at the start
    retry_s: float = 1.0  # longest wait between two attempts
    freeze_s: float = 30.0  # the very same picture for so long is a lost source; 0: never
    workers: int | None = None
    threads: int | None = None
    slots: int | None = None  # frames in flight at most
    transfer: Transfer = "auto"  # of frames to a GPU: copied, or reached into by it
    record: RecordOptions = field(default_factory=RecordOptions)
    clips: ClipOptions = field(default_factory=ClipOptions)
    mqtt: MqttOptions = field(default_factory=MqttOptions)
    http: HttpOptions = field(default_factory=HttpOptions)
    webhook: WebhookOptions = field(default_factory=WebhookOptions)
    events: EventOptions = field(default_factory=EventOptions)

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ConfigError(f"engine is {self.engine!r}; choose one of {', '.join(ENGINES)}")
        if self.precision not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise ConfigError(f"precision is {self.precision!r}; choose one of {known}")
        if self.source is not None and self.sources:
            raise ConfigError("source is for one, sources for several: leave one of them out")
        parse_sources(self.sources)
        if self.devices and not self.sources:
            raise ConfigError("devices are for several sources: give sources, or leave devices out")
        if len(set(self.devices)) < len(self.devices) or min(self.devices, default=0) < 0:
            raise ConfigError(f"devices is {list(self.devices)}; write each GPU's number once")
        if self.devices and self.window:
            raise ConfigError("devices run headless; leave window out")
        if self.sources and self.trace is not None:
            raise ConfigError("trace records one source; leave it out, or run each by itself")
        if self.transfer not in TRANSFERS:
            known = ", ".join(TRANSFERS)
            raise ConfigError(f"transfer is {self.transfer!r}; choose one of {known}")
        if self.headless and self.window:
            raise ConfigError("headless and window exclude each other; leave one of them out")
        if self.rtsp_transport not in RTSP_TRANSPORTS:
            known = ", ".join(RTSP_TRANSPORTS)
            raise ConfigError(f"rtsp_transport is {self.rtsp_transport!r}; choose one of {known}")
        if self.wait and not self.reconnect:
            raise ConfigError("wait means to try again, which reconnect = false forbids; drop one")
        if self.ladder and self.max_age_ms is None:
            raise ConfigError("a ladder is for frames older than max_age_ms: set that too")
        parse_ladder(self.ladder)
        for name, low, high in _LIMITS:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{name} is {value}; it must lie between {low} and {high:g}")


_LIMITS: tuple[tuple[str, float, float], ...] = (
    ("max_frames", 1, 10**12),
    ("max_age_ms", 1, 3_600_000),
    ("score", 0.001, 1),
    ("iou", 0, 1),
    ("open_timeout_s", 0.1, 3600),
    ("read_timeout_s", 0.1, 3600),
    ("canary_s", 1, 86_400),
    ("retry_s", 0.1, 3600),
    ("freeze_s", 0, 86_400),
    ("workers", 1, 64),
    ("batch", 1, 64),
    ("threads", 1, 256),
    ("slots", 1, 65),
)
_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
    "list[str]": list,
    "Engine": str,
    "Precision": str,
    "Transfer": str,
    "RtspTransport": str,
}
_LISTS = {"tuple[str, ...]": (str, "texts"), "tuple[int, ...]": (int, "whole numbers")}
_TABLES: dict[str, type] = {
    "record": RecordOptions,
    "clips": ClipOptions,
    "mqtt": MqttOptions,
    "http": HttpOptions,
    "webhook": WebhookOptions,
    "events": EventOptions,
}


def make_config(flags: Mapping[str, Any], file: Path | None = None) -> Config:
    """Merge what was given on the command line over the file over the defaults.

    A flag named ``table.key`` sets one key of a table; a table's plain name stands for its first.
    """
    values = read_config_file(file) if file else {}
    if "source" in flags:  # in place of all that the file names
        values.pop("sources", None)
    tables: dict[str, dict[str, Any]] = {name: values.pop(name, {}) for name in _TABLES}
    for flag, value in flags.items():
        table, _, key = flag.partition(".")
        if table in tables:
            tables[table][key or fields(_TABLES[table])[0].name] = value
        else:
            values[flag] = value
    made = {name: _TABLES[name](**given) for name, given in tables.items() if given}
    return Config(**values, **made)


def read_config_file(path: Path) -> dict[str, Any]:
    """The settings of a TOML file; raises ConfigError naming the file and the key."""
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read --config {path}: {error.strerror}") from error
    except RecursionError as error:
        raise ConfigError(f"--config {path} is nested too deeply") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path} is not valid TOML: {error}") from error
    for name, table in _TABLES.items():
        if isinstance(data.get(name), str):  # as the flag of the same name
            data[name] = {fields(table)[0].name: data[name]}
    _check_keys(data, Config, f"--config {path}: ")
    for name in data.keys() & _TABLES.keys():
        _check_keys(data[name], _TABLES[name], f"--config {path}, [{name}]: ")
    return data


def _check_keys(data: Mapping[str, Any], kind: type, where: str) -> None:
    """Raise ConfigError for a key that ``kind`` does not have, or a value of another type."""
    known = {each.name: str(each.type).removesuffix(" | None") for each in fields(kind)}
    for key, value in data.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            meant = f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(known)}"
            raise ConfigError(f"{where}{key!r} is not a setting; {meant}")
        wanted = known[key]
        if wanted in _LISTS:
            kind, word = _LISTS[wanted]
            if not isinstance(value, list) or not all(type(each) is kind for each in value):
                raise ConfigError(f"{where}{key} must be a list of {word}, is {value!r}")
            continue
        if wanted not in _TYPES:
            wanted = "table"
        fits = isinstance(value, _TYPES.get(wanted, dict))
        if not fits or (wanted != "bool" and isinstance(value, bool)):
            raise ConfigError(f"{where}{key} must be a {wanted}, is {value!r}")
        if wanted == "list[str]" and not all(isinstance(each, str) for each in value):
            raise ConfigError(f"{where}{key} must be a {wanted}, is {value!r}")
