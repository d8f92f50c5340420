"""Every setting of a run, declared once: name, type, default, limits, help, flag, reload.

The TOML file's keys, the flags of the commands, ``--check``, what a reload takes up and
docs/configuration.md all come from the fields below. Flags override the file. The first field of a
table is what the table's plain name gives: ``--mqtt URL`` is ``url`` in ``[mqtt]``.
"""

# ruff: noqa: RUF009 - what is called makes a field, not a default
from __future__ import annotations

import difflib
import logging
import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from .core.credentials import mask_credentials
from .core.errors import ConfigError
from .core.interfaces import EngineKind
from .pipeline.degrade import parse_ladder

log = logging.getLogger(__name__)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """The declaration of a setting, besides name, type and default, which its field has.

    ``limits``: lowest and highest value. ``choices``: the only values. ``flag``: its name where it
    does not follow from the key. ``commands``: those that take the flag. ``helps``: the help of a
    command's flag where it differs. ``reload``: whether SIGHUP takes up a new value. ``writes``: it
    names a file that a run writes, which must be neither an input nor another output.
    """

    help: str
    limits: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    metavar: str | None = None
    flag: str | None = None
    commands: tuple[str, ...] = ()
    helps: Mapping[str, str] = field(default_factory=dict)
    reload: bool = False
    writes: bool = False

    def check(self, name: str, value: object) -> None:
        """Raise ConfigError for a value beyond the limits or the choices; None is "not set".

        And for an address that holds what is no character, which no server can be asked for.
        """
        if value is None:
            return
        for text in value if isinstance(value, tuple | list) else (value,):
            if isinstance(text, str) and "://" in text and re.search("[\ud800-\udfff]", text):
                raise ConfigError(
                    f"{name} is {mask_credentials(text)!a}, which holds bytes that are not UTF-8: "
                    "write them percent-encoded, for example %FF"
                )
        if self.choices and value not in self.choices:
            raise ConfigError(f"{name} is {value!r}; choose one of {', '.join(self.choices)}")
        if self.limits is None or not isinstance(value, int | float):
            return
        low, high = self.limits
        if not low <= value <= high:
            raise ConfigError(f"{name} is {value}; it must lie between {low:g} and {high:g}")


def key(
    default: Any, text: str, *, on: str = "run replay", secret: bool = False, **more: Any
) -> Any:
    """A dataclass field with its declaration. ``more``: see ``Key``.

    ``on``: the commands that take its flag; ``secret``: left out of the text of a Config.
    """
    declared = Key(help=text, commands=tuple(on.split()), **more)
    kind = "default_factory" if callable(default) else "default"
    made: Any = {kind: default}
    return field(**made, repr=not secret, metadata={"key": declared})


def subtable(kind: type) -> Any:
    """A field that is a TOML table of its own."""
    return field(default_factory=kind, metadata={"table": kind})


EVERY = "run replay bench soak"
Table = dict[str, Any]  # one of several of a name, such as [[zone]]
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


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordOptions:
    """A recording: one file, or a folder in which files rotate."""

    path: str | None = key(
        None,
        "video with boxes beside or drawn in (.mp4); a folder: rotating",
        metavar="FILE_OR_DIR/",
        writes=True,
    )
    burn_in: bool | None = key(
        None,
        "draw the boxes into the video, which encodes it anew; else H.264 and H.265 are copied "
        "(default: where it must be encoded, and in a replay)",
        flag="--burn-in",
    )
    segment_minutes: float = key(10.0, "length of a file in the folder", limits=(0.01, 1440))
    segment_mb: float = key(500.0, "size at which the next file begins", limits=(0.1, 1_000_000))
    keep_hours: float = key(168.0, "older recordings are removed", limits=(0.001, 1_000_000))
    budget_mb: float = key(10_000.0, "size of the folder at most", limits=(0.1, 100_000_000))
    keep_mb: float | None = key(
        None,
        "recordings that stay when other data fills the disk (default: 1000, or half of them)",
        limits=(0, 100_000_000),
    )

    def __post_init__(self) -> None:
        _check_values(self, "record")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipOptions:
    """A folder of short videos around what appears."""

    path: str | None = key(None, "a short video of each thing that appears", metavar="DIR")
    burn_in: bool | None = key(None, "as that of [record]")
    before_s: float = key(5.0, "seconds before it appears", limits=(0, 600))
    after_s: float = key(5.0, "seconds after it has gone", limits=(0, 600))
    max_s: float = key(120.0, "length of one clip at most", limits=(0.1, 86_400))
    memory_mb: float = key(
        64.0, "memory for the pictures before something appears", limits=(0.1, 100_000)
    )
    keep_hours: float = key(168.0, "older clips are removed", limits=(0.001, 1_000_000))
    budget_mb: float = key(2_000.0, "size of the folder at most", limits=(0.1, 100_000_000))
    keep_mb: float | None = key(
        None,
        "clips that stay when other data fills the disk (default: 1000, or half of them)",
        limits=(0, 100_000_000),
    )

    def __post_init__(self) -> None:
        _check_values(self, "clips")


