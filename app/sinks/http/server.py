"""The HTTP server beside the pipeline: its parts, its thread, its lifetime."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import replace
from time import monotonic, monotonic_ns
from typing import Any

from aiohttp import web

from ...config import HttpOptions
from ...core.errors import ConfigError, exhausted
from ...core.interfaces import LiveFilters, LiveSettings, LiveShapes
from ...core.stats import OutputMeter, PipelineStats
from ..adapters import instruments
from ..objects import ObjectTally
from ..store import EventStore
from .cameras import Cameras
from .filters import FilterRoutes
from .fleet import FleetRoutes, FleetSource
from .guard import SILENT_S, Guard, ListenAddress
from .metrics import Metrics
from .openapi import OpenApi
from .pages import Pages
from .review import Review
from .routes import Health, ResultFeed, Routes, judge, viewers
from .settings import SettingsRoutes
from .stream import EventFeed
from .zones import ZoneRoutes

log = logging.getLogger(__name__)


START_S, STOP_S = 10.0, 1.5
MAX_REQUEST_BYTES = 4096  # of the first line, of a header
STATS_S = 1.0


class HttpService:
    """An event loop on a thread of its own.

    ``start`` before the run, so that health can be asked while the source is still opening, and
    ``stop`` after it; in between each source's results go into its ``feed``.
    """

    def __init__(
        self,
        address: ListenAddress,
        options: HttpOptions,
        meter: OutputMeter,
        *,
        stats: Callable[[], PipelineStats],
        outputs: Sequence[OutputMeter],
        engine: Callable[[], str],
        names: Sequence[str] = ("",),
        tallies: Mapping[str, ObjectTally] | None = None,
        shapes: LiveShapes | None = None,
        filters: LiveFilters | None = None,
        settings: LiveSettings | None = None,
        store: EventStore | None = None,
        fleet: FleetSource | None = None,
    ) -> None:
        """Without ``names`` there is the page of the ``fleet`` alone."""
        self._address, self._options, self._outputs = address, options, outputs
        self._meter = meter
        self._stats, self._engine = _Held(stats), engine
        self._feeds = {name: self._new_feed() for name in names}
        self.events = EventFeed(meter)  # the sink for the events of all sources
        self._shapes, self._filters, self._settings = shapes, filters, settings
        self._tallies = {} if tallies is None else tallies
        self._review = None if store is None else Review(store)
        self._fleet = None if fleet is None else FleetRoutes(fleet)
        self._began_s = monotonic()
        self._tls = server_context(options.cert_file, options.key_file)
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._started: Future[int] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """Where the page is, without the token."""
        host = f"[{self._address.host}]" if ":" in self._address.host else self._address.host
        port = self._started.result(0) if self._started.done() else self._address.port
        return f"http{'s' if self._tls else ''}://{host}:{port}/"

    def check(self) -> None:
        """Raise ConfigError where ``start`` could not listen; nobody is answered."""
        host, port = self._address.host, self._address.port
        try:
            for family, kind, protocol, _, place in socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            ):
                with socket.socket(family, kind, protocol) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if family == socket.AF_INET6:
                        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    probe.bind(place)
        except OSError as error:
            raise self._cannot_listen(error) from error

    def _cannot_listen(self, error: OSError) -> ConfigError:
        return exhausted(error) or ConfigError(
            f"cannot listen on --http {self._address.host}:{self._address.port}: "
            f"{os.strerror(error.errno) if error.errno and error.errno > 0 else error}; "
            "choose another port or address"
        )

    def start(self) -> None:
        """Listen; raises ConfigError where that is impossible."""
        self._thread.start()
        try:
            self._started.result(START_S)
        except OSError as error:
            raise self._cannot_listen(error) from error
        except FutureTimeoutError:
            raise ConfigError("the HTTP server does not start; choose another address") from None
        asks = self._address.asks
        hint = f", which asks for {asks}" if asks else ""
        log.info("live page at %s%s", self.url, hint)

    def stop(self) -> None:
        """End all streams and the thread; bounded."""
        if self._loop is not None and self._end is not None:
            with suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._end.set)
        if self._thread.ident is not None:
            self._thread.join(STOP_S)
        for feed in self._feeds.values():
            feed.detach()

    def feed(self, name: str = "") -> ResultFeed:
        """The sink for a source's results."""
        return self._feeds[name]

    def add(self, name: str) -> None:
        """A feed for another source, or another one for a source that is made anew."""
        made = self._new_feed()
        if self._loop is not None:
            made.attach(self._loop)
        self._change(lambda: self._exchange(name, made))

    def drop(self, name: str) -> None:
        """That source is no longer part of the run; streams of it end."""
        self._change(lambda: self._exchange(name, None))

    def _new_feed(self) -> ResultFeed:
        return ResultFeed(self._meter, jpeg_quality=self._options.jpeg_quality)

    def _exchange(self, name: str, made: ResultFeed | None) -> None:
        before = self._feeds.get(name)
        if made is not None:
            self._feeds[name] = made
        elif before is not None:
            del self._feeds[name]
            self.events.last.pop(name, None)
        if before is not None:
            before.end()

    def _change(self, do: Callable[[], None]) -> None:
        """On the event loop, where the feeds are gone through; waits for it."""
        done: Future[None] = Future()

        def run() -> None:
            do()
            done.set_result(None)

        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(run)
                done.result(STOP_S)
                return
        except (RuntimeError, FutureTimeoutError):  # the server has ended
            pass
        do()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            if not self._started.done():
                self._started.set_exception(error)
            else:
                log.warning("the HTTP server has ended: %s", error)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        for feed in self._feeds.values():
            feed.attach(self._loop)
        self.events.attach(self._loop)
        routes, guard = self._routes(), Guard(self._address, tls=self._tls is not None)
        self._loop.set_exception_handler(lambda _, what: guard.tell("", _fault_in(what)))
        app = web.Application(middlewares=[guard.middleware()], client_max_size=MAX_REQUEST_BYTES)
        guard.add_to(app)
        if self._feeds:
            routes.add_to(app)
            ZoneRoutes(self._shapes, routes.name_of).add_to(app)
            Cameras(
                self._feeds, self.events, instruments=self._instruments, name_of=routes.name_of
            ).add_to(app)
        else:
            app.router.add_get("/healthz", _is_up)
        if self._fleet is not None:
            self._fleet.add_to(app)
        if self._filters is not None:
            FilterRoutes(self._filters, routes.name_of).add_to(app)
        SettingsRoutes(self._settings).add_to(app)
        app.router.add_get("/events", self.events.events, allow_head=False)
        others = {"/fleet": self._fleet, "/review": self._review, "/settings": self._settings}
        Pages(
            self._feeds,
            [path for path, part in others.items() if part],
            remembered=None if self._review is None else self._review.cameras,
        ).add_to(app)
        if self._review is not None:
            self._review.add_to(app)
        OpenApi(None if self._settings is None else self._settings.schema).add_to(app)
        runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            logger=_silent(),  # of requests that are no HTTP; faults of ours are told by the guard
            handler_cancellation=True,  # a client that leaves ends its handler
            keepalive_timeout=SILENT_S,
            lingering_time=1.0,
            max_line_size=MAX_REQUEST_BYTES,
            max_field_size=MAX_REQUEST_BYTES,
            shutdown_timeout=0.5,
        )
        await runner.setup()
        tasks: list[asyncio.Task[None]] = []
        try:
            site = web.TCPSite(
                runner, self._address.host, self._address.port, ssl_context=self._tls, backlog=32
            )
            await site.start()
            assert runner.server is not None
            tasks.append(asyncio.create_task(guard.sweep(runner.server)))
            tasks.append(asyncio.create_task(self._tell_stats(routes)))
            self._started.set_result(runner.addresses[0][1])
            await self._end.wait()
        finally:
            for task in tasks:
                task.cancel()
            await runner.cleanup()

    def _routes(self) -> Routes:
        metrics = Metrics(
            stats=self._stats,
            outputs=self._outputs,
            idle_s=self._idle_s,
            healthy=lambda: self._health().ok,
            viewers=lambda: {**viewers(self._feeds.values()), "events": self.events.clients},
            tallies=self._tallies,
            about=lambda: {"source": self._first.source, "engine": self._engine()},
        )
        return Routes(
            self._feeds,
            metrics,
            health=self._health,
            instruments=self._instruments,
            stream_fps=self._options.stream_fps,
        )

    @property
    def _first(self) -> ResultFeed:
        return next(iter(self._feeds.values()))

    def _instruments(self, name: str) -> dict[str, Any]:
        """Of the source with this name: its own counts, and the stages, which all share."""
        stats, several = self._stats(), len(self._feeds) > 1
        own = stats.sources.get(name, stats)
        told = {
            "source": self._feeds[name].source,
            "engine": self._engine(),
            "uptime_s": round(monotonic() - self._began_s),
            **instruments(replace(own, stages_ms=stats.stages_ms), self._outputs),
        }
        if several:
            told["name"] = name
            told["sources"] = [
                {"name": each, "state": each_stats.state, "fps": round(each_stats.fps, 2)}
                for each, each_stats in stats.sources.items()
            ]
        return told

    async def _tell_stats(self, routes: Routes) -> None:
        while True:
            await asyncio.sleep(STATS_S)
            for name, feed in self._feeds.items():
                if feed.viewers["detections"]:
                    feed.broadcast(routes.stats_event(name))

    def _idle_s(self) -> float | None:
        times = [feed.last_ns for feed in self._feeds.values() if feed.last_ns is not None]
        return (monotonic_ns() - max(times)) / 1e9 if times else None

    def _health(self) -> Health:
        stats = self._stats()
        return judge(
            stats.status,
            self._idle_s(),
            stale_s=self._options.stale_s,
            outputs=self._outputs,
            sources={name: each.status for name, each in stats.sources.items()},
        )


async def _is_up(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok", "reasons": [], "warnings": []})


def server_context(cert_file: str | None, key_file: str | None) -> ssl.SSLContext | None:
    """For the page; None without a certificate."""
    if not cert_file:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert_file, key_file)
    except OSError as error:
        raise ConfigError(
            f"cannot read cert_file or key_file of [http]: {error.strerror or error}"
        ) from error
    return context


def _silent() -> logging.Logger:
    logger = logging.Logger("kestrel.http.requests", logging.CRITICAL + 1)
    logger.disabled = True
    return logger


def _fault_in(what: dict[str, Any]) -> BaseException:
    fault = what.get("exception")
    return fault if isinstance(fault, BaseException) else RuntimeError(what.get("message", "?"))


class _Held:
    """Figures at most half a second old: sorting them takes milliseconds."""

    def __init__(self, stats: Callable[[], PipelineStats]) -> None:
        self._stats, self._as_of_s = stats, 0.0
        self._value: PipelineStats | None = None

    def __call__(self) -> PipelineStats:
        now_s = monotonic()
        if self._value is None or now_s - self._as_of_s > 0.5:
            self._value, self._as_of_s = self._stats(), now_s
        return self._value
