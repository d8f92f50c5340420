"""A node and the serving machine with all their duties, and the commands beside them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fleet.kit_data import Server, linked, needs_server, running, until

pytest.importorskip("nats")

from app.commands.cli import main
from app.config import StoreOptions
from app.core.errors import ConfigError
from app.core.stats import OutputMeter
from app.fleet.duties import NodeData, ServeData, make_data
from app.fleet.models import states
from app.fleet.server import make_all
from app.sinks.store import EventStore
from app.sinks.store_read import EventQuery, StoreReader
from tests.sinks.kit import CAMERA, LABELS, event

pytestmark = needs_server
CONFIG = """
sources = ["door=pattern:", "yard=rtsp://10.0.0.9/stream"]
[[zone]]
name = "step"
source = "door"
points = [[0.1, 0.1], [0.5, 0.1], [0.5, 0.5]]
[[filter]]
classes = ["person"]
"""


def test_a_node_and_the_serving_machine(server: Server, tmp_path: Path) -> None:
    store = EventStore(StoreOptions(path=str(tmp_path / "store")), OutputMeter("store"), folders={})
    store.start()
    node = NodeData(
        "a",
        tmp_path / "a",
        states=lambda: {"door": {"state": "live"}},
        find=lambda model: [],
        change=lambda model: None,
        version="1",
    )
    sink = node.sink("door")
    sink.open(CAMERA, LABELS)
    told = replace(event("appear"), lease=3)

    async def works() -> None:
        serve = ServeData(tmp_path / "s", store=store)
        async with (
            linked(server, "a") as a,
            linked(server, "s") as s,
            running(node.run(a), serve.run(s)),
        ):
            await make_data(s.js)
            sink.happened([told], ())
            await asyncio.to_thread(command, server, "add", "door=pattern:")
            await until(lambda: bool(StoreReader(store.folder).page(EventQuery()).events))
            await until(lambda: node.view.cameras()[0].get("state") == "live")
            while "a" not in await states(s):
                await asyncio.sleep(0.05)
        node.close()

    asyncio.run(works())
    store.stop()
    (kept,) = StoreReader(store.folder).page(EventQuery(camera="door")).events
    assert (kept["id"], kept["node"], kept["lease"]) == (told.id, "a", 3)


def command(server: Server, *words: str) -> int:
    """As `kestrel fleet WORDS`."""
    return main(["fleet", *words, "--server", server.url])


def test_commands_of_cameras(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def up() -> None:
        async with linked(server):
            pass

    def told(*words: str) -> str:
        assert command(server, *words) == 0
        return capsys.readouterr().out

    asyncio.run(up())
    (tmp_path / "all.toml").write_text(CONFIG)
    told("config", "import", str(tmp_path / "all.toml"))
    door = json.loads(told("config", "show", "door"))
    assert door["zones"][0]["name"] == "step" and door["filters"] == [{"classes": ["person"]}]
    assert "zones" not in json.loads(told("config", "show", "yard"))
    told("move", "door", "a")
    assert json.loads(told("config", "show", "door")) == {**door, "node": "a"}
    told("config", "revert", "door")
    assert json.loads(told("config", "show", "door")) == door
    past = told("config", "history", "door").splitlines()
    assert [line.split()[-1] for line in past][1:] == ["node", "node"]
    told("remove", "yard")
    for words in (("config", "show", "yard"), ("move", "gate", "a"), ("add", "gate")):
        assert command(server, *words) == ConfigError.exit_code


def test_commands_of_models(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    async def up() -> None:
        async with linked(server) as link:
            await make_all(link)

    asyncio.run(up())
    assert command(server, "models", "push", "kestrel_small") == 0
    assert command(server, "models", "status") == 0
    assert "kestrel_small" in capsys.readouterr().out.splitlines()[2]
