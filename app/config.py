"""Settings of a run with their defaults, units and limits. Flags override the TOML file.

The first field of each is what its flag gives: ``--mqtt URL`` is ``url`` in ``[mqtt]``.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from .core.credentials import mask_credentials
from .core.errors import ConfigError
from .pipeline.degrade import parse_ladder

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


MOST = 64


class NamedSource(NamedTuple):
    """A source and its name in JSON lines, topics, metrics and folders."""

    name: str
    uri: str


def parse_sources(texts: Sequence[str]) -> tuple[NamedSource, ...]:
    """``NAME=URI`` or ``URI``, which is then called by its number, from 1.

    Raises ConfigError for a name that is there twice, and for too many sources.
    """
    if len(texts) > MOST:
        raise ConfigError(f"{len(texts)} sources are more than the {MOST} that one run takes")
    sources: list[NamedSource] = []
    for number, text in enumerate(texts, 1):
        match = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9_-]{0,31})=(.+)", text, flags=re.DOTALL)
        source = NamedSource(match[1], match[2]) if match else NamedSource(str(number), text)
        if any(source.name == other.name for other in sources):
            raise ConfigError(
                f"two sources are called {source.name!r}: {mask_credentials(source.uri)} is the "
                "second; write another NAME=URI"
            )
        sources.append(source)
    return tuple(sources)


def _check(options: Any, table: str, **limits: tuple[float, float]) -> None:
    for name, (low, high) in limits.items():
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            raise ConfigError(
                f"{name} in [{table}] is {value}; it must lie between {low:g} and {high:g}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class EventOptions:
    """When has a label appeared, and when is it gone?"""

    labels: list[str] = field(default_factory=list)  # none named: all
    appear_frames: int = 3  # seen in so many frames with no gap of ``gone_s``
    gone_s: float = 2.0

    def __post_init__(self) -> None:
        _check(self, "events", appear_frames=(1, 10_000), gone_s=(0, 86_400))


@dataclass(frozen=True, kw_only=True, slots=True)
class MqttOptions:
    """A broker, and where messages wait while it is away."""

    url: str | None = field(default=None, repr=False)  # mqtt[s]://[user:password@]host[:port]/topic
    user: str | None = None
    password_file: str | None = None
    ca_file: str | None = None  # None: the system's authorities
    client_id: str | None = None
    detections: bool = True  # False: appear and disappear events only
    stats_s: float = 10.0  # 0: no figures
    keepalive_s: int = 15
    spool: str | None = None  # a file; None: in the user's (or service's) state directory
    spool_mb: float = 64.0

    def __post_init__(self) -> None:
        _check(self, "mqtt", stats_s=(0, 86_400), keepalive_s=(2, 3600), spool_mb=(0.01, 100_000))

    def apart(self, name: str) -> MqttOptions:
        """For one of several sources: a connection and a spool of its own."""
        return replace(
            self,
            client_id=self.client_id and f"{self.client_id}-{name}",
            spool=self.spool and f"{self.spool}.{name}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpOptions:
    """The live page and what belongs to it."""

    address: str | None = None  # [ADDRESS:]PORT
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None
    cert_file: str | None = None  # both: HTTPS
    key_file: str | None = None
    jpeg_quality: int = 80
    stream_fps: float = 15.0
    stale_s: float = 10.0  # unhealthy without a completed inference for so long

    def __post_init__(self) -> None:
        _check(self, "http", jpeg_quality=(10, 100), stream_fps=(0.1, 120), stale_s=(0.1, 3600))


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordOptions:
    """One file, or a folder in which recordings rotate."""

    path: str | None = None
    segment_minutes: float = 10.0
    segment_mb: float = 500.0
    keep_hours: float = 168.0
    budget_mb: float = 10_000.0

    def __post_init__(self) -> None:
        _check(
            self,
            "record",
            segment_minutes=(0.01, 1440),
            segment_mb=(0.1, 1_000_000),
            keep_hours=(0.001, 1_000_000),
            budget_mb=(0.1, 100_000_000),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipOptions:
    """A folder of short recordings around what appears."""

    path: str | None = None
    before_s: float = 5.0
    after_s: float = 5.0
    max_s: float = 120.0
    memory_mb: float = 64.0  # of JPEG pictures that wait for something to happen
    keep_hours: float = 168.0
    budget_mb: float = 2_000.0

    def __post_init__(self) -> None:
        _check(
            self,
            "clips",
            before_s=(0, 600),
            after_s=(0, 600),
            max_s=(0.1, 86_400),
            memory_mb=(0.1, 100_000),
            keep_hours=(0.001, 1_000_000),
            budget_mb=(0.1, 100_000_000),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookOptions:
    """Where events are posted."""

    url: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    timeout_s: float = 10.0
    attempts: int = 6
    queue: int = 200

    def __post_init__(self) -> None:
        _check(self, "webhook", timeout_s=(0.1, 600), attempts=(1, 1000), queue=(1, 100_000))


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
