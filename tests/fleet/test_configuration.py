"""Cameras in the bucket: history, secrets, and what a node knows without its server."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.kit_data import Server, linked, running

pytest.importorskip("nats")

from app.config import Config
from app.core.errors import ConfigError
from app.fleet.configuration import (
    CameraBucket,
    NodeKey,
    SecretBook,
    check_camera,
    seal_for_new,
    settings_of,
    tell_key,
)

ZONE = {"name": "door", "points": [[0, 0], [0.5, 0], [0.5, 0.5]]}
PLAIN = {"uri": "pattern:", "zones": [ZONE], "filters": [{"classes": ["person"]}]}
PASSWORD = "correct-horse"
OTHER = "rtsp://root:battery-staple@10.0.0.5/stream"
WITH_PASSWORD = {"uri": f"rtsp://root:{PASSWORD}@10.0.0.5/stream"}


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
        ("door", {"uri": "x", "filters": [{"class": 1}]}, "classes"),
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
            assert (await cameras.all())["door"].keys() == {"uri", "filters", "labels"}
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


def test_passwords_are_sealed_for_the_nodes(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("nacl", reason="PyNaCl is not installed (extra fleet)")
    caplog.set_level(logging.DEBUG)
    table: dict[str, Any] = {}
    names = ("a", "late", "serve")
    keys = {name: NodeKey(tmp_path / f"{name}.key") for name in names}
    books = {name: SecretBook(name, tmp_path / f"{name}.json", keys[name]) for name in names}

    async def seal() -> None:
        async with linked(server) as link:
            cameras = CameraBucket(link)

            async def opened(name: str, uri: str) -> None:
                while True:
                    with suppress(ConfigError):
                        if books[name].opened("door", (await cameras.all())["door"])["uri"] == uri:
                            return
                    await asyncio.sleep(0.05)

            with pytest.raises(ConfigError, match="key"):
                await cameras.set("door", WITH_PASSWORD)
            await tell_key(link.js, "a", keys["a"])
            async with running(books["a"].follow(link), seal_for_new(link, keys["serve"])):
                await asyncio.sleep(0.3)
                await cameras.set("door", WITH_PASSWORD)
                await opened("a", WITH_PASSWORD["uri"])
                async with running(books["late"].follow(link)):
                    await opened("late", WITH_PASSWORD["uri"])
                first = (await cameras.history("door"))[0].number
                await cameras.set("door", {"uri": OTHER})
                await opened("a", OTHER)
                await cameras.edit("door", {"labels": ["gpu"]})
                await cameras.revert("door", first)
                await opened("a", WITH_PASSWORD["uri"])
            table.update((await cameras.all())["door"])

    asyncio.run(asyncio.wait_for(seal(), 60))
    server.kill()
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept and not any(PASSWORD.encode() in path.read_bytes() for path in kept)
    assert PASSWORD not in f"{caplog.text}{table}" and "battery" not in caplog.text
    assert (tmp_path / "a.key").stat().st_mode & 0o077 == 0
    alone = SecretBook("a", tmp_path / "a.json", NodeKey(tmp_path / "a.key"))
    assert alone.opened("door", table)["uri"] == WITH_PASSWORD["uri"]
    with pytest.raises(ConfigError):
        SecretBook("a", tmp_path / "a.json", keys["late"]).opened("door", table)
