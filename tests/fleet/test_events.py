"""Events of several nodes are in one store once each, whatever happens to the server between."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fleet.kit_data import Server, linked, needs_server, running, until

pytest.importorskip("nats")

from app.config import StoreOptions
from app.core.stats import OutputMeter
from app.fleet.connection import EVENT_SUBJECT, EVENTS
from app.fleet.events import Collector, EventPublisher, make_streams
from app.sinks.store import EventStore
from app.sinks.store_read import EventQuery, StoreReader
from tests.sinks.kit import event

pytestmark = needs_server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    folder = tmp_path / "store"
    made = EventStore(
        StoreOptions(path=str(folder)),
        OutputMeter("store"),
        folders={"snapshot": folder / "snapshots", "clip": folder / "clips"},
    )
    made.start()
    yield made
    made.stop()


def publisher(folder: Path, node: str, **more) -> EventPublisher:
    return EventPublisher(node, folder / f"{node}.sqlite", OutputMeter(f"fleet-{node}"), **more)


def kept(store: EventStore, **query) -> list[dict]:
    return StoreReader(store.folder).page(EventQuery(limit=500, **query)).events


def test_events_during_an_outage_of_the_server_arrive_once(
    server: Server, store: EventStore, tmp_path: Path
) -> None:
    away_s = float(os.environ.get("KESTREL_OUTAGE_S", "1"))
    asyncio.run(outage(server, store, tmp_path, away_s=away_s))


async def outage(server: Server, store: EventStore, tmp_path: Path, away_s: float) -> None:
    nodes = [publisher(tmp_path, name) for name in ("a", "b")]
    collector = Collector(store, OutputMeter("fleet"), snapshots=tmp_path / "shots")
    sent: list[str] = []

    async def happening() -> None:
        for _ in range(round((1 + 2 * away_s) / 0.02)):
            for node, camera in zip(nodes, ("door", "yard"), strict=True):
                told = event("appear")
                node.put(camera, told)
                sent.append(told.id)
            await asyncio.sleep(0.02)

    async with linked(server, "a") as a, linked(server, "b") as b, linked(server, "c") as c:
        await make_streams(c.js)
        works = nodes[0].run(a), nodes[1].run(b), collector.run(c)
        async with running(happening(), *works) as (events, *_):
            await until(lambda: len(kept(store)) > 5)
            server.kill()
            await asyncio.sleep(away_s)
            assert max(map(len, nodes)) > 5
            server.start()
            await events
            await until(lambda: not any(map(len, nodes)))
            await until(lambda: count(store) >= len(sent), 60)
    assert sorted(sent) == sorted(each["id"] for each in kept_all(store))
    assert {each["node"] for each in kept(store, camera="door")} == {"a"}


def count(store: EventStore) -> int:
    query = EventQuery(since_ms=0, limit=None)
    return sum(StoreReader(store.folder).timeline(query, 86_400_000).values())


def kept_all(store: EventStore) -> list[dict]:
    reader, query, found = StoreReader(store.folder), EventQuery(limit=500), []
    while True:
        page = reader.page(query)
        found += page.events
        if page.next is None:
            return found
        query = replace(query, after=page.next)


def test_what_waits_outlives_the_node(server: Server, tmp_path: Path) -> None:
    first = publisher(tmp_path, "a")
    told = [event("appear") for _ in range(3)]
    for each in told:
        first.put("door", each)
    first.close()

    async def send() -> None:
        async with linked(server) as link:
            await make_streams(link.js)
            again = publisher(tmp_path, "a")
            async with running(again.run(link)):
                await until(lambda: not len(again))
            again.close()
            last = await link.js.get_last_msg(EVENTS, f"{EVENT_SUBJECT}.door")
            assert json.loads(last.data)["id"] == told[-1].id and last.seq == 3

    asyncio.run(send())


def test_a_full_spool_drops_the_oldest_and_counts(server: Server, tmp_path: Path) -> None:
    meter = OutputMeter("fleet")
    made = EventPublisher("a", tmp_path / "a.sqlite", meter, spool_mb=0.05)
    told = [event("appear") for _ in range(400)]
    for each in told:
        made.put("door", each)
    made.close()
    dropped = meter.figures().dropped["spool full"]
    again = publisher(tmp_path, "a")
    assert 0 < dropped < 400 and len(again) == 400 - dropped

    async def send() -> None:
        async with linked(server) as link:
            await make_streams(link.js)
            async with running(again.run(link)):
                await until(lambda: not len(again))
            first = await link.js.get_msg(EVENTS, 1)
            assert json.loads(first.data)["id"] == told[dropped].id

    asyncio.run(send())
    again.close()


def test_an_event_under_an_older_lease_is_refused(
    server: Server, store: EventStore, tmp_path: Path
) -> None:
    old, new = publisher(tmp_path, "a"), publisher(tmp_path, "b")
    meter = OutputMeter("fleet")
    collector = Collector(store, meter, snapshots=tmp_path / "shots")
    leases = (5, 9, 5, 5)
    before, after, late, other = (replace(event("appear"), lease=n) for n in leases)

    async def race() -> None:
        async with linked(server) as link:
            await make_streams(link.js)
            async with running(old.run(link), new.run(link), collector.run(link)):
                old.put("door", before)
                await until(lambda: len(kept(store)) == 1)
                new.put("door", after)
                await until(lambda: len(kept(store)) == 2)
                old.put("door", late)
                old.put("yard", other)  # which nobody else holds
                await until(lambda: len(kept(store)) == 3)
                await until(lambda: meter.figures().dropped.get("older lease") == 1)

    asyncio.run(race())
    assert {each["id"] for each in kept(store)} == {before.id, after.id, other.id}


def test_leases_are_remembered_by_the_store(tmp_path: Path) -> None:
    def take(lease: int) -> str:
        store = EventStore(StoreOptions(path=str(tmp_path)), OutputMeter("store"), folders={})
        store.start()
        fate = store.take("door", replace(event("appear"), lease=lease)).result(10)
        store.stop()
        return fate

    assert [take(lease) for lease in (5, 9, 5, 9)] == ["kept", "kept", "stale", "kept"]


def test_what_is_no_event_does_not_stop_the_collector(
    server: Server, store: EventStore, tmp_path: Path
) -> None:
    good = event("appear")
    meter = OutputMeter("fleet")

    async def mixed() -> None:
        async with linked(server) as link:
            await make_streams(link.js)
            for text in (b"", b"[]", b'{"type": "appear"}', b"\xff", b'{"time": 1}'):
                await link.js.publish(f"{EVENT_SUBJECT}.door", text)
            text = json.dumps({**good.as_json(), "of_a_newer_version": 1})
            await link.js.publish(f"{EVENT_SUBJECT}.door", text.encode())
            collector = Collector(store, meter, snapshots=tmp_path / "shots")
            async with running(collector.run(link)):
                await until(lambda: len(kept(store)) == 1)
                await until(lambda: meter.figures().dropped.get("no event") == 5)

    asyncio.run(mixed())
    assert kept(store)[0]["id"] == good.id


def test_snapshots_come_into_the_store(server: Server, store: EventStore, tmp_path: Path) -> None:
    shots, name = tmp_path / "node", "door/20260131/x_best.jpg"
    (shots / name).parent.mkdir(parents=True)
    (shots / name).write_bytes(b"jpeg")
    node = publisher(tmp_path, "a", snapshots=shots)
    collector = Collector(store, OutputMeter("fleet"), snapshots=store.folder / "snapshots")

    async def send() -> None:
        async with linked(server) as link:
            await make_streams(link.js)
            headers = {"Kestrel-File": "../../escaped.jpg"}
            await link.js.publish("kestrel.snapshot.door", b"x", headers=headers)
            async with running(node.run(link), collector.run(link)):
                await asyncio.sleep(0)
                node.put("door", replace(event("gone"), snapshot=name))
                await until(lambda: (store.folder / "snapshots" / name).is_file())

    asyncio.run(send())
    assert not list(tmp_path.rglob("escaped.jpg"))
