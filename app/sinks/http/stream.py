"""``/events``: what happens to objects and sources as server-sent events."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from aiohttp import web

from ...core.events import Event, Fired
from ...core.stats import OutputMeter
from ..events import EventsOnlySink
from ..json_lines import quoted
from .routes import QUIET_S, STREAMS, _busy, _write

KEPT = 256  # the last events, for a client that comes back or lags


class _KeptEvent(NamedTuple):
    number: int  # from 1, without gaps
    id: str
    name: str | None
    text: str


class EventFeed(EventsOnlySink):
    """A sink of all sources on the pipeline thread, all else on the event loop's.

    Clients read from one ring of the last ``KEPT`` events. One that has fallen behind them is let
    go; it comes back by itself, and ``Last-Event-ID`` gives it what is still there.
    """

    def __init__(self, meter: OutputMeter) -> None:
        self._meter = meter
        self._lock = threading.Lock()
        self._kept: deque[_KeptEvent] = deque(maxlen=KEPT)
        self._count = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self.clients = 0
        self.last: dict[str, dict[str, object]] = {}  # the newest of each source, as JSON

    # -- pipeline thread --------------------------------------------------------------------------

    def happened(self, events: Sequence[Event], fired: Sequence[Fired]) -> None:
        """See interfaces.TakesEvents."""
        with self._lock:
            for event in events:
                self._count += 1
                told = self.last[event.name or ""] = event.as_json()
                text = f"id: {event.id}\ndata: {quoted(told)}\n\n"
                self._kept.append(_KeptEvent(self._count, event.id, event.name, text))
        loop = self._loop
        if loop is not None and self.clients:
            with suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(self._wake)

    # -- event loop -------------------------------------------------------------------------------

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on there may be clients."""
        self._loop = loop

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Events from now on, or after ``Last-Event-ID``; ``?source=NAME`` only of that one."""
        if self.clients >= STREAMS:
            return _busy()
        name = request.query.get("source")
        number = self._after(request.headers.get("Last-Event-ID", ""))
        response = web.StreamResponse()
        response.content_type = "text/event-stream"
        await response.prepare(request)
        self.clients += 1
        try:
            text = ": events\n\n"
            while not text or await _write(request, response, text.encode()):
                self._meter.delivered(bool(text))
                changed = self._changed
                fresh = self._since(number)
                if fresh is None:
                    self._meter.dropped("slow client")
                    break
                if not fresh:
                    with suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(changed.wait(), QUIET_S)
                    text = "" if changed.is_set() else ": still here\n\n"
                    continue
                number = fresh[-1].number
                text = "".join(each.text for each in fresh if name in (None, each.name))
        finally:
            self.clients -= 1
        return response

    def _after(self, last_id: str) -> int:
        """The number after which to go on: of this event, else of none that is still there."""
        with self._lock:
            if not last_id:
                return self._count
            known = [each.number for each in self._kept if each.id == last_id]
            return known[0] if known else self._count - len(self._kept)

    def _since(self, number: int) -> list[_KeptEvent] | None:
        """What came after; None where some of it is no longer there."""
        with self._lock:
            if number < self._count - len(self._kept):
                return None
            return [each for each in self._kept if each.number > number]

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
