"""Results for those who look at the page, at no cost while nobody does."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic_ns

from ...core.detections import Result
from ...core.frame import SourceInfo, bgr_pixels
from ...core.stats import OutputMeter
from ..json_lines import ResultEncoder
from ..video import draw_detections, encode_jpeg

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
        self._labels: Sequence[str] = ()
        self.source = ""
        self._latest: Result | None = None
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
        self.source, self._labels = source.uri, labels

    def emit(self, result: Result) -> None:
        """Keep the newest; format and wake only where somebody looks. Never waits."""
        self._latest, self.last_ns = result, monotonic_ns()
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
        self._latest = None
        self._encoded.clear()
        self._encoder.shutdown(wait=False)

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
            result = self._latest
            if result is None or self._loop is None:
                return None
            held = self._encoded.get(overlay)
            if held is not None and held[0] is result:
                return held[1]
            picture = await self._loop.run_in_executor(self._encoder, self._encode, result, overlay)
            if self._watchers:
                self._encoded[overlay] = result, picture
            else:
                self._encoded.clear()  # nobody holds on to a frame for its own sake
            return picture

    async def newer(self, than: JpegFrame | None, timeout_s: float) -> bool:
        """Wait for a frame after ``than``; False after ``timeout_s``."""
        latest = self._latest
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
            draw_detections(pixels, result.detections, self._labels)
        return JpegFrame(result.frame.index, encode_jpeg(pixels, self._quality).tobytes())
