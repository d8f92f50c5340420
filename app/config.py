"""Every setting of a run, declared once: name, type, default, limits, help, flag, reload.

The TOML file's keys, the flags of the commands, ``--check``, what a reload takes up and
docs/configuration.md all come from the fields below. Flags override the file. The first field of a
table is what the table's plain name gives: ``--mqtt URL`` is ``url`` in ``[mqtt]``.
"""

# ruff: noqa: RUF009 - what is called makes a field, not a default
from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from .core.credentials import mask_text
from .core.errors import ConfigError, Faults
from .core.filters import MOST as MOST_BOXES
from .core.interfaces import EngineKind
from .core.masks import MaskForm
from .options import (
    EVERY as EVERY,
    MOST as MOST,
    ClipOptions as ClipOptions,
    EventOptions as EventOptions,
    HttpOptions as HttpOptions,
    Key as Key,
    MotionOptions as MotionOptions,
    MqttOptions as MqttOptions,
    NamedSource as NamedSource,
    NotifyOptions as NotifyOptions,
    RecordOptions as RecordOptions,
    StoreOptions as StoreOptions,
    Table as Table,
    TrackOptions as TrackOptions,
    WebhookOptions as WebhookOptions,
    check_values as check_values,
    fill_store,
    key as key,
    nearest as nearest,
    parse_sources as parse_sources,
    subtable as subtable,
)
from .pipeline.degrade import parse_ladder
from .toml_file import (
    leave_withdrawn,
    misfits,
    parse_toml as parse_toml,
    split_scores,
    split_streams,
)

