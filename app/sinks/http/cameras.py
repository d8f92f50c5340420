"""All cameras at a glance, for the grid of the page: state, figures, last event, small pictures."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from aiohttp import web

from ...core.detections import Result, label_of
from ...core.frame import bgr_pixels
from ...core.states import WORKING
from ..video import encode_jpeg
from .routes import ResultFeed
from .stream import EventFeed
from .zones import NameOf

WIDTHS_PX = (64, 480, 1280)  # of a still: least, where none is asked for, most
QUALITY = 75


class Cameras:
    """One method a path; all on the event loop, pictures made on a thread."""

    def __init__(
        self,
        feeds: Mapping[str, ResultFeed],
        events: EventFeed,
        *,
        instruments: Callable[[str], Mapping[str, Any]],
        name_of: NameOf,
    ) -> None:
        self._feeds, self._events = feeds, events
        self._instruments, self._name_of = instruments, name_of
        self._stills: dict[str, tuple[str, bytes]] = {}  # the last one of each, and of what it is
        self._making: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def add_to(self, app: web.Application) -> None:
        """The paths; a still costs a client little, and its address changes with the frame."""
        app.router.add_get("/api/v1/cameras", self.cameras)
        app.router.add_get("/api/v1/cameras/labels", self.labels)
        app.router.add_get("/api/v1/cameras/still.jpg", self.still)

    async def cameras(self, request: web.Request) -> web.Response:
        """``{"cameras": [...], "troubles": [...]}``: those of outputs, such as a full disk.

        Cameras are in their order; ``frame`` is null before the first picture.
        """
        told = {name: self._instruments(name) for name in self._feeds}
        outputs = next(iter(told.values()))["outputs"]
        troubles = [f"{each['name']}: {each['trouble']}" for each in outputs if each["trouble"]]
        cameras = [self._one(name, of) for name, of in told.items()]
        return web.json_response({"cameras": cameras, "troubles": troubles})

    async def labels(self, request: web.Request) -> web.Response:
        """The classes of the model of ``?source=NAME``; none before it has opened."""
        return web.json_response({"labels": list(self._feeds[self._name_of(request)].labels)})

    async def still(self, request: web.Request) -> web.Response:
        """The newest frame of ``?source=NAME``, at most ``?width=PIXELS`` wide."""
        name, width = self._name_of(request), request.query.get("width", str(WIDTHS_PX[1]))
        if not width.isascii() or not width.isdigit() or len(width) > 5:
            raise web.HTTPBadRequest(reason="width must be a number of pixels")
        width_px = min(max(int(width), WIDTHS_PX[0]), WIDTHS_PX[2])
        feed = self._feeds[name]
        async with self._making[name]:
            result = feed.latest
            if result is None:
                raise web.HTTPServiceUnavailable(reason="no frame yet")
            made_of = f"{_frame(result)} {width_px}"
            held = self._stills.get(name)
            if held is None or held[0] != made_of:
                held = made_of, await asyncio.to_thread(_shrunk, result, width_px)
                if not feed.is_live:  # perhaps as more of it is private now
                    raise web.HTTPServiceUnavailable(reason="no frame yet")
                self._stills[name] = held
        return web.Response(body=held[1], content_type="image/jpeg")

    def _one(self, name: str, told: Mapping[str, Any]) -> dict[str, Any]:
        feed = self._feeds[name]
        result = feed.latest
        keys = ("source", "state", "since", "cause", "fps", "capture_fps", "age_ms")
        seen = result if told["state"] in WORKING else None
        ids = () if seen is None else seen.detections.class_ids.tolist()
        return {
            "name": name,
            **{key: told[key] for key in keys},
            "size": None if result is None else result.frame.wh_px,
            "frame": None if result is None else _frame(result),
            "objects": Counter(label_of(feed.labels, each) for each in ids),
            "event": self._events.last.get(name),
        }


def _frame(result: Result) -> str:
    """Another one for each frame, also of another source in its place."""
    return f"{result.frame.captured_ns}-{result.frame.index}"


def _shrunk(result: Result, width_px: int) -> bytes:
    pixels = bgr_pixels(result.frame)
    height, width = pixels.shape[:2]
    if width > width_px:
        size = width_px, max(1, round(height * width_px / width))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    return encode_jpeg(pixels, QUALITY).tobytes()