@dataclass(frozen=True, kw_only=True, slots=True)
class MqttOptions:
    """A broker, and where messages wait while it is away."""

    url: str | None = key(
        None, "mqtts://[user:password@]host/topic-prefix", metavar="URL", secret=True
    )
    user: str | None = key(None, "user name, if it is not in the URL")
    password_file: str | None = key(
        None, "file with the password (or KESTREL_MQTT_PASSWORD)", metavar="FILE"
    )
    ca_file: str | None = key(None, "authorities to trust (default: the system's)", metavar="FILE")
    client_id: str | None = key(None, "name of this client at the broker")
    detections: bool = key(True, "publish detections, besides events and figures")
    stats_s: float = key(10.0, "seconds between figures; 0: none", limits=(0, 86_400))
    keepalive_s: int = key(15, "seconds after which a silent broker is lost", limits=(2, 3600))
    spool: str | None = key(
        None,
        "file in which messages wait for the broker (default: in the state directory)",
        metavar="FILE",
    )
    spool_mb: float = key(64.0, "size of that file at most", limits=(0.01, 100_000))

    def __post_init__(self) -> None:
        _check_values(self, "mqtt")

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

    address: str | None = key(None, "live page, stream, health, metrics", metavar="[ADDRESS:]PORT")
    token: str | None = key(None, "or KESTREL_HTTP_TOKEN", metavar="TOKEN", secret=True)
    token_file: str | None = key(None, "file with the token", metavar="FILE")
    cert_file: str | None = key(None, "certificate; with key_file: HTTPS", metavar="FILE")
    key_file: str | None = key(None, "private key of the certificate", metavar="FILE")
    jpeg_quality: int = key(80, "of the stream's pictures", limits=(10, 100))
    stream_fps: float = key(15.0, "pictures a second in the stream at most", limits=(0.1, 120))
    stale_s: float = key(
        10.0, "unhealthy without a completed inference for so long", limits=(0.1, 3600)
    )

    def __post_init__(self) -> None:
        _check_values(self, "http")


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookOptions:
    """Where events are posted."""

    url: str | None = key(
        None, "post events of objects and of the source there", metavar="URL", secret=True
    )
    ca_file: str | None = key(None, "authorities to trust (default: the system's)", metavar="FILE")
    timeout_s: float = key(10.0, "seconds one attempt may take", limits=(0.1, 600))
    attempts: int = key(6, "attempts for each event", limits=(1, 1000))
    queue: int = key(200, "events that wait at most", limits=(1, 100_000))

    def __post_init__(self) -> None:
        _check_values(self, "webhook")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackOptions:
    """How boxes become tracks: one ``track_id`` for each object over time.

    A zone, a line, a rule and outputs of events switch tracking on. Costs are 1 - IoU plus what is
    added for another class.
    """

    on: bool | None = key(
        None, "follow objects over time (default: where something needs it)", flag="--track"
    )
    high_score: float = key(0.45, "boxes associated first, with every track", limits=(0, 1))
    low_score: float = key(0.1, "boxes associated second; below: ignored", limits=(0, 1))
    start_score: float = key(0.5, "of a box that may start a track", limits=(0, 1))
    confirm_score: float = key(
        1.4, "sum of the scores of a track that gets an id", limits=(0, 1000)
    )
    lost_s: float = key(2.0, "an object not seen for longer is gone", limits=(0, 3600))
    unconfirmed_s: float = key(0.5, "the same before it has an id", limits=(0, 3600))
    high_cost: float = key(0.65, "highest cost of the first association", limits=(0, 1))
    low_cost: float = key(0.65, "highest cost of the second", limits=(0, 1))
    unconfirmed_cost: float = key(0.8, "highest cost for tracks without an id", limits=(0, 1))
    class_cost: float = key(0.4, "between a track and a box of another class", limits=(0, 1))
    doubled_iou: float = key(
        0.7, "a box that overlaps a tracked one of its class so much starts none", limits=(0, 1)
    )
    reach: float = key(
        0.9, "by how many deviations of the prediction boxes are widened", limits=(0, 10)
    )
    most_tracks: int = key(256, "tracks at most", limits=(1, 4096))
    most_boxes: int = key(256, "boxes of a frame at most, by score", limits=(1, 4096))

    def __post_init__(self) -> None:
        _check_values(self, "track")
        if self.low_score > self.high_score:
            raise ConfigError("low_score in [track] is above high_score; lower it")


