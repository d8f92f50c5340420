"""How a setting is declared, and the tables of settings: recordings, outputs, tracks, events.

The whole of a run's configuration, of which these are parts, is ``Config`` in config.py.
"""

# ruff: noqa: RUF009 - what is called makes a field, not a default
from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from .core.credentials import mask_credentials
from .core.errors import ConfigError, Faults


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """The declaration of a setting, besides name, type and default, which its field has.

    ``limits``: lowest and highest value. ``choices``: the only values. ``flag``: its name where it
    does not follow from the key. ``commands``: those that take the flag. ``helps``: the help of a
    command's flag where it differs. ``reload``: whether SIGHUP takes up a new value. ``writes``: it
    names a file that a run writes, which must be neither an input nor another output. ``secret``:
    it may hold a password, so that nothing shows it.
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
    secret: bool = False

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
            raise ConfigError(f"{name} is {value}; it must lie between {low:.13g} and {high:.13g}")


def key(
    default: Any, text: str, *, on: str = "run replay", secret: bool = False, **more: Any
) -> Any:
    """A dataclass field with its declaration. ``more``: see ``Key``.

    ``on``: the commands that take its flag; ``secret``: left out of the text of a Config.
    """
    declared = Key(help=text, commands=tuple(on.split()), secret=secret, **more)
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
    keep_hours: float = key(
        168.0, "older recordings are removed", limits=(0.001, 1_000_000), reload=True
    )
    budget_mb: float = key(
        10_000.0, "size of the folder at most", limits=(0.1, 100_000_000), reload=True
    )
    keep_mb: float | None = key(
        None,
        "recordings that stay when other data fills the disk (default: 1000, or half of them)",
        limits=(0, 100_000_000),
        reload=True,
    )

    def __post_init__(self) -> None:
        check_values(self, "record")


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
    keep_hours: float = key(
        168.0, "older clips are removed", limits=(0.001, 1_000_000), reload=True
    )
    budget_mb: float = key(
        2_000.0, "size of the folder at most", limits=(0.1, 100_000_000), reload=True
    )
    keep_mb: float | None = key(
        None,
        "clips that stay when other data fills the disk (default: 1000, or half of them)",
        limits=(0, 100_000_000),
        reload=True,
    )

    def __post_init__(self) -> None:
        check_values(self, "clips")


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
    home_assistant: bool = key(
        False,
        "tell Home Assistant of each camera: state, counts, last event and snapshot",
        flag="--home-assistant",
    )
    discovery_prefix: str = key(
        "homeassistant", "topic below which Home Assistant looks for devices"
    )
    stats_s: float = key(10.0, "seconds between figures; 0: none", limits=(0, 86_400))
    keepalive_s: int = key(15, "seconds after which a silent broker is lost", limits=(2, 3600))
    spool: str | None = key(
        None,
        "file in which messages wait for the broker (default: in the state directory)",
        metavar="FILE",
    )
    spool_mb: float = key(64.0, "size of that file at most", limits=(0.01, 100_000))

    def __post_init__(self) -> None:
        check_values(self, "mqtt")

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
    view_token: str | None = key(
        None, "another one, with which nothing can be changed", metavar="TOKEN", secret=True
    )
    view_token_file: str | None = key(None, "file with that", metavar="FILE")
    users: str | None = key(
        None, "file of people with passwords, made by `kestrel users add`", metavar="FILE"
    )
    cert_file: str | None = key(None, "certificate; with key_file: HTTPS", metavar="FILE")
    key_file: str | None = key(None, "private key of the certificate", metavar="FILE")
    jpeg_quality: int = key(80, "of the stream's pictures", limits=(10, 100))
    stream_fps: float = key(15.0, "pictures a second in the stream at most", limits=(0.1, 120))
    stale_s: float = key(
        10.0, "unhealthy without a completed inference for so long", limits=(0.1, 3600)
    )

    def __post_init__(self) -> None:
        check_values(self, "http")


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
        check_values(self, "webhook")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackOptions:
    """How boxes become tracks: one ``track_id`` for each object over time.

    A zone, a line, a rule and outputs of events switch tracking on. Costs are 1 - IoU plus what is
    added for another class.
    """

    on: bool | None = key(
        None,
        "follow objects over time (default: where something needs it)",
        flag="--track",
        on="run replay archive",
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
    camera_motion: bool = key(
        False, "for a camera that itself moves: objects are sought where that took them"
    )
    most_tracks: int = key(256, "tracks at most", limits=(1, 4096))
    most_boxes: int = key(256, "boxes of a frame at most, by score", limits=(1, 4096))

    def __post_init__(self) -> None:
        check_values(self, "track")
        if self.low_score > self.high_score:
            raise ConfigError("low_score in [track] is above high_score; lower it")


@dataclass(frozen=True, kw_only=True, slots=True)
class MotionOptions:
    """Inference only where something moves, for cameras that stand still.

    By default where a live run keeps events or has rules. Frames in which nothing moves are counted
    as dropped, reason "still".
    """

    on: bool | None = key(
        None,
        "infer only while something moves (default: in live runs with --store or rules)",
        flag="--motion",
    )
    floor_s: float = key(
        1.0, "a frame is inferred at least every so many seconds", limits=(0.05, 3600)
    )
    # longer than lost_s of [track]: what has left is told gone when it would be without a gate
    hold_s: float = key(2.25, "seconds for which all are inferred after a motion", limits=(0, 600))
    wake_s: float = key(
        2.0,
        "while nothing moves only one frame in so long may be decoded; 0: all are",
        limits=(0, 60),
    )

    regions: bool = key(
        False,
        "look at what moves, and at what was found, in its own pixels; at the whole frame only "
        "every floor_s. Implies --motion",
        flag="--regions",
    )

    def __post_init__(self) -> None:
        check_values(self, "motion")
        if self.regions and self.on is False:
            raise ConfigError("regions are where something moves: leave on = false out of [motion]")


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
    snapshots_mb: float = key(
        500.0, "size of that folder at most", limits=(0.1, 100_000_000), reload=True
    )
    snapshots_hours: float = key(
        168.0, "older pictures are removed", limits=(0.001, 1_000_000), reload=True
    )

    def __post_init__(self) -> None:
        check_values(self, "events")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreOptions:
    """A folder with a database of all events, and their snapshots and clips below it.

    Snapshots and clips are switched on and kept by the limits of this table, unless ``--snapshots``
    or ``--clips`` name other folders.
    """

    path: str | None = key(
        None, "keep events, snapshots and clips there, to be reviewed", metavar="DIR"
    )
    keep_hours: float = key(
        720.0, "older events and their files go", limits=(0.001, 1_000_000), reload=True
    )
    keep_labels: list[str] = key(
        list,
        "hours for a label in place of keep_hours, such as person=2160",
        metavar="LABEL=HOURS",
        reload=True,
    )
    budget_mb: float = key(
        20_000.0,
        "size of the store at most; the oldest events go",
        limits=(0.1, 100_000_000),
        reload=True,
    )

    def __post_init__(self) -> None:
        check_values(self, "store")
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
        check_values(self, "notify")


def check_values(options: Any, table: str = "") -> None:
    """Each value against its own declaration; raises ConfigError with all that is wrong."""
    faults = Faults()
    for each in fields(options):
        if "key" in each.metadata:
            name = f"{each.name} in [{table}]" if table else each.name
            with faults.step():
                each.metadata["key"].check(name, getattr(options, each.name))
    faults.tell()


def nearest(word: str, known: Collection[str]) -> str:
    """The known word that was probably meant, as the second half of a message; "": none is near."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def fill_store(tables: dict[str, dict[str, Any]]) -> None:
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
