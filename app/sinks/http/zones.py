"""Zones and lines over HTTP: read, changed and saved by the live page, or by another program."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from ...core.errors import ConfigError
from ...core.interfaces import LiveShapes
from .users import WHO

PATH = "/api/v1/zones"
MAX_BODY_BYTES = 256 * 1024  # 64 shapes of 100 points need about half
KEYS = ("zone", "line", "save")
NameOf = Callable[[web.Request], str]


class ZoneRoutes:
    """GET and PUT of ``{"zone": [...], "line": [...]}``, rows as in the configuration file.

    GET adds ``"file"``, where they are kept (null: nowhere), and ``"fixed": true`` in a run whose
    zones cannot be changed, or for who may only look. PUT replaces all rows of a source from
    the next frame on, and keeps them there with ``"save": true``; it answers as GET does, else with
    ``{"error": TEXT}`` and status 400, 403, 409 (cannot be saved), 413 or 415.
    """

    def __init__(self, shapes: LiveShapes | None, name_of: NameOf) -> None:
        self._shapes, self._name_of = shapes, name_of

    def add_to(self, app: web.Application) -> None:
        """The one path. Who may ask is checked before, as for every path of the server."""
        app.router.add_get(PATH, self.get)
        app.router.add_put(PATH, self.put)

    async def get(self, request: web.Request) -> web.Response:
        """The rows of ``?source=NAME``."""
        if self._shapes is None:  # no error: the page of any run asks
            return web.json_response({"zone": [], "line": [], "file": None, "fixed": True})
        try:
            told = self._shapes.read(self._name_of(request))
        except web.HTTPNotFound as fault:
            return refused(404, fault.reason)
        fixed = {"fixed": True} if WHO.get().role == "viewer" else {}
        return web.json_response({**told, "file": self._file(), **fixed})

    async def put(self, request: web.Request) -> web.Response:
        """Other rows; all or nothing."""
        if self._shapes is None:
            return refused(404, "this run has no zones that can be changed")
        try:
            name, told = await received(request, self._name_of)
            tables = _tables(told)
            save = tables.pop("save", False)
            self._shapes.write(tables, name)
        except Refusal as fault:
            return refused(fault.status, str(fault))
        except ConfigError as fault:
            return refused(400, str(fault))
        if save:
            try:
                self._shapes.save()
            except ConfigError as fault:
                return refused(409, str(fault))
        return await self.get(request)

    def _file(self) -> str | None:
        """Its name alone: folders of this machine are nobody's business."""
        file = None if self._shapes is None else self._shapes.file
        return None if file is None else file.name


class Refusal(Exception):
    """What is sent is not even looked at; ``status`` is that of the answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


async def received(request: web.Request, name_of: NameOf) -> tuple[str, Any]:
    """The source that a change is for, and the JSON that it sends; raises Refusal."""
    try:
        name = name_of(request)
    except web.HTTPNotFound as fault:
        raise Refusal(404, fault.reason) from fault
    return name, await received_json(request)


async def received_json(request: web.Request) -> Any:
    """The JSON that a change sends; raises Refusal."""
    if request.content_type != "application/json":
        raise Refusal(415, "send application/json")
    body = bytearray()
    async for part in request.content.iter_any():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise Refusal(413, f"send {MAX_BODY_BYTES} bytes or less")
    try:
        return json.loads(bytes(body))
    except (ValueError, RecursionError) as fault:
        raise Refusal(400, f"is no JSON: {fault}") from fault


def _tables(told: Any) -> dict[str, Any]:
    if not isinstance(told, dict) or told.keys() - set(KEYS):
        raise ConfigError(f"send one object with {', '.join(KEYS)}")
    if not isinstance(told.get("save", False), bool):
        raise ConfigError("save must be true or false")
    for key in ("zone", "line"):
        for row in told.get(key, []) if isinstance(told.get(key, []), list) else []:
            if isinstance(row, dict) and "source" in row:
                raise ConfigError("leave source out of the rows; it is ?source=NAME")
    return told


def refused(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)
