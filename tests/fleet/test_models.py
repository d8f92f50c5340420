"""Models reach nodes as they were pushed, are proved there, and go back where one fails."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.fleet.kit_data import Server, linked, running, until

pytest.importorskip("nats")

from app.config import Config
from app.core.errors import KestrelError, ModelError, VerdictError
from app.fleet.connection import MODELS, Link
from app.fleet.models import ModelAgent, fetch, push, pushed, roll_out, states
from app.models.manifest import Model
from app.models.store import locate
from app.ops.selftest import KnownAnswer
from app.runtime.service import boxes_on, known_pixels

MODEL = locate("kestrel_small")
FOUND = [KnownAnswer(0, 0.9, (10.0, 20.0, 60.0, 120.0)), KnownAnswer(0, 0.31, (0, 0, 9, 9))]


class Node:
    """An agent whose engine finds ``found``, and what it was told to run."""

    def __init__(self, folder: Path, name: str) -> None:
        self.found, self.runs, self.broken = FOUND, list[str | None](), ""
        self.agent = ModelAgent(
            name, folder / name, find=lambda model: self.found, change=self._change, version="1"
        )

    def _change(self, model: Model | None) -> None:
        if self.broken:
            raise ModelError(self.broken)
        self.runs.append(None if model is None else model.spec.name)


def test_an_object_that_is_not_what_was_pushed_is_refused(server: Server, tmp_path: Path) -> None:
    async def corrupt() -> None:
        async with linked(server) as link:
            await push(link, MODEL, FOUND)
            told = (await pushed(link))["kestrel_small"]
            objects = await link.js.object_store(MODELS)
            whole = MODEL.weights.read_bytes()
            for bad in (whole[:-1] + b"x", whole[: len(whole) // 2], b"other"):
                await objects.put(told["sha256"], bad)
                with pytest.raises(ModelError, match="sha256"):
                    await fetch(link, told, tmp_path / "shelf")
            info = await objects.get_info(told["sha256"])
            await link.js.purge_stream(f"OBJ_{MODELS}", subject=f"$O.{MODELS}.C.{info.nuid}")
            await link.js.publish(f"$O.{MODELS}.C.{info.nuid}", b"OTHER")
            with pytest.raises(ModelError, match="damaged"):
                await fetch(link, told, tmp_path / "shelf")
            await objects.delete(told["sha256"])
            with pytest.raises(ModelError, match="gone"):
                await fetch(link, told, tmp_path / "shelf")
            assert not [path for path in (tmp_path / "shelf").rglob("*") if path.is_file()]
            await push(link, MODEL, FOUND)
            model = await fetch(link, told, tmp_path / "shelf")
            assert model.weights.read_bytes() == whole and model.spec.labels == MODEL.spec.labels

    asyncio.run(corrupt())


def test_a_model_that_proves_nothing_is_not_pushed(server: Server) -> None:
    async def refused() -> None:
        async with linked(server) as link:
            with pytest.raises(VerdictError):
                await push(link, MODEL, FOUND[1:])
            assert await pushed(link) == {}

    asyncio.run(refused())


def rolled_out(server: Server, folder: Path, works) -> None:
    """Run ``works(link, nodes)`` with three nodes."""

    async def run() -> None:
        nodes = {name: Node(folder, name) for name in ("a", "b", "c")}
        async with AsyncExitStack() as stack:
            link = await stack.enter_async_context(linked(server))
            for name, node in nodes.items():
                own = await stack.enter_async_context(linked(server, name))
                await stack.enter_async_context(running(node.agent.follow(own)))
            await works(link, nodes)

    asyncio.run(run())


def test_a_roll_out_goes_node_by_node(server: Server, tmp_path: Path) -> None:
    async def works(link: Link, nodes: dict[str, Node]) -> None:
        said: list[str] = []
        number = await push(link, MODEL, FOUND)
        await roll_out(link, "kestrel_small", list(nodes), say=said.append)
        assert [line[0] for line in said] == ["a", "b", "c"]
        assert all(node.runs == ["kestrel_small"] for node in nodes.values())
        told = await states(link)
        assert {each["revision"] for each in told.values()} == {number}
        assert told["a"]["state"] == "running" and told["a"]["kestrel"] == "1"
        place = nodes["a"].agent.current
        assert place is not None and locate(str(place)).weights.is_file()
        alone = Node(tmp_path, "a").agent  # as after a restart without a server
        assert alone.current == place

    rolled_out(server, tmp_path, works)


@pytest.mark.parametrize("way", ["finds nothing", "finds a ghost", "does not run", "is silent"])
def test_a_node_that_fails_rolls_all_back(server: Server, tmp_path: Path, way: str) -> None:
    async def works(link: Link, nodes: dict[str, Node]) -> None:
        await push(link, MODEL, FOUND)
        match way:
            case "finds nothing":
                nodes["b"].found = []
            case "finds a ghost":
                nodes["b"].found = [*FOUND, KnownAnswer(0, 0.8, (200, 200, 250, 250))]
            case "does not run":
                nodes["b"].broken = "no memory"
        silent = way == "is silent"
        names = ["a", "x" if silent else "b", "c"]
        with pytest.raises(VerdictError, match=names[1]):
            await roll_out(link, "kestrel_small", names, timeout_s=3.0 if silent else 60.0)
        await until(lambda: nodes["a"].runs == ["kestrel_small", None])
        assert nodes["b"].runs == [] and nodes["c"].runs == []
        assert "name" not in (await states(link))["a"]

    rolled_out(server, tmp_path, works)


def test_a_failed_roll_out_gives_back_the_model_before(server: Server, tmp_path: Path) -> None:
    async def works(link: Link, nodes: dict[str, Node]) -> None:
        names = ["a", "b"]
        first = await push(link, MODEL, FOUND)
        await roll_out(link, "kestrel_small", names)
        better = [KnownAnswer(0, 0.9, (300.0, 20.0, 360.0, 120.0))]
        await push(link, MODEL, better)
        nodes["a"].found = better
        with pytest.raises(VerdictError):
            await roll_out(link, "kestrel_small", names)
        nodes["a"].found = FOUND
        told = await states(link)
        assert told["b"]["revision"] == first and told["b"]["state"] == "running"

    rolled_out(server, tmp_path, works)


def test_the_engine_of_a_node_proves_a_real_model(server: Server, tmp_path: Path) -> None:
    pixels = known_pixels()

    def find(model: Model) -> list[KnownAnswer]:
        return boxes_on(Config(engine="cpu", workers=2), model, pixels)

    async def works() -> None:
        async with linked(server) as link:
            await push(link, MODEL, find(MODEL))
            agent = ModelAgent("a", tmp_path / "a", find=find, change=lambda model: None)
            async with running(agent.follow(link)):
                await roll_out(link, "kestrel_small", ["a"])
            assert agent.current is not None

    asyncio.run(works())


def test_errors_name_what_is_there(server: Server) -> None:
    async def works() -> None:
        async with linked(server) as link:
            with pytest.raises(KestrelError, match="none"):
                await roll_out(link, "kestrel_small")
            await push(link, MODEL, FOUND)
            with pytest.raises(KestrelError, match="node"):
                await roll_out(link, "kestrel_small")

    asyncio.run(works())
