"""Which outputs does a configuration ask for, and when do they start and stop?"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from app.config import Config
from app.errors import ConfigError
from app.handoff import Policy
from app.interfaces import Sink
from app.output_meter import OutputMeter
from app.shelf import Model
from app.sinks.events import Event, EventSink
from app.sinks.instruments import instruments
from app.sinks.json_lines import JsonLinesSink
from app.sinks.queued import QueuedSink
from app.sinks.video_file import VideoFileSink
from app.stats import PipelineStats
from app.tools.clashes import refuse_clashes

if TYPE_CHECKING:
    from app.sinks.http.service import HttpService
    from app.sinks.mqtt.publisher import MqttPublisher

log = logging.getLogger(__name__)

CLIP_QUEUE = 16


class _Service(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Outputs:
    """All outputs of a run. ``sinks`` go into the pipeline; ``running`` goes around it.

    ``stats`` and ``engine`` are asked later, from other threads: they may speak of a pipeline that
    is made of these very sinks.
    """

    def __init__(
        self,
        config: Config,
        policy: Policy,
        *,
        stats: Callable[[], PipelineStats],
        engine: Callable[[], str],
    ) -> None:
        self._config, self._policy = config, policy
        self._stats, self._engine = stats, engine
        self.sinks: list[Sink] = []
        self.meters: list[OutputMeter] = []
        self._services: list[_Service] = []
        listeners: list[Callable[[Event], None]] = []
        if config.json is not None:
            self.sinks.append(JsonLinesSink(config.json))
        if config.record.path is not None:
            self.sinks.append(self._recording())
        if config.clips.path is not None:
            self.sinks.append(self._clips(listeners))
        if config.webhook.url is not None:
            listeners.append(self._webhook())
        if config.mqtt.url is not None:
            publisher = self._mqtt(config.mqtt.url)
            self.sinks.append(publisher)
            listeners.append(publisher.notice)
        if config.http.address is not None:
            self.sinks.append(self._http(config.http.address))
        if listeners:
            self.sinks.append(EventSink(config.events, listeners))  # last, so closed first

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start the services; stop them whatever happens, and say what was lost."""
        started: list[_Service] = []
        try:
            for service in self._services:
                started.append(service)
                service.start()
            yield
        finally:
            for service in reversed(started):
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

    def _meter(self, name: str) -> OutputMeter:
        self.meters.append(OutputMeter(name))
        return self.meters[-1]

    def _recording(self) -> Sink:
        assert self._config.record.path is not None
        path, meter = self._config.record.path, self._meter("record")
        if not is_folder(path):
            return self._beside(VideoFileSink(path), meter)
        from app.sinks.segments import SegmentsSink

        return self._beside(SegmentsSink(self._config.record, meter), meter)

    def _clips(self, listeners: list[Callable[[Event], None]]) -> Sink:
        from app.sinks.clips import ClipSink

        meter = self._meter("clips")
        sink = ClipSink(self._config.clips, meter)
        listeners.append(sink.notice)
        return self._beside(sink, meter, capacity=CLIP_QUEUE)

    def _beside(self, sink: Sink, meter: OutputMeter, *, capacity: int = 8) -> Sink:
        """On its own thread, unless it is a replay, which waits and loses nothing."""
        if self._policy is Policy.LOSSLESS:
            return sink
        return QueuedSink(sink, meter, capacity=capacity)

    def _webhook(self) -> Callable[[Event], None]:
        from app.sinks.webhook import Webhook

        webhook = Webhook(self._config.webhook, self._meter("webhook"))
        self._services.append(webhook)
        return webhook.notice

    def _mqtt(self, url: str) -> MqttPublisher:
        _need("paho.mqtt.client", "--mqtt")
        from app.sinks.mqtt.address import parse_address
        from app.sinks.mqtt.publisher import MqttPublisher

        def figures() -> Mapping[str, Any]:
            return instruments(self._stats(), self.meters)

        address, meter = parse_address(url), self._meter("mqtt")
        publisher = MqttPublisher(address, self._config.mqtt, meter, figures=figures)
        self._services.append(publisher)
        return publisher

    def _http(self, text: str) -> HttpService:
        for module in ("aiohttp", "prometheus_client"):
            _need(module, "--http")
        from app.sinks.http.address import parse_address
        from app.sinks.http.service import HttpService

        options = self._config.http
        address = parse_address(text, _secret(options.token, options.token_file))
        service = HttpService(
            address,
            options,
            self._meter("http"),
            stats=self._stats,
            outputs=self.meters,
            engine=self._engine,
        )
        self._services.insert(0, service)  # up first, down last: it tells of the others
        return service


def is_folder(path: str) -> bool:
    """Whether recordings rotate in a folder: one that exists, or a name that ends in a slash."""
    return path.endswith(os.sep) or Path(path).is_dir()


def _need(module: str, flag: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{flag} needs {module.partition('.')[0]} ({error}); "
            ".venv/bin/python -m pip install -r requirements-outputs.txt"
        ) from error


def _secret(value: str | None, file: str | None) -> str | None:
    """The token of --http: from the flag, else the environment, else its file."""
    if value or os.environ.get("KESTREL_HTTP_TOKEN"):
        return value or os.environ["KESTREL_HTTP_TOKEN"]
    if file is None:
        return None
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read token_file {file} of [http]: {error}") from error


def refuse_own_inputs(config: Config, model: Model | None, policy: Policy) -> None:
    """No output may be an input."""
    record = config.record.path
    if record is not None and is_folder(record):
        record = None  # names there are new ones
    refuse_clashes(
        outputs={
            "--json": config.json,
            "--record": record,
            "--trace": config.trace if policy is Policy.LATEST else None,
        },
        inputs={
            "the source": config.source,
            "--expect": config.expect,
            "the trace": config.trace if policy is Policy.LOSSLESS else None,
            "the model": str(model.weights) if model else None,
            "the model's manifest": str(model.manifest) if model and model.manifest else None,
        },
    )
