"""What the page of a fleet asks for: all its cameras, whichever machine runs them."""

from __future__ import annotations

import json
from typing import Any, Protocol

from aiohttp import web

BASE = "/api/v1/fleet"


class FleetSource(Protocol):
    """What is known of the cameras; pictures are fetched when they are asked for."""

    def cameras(self) -> list[dict[str, Any]]:
        """By name: ``camera``, ``node``, ``state``, ``last_event`` and what its node tells."""

    async def gone(self) -> list[dict[str, Any]]:
        """Nodes that are away: ``node``, ``since``, ``had``: new homes of their cameras."""

    async def picture(self, camera: str) -> bytes | None:
        """The newest frame as JPEG; None: nobody has one."""

    async def snapshot(self, node: str, name: str) -> bytes | None:
        """The picture of an event of this node."""

    async def events(self, camera: str) -> list[dict[str, Any]]:
        """The last events of a camera, newest first."""


class FleetRoutes:
    """One method a path; all on the event loop."""

    def __init__(self, source: FleetSource) -> None:
        self._source = source

    def add_to(self, app: web.Application) -> None:
        """The paths; who may see the live page may see them."""
        app.router.add_get(BASE, self.cameras)
        app.router.add_get(f"{BASE}/{{camera}}/picture.jpg", self.picture)
        app.router.add_get(f"{BASE}/{{camera}}/events", self.events)
        app.router.add_get(f"{BASE}/{{camera}}/snapshot.jpg", self.snapshot)

    async def cameras(self, request: web.Request) -> web.Response:
        """All of them, and the nodes that are gone."""
        return _json({"cameras": self._source.cameras(), "gone": await self._source.gone()})

    async def events(self, request: web.Request) -> web.Response:
        """The last ones of a camera."""
        return _json({"events": await self._source.events(request.match_info["camera"])})

    async def picture(self, request: web.Request) -> web.Response:
        """The newest frame of a camera, from the node that runs it."""
        return _jpeg(await self._source.picture(request.match_info["camera"]))

    async def snapshot(self, request: web.Request) -> web.Response:
        """``?node=NODE&file=NAME``: the picture of an event."""
        asked = request.query
        return _jpeg(await self._source.snapshot(asked.get("node", ""), asked.get("file", "")))


def _jpeg(picture: bytes | None) -> web.Response:
    if picture is None:
        return web.Response(status=503, text="503: no node has this picture now\n")
    return web.Response(body=picture, content_type="image/jpeg")


def _json(told: Any) -> web.Response:
    return web.json_response(told, dumps=lambda t: json.dumps(t, allow_nan=False))
