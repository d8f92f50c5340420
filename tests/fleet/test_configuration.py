"""Cameras in the bucket: history, secrets, and what a node knows without its server."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.kit_data import Server, linked, running, until

pytest.importorskip("nats")

from app.config import Config
from app.core.errors import ConfigError
from app.fleet.configuration import (
    CameraBook,
    CameraBucket,
    NodeKey,
    check_camera,
    seal_for_new,
    settings_of,
    tell_key,
)
from app.fleet.connection import CAMERAS

ZONE = {"name": "door", "points": [[0, 0], [0.5, 0], [0.5, 0.5]]}
PLAIN = {"uri": "pattern:", "zones": [ZONE], "filter": {"classes": ["person"]}}
PASSWORD = "correct-horse"
WITH_PASSWORD = {"uri": f"rtsp://root:{PASSWORD}@10.0.0.5/stream"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "nats")
    made.start()
    yield made
    made.kill()


def test_cameras_are_sources_zones_and_filters_of_a_run() -> None:
    made = Config(**settings_of({"door": PLAIN, "yard": {"uri": "camera:0"}}))
    assert made.sources == ("door=pattern:", "yard=camera:0")
    assert made.zone == ({**ZONE, "source": "door"},)
    assert made.filter == ({"classes": ["person"], "source": "door"},)


@pytest.mark.parametrize(
    ("name", "camera", "told"),
    [
        ("door", [], "uri"),
        ("door", {"url": "x"}, "uri"),
        ("front door", PLAIN, "name"),
        ("door", {"uri": "x", "zone": []}, "zones"),
        ("door", {"uri": "x", "zones": [{"name": "a"}]}, "points"),
        ("door", {"uri": "x", "filter": {"class": 1}}, "classes"),
        ("door", {"uri": "x", "readers": "two"}, "readers"),
    ],
)
def test_what_is_no_camera_is_refused(name: str, camera: object, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check_camera(name, camera)


def test_history_and_revert(server: Server) -> None:
    async def edit() -> None:
        async with linked(server) as link:
            cameras = CameraBucket(link)
            first = await cameras.set("door", PLAIN)
            await cameras.edit("door", {"zones": None, "labels": ["gpu"]})
            assert (await cameras.all())["door"].keys() == {"uri", "filter", "labels"}
            await cameras.revert("door")
            assert (await cameras.all())["door"] == PLAIN
            await cameras.delete("door")
            assert await cameras.all() == {}
            await cameras.revert("door", first)
            assert (await cameras.all())["door"] == PLAIN
            past = await cameras.history("door")
            assert [bool(each.camera) for each in past] == [True, True, True, False, True]
            with pytest.raises(ConfigError, match=str(first)):
                await cameras.revert("door", 999)
            with pytest.raises(ConfigError, match="zones"):
                await cameras.edit("door", {"zone": []})
            for number in range(20):
                await cameras.edit("door", {"readers": number})
            assert len(await cameras.history("door")) == 16

    asyncio.run(edit())


def test_a_node_runs_on_with_what_it_knew(server: Server, tmp_path: Path) -> None:
    changed: list[str] = []

    async def learn() -> None:
        async with linked(server) as link:
            book = CameraBook("a", tmp_path / "a.json")
            async with running(book.follow(link, changed.extend)):
                await CameraBucket(link).set("door", PLAIN)
                await until(lambda: changed == ["door"])
                server.kill()
                server.start()
            async with linked(server) as again, running(book.follow(again, changed.extend)):
                await CameraBucket(again).set("yard", {"uri": "camera:0"})
                kv = await again.js.key_value(CAMERAS)
                await kv.put("door", b'{"uri": 5}')  # by somebody who does not check
                await until(lambda: "yard" in changed)
            book.note_held({"door": 7})

    asyncio.run(learn())
    server.kill()
    alone = CameraBook("a", tmp_path / "a.json")
    assert alone.load() and alone.held == {"door": 7}
    assert alone.camera("door") == PLAIN and "yard" in alone.cameras


def test_passwords_are_sealed_for_the_nodes(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("nacl", reason="PyNaCl is not installed (extra fleet)")
    caplog.set_level(logging.DEBUG)
    keys = {name: NodeKey(tmp_path / f"{name}.key") for name in ("a", "late", "serve")}
    books = {
        name: CameraBook(name, tmp_path / f"{name}.json", keys[name]) for name in ("a", "late")
    }

    async def seal() -> None:
        async with linked(server) as link:
            cameras = CameraBucket(link)
            with pytest.raises(ConfigError, match="key"):
                await cameras.set("door", WITH_PASSWORD)
            await tell_key(link.js, "a", keys["a"])
            serve = seal_for_new(link, keys["serve"])
            follow = [book.follow(link, lambda names: None) for book in books.values()]
            async with running(follow[0], serve):
                await asyncio.sleep(0.3)
                await cameras.set("door", WITH_PASSWORD)
                await until(lambda: _uri(books["a"]) == WITH_PASSWORD["uri"])
                async with running(follow[1]):
                    await until(lambda: _uri(books["late"]) == WITH_PASSWORD["uri"])
                first = (await cameras.history("door"))[0].number
                await cameras.set("door", {"uri": "rtsp://root:battery-staple@10.0.0.5/stream"})
                await until(lambda: "battery" in str(_uri(books["a"])))
                await cameras.edit("door", {"labels": ["gpu"]})
                await cameras.revert("door", first)
                await until(lambda: _uri(books["a"]) == WITH_PASSWORD["uri"])
            assert PASSWORD not in json.dumps(await cameras.all())

    asyncio.run(seal())
    server.kill()
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept and not any(PASSWORD.encode() in path.read_bytes() for path in kept)
    assert PASSWORD not in caplog.text and "battery" not in caplog.text
    assert (tmp_path / "a.key").stat().st_mode & 0o077 == 0
    alone = CameraBook("a", tmp_path / "a.json", NodeKey(tmp_path / "a.key"))
    assert alone.load() and _uri(alone) == WITH_PASSWORD["uri"]
    other = CameraBook("a", tmp_path / "a.json", keys["late"])
    assert other.load() and _uri(other) is None


def _uri(book: CameraBook) -> str | None:
    try:
        return str(book.camera("door")["uri"])
    except (KeyError, ConfigError):
        return None