@dataclass(frozen=True, kw_only=True, slots=True)
class EventOptions:
    """Where events are written, and a picture of each object.

    An object appears once it has an id, and is gone after ``lost_s`` of ``[track]``.
    """

    path: str | None = key(
        None, "events of tracks as JSON lines; - is stdout", metavar="FILE", writes=True
    )
    labels: list[str] = key(
        list, "labels that make events (default: all)", flag="--events-labels", metavar="LABEL"
    )
    snapshots: str | None = key(
        None, "the best picture of each object, as JPEG", flag="--snapshots", metavar="DIR"
    )
    snapshots_mb: float = key(500.0, "size of that folder at most", limits=(0.1, 100_000_000))
    snapshots_hours: float = key(168.0, "older pictures are removed", limits=(0.001, 1_000_000))

    def __post_init__(self) -> None:
        _check_values(self, "events")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreOptions:
    """A folder with a database of all events, and their snapshots and clips below it.

    Snapshots and clips are switched on and kept by the limits of this table, unless ``--snapshots``
    or ``--clips`` name other folders.
    """

    path: str | None = key(
        None, "keep events, snapshots and clips there, to be reviewed", metavar="DIR"
    )
    keep_hours: float = key(720.0, "older events and their files go", limits=(0.001, 1_000_000))
    keep_labels: list[str] = key(
        list, "hours for a label in place of keep_hours, such as person=2160", metavar="LABEL=HOURS"
    )
    budget_mb: float = key(
        20_000.0, "size of the store at most; the oldest events go", limits=(0.1, 100_000_000)
    )

    def __post_init__(self) -> None:
        _check_values(self, "store")
        self.hours_of()

    def hours_of(self) -> dict[str, float]:
        """Hours by label; raises ConfigError for what is no LABEL=HOURS."""
        hours: dict[str, float] = {}
        for text in self.keep_labels:
            match = re.fullmatch(r"(.+)=([0-9]+(?:\.[0-9]+)?)", text, flags=re.DOTALL)
            if match is None or not 0.001 <= float(match[2]) <= 1_000_000:
                raise ConfigError(
                    f"keep_labels in [store] has {text!r}; write LABEL=HOURS, such as person=2160"
                )
            hours[match[1]] = float(match[2])
        return hours


@dataclass(frozen=True, kw_only=True, slots=True)
class NotifyOptions:
    """Messages to people, by apprise, about what rules with "notify" in ``then`` tell."""

    url: str | None = key(
        None,
        "address of a service that apprise knows, such as ntfy://TOPIC; several: with spaces",
        metavar="URL",
        secret=True,
    )
    cooldown_s: float = key(
        10.0, "seconds between two messages of one rule at least", limits=(0, 86_400)
    )
    timeout_s: float = key(20.0, "seconds one message may take", limits=(0.1, 600))
    queue: int = key(50, "messages that wait at most", limits=(1, 10_000))

    def __post_init__(self) -> None:
        _check_values(self, "notify")


