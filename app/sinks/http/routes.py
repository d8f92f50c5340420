"""HTTP routes, the feeds of results that they answer from, and health as inferences tell it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from time import monotonic_ns
from typing import Any

from aiohttp import web

from ...core.detections import Result
from ...core.frame import SourceInfo, bgr_pixels
from ...core.states import WORKING, SourceStatus
from ...core.stats import OutputMeter
from ..drawing import draw_result
from ..json_lines import ResultEncoder
from ..video import encode_jpeg
from .metrics import CONTENT_TYPE, Metrics


@dataclass(frozen=True, slots=True)
class Health:
    """``reasons`` say what is wrong, ``warnings`` what is wrong but stops no work."""

    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether frames are being processed."""
        return not self.reasons


def judge(
    status: SourceStatus,
    idle_s: float | None,
    *,
    stale_s: float,
    outputs: Sequence[OutputMeter] = (),
    sources: Mapping[str, SourceStatus] | None = None,
) -> Health:
    """``idle_s``: since the last completed inference, None if there was none yet.

    ``sources``: that of each of several: while one of them works, the others are warnings.
    """
    reasons = []
    if status.state == "failed":
        reasons.append("the run has failed; see the log")
    if idle_s is None:
        reasons.append(f"no inference completed yet ({status.text})")
    elif idle_s > stale_s:
        reasons.append(f"no inference completed for {idle_s:.0f} s ({status.text})")
    troubles = (meter.figures() for meter in outputs)
    warnings = [f"{each.name}: {each.trouble}" for each in troubles if each.trouble]
    away = [(name, is_) for name, is_ in (sources or {}).items() if is_.state not in WORKING]
    warnings += [f"source {name}: {is_.text}" for name, is_ in away]
    return Health(tuple(reasons), tuple(warnings))


QUEUE = 64  # lines that wait for one client; then the oldest go


@dataclass(frozen=True, slots=True)
class JpegFrame:
    """One frame as JPEG."""

    index: int
    jpeg: bytes


