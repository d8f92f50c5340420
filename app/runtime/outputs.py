"""Outputs that a configuration asks for: made, started and stopped."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..config import ClipOptions, Config, HttpOptions, RecordOptions
from ..core.credentials import mask_credentials
from ..core.errors import ConfigError, exhausted
from ..core.interfaces import LiveFilters, LiveSettings, LiveShapes, Sink
from ..core.package import pip_install
from ..core.packets import PacketFan, PacketTap
from ..core.states import SourceStatus
from ..core.stats import OutputMeter, PipelineStats
from ..pipeline.handoff import Policy
from ..sinks.adapters import QueuedSink, instruments
from ..sinks.events import EventLinesSink, Listener, TrackEventSink
from ..sinks.json_lines import JsonLinesSink, LinesFile
from ..sinks.objects import ObjectTally
from ..sinks.store import EventStore
from ..sinks.video import VideoFileSink
from .clashes import boxes_beside, is_folder
from .inputs import copies, make_substream
from .tracking import counted_labels, ruled_actions, shape_names

if TYPE_CHECKING:
    from ..sinks.http.fleet import FleetSource
    from ..sinks.http.guard import ListenAddress
    from ..sinks.http.server import HttpService
    from ..sinks.mqtt import MqttPublisher
    from ..sinks.notify import AppriseNotifier
    from ..sinks.webhook import Webhook
    from ..sources.substream import Substream

log = logging.getLogger(__name__)


CLIP_QUEUE = 16


def without_outputs(config: Config) -> Config:
    """The same run with nothing written, for measurements."""
    bare = Config()
    names = (
        *("json", "expect", "trace", "ladder", "record", "clips", "mqtt", "http", "webhook"),
        *("notify", "store", "track", "events", "zone", "line", "mask", "rule"),
    )
    return replace(config, **{name: getattr(bare, name) for name in names})


def has_outputs(config: Config) -> bool:
    """Whether anything is written or sent, so that the run is a job with an end."""
    addressed = (config.mqtt.url, config.http.address, config.webhook.url)
    written = (config.json, config.events.path, config.record.path, config.clips.path, config.trace)
    return any((*addressed, *written, config.store.path))


class _Service(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Outputs:
    """All outputs of a run. Those ``of`` a source go into the pipeline; ``running`` goes around it.

    ``names``: of its sources, "" for a single one. What is written apart for each of several gets
    a folder or topic of its name. ``stats``, ``engine`` and ``status`` (of a source, by name; must
    be cheap) are asked later, from other threads: they may speak of a pipeline that is made of
    these very sinks. ``packets``: by name, of sources that give them. ``shapes``: what the page
    lets people draw. ``filters``, ``settings``: what may be changed over HTTP. ``append``: lines
    are added to files that are there. ``fleet``: what the page is to show of all cameras; its
    node's own come and go, and have no live page.
    """

    def __init__(
        self,
        config: Config,
        policy: Policy,
        *,
        stats: Callable[[], PipelineStats],
        engine: Callable[[], str],
        status: Callable[[str], SourceStatus] | None = None,
        names: Sequence[str] = ("",),
        packets: Mapping[str, PacketFan | None] | None = None,
        shapes: LiveShapes | None = None,
        filters: LiveFilters | None = None,
        settings: LiveSettings | None = None,
        append: bool = False,
        fleet: FleetSource | None = None,
    ) -> None:
        self._packets, self._shapes = dict(packets or {}), shapes
        self._filters, self._settings, self._fleet = filters, settings, fleet
        self._config, self._policy, self._names = config, policy, names
        self._stats, self._engine = stats, engine
        self._status = status or (lambda name: stats().sources.get(name, stats()).status)
        self.meters: list[OutputMeter] = []
        self._meters: dict[str, list[OutputMeter]] = {}  # by source
        self._tallies: dict[str, ObjectTally] = {}
        self._services: list[_Service] = []
        self._lines, self._events = (
            None if path is None else LinesFile(path, overwrite=config.overwrite, append=append)
            for path in (config.json, config.events.path)
        )
        self._substreams: dict[str, Substream | None] = {}
        self._limited: dict[str, list[Callable[[Config], None]]] = {}
        self._webhook = None if config.webhook.url is None else self._make_webhook()
        self._notifier = None if config.notify.url is None else self._make_notifier()
        self._store = None if config.store.path is None else self._make_store()
        http = config.http.address
        self._http = None if http is None else self._make_http(http)
        self._sinks: dict[str, list[Sink]] = {}
        self._own: dict[str, list[_Service]] = {}  # of one source alone
        self._started: list[_Service] = []
        for name in names:
            self._make(name, config)

    @property
    def store(self) -> EventStore | None:
        return self._store

    def counts(self, name: str) -> Mapping[str, Any]:
        """Of the objects of a source, as ``ObjectTally.retained``."""
        tally = self._tallies.get(name)
        return {} if tally is None else tally.retained()

    def keep(self, config: Config) -> None:
        """Other limits of age and size for all that is kept; any thread."""
        tables = {name: getattr(config, name) for name in ("record", "clips", "events", "store")}
        self._config = replace(self._config, **tables)
        if self._store is not None:
            self._store.keep(config.store)
        for each in [each for several in [*self._limited.values()] for each in several]:
            each(config)

    def of(self, name: str) -> list[Sink]:
        """Of the source with this name."""
        return self._sinks[name]

    def add(self, name: str, config: Config, packets: PacketFan | None) -> list[Sink]:
        """Of another source while the run goes on; ``config`` has its tables."""
        self._packets[name] = packets
        if self._http is not None and self._fleet is None:
            self._http.add(name)
        self._make(name, config)
        for service in self._own[name]:
            self._started.append(service)
            service.start()
        return self._sinks[name]

    def drop(self, name: str, *, returns: bool = False) -> None:
        """End what was there for this source alone; ``returns``: it is added again at once."""
        for service in self._own.pop(name, ()):
            service.stop()
            self._services.remove(service)
            self._started = [each for each in self._started if each is not service]
        for each in (self._sinks, self._tallies, self._packets, self._substreams, self._limited):
            each.pop(name, None)
        if self._store is not None:
            self._store.forget(name)
        if not returns:
            own = self._meters.pop(name, [])
            self.meters[:] = [each for each in self.meters if each not in own]
            if self._http is not None:
                self._http.drop(name)

    def _make(self, name: str, config: Config) -> None:
        before = len(self._services)
        self._substreams[name], self._limited[name] = self._substream(name, config), []
        self._sinks[name] = self._sinks_of(name, config)
        self._own[name] = self._services[before:]

    def _sinks_of(self, name: str, config: Config) -> list[Sink]:
        sinks = list[Sink]()
        listeners: dict[str, Listener] = {}
        if self._lines is not None:
            sinks.append(JsonLinesSink(self._lines))
        if self._events is not None:
            sinks.append(EventLinesSink(self._events))
        if config.record.path is not None:
            sinks.append(self._recording(name))
        if config.clips.path is not None:
            sinks.append(self._clips(name, listeners))
        if config.events.snapshots is not None:
            sinks.append(self._snapshots(name))
        if self._store is not None:
            camera = name or mask_credentials(config.source or "camera:0")
            sinks.append(self._store.sink(name, camera))
        if self._webhook is not None:
            listeners["webhook"] = self._webhook.notice
        if self._notifier is not None:
            listeners["notify"] = self._notifier.notice
        told = (self._http, config.mqtt.url, self._fleet)
        if config.tracks and any(each is not None for each in told):
            self._tallies[name] = ObjectTally(*shape_names(config, name))
            sinks.append(self._tallies[name])
        if config.mqtt.url is not None:
            publisher = self._mqtt(config.mqtt.url, name, config)
            sinks.append(publisher)
            listeners["mqtt"] = publisher.notice
        if self._http is not None:
            sinks += (
                [self._http.events] if self._fleet else [self._http.feed(name), self._http.events]
            )
        if listeners:  # last, so closed first
            sinks.append(TrackEventSink(listeners, ruled_actions(config)))
        return sinks

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start the services; stop them whatever happens, and say what was lost."""
        try:
            for service in self._services:
                self._started.append(service)
                service.start()
            yield
        finally:
            for service in reversed(self._started):
                service.stop()
            for figures in (meter.figures() for meter in self.meters):
                if figures.dropped:
                    lost = ", ".join(f"{n} {why}" for why, n in sorted(figures.dropped.items()))
                    log.warning(
                        "output %s: %d delivered, dropped: %s",
                        figures.name,
                        figures.delivered,
                        lost,
                    )

    def check(self) -> None:
        """Raise ConfigError for what would be refused at the start, without writing anything.

        KESTREL_REPLACES=1: a run that holds the port of --http ends before this one starts.
        """
        if self._http is not None and os.environ.get("KESTREL_REPLACES") != "1":
            self._http.check()

    def _meter(self, output: str, source: str = "") -> OutputMeter:
        name = f"{output}-{source}" if source else output
        for meter in self.meters:
            if meter.name == name:  # of a source that is made anew
                return meter
        made = OutputMeter(name)
        self._meters.setdefault(source, []).append(made)
        self.meters.append(made)
        return made

    def _substream(self, name: str, config: Config) -> Substream | None:
        made = make_substream(
            config, self._policy, name, lambda: self._meter("record-source", name)
        )
        if made is not None:
            self._services.append(made)
        return made

    def _recording(self, name: str) -> Sink:
        options = self._config.record
        assert options.path is not None
        meter = self._meter("record", name)
        tap = self._tap(options, name)
        draw = options.burn_in is not False
        if not is_folder(options.path):
            if name:
                raise ConfigError(
                    f"--record {options.path}: several sources do not go into one video; name a "
                    f"folder ({Path(options.path).with_suffix('')}/), in which each gets its own"
                )
            path, overwrite = Path(options.path), self._config.overwrite
            beside = boxes_beside(self._config, self._policy) is not None
            sink: Sink = VideoFileSink(
                path, draw=draw, beside=beside and not draw, overwrite=overwrite
            )
            if tap is not None:
                from ..sinks.packets import CopyingFileSink

                sink = CopyingFileSink(
                    path, tap, meter, encoded=sink, overwrite=overwrite, beside=beside
                )
            return self._beside(sink, meter)
        from ..sinks.recordings import SegmentsSink

        options = replace(options, path=f"{Path(options.path, name)}{os.sep}")
        make = partial(VideoFileSink, draw=draw, beside=not draw)
        segments = SegmentsSink(options, meter, tap=tap, make=make)
        self._limited[name].append(lambda config: segments.keep(config.record))
        return self._beside(segments, meter)

    def _tap(self, options: RecordOptions | ClipOptions, name: str) -> PacketTap | None:
        substream = self._substreams[name]
        fan = self._packets.get(name) if substream is None else substream.fan
        return fan.tap() if fan is not None and copies(options, self._policy) else None

    def _clips(self, name: str, listeners: dict[str, Listener]) -> Sink:
        from ..sinks.recordings import ClipSink

        meter, options = self._meter("clips", name), self._config.clips
        assert options.path is not None
        if name:
            options = replace(options, path=str(Path(options.path, name)))
        draw = options.burn_in is not False
        make = partial(VideoFileSink, draw=draw, beside=not draw)
        sink = ClipSink(options, meter, tap=self._tap(options, name), make=make)
        self._limited[name].append(lambda config: sink.keep(config.clips))
        listeners["clip"] = sink.notice
        return self._beside(sink, meter, capacity=CLIP_QUEUE)

    def _beside(self, sink: Sink, meter: OutputMeter, *, capacity: int = 8) -> Sink:
        """On its own thread, unless it is a replay, which waits and loses nothing."""
        if self._policy is Policy.LOSSLESS:
            return sink
        return QueuedSink(sink, meter, capacity=capacity)

    def _snapshots(self, name: str) -> Sink:
        from ..sinks.snapshots import SnapshotSink

        waits = self._policy is Policy.LOSSLESS
        meter, beside = self._meter("snapshots", name), self._substreams[name]
        sink = SnapshotSink(self._config.events, meter, waits=waits, beside=beside)
        self._limited[name].append(lambda config: sink.keep(config.events))
        return sink

    def _make_notifier(self) -> AppriseNotifier:
        _need("apprise", "--notify", "notify")
        from ..sinks.notify import AppriseNotifier

        options, meter = self._config.notify, self._meter("notify")
        notifier = AppriseNotifier(options, meter, snapshots=self._config.events.snapshots)
        self._services.append(notifier)
        return notifier

    def _make_store(self) -> EventStore:
        config, live = self._config, self._policy is Policy.LATEST
        store = EventStore(
            config.store,
            self._meter("store"),
            folders={
                "snapshot": Path(config.events.snapshots or ""),
                "clip": Path(config.clips.path or ""),
            },
            status=self._status if live else None,
            stats=self._stats,
            waits=not live,
        )
        self._services.append(store)
        return store

    def _make_webhook(self) -> Webhook:
        from ..sinks.webhook import Webhook

        webhook = Webhook(self._config.webhook, self._meter("webhook"))
        self._services.append(webhook)
        return webhook

    def _mqtt(self, url: str, name: str, config: Config) -> MqttPublisher:
        _need("paho.mqtt.client", "--mqtt")
        from ..sinks.mqtt import MqttPublisher, parse_address

        def figures() -> Mapping[str, Any]:
            stats = self._stats()
            return instruments(stats.sources.get(name, stats), self.meters)

        address, options, meter = parse_address(url), config.mqtt, self._meter("mqtt", name)
        if name:
            address = replace(address, prefix=f"{address.prefix}/{name}")
            options = options.apart(name)
        tally = self._tallies.get(name)

        def retained() -> Mapping[str, Any]:
            status = self._status(name)
            told = {"state": status.state, "since": status.since, "cause": status.cause}
            return {"source": told, **(tally.retained() if tally else {})}

        publisher = MqttPublisher(
            address,
            options,
            meter,
            figures=figures,
            retained=retained,
            **_home_assistant(config, address.prefix, name) if options.home_assistant else {},
        )
        self._services.append(publisher)
        return publisher

    def _make_http(self, text: str) -> HttpService:
        address, options = http_address(text, self._config.http), self._config.http
        from ..sinks.http.server import HttpService

        service = HttpService(
            address,
            options,
            self._meter("http"),
            stats=self._stats,
            outputs=self.meters,
            engine=self._engine,
            names=self._names,
            tallies=self._tallies,
            shapes=self._shapes,
            filters=self._filters,
            settings=self._settings,
            store=self._store,
            fleet=self._fleet,
        )
        self._services.insert(0, service)  # up first, down last: it tells of the others
        return service