Engine = Literal["auto", EngineKind]
ENGINES: tuple[str, ...] = get_args(Engine)
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
Transfer = Literal["auto", "pinned", "mapped"]
TRANSFERS: tuple[str, ...] = get_args(Transfer)
RtspTransport = Literal["auto", "tcp", "udp"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One run. None means: chosen by what is there, and told in the log."""

    source: str | None = key(
        None,
        "camera:0, rtsp://…, http://…, FILE, pattern:, sample:",
        on="bench soak",
        helps={
            "bench": "a recording to measure with (default: sample:)",
            "soak": "what chaos happens to (default: a test pattern)",
        },
    )
    sources: tuple[str, ...] = key(
        (),
        "camera:0, rtsp://…, http://…, FILE, pattern:, sample:; several: repeat it",
        flag="--source",
        metavar="[NAME=]URI",
        on="run",
    )
    devices: tuple[int, ...] = key(
        (), "GPUs over which the sources are spread", metavar="0,1", on="run"
    )
    batch: int | None = key(
        None, "frames of several sources in one inference", limits=(1, 64), on="run"
    )
    model: str | None = key(None, "name on the shelf, .onnx or .toml file", on=EVERY)
    engine: Engine = key("auto", "auto chooses by what is there", choices=ENGINES, on=EVERY)
    precision: Precision = key(
        "auto",
        "of the arithmetic, where an engine has a choice: those of a GPU, and openvino (bf16)",
        choices=PRECISIONS,
        on=EVERY,
    )
    headless: bool = key(False, "no window, no Qt", on="run")
    window: bool = key(False, "a window, or exit code 2 without one", on="run")
    json: str | None = key(
        None,
        "one JSON line a frame; - is stdout",
        metavar="FILE",
        writes=True,
        on=EVERY,
        helps=dict.fromkeys(("bench", "soak"), "write all figures there"),
    )
    overwrite: bool = key(False, "replace what is in the files of --json, --events and --record")
    expect: str | None = key(
        None, "compare; exit 6 if it differs", metavar="GOLDEN.jsonl", on="replay"
    )
    max_frames: int | None = key(
        None,
        "end after so many processed frames",
        limits=(1, 10**12),
        on="run replay bench",
        helps={"bench": "frames of the throughput run (default: 500)"},
    )
    max_age_ms: float | None = key(
        None,
        "drop frames that waited longer (ms)",
        limits=(1, 3_600_000),
        on="run replay soak",
        helps={"replay": "with --trace: what if it had been this"},
        reload=True,
    )
    ladder: tuple[str, ...] = key(
        (),
        "what to spare when frames grow older than max_age_ms, step by step: repeat it",
        metavar="STEP",
        on="run",
    )
    score: float | None = key(None, "lowest score reported (0..1)", limits=(0.001, 1), reload=True)
    iou: float | None = key(
        None, "overlap above which NMS drops a box (0..1)", limits=(0, 1), reload=True
    )
    agnostic_nms: bool = key(False, "of overlapping boxes keep one, whatever their classes")
    class_scores: tuple[str, ...] = key(
        (),
        "lowest score of single classes, in place of score: person=0.5,car=0.3",
        metavar="LABEL=X",
    )
    max_detections: int = key(
        500, "boxes of a frame at most, by score; told once when it bites", limits=(1, 1000)
    )
    isolate: bool | None = key(None, "decode in a child process (default: for streams)")
    realtime: bool = key(False, "at the pace of the clip's clock", on="replay")
    open_timeout_s: float = key(
        10.0, "seconds until a source that does not open fails", limits=(0.1, 3600)
    )
    read_timeout_s: float = key(
        10.0, "seconds without a frame until a source is lost", limits=(0.1, 3600)
    )
    max_megapixels: float = key(
        64.0, "larger pictures are refused, in files and streams", limits=(0.1, 2000)
    )
    deinterlace: bool = key(False, "make whole pictures of interlaced ones (FFmpeg's yadif)")
    canary_s: float | None = key(
        None,
        "every so often a known picture must give its known boxes",
        limits=(1, 86_400),
        on="run",
    )
    trace: str | None = key(
        None,
        "record what happens to each frame (a ring)",
        metavar="FILE",
        helps={"replay": "drop the frames that were dropped in it"},
    )
    rtsp_transport: RtspTransport = key(
        "auto", "how RTSP streams travel", choices=get_args(RtspTransport), on="run soak"
    )
    ca_file: str | None = key(
        None,
        "authorities that certificates of sources are checked by (default: the system's)",
        metavar="FILE",
        on="run replay soak",
    )
    tls_insecure: bool = key(
        False,
        "take any certificate of a source: anybody can read its password",
        on="run replay soak",
    )
    reconnect: bool = key(
        True, "open a camera or stream again when it is lost (default: yes)", on="run"
    )
    wait: bool = key(False, "wait for a source that is not there yet", on="run")
    retry_s: float = key(
        1.0, "longest wait between two attempts to open", limits=(0.1, 3600), on="run soak"
    )
    freeze_s: float = key(
        30.0,
        "the very same picture for so long is a lost source; 0: never",
        limits=(0, 86_400),
        on="run soak",
    )
    workers: int | None = key(None, "frames computed at once on the CPU", limits=(1, 64), on=EVERY)
    threads: int | None = key(None, "threads of each network on the CPU", limits=(1, 256), on=EVERY)
    slots: int | None = key(None, "frames in flight at most", limits=(1, 65), on=EVERY)
    transfer: Transfer = key(
        "auto",
        "of frames to a GPU: copied from pinned memory, or mapped into its reach",
        choices=TRANSFERS,
        on=EVERY,
    )
    record: RecordOptions = subtable(RecordOptions)
    clips: ClipOptions = subtable(ClipOptions)
    mqtt: MqttOptions = subtable(MqttOptions)
    http: HttpOptions = subtable(HttpOptions)
    webhook: WebhookOptions = subtable(WebhookOptions)
    notify: NotifyOptions = subtable(NotifyOptions)
    store: StoreOptions = subtable(StoreOptions)
    track: TrackOptions = subtable(TrackOptions)
    events: EventOptions = subtable(EventOptions)
    zone: tuple[Table, ...] = key((), "polygons that tracks enter and leave", on="")
    line: tuple[Table, ...] = key((), "directed lines that tracks cross", on="")
    mask: tuple[Table, ...] = key((), "where nothing is looked at, or nothing else", on="")
    rule: tuple[Table, ...] = key((), "which events call for an action", on="")

    def __post_init__(self) -> None:
        _check_values(self)
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
        if self.headless and self.window:
            raise ConfigError("headless and window exclude each other; leave one of them out")
        if self.wait and not self.reconnect:
            raise ConfigError("wait means to try again, which reconnect = false forbids; drop one")
        if self.track.on is False and self.needs_tracks:
            raise ConfigError(
                "zones, lines, rules, --events, --store, --snapshots, --clips and --webhook need "
                "tracks; "
                "leave --no-track out"
            )
        if self.ladder and self.max_age_ms is None:
            raise ConfigError("a ladder is for frames older than max_age_ms: set that too")
        parse_ladder(self.ladder)

    @property
    def needs_tracks(self) -> bool:
        """Whether something is configured that only tracks give."""
        shapes = self.zone or self.line or self.mask or self.rule
        files = self.events.path or self.events.snapshots or self.clips.path
        return bool(shapes or files or self.store.path or self.webhook.url)

    @property
    def tracks(self) -> bool:
        """Whether objects are tracked: also for a broker, unless that is switched off."""
        by_default = self.needs_tracks or self.mqtt.url is not None
        return by_default if self.track.on is None else self.track.on

    @property
    def tells_events(self) -> bool:
        """Whether something takes events, be it only those of the source."""
        return self.tracks or self.mqtt.url is not None or self.http.address is not None


def _check_values(options: Any, table: str = "") -> None:
    """Each value against its own declaration."""
    for each in fields(options):
        if "key" in each.metadata:
            name = f"{each.name} in [{table}]" if table else each.name
            each.metadata["key"].check(name, getattr(options, each.name))


class Setting(NamedTuple):
    """A key with all that is said of it. ``table`` is "" for one outside of the tables."""

    table: str
    name: str
    kind: str  # as annotated, without "| None": str, int, float, bool, tuple[str, ...], …
    default: Any
    flag: str
    key: Key

    @property
    def path(self) -> str:
        """``key`` or ``table.key``; what ``make_config`` takes."""
        return f"{self.table}.{self.name}" if self.table else self.name

    def of(self, config: Config) -> Any:
        """Its value in a configuration."""
        return getattr(getattr(config, self.table) if self.table else config, self.name)


TABLES: dict[str, type] = {
    each.name: each.metadata["table"] for each in fields(Config) if "table" in each.metadata
}


def _settings(kind: type, table: str = "") -> Iterator[Setting]:
    default = kind()
    for number, each in enumerate(fields(kind)):
        if "key" not in each.metadata:
            continue
        words = [table] if table and not number else [table, each.name] if table else [each.name]
        declared: Key = each.metadata["key"]
        flag = declared.flag or "--" + "-".join(words).replace("_", "-")
        called = str(each.type).removesuffix(" | None")
        yield Setting(table, each.name, called, getattr(default, each.name), flag, declared)


SETTINGS: tuple[Setting, ...] = (
    *_settings(Config),
    *(each for name, kind in TABLES.items() for each in _settings(kind, name)),
)
RELOADED = tuple(each.path for each in SETTINGS if each.key.reload)


def make_config(flags: Mapping[str, Any], file: Path | None = None) -> Config:
    """Merge what was given on the command line over the file over the defaults.

    A flag named ``table.key`` sets one key of a table; a table's plain name stands for its first.
    ``sources`` of one without a name is ``source``; either replaces all sources of the file.
    """
    values = read_config_file(file) if file else {}
    flags = dict(flags)
    if len(given := flags.get("sources", ())) == 1:
        there = os.path.exists(given[0])  # noqa: PTH110 - Path.exists raises for a long address
        if there or parse_sources(given)[0].uri == given[0]:
            flags["source"] = given[0]
            del flags["sources"]
    if flags.keys() & {"source", "sources"}:
        values.pop("source", None)
        values.pop("sources", None)
    tables: dict[str, dict[str, Any]] = {name: values.pop(name, {}) for name in TABLES}
    for flag, value in flags.items():
        table, _, name = flag.partition(".")
        if table in tables:
            tables[table][name or fields(TABLES[table])[0].name] = value
        else:
            values[flag] = tuple(value) if isinstance(value, list) else value
    _fill_store(tables)
    made = {name: TABLES[name](**given) for name, given in tables.items() if given}
    return Config(**values, **made)


def _fill_store(tables: dict[str, dict[str, Any]]) -> None:
    """Snapshots and clips are below the store's folder, and go when it says so.

    Their own limits are those of the store, and so only remove files that no event knows.
    """
    if not tables["store"].get("path"):
        return
    options = StoreOptions(**tables["store"])
    hours = max([options.keep_hours, *options.hours_of().values()])
    events, clips, folder = tables["events"], tables["clips"], Path(str(options.path))
    if not events.get("snapshots"):
        limits = {"snapshots_mb": options.budget_mb, "snapshots_hours": hours}
        events.update(snapshots=str(folder / "snapshots"), **limits)
    if not clips.get("path"):
        clips.update(path=str(folder / "clips"), budget_mb=options.budget_mb, keep_hours=hours)


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
    for name, kind in TABLES.items():
        if isinstance(data.get(name), str | bool):  # as the flag of the same name
            data[name] = {fields(kind)[0].name: data[name]}
    _check_types(data, Config, f"--config {path}: ")
    for name in data.keys() & TABLES.keys():
        given = data[name]
        if isinstance(given, dict):
            for key_name in given.keys() & _WITHDRAWN.get(name, {}).keys():
                del given[key_name]
                log.warning(
                    "--config %s, [%s]: %s does nothing any more; its place is taken by %s",
                    *(path, name, key_name, _WITHDRAWN[name][key_name]),
                )
        _check_types(given, TABLES[name], f"--config {path}, [{name}]: ")
    return data


# keys of older files that went with what they set: such a file still runs
_WITHDRAWN = {
    "events": {"appear_frames": "confirm_score in [track]", "gone_s": "lost_s in [track]"},
}


_TYPES: dict[str, type | tuple[type, ...]] = {"int": int, "float": (int, float), "bool": bool}
_LISTS: dict[str, tuple[type, str]] = {
    "list[str]": (str, "texts"),
    "tuple[str, ...]": (str, "texts"),
    "tuple[int, ...]": (int, "whole numbers"),
    "tuple[Table, ...]": (dict, "tables, each headed by its name in double brackets"),
}


def _check_types(data: Mapping[str, Any], kind: type, where: str) -> None:
    """Raise ConfigError for a key that ``kind`` does not have, or a value of another type."""
    known = {each.name: each for each in fields(kind)}
    for name, value in data.items():
        if name not in known:
            meant = nearest(name, known) or f"known are: {', '.join(known)}"
            raise ConfigError(f"{where}{name!r} is not a setting; {meant}")
        wanted = str(known[name].type).removesuffix(" | None")
        if wanted in _LISTS:
            member, word = _LISTS[wanted]
            fits = isinstance(value, list) and all(type(each) is member for each in value)
            wanted = f"list of {word}"
        elif "table" in known[name].metadata:
            fits, wanted = isinstance(value, dict), "table"
        else:
            wanted = wanted if wanted in _TYPES else "str"  # choices are texts
            fits = isinstance(value, _TYPES.get(wanted, str))
            fits = fits and (wanted == "bool" or not isinstance(value, bool))
        if not fits:
            raise ConfigError(f"{where}{name} must be a {wanted}, is {value!r}")


def nearest(word: str, known: Collection[str]) -> str:
    """The known word that was probably meant, as the second half of a message; "": none is near."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else ""
