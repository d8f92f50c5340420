"""What can be set about each output? The tables of the configuration file.

The first field of each is what its flag gives: ``--mqtt URL`` is ``url`` in ``[mqtt]``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from app.errors import ConfigError


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