Engine = Literal["auto", EngineKind]
ENGINES: tuple[str, ...] = get_args(Engine)
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
Transfer = Literal["auto", "pinned", "mapped"]
TRANSFERS: tuple[str, ...] = get_args(Transfer)
RtspTransport = Literal["auto", "tcp", "udp"]
ARCHIVED = f"{EVERY} archive"


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
        reload=True,
    )
    record_sources: tuple[str, ...] = key(
        (),
        "the same camera's better stream, of which recordings and snapshots are made",
        flag="--record-source",
        metavar="[NAME=]URI",
        on="run",
    )
    devices: tuple[int, ...] = key(
        (), "GPUs over which the sources are spread", metavar="0,1", on="run"
    )
    batch: int | None = key(
        None, "frames of several sources in one inference", limits=(1, 64), on="run"
    )
    model: str | None = key(None, "name on the shelf, .onnx, .engine or .toml file", on=ARCHIVED)
    engine: Engine = key("auto", "auto chooses by what is there", choices=ENGINES, on=ARCHIVED)
    precision: Precision = key(
        "auto",
        "of the arithmetic, where an engine has a choice: those of a GPU, and openvino (bf16)",
        choices=PRECISIONS,
        on=ARCHIVED,
    )
    headless: bool = key(False, "no window, no Qt", on="run")
    window: bool = key(False, "a window, or exit code 2 without one", on="run")
    language: str = key(
        "system", "of the window", choices=("system", "en", "de", "es", "zh"), on="run"
    )
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
    score: float | None = key(
        None,
        "lowest score reported (0..1), of all classes, of some, or both: 0.4,person=0.5,car=0.3",
        limits=(0.001, 1),
        metavar="X or LABEL=X",
        reload=True,
        on="run replay archive",
    )
    iou: float | None = key(
        None, "overlap above which NMS drops a box (0..1)", limits=(0, 1), reload=True
    )
    agnostic_nms: bool = key(
        False, "of overlapping boxes keep one, whatever their classes", reload=True
    )
    class_scores: tuple[str, ...] = key(
        (),
        "lowest score of single classes, in place of score: person=0.5,car=0.3",
        metavar="LABEL=X",
        reload=True,
    )
    classes: tuple[str, ...] = key(
        (),
        "report these only: person,car (default: all)",
        metavar="LABEL,LABEL",
        reload=True,
        on="run replay archive",
    )
    min_box: str = key(
        "",
        "smallest box: 24 (pixels, both sides), 24x48 (width, height), 5% or 2%x10% of the frame",
        metavar="SIZE",
        reload=True,
    )
    max_box: str = key("", "largest box, in the same way", metavar="SIZE", reload=True)
    slices: str | None = key(
        None,
        "also look at overlapping parts of a frame, for small objects: 2x2 (columns x rows), auto",
        metavar="CxR",
        on="run replay archive",
    )
    slice_overlap: float = key(
        0.2, "share of a part that its neighbour has too", limits=(0, 0.5), metavar="SHARE"
    )
    max_detections: int = key(
        500,
        "boxes of a frame at most, by score; told once when it bites",
        limits=(1, MOST_BOXES),
        reload=True,
    )
    masks: MaskForm = key(
        "rle",
        "of objects, as COCO's run lengths or as outlines; none: not even computed",
        choices=get_args(MaskForm),
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
    threads: int | None = key(
        None, "threads of each network on the CPU", limits=(1, 256), on=ARCHIVED
    )
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
    motion: MotionOptions = subtable(MotionOptions)
    events: EventOptions = subtable(EventOptions)
    zone: tuple[Table, ...] = key((), "polygons that tracks enter and leave", on="", reload=True)
    line: tuple[Table, ...] = key((), "directed lines that tracks cross", on="", reload=True)
    mask: tuple[Table, ...] = key(
        (), "where nothing is looked at, or nothing else", on="", reload=True
    )
    privacy: tuple[Table, ...] = key((), "polygons hidden in every picture", on="", reload=True)
    blur_faces: bool = key(
        False,
        "pixelate faces in all pictures that leave the network, as far as they are found",
        reload=True,
    )
    rule: tuple[Table, ...] = key((), "which events call for an action", on="", reload=True)
    filter: tuple[Table, ...] = key(
        (),
        "for one source: score, class_scores, classes, min_box, max_box, max_detections, "
        "agnostic_nms",
        on="",
        reload=True,
    )

    def __post_init__(self) -> None:
        check_values(self)
        if self.source is not None and self.sources:
            raise ConfigError("source is for one, sources for several: leave one of them out")
        self.record_source("")
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
        pause_s = max(self.motion.floor_s, self.motion.wake_s)
        gated = self.unattended if self.motion.on is None else self.motion.on
        gated = gated or self.motion.regions
        if self.motion.regions and self.slices is not None:
            raise ConfigError("slices and regions of [motion] exclude each other; leave one out")
        if gated and pause_s >= self.read_timeout_s:
            raise ConfigError(
                f"floor_s and wake_s of [motion] allow {pause_s:g} s without a frame, but a source "
                f"is lost after read_timeout_s, {self.read_timeout_s:g}: raise that, or lower them"
            )
        if self.ladder and self.max_age_ms is None:
            raise ConfigError("a ladder is for frames older than max_age_ms: set that too")
        parse_ladder(self.ladder)

    def record_source(self, name: str) -> str | None:
        """What is recorded beside the source with this name, "" of a single one."""
        names = [each.name for each in parse_sources(self.sources)]
        given = parse_sources(self.record_sources)
        if not names:
            if len(given) > 1 or any(each.uri not in self.record_sources for each in given):
                why = "record_sources names a source, and the only one has no name"
                raise ConfigError(f"{why}: write one URI, or give it a name (--source NAME=URI)")
            return given[0].uri if given else None
        for each, text in zip(given, self.record_sources, strict=True):
            if each.name not in names:
                raise ConfigError(
                    f"record_sources has {mask_text(text)}; write NAME=URI, where NAME is one of "
                    f"{', '.join(names)}"
                )
        return next((each.uri for each in given if each.name == name), None)

    @property
    def unattended(self) -> bool:
        """Whether events are what matters, so that a live run infers only where something moves."""
        return bool(self.store.path or self.rule)

    @property
    def needs_tracks(self) -> bool:
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


def make_config(
    flags: Mapping[str, Any], file: Path | None = None, text: str | None = None
) -> Config:
    """Merge what was given on the command line over the file over the defaults.

    ``text``: what the file is to hold, in place of what it does. A flag named ``table.key`` sets
    one key of a table; a table's plain name stands for its first.
    ``sources`` of one without a name is ``source``; either replaces all sources of the file.
    """
    faults = Faults()
    values = _read(file, text, faults) if file else {}
    flags = split_scores(flags)
    if len(given := flags.get("sources", ())) == 1:
        there = os.path.exists(given[0])  # noqa: PTH110 - Path.exists raises for a long address
        if there or parse_sources(given)[0].uri == given[0]:
            flags["source"] = given[0]
            del flags["sources"]
    if flags.keys() & {"source", "sources"}:
        for name in ("source", "sources", "record_sources"):
            values.pop(name, None)
    tables: dict[str, dict[str, Any]] = {name: values.pop(name, {}) for name in TABLES}
    for flag, value in flags.items():
        table, _, name = flag.partition(".")
        if table in tables:
            tables[table][name or fields(TABLES[table])[0].name] = value
        else:
            values[flag] = tuple(value) if isinstance(value, list) else value
    with faults.step():
        fill_store(tables)
    made = {}
    for name, given in tables.items():
        with faults.step():
            made[name] = TABLES[name](**given)
    with faults.step():
        config = Config(**values, **made)
    faults.tell()
    return config


class ConfigFile(NamedTuple):
    """Where a run's configuration is from: read again on SIGHUP, changed by the settings page."""

    path: Path
    flags: Mapping[str, Any]  # of the command line, over the file

    def read(self, text: str | None = None) -> Config:
        """As it is now, or as it would be with this text in the file; raises ConfigError."""
        return make_config(dict(self.flags), self.path, text)


def read_config_file(path: Path, text: str | None = None) -> dict[str, Any]:
    """The settings of a TOML file, or of this text for one.

    Raises ConfigError naming the file and all keys that are wrong.
    """
    faults = Faults()
    values = _read(path, text, faults)
    faults.tell()
    return values


def _read(path: Path, text: str | None, faults: Faults) -> dict[str, Any]:
    """What of it is known and of the right type; ConfigError where nothing can be read."""
    try:
        data = parse_toml(path.read_text(encoding="utf-8") if text is None else text)
    except OSError as error:
        raise ConfigError(f"cannot read --config {path}: {error.strerror}") from error
    except RecursionError as error:
        raise ConfigError(f"--config {path} is nested too deeply") from error
    except ValueError as error:
        raise ConfigError(f"--config {path} is not valid TOML: {error}") from error
    for name, kind in TABLES.items():
        if isinstance(data.get(name), str | bool):  # as the flag of the same name
            data[name] = {fields(kind)[0].name: data[name]}
    try:
        data = split_scores(split_streams(data))
    except ConfigError as fault:
        raise ConfigError(f"--config {path}: {fault}") from fault

    def sift(given: dict[str, Any], kind: type, where: str) -> None:
        for name, fault in list(misfits(given, kind, where)):
            faults.found.append(fault)
            del given[name]

    sift(data, Config, f"--config {path}: ")
    for name in data.keys() & TABLES.keys():
        leave_withdrawn(data[name], name, path)
        sift(data[name], TABLES[name], f"--config {path}, [{name}]: ")
    return data