class Subscriber:
    """The bounded queue of one client of server-sent events. Event loop only."""

    def __init__(self, meter: OutputMeter) -> None:
        self._meter = meter
        self._texts: deque[str] = deque()
        self._filled = asyncio.Event()

    def offer(self, text: str) -> None:
        """Newest wins."""
        if len(self._texts) >= QUEUE:
            self._texts.popleft()
            self._meter.dropped("slow client")
        self._texts.append(text)
        self._filled.set()

    async def take(self, timeout_s: float) -> str:
        """All that waits, at least one text; "" after ``timeout_s``."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._filled.wait(), timeout_s)
        self._filled.clear()
        text = "".join(self._texts)
        self._texts.clear()
        return text


class ResultFeed:
    """Of one source: a sink on the pipeline thread, all else on the event loop's."""

    def __init__(self, meter: OutputMeter, *, jpeg_quality: int) -> None:
        self._meter, self._quality = meter, jpeg_quality
        self._loop: asyncio.AbstractEventLoop | None = None
        self._line = ResultEncoder()
        self.labels: Sequence[str] = ()
        self.source = ""
        self.latest: Result | None = None
        self.last_ns: int | None = None  # when the last inference had completed
        self._pending: deque[str] = deque(maxlen=QUEUE)
        self._announced = False
        self._subscribers: list[Subscriber] = []
        self._watchers = 0  # streams of pictures
        self._changed = asyncio.Event()
        self._encoding: dict[bool, asyncio.Lock] = {}
        self._encoded: dict[bool, tuple[Result, JpegFrame]] = {}
        self._encoder = ThreadPoolExecutor(1, "http-jpeg")

    # -- pipeline thread --------------------------------------------------------------------------

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Take the names."""
        self._line.open(source, labels)
        self.source, self.labels = source.uri, labels

    def emit(self, result: Result) -> None:
        """Keep the newest; format and wake only where somebody looks. Never waits."""
        self.latest, self.last_ns = result, monotonic_ns()
        loop = self._loop
        if loop is None or not (self._subscribers or self._watchers):
            return
        if self._subscribers:
            if len(self._pending) == QUEUE:
                self._meter.dropped("server busy")
            self._pending.append(f"data: {self._line(result)}\n\n")
        if not self._announced:
            self._announced = True
            with suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(self._distribute)

    def close(self) -> None:
        """The run's frames have ended; the page stays."""

    # -- event loop -------------------------------------------------------------------------------

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on there may be clients."""
        self._loop = loop
        self._encoding = {False: asyncio.Lock(), True: asyncio.Lock()}

    def detach(self) -> None:
        """No more clients; lets go of the last frame."""
        self._loop = None
        self.latest = None
        self._encoded.clear()
        self._encoder.shutdown(wait=False)

    def end(self) -> None:
        """Its source is gone: those who wait for more are woken."""
        self.detach()
        self._pending.clear()
        self.broadcast("")
        self._distribute()

    @property
    def is_live(self) -> bool:
        """Whether its source is part of the run."""
        return self._loop is not None

    @property
    def viewers(self) -> dict[str, int]:
        """How many look, by kind."""
        return {"detections": len(self._subscribers), "pictures": self._watchers}

    def delivered(self) -> None:
        """A client has taken a picture, or the lines that waited."""
        self._meter.delivered()

    def broadcast(self, text: str) -> None:
        """One more event for every client of /detections."""
        for subscriber in self._subscribers:
            subscriber.offer(text)

    @contextmanager
    def subscribe(self) -> Iterator[Subscriber]:
        """Lines from now on."""
        subscriber = Subscriber(self._meter)
        self._subscribers.append(subscriber)
        try:
            yield subscriber
        finally:
            self._subscribers.remove(subscriber)

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Be woken by new frames."""
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1

    async def picture(self, *, overlay: bool) -> JpegFrame | None:
        """The newest frame; None before the first. Encoded once for all who ask."""
        async with self._encoding[overlay]:
            result = self.latest
            if result is None or self._loop is None:
                return None
            held = self._encoded.get(overlay)
            if held is not None and held[0] is result:
                return held[1]
            picture = await self._loop.run_in_executor(self._encoder, self._encode, result, overlay)
            if not self.is_live:  # perhaps as more of it is private now
                return None
            if self._watchers:
                self._encoded[overlay] = result, picture
            else:
                self._encoded.clear()  # nobody holds on to a frame for its own sake
            return picture

    async def newer(self, than: JpegFrame | None, timeout_s: float) -> bool:
        """Wait for a frame after ``than``; False after ``timeout_s``."""
        latest = self.latest
        if latest is not None and (than is None or latest.frame.index != than.index):
            return True
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        except asyncio.TimeoutError:
            return False
        return True

    def _distribute(self) -> None:
        self._announced = False
        while self._pending:
            self.broadcast(self._pending.popleft())
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _encode(self, result: Result, overlay: bool) -> JpegFrame:
        pixels = bgr_pixels(result.frame)
        if overlay:
            pixels = pixels.copy()
            draw_result(pixels, result, self.labels)
        return JpegFrame(result.frame.index, encode_jpeg(pixels, self._quality).tobytes())


STREAMS = 16  # open at a time
WRITE_S = 10.0  # a client that takes nothing for so long is let go
QUIET_S = 15.0  # then a comment shows that the connection is alive
_BOUNDARY = "kestrel-frame"


