"""What can be set, with which default, unit and limits? Flags over TOML file over defaults."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from app.errors import ConfigError
from app.ladder import parse_ladder

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Engine = Literal["auto", "cpu", "cuda", "ort-cuda", "ort-tensorrt"]
ENGINES: tuple[str, ...] = get_args(Engine)
Precision = Literal["auto", "fp32", "fp16", "int8"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
RtspTransport = Literal["auto", "tcp", "udp"]
RTSP_TRANSPORTS: tuple[str, ...] = get_args(RtspTransport)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One run. None means: chosen by what is there, and told in the log."""

    source: str | None = None
    model: str | None = None
    engine: Engine = "auto"
    precision: Precision = "auto"
    headless: bool = False
    json: str | None = None
    record: str | None = None
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
    rtsp_transport: RtspTransport = "auto"
    reconnect: bool = True  # run: a camera or stream that is lost is opened again
    wait: bool = False  # run: also wait for one that is not there at the start
    retry_s: float = 1.0  # longest wait between two attempts
    freeze_s: float = 30.0  # the very same picture for so long is a lost source; 0: never
    workers: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ConfigError(f"engine is {self.engine!r}; choose one of {', '.join(ENGINES)}")
        if self.precision not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise ConfigError(f"precision is {self.precision!r}; choose one of {known}")
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
    ("retry_s", 0.1, 3600),
    ("freeze_s", 0, 86_400),
    ("workers", 1, 64),
    ("threads", 1, 256),
)
_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
    "Engine": str,
    "Precision": str,
    "RtspTransport": str,
}


def make_config(flags: Mapping[str, Any], file: Path | None = None) -> Config:
    """Merge what was given on the command line over the file over the defaults."""
    values = read_config_file(file) if file else {}
    return Config(**{**values, **flags})


def read_config_file(path: Path) -> dict[str, Any]:
    """The settings of a TOML file; raises ConfigError naming the file and the key."""
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read --config {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path} is not valid TOML: {error}") from error
    kinds = {field.name: str(field.type).removesuffix(" | None") for field in fields(Config)}
    for key, value in list(data.items()):
        if key not in kinds:
            close = difflib.get_close_matches(key, kinds, n=1)
            meant = f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(kinds)}"
            raise ConfigError(f"--config {path}: {key!r} is not a setting; {meant}")
        kind = kinds[key]
        if kind == "tuple[str, ...]":
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise ConfigError(f"--config {path}: {key} must be a list of texts, is {value!r}")
            data[key] = tuple(value)
            continue
        if not isinstance(value, _TYPES[kind]) or (kind != "bool" and isinstance(value, bool)):
            raise ConfigError(f"--config {path}: {key} must be a {kind}, is {value!r}")
    return data
