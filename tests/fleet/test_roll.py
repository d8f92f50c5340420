"""Who is gone is named, with since when and where the cameras are that it had."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.kit_data import Server, linked, needs_server

pytest.importorskip("nats")

from app.commands.fleet import FleetStatus, read_status
from app.fleet.configuration import KEYS, CameraBucket, entries
from app.fleet.connection import LEASES, MEMBERS, NODES, bucket
from app.fleet.pictures import FleetView
from app.fleet.roll import Roll, away, note_node
from app.fleet.security import Secrets
from app.fleet.server import make_all

pytestmark = needs_server


async def joins(link, name: str, *cameras: str) -> None:
    """A node with a session that holds these cameras."""
    member = {"session": f"s-{name}", "capacity": 8, "labels": ["gpu"]}
    await (await bucket(link.js, MEMBERS)).put(f"node.{name}", json.dumps(member).encode())
    for camera in cameras:
        lease = {"node": name, "session": f"s-{name}"}
        await (await bucket(link.js, LEASES)).put(camera, json.dumps(lease).encode())


async def leaves(link, name: str) -> None:
    await (await bucket(link.js, MEMBERS)).delete(f"node.{name}")


def in_fleet(server: Server, works) -> None:
    async def run() -> None:
        async with linked(server) as link:
            await make_all(link, ttl_s=3600)
            for name in ("door", "yard", "hall"):
                await CameraBucket(link).set(name, {"uri": "camera:0"})
            await works(link)

    asyncio.run(run())


def faults(status: FleetStatus) -> str:
    return "\n".join(status.faults)


def test_a_node_that_is_gone_is_named_with_the_new_homes_of_its_cameras(server: Server) -> None:
    async def works(link) -> None:
        roll, view = Roll(), FleetView()
        view._link, view._loop = link, asyncio.get_running_loop()
        view._states = {
            name: ({"node": node}, time.monotonic())
            for name, node in (("door", "a"), ("yard", "b"))
        }
        await joins(link, "a", "hall")
        await joins(link, "b", "door", "yard")
        await roll.look(link)
        assert not await away(link.js, ["a", "b"])
        began = datetime.now(timezone.utc) - timedelta(seconds=60)
        await leaves(link, "b")
        assert (await read_status(link)).nodes.keys() == {"a"}  # nobody has noted it yet
        await joins(link, "a", "door")
        await roll.look(link)
        status = await read_status(link)
        gone = status.nodes["b"]
        assert (gone["state"], gone["had"]) == ("gone", {"door": "a", "yard": ""})
        assert began < datetime.fromisoformat(gone["since"]) <= datetime.now(timezone.utc)
        assert "b: gone since" in faults(status) and "door is on a" in faults(status)
        assert "yard is on no node" in faults(status)
        assert any("gone since" in line for line in status.lines())
        assert [each["node"] for each in await view.gone()] == ["b"]
        assert (await view.gone())[0]["had"] == {"door": "a", "yard": ""}
        await joins(link, "b")
        await roll.look(link)
        assert (await read_status(link)).nodes["b"]["state"] != "gone"
        assert not await view.gone()

    in_fleet(server, works)


def test_who_left_while_nobody_noted_is_gone_all_the_same(server: Server) -> None:
    async def works(link) -> None:
        await joins(link, "a", "door")
        await (await bucket(link.js, KEYS)).put("old", b"its key")
        await Roll().look(link)
        await leaves(link, "a")
        later = Roll()  # of a server that was started anew
        for _ in range(2):
            await later.look(link)
            status = await read_status(link)
            assert status.nodes["a"]["since"] and status.nodes["a"]["state"] == "gone"
            assert status.nodes["old"]["state"] == "gone" and status.nodes["old"]["since"] is None

    in_fleet(server, works)


def test_tokens_say_who_belongs_and_what_people_note_stays(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"

    def tokens(*names: str) -> None:
        secrets = Secrets("", "", "")
        for each in names:
            secrets.token(each)
        secrets.save(file)

    async def works(link) -> None:
        async def state(name: str) -> Any:
            return (await read_status(link)).nodes.get(name, {}).get("state")

        tokens("admin", "a", "b")
        roll = Roll(file)
        await joins(link, "a", "door")
        await roll.look(link)
        assert await state("b") == "not joined" and await state("admin") is None
        await note_node(link.js, "a", lambda note: {**(note or {}), "drain": True})
        await leaves(link, "a")
        await roll.look(link)
        assert await state("a") == "gone"
        assert (await entries(link.js, NODES))["a"].table["drain"] is True
        await note_node(link.js, "a", lambda note: {**note, "drain": False})
        tokens("admin")  # both are out for good
        for _ in range(2):
            await roll.look(link)
        assert (await read_status(link)).nodes == {}

    in_fleet(server, works)
