"""The HTTP server beside the pipeline: address, access, limits, lifetime."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import re
import socket
import ssl
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from time import monotonic, monotonic_ns
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from ...config import HttpOptions
from ...core.errors import ConfigError, exhausted
from ...core.interfaces import LiveFilters, LiveShapes
from ...core.stats import OutputMeter, PipelineStats
from ...core.text import foreign
from ..adapters import instruments
from ..objects import ObjectTally
from ..store import EventStore
from .cameras import Cameras
from .filters import FilterRoutes
from .login import LOOKS_ONLY, Login, asks_for_page, login_page, token_of_form
from .metrics import Metrics
from .pages import Pages
from .review import Review
from .routes import Health, ResultFeed, Routes, judge, viewers
from .stream import EventFeed
from .zones import ZoneRoutes

log = logging.getLogger(__name__)


LOOPBACK = "127.0.0.1"
MIN_TOKEN = 8


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """A host and port to bind to, and the token that is asked for, if any.

    With ``view_token`` everything can be seen and nothing changed.
    """

    host: str
    port: int
    token: str | None = field(default=None, repr=False)
    view_token: str | None = field(default=None, repr=False)

    @property
    def is_loopback(self) -> bool:
        """Only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def parse_address(
    text: str, token: str | None = None, *, view_token: str | None = None
) -> ListenAddress:
    """``[ADDRESS:]PORT``; raises ConfigError, also for an open address without a token."""
    match = re.fullmatch(r"(?:(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):)?([0-9]{1,5})", text.strip())
    if match is None or int(match[2]) > 65535:
        raise ConfigError(f"--http is {text!r}; write PORT, ADDRESS:PORT or [IPV6]:PORT")
    host, port = (match[1] or LOOPBACK).strip("[]"), int(match[2])
    address = ListenAddress(host, port, token or None, view_token or None)
    if not address.is_loopback and address.token is None:
        raise ConfigError(
            f"--http {text} can be reached from outside, so it needs a token: --http-token, "
            "KESTREL_HTTP_TOKEN or token_file in [http]"
        )
    if address.view_token is not None and address.token in (None, address.view_token):
        raise ConfigError("view_token of [http] needs a token beside it, another one; set both")
    for given in filter(None, (address.token, address.view_token)):
        if len(given) < MIN_TOKEN or not re.fullmatch(r"[!-~]+", given):
            raise ConfigError(
                f"the token of --http needs {MIN_TOKEN} or more visible ASCII characters; "
                "for example: openssl rand -hex 16"
            )
    return address


