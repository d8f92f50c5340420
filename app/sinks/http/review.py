"""The API of the event store, for the review page: events, their files, seen and deleted."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from datetime import datetime
from typing import Any, TypeVar

from aiohttp import web

from ...core.errors import SinkError
from ..store import EventStore, epoch_ms
from ..store_read import MOST, EventQuery, StoreReader
from .guard import OWN

CHANGE_S, BODY_S = 10.0, 10.0
MOST_SLOTS = 2000  # of a timeline
_FILES = {
    "snapshot.jpg": ("snapshot", "thumbnail"),  # the best that there is
    "clip.mp4": ("clip",),
}
_BASE = "/api/v1/events"
Answer = TypeVar("Answer")


class Review:
    """One method a path; all on the event loop, the database on a thread of its own."""

    def __init__(self, store: EventStore) -> None:
        self._store, self._reader = store, StoreReader(store.folder)
        self._executor = ThreadPoolExecutor(2, "http-store")

    def add_to(self, app: web.Application) -> None:
        """The paths; which events there are is told only to who may see the live page."""
        app.router.add_get(_BASE, _told(self.events))
        app.router.add_get("/api/v1/choices", _told(self.choices))
        app.router.add_get("/api/v1/timeline", _told(self.timeline))
        app.router.add_get(f"{_BASE}/{{id}}", _told(self.event))
        app.router.add_patch(f"{_BASE}/{{id}}", _told(self.mark))
        app.router.add_delete(f"{_BASE}/{{id}}", _told(self.delete))
        app.router.add_get(f"{_BASE}/{{id}}/{{file}}", _told(self.file))

    async def events(self, request: web.Request) -> web.Response:
        """A page of events, newest first; ``next`` is ``after`` of the following page."""
        found = await self._ask(self._reader.page, _query(request))
        after = None if found.next is None else f"{found.next[0]}-{found.next[1]}"
        return _json({"events": found.events, "next": after})

    async def cameras(self) -> list[str]:
        """Those that there are events of."""
        return (await self._ask(self._reader.choices))["camera"]

    async def choices(self, request: web.Request) -> web.Response:
        """What to filter by."""
        return _json(await self._ask(self._reader.choices))

    async def timeline(self, request: web.Request) -> web.Response:
        """How many events of the query there are in each ``step_s`` between since and until."""
        query = replace(_query(request), after=None, limit=None)
        if query.since_ms is None or query.until_ms is None:
            raise _bad("a timeline needs since and until")
        step_ms = round(_number(request, "step_s", 900, most=86_400) * 1e3)
        if step_ms < 1 or (query.until_ms - query.since_ms) / step_ms > MOST_SLOTS:
            raise _bad(f"a timeline has at most {MOST_SLOTS} slots; take a larger step_s")
        slots = await self._ask(self._reader.timeline, query, step_ms)
        return _json({"step_s": step_ms / 1e3, "counts": slots})

    async def event(self, request: web.Request) -> web.Response:
        """One event with its object's."""
        return _json(await self._find(request))

    async def mark(self, request: web.Request) -> web.Response:
        """``{"seen": true}``; with ``?object=1`` all events of its object."""
        _own(request)
        try:
            told = json.loads(await asyncio.wait_for(request.read(), BODY_S))
        except (ValueError, asyncio.TimeoutError, web.RequestPayloadError):
            told = None
        if not isinstance(told, dict) or not isinstance(told.get("seen"), bool):
            raise _bad('the body must be {"seen": true} or {"seen": false}')
        return await self._change(request, told["seen"])

    async def delete(self, request: web.Request) -> web.Response:
        """With the files that no other event names; ``?object=1`` as for ``mark``."""
        _own(request)
        return await self._change(request, None)

    async def file(self, request: web.Request) -> web.FileResponse:
        """``snapshot.jpg`` or ``clip.mp4``, also in parts; ``?download=1`` to be saved."""
        name = request.match_info["file"]
        if name not in _FILES:
            raise web.HTTPNotFound(reason=f"there is {' and '.join(_FILES)}")
        found = await self._ask(self._reader.files_of, await self._find(request))
        path = next((found[kind] for kind in _FILES[name] if kind in found), None)
        if path is None:
            raise web.HTTPNotFound(reason="this event has no such file, or it has gone")
        headers = {"Content-Type": "image/jpeg" if name.endswith("jpg") else "video/mp4"}
        if _flag(request, "download"):
            safe = re.sub(r"[^\w.-]", "_", path.name, flags=re.ASCII)
            headers["Content-Disposition"] = f'attachment; filename="{safe}"'
        return web.FileResponse(path, headers=headers)

    async def _find(self, request: web.Request) -> dict[str, Any]:
        event = await self._ask(self._reader.event, request.match_info["id"])
        if event is None:
            raise web.HTTPNotFound(reason="no such event; it may have been deleted")
        return event

    async def _change(self, request: web.Request, seen: bool | None) -> web.Response:
        future = self._store.change(
            request.match_info["id"], seen=seen, whole=_flag(request, "object")
        )
        try:
            count = await asyncio.wait_for(asyncio.wrap_future(future), CHANGE_S)
        except asyncio.TimeoutError:
            raise web.HTTPServiceUnavailable(reason="the store is busy; try again") from None
        if not count:
            raise web.HTTPNotFound(reason="no such event; it may have been deleted")
        return _json({"changed": count})

    async def _ask(self, question: Callable[..., Answer], *words: Any) -> Answer:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, question, *words)


