"""Settings over HTTP: described, read and changed by the settings page, or by another program."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web

from ...core.interfaces import LiveSettings, SettingsRefused
from .users import CHANGED, WHO
from .zones import Refusal, received_json, refused

PATH, DISCOVER = "/api/v1/settings", "/api/v1/discover"
_STATUS = {"stale": 412, "unwritable": 409, "wrong": 422}


class SettingsRoutes:
    """GET and PATCH of the settings in the file of a run.

    GET: ``{"schema", "values", "in_force", "flags", "after_restart", "restart", "fixed", "file"}``,
    with the file's ETag. PATCH: ``{"score": 0.5, "store": {"keep_hours": 24}, "zone": […]}``, null
    for none, with ``If-Match``; answers as GET does, with ``changed`` and ``overridden``; else with
    ``{"error": TEXT, "faults": [{"key", "reason", "cure"}]}`` and nothing has been written.
    GET of DISCOVER: ``{"cameras": [{"address", "name", "streams": [{"uri", "profile", "encoding",
    "wh_px", "fps"}], "fault"}]}``, for who may change settings.
    """

    def __init__(self, settings: LiveSettings | None) -> None:
        self._settings = settings
        self._executor = ThreadPoolExecutor(1, "http-settings")  # a check reads files
        self._searches = False

    def add_to(self, app: web.Application) -> None:
        """The paths. Who may ask is checked before, as for every path of the server."""
        app.router.add_get(PATH, self.get)
        app.router.add_patch(PATH, self.patch)
        if self._settings is not None:
            app.router.add_get(DISCOVER, self.discover)

    async def get(self, request: web.Request) -> web.Response:
        """What may be set, what the file says, and what is in force."""
        return await self._answer(request, {})

    async def patch(self, request: web.Request) -> web.Response:
        """Other values; all or nothing."""
        if self._settings is None:
            return refused(404, "this run has no settings that can be changed")
        try:
            etag = _wanted(request)
            told = await received_json(request)
        except Refusal as fault:
            return refused(fault.status, str(fault))
        if not isinstance(told, dict):
            return refused(400, "send one object")
        loop = asyncio.get_running_loop()
        try:  # a client that leaves does not stop it halfway
            written = await asyncio.shield(
                loop.run_in_executor(self._executor, self._settings.write, told, etag)
            )
        except SettingsRefused as refusal:
            return _refused(refusal)
        CHANGED.set(written.told or "nothing")
        more = {"changed": written.changed, "overridden": written.overridden}
        return await self._answer(request, more)

    async def discover(self, request: web.Request) -> web.Response:
        """Cameras of the network; takes seconds, one search at a time."""
        settings = self._settings
        if WHO.get().role == "viewer" or settings is None:
            return refused(403, "only who may change settings may search; log in as an admin")
        if self._searches:
            return refused(503, "a search is under way; try again")
        self._searches = True

        def search() -> list[dict[str, Any]]:
            try:
                return settings.discover()
            finally:  # also where the client has left meanwhile
                self._searches = False

        return web.json_response({"cameras": await asyncio.to_thread(search)})

    async def _answer(self, request: web.Request, more: dict[str, Any]) -> web.Response:
        settings = self._settings
        if settings is None:
            return refused(404, "this run has no settings that can be changed")
        loop = asyncio.get_running_loop()
        try:
            told = await loop.run_in_executor(self._executor, settings.read)
        except SettingsRefused as refusal:
            return _refused(refusal)
        etag = f'"{told.pop("etag")}"'
        fixed = told["file"] is None or WHO.get().role == "viewer"
        restart = bool(told["after_restart"])
        told |= {"restart": restart, "fixed": fixed, "schema": settings.schema, **more}
        return web.json_response(told, headers={"ETag": etag})


def _wanted(request: web.Request) -> str | None:
    """The ETag that the change is for; None: any. Raises Refusal."""
    given = request.headers.get("If-Match", "")
    match = re.fullmatch(r'\*|(?:W/)?"([^"]*)"', given.strip())
    if match is None:
        raise Refusal(428, "send If-Match with the ETag of what you have read, or *")
    return match[1]


def _refused(refusal: SettingsRefused) -> web.Response:
    faults = [fault._asdict() for fault in refusal.faults]
    words = {"stale": "the settings have been changed meanwhile; read them again"}
    first = "; ".join(filter(None, (refusal.faults[0][1:] if refusal.faults else ())))
    text = words.get(refusal.why, first)
    return web.json_response({"error": text, "faults": faults}, status=_STATUS[refusal.why])