def _home_assistant(config: Config, prefix: str, name: str) -> dict[str, Any]:
    from ..sinks.home_assistant import discovery

    zones, lines = shape_names(config, name)
    end, message = discovery(
        prefix, name=name or prefix, zones=zones, lines=lines, labels=counted_labels(config)
    )
    folder = config.events.snapshots
    return {
        "announced": {f"{config.mqtt.discovery_prefix}/{end}": message},
        "snapshots": None if folder is None else Path(folder),
    }


def _need(module: str, flag: str, extra: str = "outputs") -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        if none_left := exhausted(error):
            raise none_left from error
        raise ConfigError(
            f"{flag} needs {module.partition('.')[0]} ({error}); {pip_install(extra)}"
        ) from error


def http_address(text: str, options: HttpOptions) -> ListenAddress:
    """Where the page is to be, with its tokens; raises ConfigError."""
    for module in ("aiohttp", "prometheus_client"):
        _need(module, "--http")
    from ..sinks.http.guard import parse_address
    from ..sinks.http.users import UserFile

    return parse_address(
        text,
        _secret(options.token or os.environ.get("KESTREL_HTTP_TOKEN"), options.token_file),
        view_token=_secret(options.view_token, options.view_token_file),
        users=None if options.users is None else UserFile(Path(options.users)),
    )


def _secret(value: str | None, file: str | None) -> str | None:
    """A token of --http: from the flag, else its file."""
    if value or file is None:
        return value or None
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the token file {file} of [http]: {error}") from error