RATE_PER_S, BURST = 30.0, 90.0  # requests of one client; a page needs five
FILES, FILE_COSTS = "/api/v1/events/", 0.1  # below this path, the files of events
FAILED_COSTS = 10.0  # a wrong token counts as so many
CLIENTS = 1024  # remembered
CONNECTIONS = 64  # open at a time
SILENT_S = 10.0  # without a whole request
TOLD_AGAIN_S = 60.0  # a fault of the same client
READS = ("GET", "HEAD")
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class Guard:
    """Checks each request before it is answered, and closes connections that never ask."""

    def __init__(
        self,
        address: ListenAddress,
        *,
        tls: bool = False,
        clock_s: Callable[[], float] = monotonic,
    ) -> None:
        self._clock_s = clock_s
        tokens = filter(None, (address.token, address.view_token))
        self._logins = [Login(token, tls=tls) for token in tokens]
        self._faults: OrderedDict[str, float] = OrderedDict()  # of whom, and when one was told
        self._tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()  # left, as of when
        self._serving: set[object] = set()  # connections with a request under way
        self._since_s: dict[object, float] = {}  # others: silent since

    def middleware(self) -> Middleware:
        """For the application."""

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._serving.add(request.protocol)
            try:
                answer = await self._own_answer(request)
                if answer is not None:
                    return answer
                made = await handler(request)
                if request.method not in READS and made.status < 400:
                    log.info("%s %s by %s", request.method, request.path, request.remote)
                return made
            except web.HTTPException as error:  # not found, method not allowed
                return web.Response(status=error.status, text=f"{error.status}: {error.reason}\n")
            except ConnectionError:  # it has left
                raise
            except Exception as error:
                self.tell(request.remote or "", error)
                raise
            finally:
                self._serving.discard(request.protocol)
                self._since_s[request.protocol] = self._clock_s()

        return check

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """On every answer (the application's on_response_prepare)."""
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers["Server"] = "kestrel"

    async def sweep(self, server: web.Server) -> None:
        """Until cancelled: close what has been silent for too long, and what is too much."""
        while True:
            await asyncio.sleep(min(1.0, SILENT_S / 4))
            now_s, connections = self._clock_s(), server.connections
            self._since_s = {each: self._since_s.get(each, now_s) for each in connections}
            silent = [each for each in connections if each not in self._serving]
            silent.sort(key=lambda each: self._since_s[each])
            surplus = len(connections) - CONNECTIONS
            for i, each in enumerate(silent):
                if i < surplus or now_s - self._since_s[each] > SILENT_S:
                    with suppress(RuntimeError):
                        each.force_close()

    def tell(self, client: str, error: BaseException) -> None:
        """A fault of ours in answering: a line a minute and client, at most CLIENTS of them."""
        log.debug("a request failed", exc_info=error)
        now_s = self._clock_s()
        while self._faults and now_s - next(iter(self._faults.values())) > TOLD_AGAIN_S:
            self._faults.popitem(last=False)
        if client in self._faults or len(self._faults) >= CLIENTS:
            return
        self._faults[client] = now_s
        what = f"{type(error).__name__}: {error}"
        log.warning("a request of %s could not be answered (%s)", client or "?", foreign(what))

    async def _own_answer(self, request: web.Request) -> web.Response | None:
        """A refusal, or what a login gives; None: the request may be answered."""
        client, logins = request.remote or "", self._logins
        # a page of cards asks for dozens of small pictures, a video for a piece after the other
        if not self._spend(client, FILE_COSTS if request.path.startswith(FILES) else 1.0):
            return _text(429, "too many requests", {"Retry-After": "1"})
        if not logins:
            # A page of a stranger, opened in a browser here, may ask a name that it made point to
            # this machine; then it would read the answer. Only this machine's own names are served.
            if re.sub(r":\d+$", "", request.headers.get("Host", "")) in _LOCAL_NAMES:
                return None
            return _text(403, "ask for localhost, or set a token (--http-token)")
        for login in logins:
            welcome = login.by_link(request)
            if welcome is not None and (request.path == "/" or asks_for_page(request)):
                return welcome
            if welcome is not None or login.admits(request):
                # a program may give the token in the address of a picture
                return self._may(request, changes=login is logins[0])
        form = request.method == "POST" and request.path == "/"
        if form and (given := await token_of_form(request)) is not None:
            for login in logins:
                if login.is_right(given):
                    return login.welcome(request)
        self._spend(client, FAILED_COSTS)
        if form or asks_for_page(request):
            return login_page(again=form)
        return _text(
            401,
            "a token is needed: the header 'Authorization: Bearer TOKEN'; a browser is asked for "
            "it at /",
            {"WWW-Authenticate": "Bearer"},
        )

    def _may(self, request: web.Request, *, changes: bool) -> web.Response | None:
        """A refusal for who may only look."""
        LOOKS_ONLY.set(not changes)
        if changes or request.method in READS:
            return None
        return web.json_response(
            {"error": "this token is for looking; log in with the other one"}, status=403
        )

    def _spend(self, client: str, cost: float) -> bool:
        """Whether the client had so much left; a bucket that fills at RATE_PER_S up to BURST."""
        now_s = self._clock_s()
        left, as_of_s = self._tokens.pop(client, (BURST, now_s))
        left = min(BURST, left + (now_s - as_of_s) * RATE_PER_S)
        enough = left >= cost
        self._tokens[client] = (max(0.0, left - cost), now_s)
        while len(self._tokens) > CLIENTS:
            self._tokens.popitem(last=False)
        return enough


def _text(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=f"{status}: {text}\n", headers=headers)


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
        store: EventStore | None = None,
    ) -> None:
        self._address, self._options, self._outputs = address, options, outputs
        self._stats, self._engine = _Held(stats), engine
        self._feeds = {name: ResultFeed(meter, jpeg_quality=options.jpeg_quality) for name in names}
        self.events = EventFeed(meter)  # the sink for the events of all sources
        self._shapes, self._filters = shapes, filters
        self._tallies = {} if tallies is None else tallies
        self._review = None if store is None else Review(store)
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
        hint = ", which asks for the token" if self._address.token else ""
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
        app.on_response_prepare.append(guard.add_headers)
        routes.add_to(app)
        ZoneRoutes(self._shapes, routes.name_of).add_to(app)
        if self._filters is not None:
            FilterRoutes(self._filters, routes.name_of).add_to(app)
        app.router.add_get("/events", self.events.events, allow_head=False)
        Pages(list(self._feeds), ["/review"] if self._review is not None else []).add_to(app)
        Cameras(
            self._feeds, self.events, instruments=self._instruments, name_of=routes.name_of
        ).add_to(app)
        if self._review is not None:
            self._review.add_to(app)
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