class Routes:
    """One method a path; all on the event loop. ``?source=NAME`` says whose, the first's if not."""

    def __init__(
        self,
        feeds: Mapping[str, ResultFeed],
        metrics: Metrics,
        *,
        health: Callable[[], Health],
        instruments: Callable[[str], Mapping[str, Any]],
        stream_fps: float,
    ) -> None:
        self._feeds, self._metrics = feeds, metrics
        self._health, self._instruments = health, instruments
        self._pause_s = 1 / stream_fps

    def add_to(self, app: web.Application) -> None:
        """These paths answer GET and HEAD; there are no files behind them."""
        app.router.add_get("/snapshot.jpg", self.snapshot)
        app.router.add_get("/stream.mjpg", self.stream, allow_head=False)
        app.router.add_get("/detections", self.detections, allow_head=False)
        app.router.add_get("/healthz", self.healthz)
        app.router.add_get("/metrics", self.metrics)

    async def snapshot(self, request: web.Request) -> web.Response:
        """The newest frame; with ``?overlay=1`` everything is drawn in."""
        picture = await self._feed(request).picture(overlay=_wants_overlay(request))
        if picture is None:
            return web.Response(status=503, text="503: no frame yet\n")
        headers = {"X-Frame": str(picture.index)}
        return web.Response(body=picture.jpeg, content_type="image/jpeg", headers=headers)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Frames as they come, at most ``stream_fps``; a slow client gets fewer."""
        feed, overlay = self._feed(request), _wants_overlay(request)
        if viewers(self._feeds.values())["pictures"] >= STREAMS:
            return _busy()
        response = web.StreamResponse()
        response.content_type = "multipart/x-mixed-replace"
        response.headers["Content-Type"] += f"; boundary={_BOUNDARY}"
        await response.prepare(request)
        loop, shown = asyncio.get_running_loop(), None
        with feed.watch():
            await _write(request, response, f"--{_BOUNDARY}\r\n".encode())
            while feed.is_live:
                began_s = loop.time()
                if await feed.newer(shown, QUIET_S):
                    picture = await feed.picture(overlay=overlay)
                    if picture is not None:
                        shown = picture
                        if not await _write(request, response, _part(picture)):
                            return response
                        feed.delivered()
                await asyncio.sleep(max(0.0, self._pause_s - (loop.time() - began_s)))
        return response

    async def detections(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: a JSON line a frame, and once a second ``stats``."""
        name = self.name_of(request)
        feed = self._feeds[name]
        if viewers(self._feeds.values())["detections"] >= STREAMS:
            return _busy()
        response = web.StreamResponse()
        response.content_type = "text/event-stream"
        await response.prepare(request)
        with feed.subscribe() as subscriber:
            subscriber.offer(self.stats_event(name))
            while feed.is_live:
                text = await subscriber.take(QUIET_S) or ": still here\n\n"
                if not await _write(request, response, text.encode()):
                    return response
                feed.delivered()
        return response

    def stats_event(self, name: str) -> str:
        """The instruments of a source as one server-sent event."""
        health = self._health()
        told = {**self._instruments(name), "healthy": health.ok, **asdict(health)}
        return f"event: stats\ndata: {json.dumps(told, allow_nan=False)}\n\n"

    async def healthz(self, request: web.Request) -> web.Response:
        """200 while inferences complete, else 503 with the reasons."""
        health = self._health()
        told = {"status": "ok" if health.ok else "failing", **asdict(health)}
        return web.json_response(told, status=200 if health.ok else 503)

    def name_of(self, request: web.Request) -> str:
        """The source that is asked for; raises HTTPNotFound."""
        name = request.query.get("source")
        if name is None:
            return next(iter(self._feeds))
        if name not in self._feeds:
            known = ", ".join(filter(None, self._feeds)) or "only one source, without a name"
            raise web.HTTPNotFound(reason=f"no such source; there is {known}")
        return name

    def _feed(self, request: web.Request) -> ResultFeed:
        return self._feeds[self.name_of(request)]

    async def metrics(self, request: web.Request) -> web.Response:
        """For Prometheus."""
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def viewers(feeds: Iterable[ResultFeed]) -> dict[str, int]:
    """How many look at any of them, by kind."""
    counts: Counter[str] = Counter()
    for feed in feeds:
        counts.update(feed.viewers)
    return dict(counts)


def _wants_overlay(request: web.Request) -> bool:
    return request.query.get("overlay", "0") not in ("", "0", "false", "no")


def _busy() -> web.Response:
    return web.Response(
        status=503, text="503: too many open streams\n", headers={"Retry-After": "10"}
    )


def _part(picture: JpegFrame) -> bytes:
    head = (
        f"Content-Type: image/jpeg\r\nContent-Length: {len(picture.jpeg)}\r\n"
        f"X-Frame: {picture.index}\r\n\r\n"
    )
    # browsers show a part when the next boundary has come: so it goes along
    return head.encode() + picture.jpeg + f"\r\n--{_BOUNDARY}\r\n".encode()


async def _write(request: web.Request, response: web.StreamResponse, data: bytes) -> bool:
    """False once the client has gone, or has taken nothing for ``WRITE_S``."""
    try:
        await asyncio.wait_for(response.write(data), WRITE_S)
        return True
    except asyncio.TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        return False
    except ConnectionError:
        return False