def _told(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Faults as JSON."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _json({"error": error.reason}, status=error.status)
        except SinkError as error:  # of the disk or the database
            return _json({"error": str(error)}, status=503)

    return answer


def _query(request: web.Request) -> EventQuery:
    asked = request.query
    known = {each.name for each in fields(EventQuery)}
    known |= {"source", "since", "until", "q", "step_s"}
    if unknown := sorted(asked.keys() - known - {"token"}):
        raise _bad(f"{unknown[0]!a} is no filter of events")
    after = None
    if text := asked.get("after"):
        match = re.fullmatch(r"(-?\d{1,15})-([0-9A-Za-z]{1,64})", text)
        if match is None:
            raise _bad("after must be what next was")
        after = int(match[1]), match[2]
    return EventQuery(
        camera=asked.get("source") or None,
        label=asked.get("label") or None,
        zone=asked.get("zone") or None,
        line=asked.get("line") or None,
        type=asked.get("type") or None,
        since_ms=_moment(asked.get("since")),
        until_ms=_moment(asked.get("until")),
        seen=_flag(request, "seen") if asked.get("seen") else None,
        text=asked.get("q", "")[:200],
        objects=_flag(request, "objects"),
        after=after,
        limit=round(_number(request, "limit", 60, most=MOST)),
    )


def _moment(text: str | None) -> int | None:
    """Milliseconds since 1970, of a number of them or of RFC 3339 with its zone."""
    if not text:
        return None
    if re.fullmatch(r"-?\d{1,15}", text):
        return int(text)
    try:
        if datetime.fromisoformat(text.replace("Z", "+00:00")).tzinfo is not None:
            return epoch_ms(text)
    except (ValueError, OverflowError):
        pass
    raise _bad("since and until are like 2026-01-31T12:00:00Z, or milliseconds since 1970")


def _number(request: web.Request, name: str, default: float, *, most: float) -> float:
    text = request.query.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"\d{1,9}(\.\d{1,3})?", text) or not 1 <= float(text) <= most:
        raise _bad(f"{name} must lie between 1 and {most:g}")
    return float(text)


def _flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "0") not in ("", "0", "false", "no")


def _own(request: web.Request) -> None:
    """Refuse a change that a page of somebody else may have sent with the owner's cookie."""
    if OWN not in request.headers:
        raise web.HTTPForbidden(reason=f"changes need the header {OWN}: 1")


def _bad(reason: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(reason=reason)


def _json(told: Any, status: int = 200) -> web.Response:
    return web.json_response(told, status=status, dumps=lambda t: json.dumps(t, allow_nan=False))
