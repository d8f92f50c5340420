"""The page of any machine shows all cameras, and fetches pictures from whoever runs them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fleet.kit_data import Server, linked, needs_server, running, until

pytest.importorskip("nats")

from app.config import HttpOptions
from app.core.stats import Meter, OutputMeter
from app.fleet.configuration import CameraBucket
from app.fleet.events import EventPublisher, make_streams
from app.fleet.pictures import FleetView, PictureServer
from app.sinks.http.guard import parse_address
from app.sinks.http.server import HttpService
from tests.sinks.http.chromium import find_chromium, open_page
from tests.sinks.kit import CAMERA, LABELS, event, found, result, textured

pytestmark = needs_server
SHOT = "door/shot_best.jpg"


class Fleet:
    """Node "a" runs "door"; "yard" is run by nobody; the page is elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.shots, self.states = folder / "shots", {"door": {"state": "live", "fps": 9.5}}
        self.node = EventPublisher(
            "a",
            folder / "a.sqlite",
            OutputMeter("fleet"),
            states=lambda: self.states,
            snapshots=self.shots,
        )
        self.sink = self.node.sink("door")
        self.sink.open(CAMERA, LABELS)
        (self.shots / SHOT).parent.mkdir(parents=True)
        (self.shots / SHOT).write_bytes(b"\xff\xd8 a snapshot")
        self.view = FleetView()
        self.service = HttpService(
            parse_address("0"),
            HttpOptions(),
            OutputMeter("http"),
            stats=Meter().snapshot,
            outputs=[],
            engine=lambda: "",
            names=(),
            fleet=self.view,
        )
        self.url = ""

    async def run(self, server: Server, works) -> None:
        async with AsyncExitStack() as stack:
            node, page = [await stack.enter_async_context(linked(server, n)) for n in "ap"]
            await make_streams(node.js)
            pictures = PictureServer("a", {"door": self.sink}, snapshots=self.shots)
            runs = self.node.run(node), pictures.run(node), self.view.run(page)
            await stack.enter_async_context(running(*runs))
            await asyncio.to_thread(self.service.start)
            stack.callback(self.service.stop)
            self.url = self.service.url.rstrip("/")
            await CameraBucket(node).set("door", {"uri": "camera:0"})
            await CameraBucket(node).set("yard", {"uri": "camera:1"})
            self.sink.emit(result(0, found((0, 0.9, 10, 20, 110, 140)), textured(3)))
            self.sink.happened([replace(event("appear"), snapshot=SHOT)], ())
            await until(lambda: len(self.view.cameras()) == 2 and bool(self.row()["last_event"]))
            await until(lambda: self.row().get("state") == "live")
            session = await stack.enter_async_context(aiohttp.ClientSession())
            await works(session)
        self.node.close()

    def row(self, name: str = "door") -> dict[str, Any]:
        (found_row,) = [each for each in self.view.cameras() if each["camera"] == name]
        return found_row


def test_states_events_and_pictures_of_another_machine(server: Server, tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)

    async def works(session: aiohttp.ClientSession) -> None:
        base = f"{fleet.url}/api/v1/fleet"

        async def get(path: str) -> tuple[int, bytes]:
            async with session.get(f"{base}{path}") as answer:
                return answer.status, await answer.read()

        async with session.get(base) as answer:
            door, yard = (await answer.json())["cameras"]
        assert (door["node"], door["state"], door["fps"]) == ("a", "live", 9.5)
        assert door["last_event"]["type"] == "appear"
        assert yard["state"] == "silent" and yard["last_event"] is None
        status, jpeg = await get("/door/picture.jpg")
        assert status == 200 and jpeg.startswith(b"\xff\xd8\xff")
        assert (await get("/yard/picture.jpg"))[0] == 503
        assert (await get("/*/picture.jpg"))[0] == 503
        status, jpeg = await get(f"/door/snapshot.jpg?node=a&file={SHOT}")
        assert (status, jpeg) == (200, b"\xff\xd8 a snapshot")
        for file in ("../a.sqlite", "/etc/passwd", "../../x.jpg", "/x.jpg"):
            assert (await get(f"/door/snapshot.jpg?node=a&file={file}"))[0] == 503
        assert (await get(f"/door/snapshot.jpg?node=gone&file={SHOT}"))[0] == 503
        async with session.get(f"{base}/door/events") as answer:
            assert [each["snapshot"] for each in (await answer.json())["events"]] == [SHOT]
        async with session.get(fleet.url) as answer:
            assert answer.status == 200 and answer.url.path == "/fleet"

    asyncio.run(fleet.run(server, works))


def test_the_view_goes_on_after_the_server_was_away(server: Server, tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)

    async def works(session: aiohttp.ClientSession) -> None:
        server.kill()
        fleet.states = {"door": {"state": "offline", "fps": 0.0}}
        later = event("gone")
        fleet.sink.happened([later], ())
        assert await fleet.view.picture("door") is None
        server.start()
        await until(lambda: fleet.row()["state"] == "offline")
        await until(lambda: fleet.row()["last_event"]["id"] == later.id)

    asyncio.run(fleet.run(server, works))


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium")
def test_the_page_in_a_browser(server: Server, tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)

    async def works(session: aiohttp.ClientSession) -> None:
        async with open_page(f"{fleet.url}/fleet") as page:
            await page.until(
                "document.querySelector('#cameras img:not([hidden])')?.naturalWidth > 0"
            )
            await page.evaluate("document.querySelector('#cameras a').click()")
            await page.until("!!document.querySelector('#list li')")
            assert not [each for each in page.errors if "503" not in each]

    asyncio.run(fleet.run(server, works))
