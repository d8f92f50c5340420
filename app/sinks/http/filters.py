"""Filters over HTTP: read and changed by another program while the run goes on."""

from __future__ import annotations

from aiohttp import web

from ...core.errors import ConfigError
from ...core.interfaces import LiveFilters
from .zones import NameOf, Refusal, received, refused


class FilterRoutes:
    """GET and PUT of the filters of ``?source=NAME``: ``{"classes": "person,car", …}``.

    Keys are those of ``[[filter]]`` without ``score``; PUT leaves keys that it does not name as
    they are, and lasts until the end of the run. Both answer with all keys, else with
    ``{"error": TEXT}`` and status 400, 403, 404, 413 or 415.
    """

    def __init__(self, filters: LiveFilters, name_of: NameOf) -> None:
        self._filters, self._name_of = filters, name_of

    def add_to(self, app: web.Application) -> None:
        """The one path. Who may ask is checked before, as for every path of the server."""
        app.router.add_get("/api/v1/filters", self.get)
        app.router.add_put("/api/v1/filters", self.put)

    async def get(self, request: web.Request) -> web.Response:
        """What is in force."""
        try:
            return web.json_response(self._filters.read(self._name_of(request)))
        except web.HTTPNotFound as fault:
            return refused(404, fault.reason)

    async def put(self, request: web.Request) -> web.Response:
        """Other values; all or nothing."""
        try:
            name, told = await received(request, self._name_of)
            if not isinstance(told, dict):
                raise ConfigError("send one object")
            self._filters.write(told, name)
        except Refusal as fault:
            return refused(fault.status, str(fault))
        except ConfigError as fault:
            return refused(400, str(fault))
        return await self.get(request)
