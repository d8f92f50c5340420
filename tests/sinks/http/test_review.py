"""The review page and its API: who may change what, pages, files in parts, and a real browser."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from app.config import StoreOptions
from app.core.stats import OutputMeter
from app.sinks.store import EventStore
from app.sinks.video import VideoFileSink
from tests.sinks.http.chromium import find_chromium, open_page
from tests.sinks.http.kit import Site, site
from tests.sinks.kit import CLIP, LABELS, event, result, textured
from tests.sinks.mqtt.broker import until

TOKEN = {"Authorization": "Bearer the-right-token"}
OWN = {**TOKEN, "X-Kestrel": "1"}


@contextlib.contextmanager
def reviewed(folder: Path, *events, **options) -> Iterator[Site]:
    """A server over a store with these events."""
    meter = OutputMeter("store")
    folders = {"snapshot": folder / "snapshots", "clip": folder / "clips"}
    store = EventStore(StoreOptions(path=str(folder)), meter, folders=folders)
    store.start()
    try:
        store.offer("camera:0", events)
        until(lambda: meter.figures().delivered == len(events))
        with site("127.0.0.1:0", "the-right-token", store=store, **options) as made:
            yield made
    finally:
        store.stop()


def ask(made: Site, path: str, method: str = "GET", body: str | None = None, headers=OWN):
    status, data, told = made._ask(method, path, body.encode() if body else None, headers)
    return status, json.loads(data) if told["content-type"].startswith("application/json") else data


def test_events_are_listed_by_pages_and_filters(tmp_path: Path) -> None:
    events = [event("appear", i) for i in range(5)] + [event("enter", 1, zone="door")]
    with reviewed(tmp_path, *events) as made:
        status, page = ask(made, "/api/v1/events?limit=4")
        assert status == 200 and len(page["events"]) == 4
        _, rest = ask(made, f"/api/v1/events?limit=4&after={page['next']}")
        assert len(rest["events"]) == 2 and rest["next"] is None
        _, doors = ask(made, "/api/v1/events?zone=door&since=2026-01-31T12:00:00Z")
        assert [each["zone"] for each in doors["events"]] == ["door"]
        assert ask(made, "/api/v1/choices")[1]["label"] == ["person"]
        day = "since=1769817600000&until=1769904000000"
        _, slots = ask(made, f"/api/v1/timeline?{day}&step_s=3600")
        assert slots["counts"] == {"12": 6}


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=x", "after=1", "since=yesterday", "colour=red", "limit=1e9", "x%0Ay=1"],
)
def test_a_wrong_query_is_told(tmp_path: Path, query: str) -> None:
    with reviewed(tmp_path) as made:
        status, told = ask(made, f"/api/v1/events?{query}")
    assert status == 400 and told["error"]


def test_changes_need_the_token_and_the_header_of_the_page(tmp_path: Path) -> None:
    one = event("appear")
    path, body = f"/api/v1/events/{one.id}", '{"seen": true}'
    with reviewed(tmp_path, one) as made:
        for method in ("PATCH", "DELETE"):
            assert ask(made, path, method, body, headers={})[0] == 401
            assert ask(made, path, method, body, headers=TOKEN)[0] == 403
        assert ask(made, "/api/v1/events", headers={})[0] == 401
        assert ask(made, path)[1]["seen"] is False
        assert ask(made, path, "PATCH", '{"seen": 1}')[0] == 400
        assert ask(made, path, "PATCH", body) == (200, {"changed": 1})
        assert ask(made, path)[1]["seen"] is True
        assert ask(made, path, "DELETE")[0] == 200
        assert ask(made, path)[0] == 404 and ask(made, path, "DELETE")[0] == 404


def test_a_clip_is_given_in_parts_and_to_be_saved(tmp_path: Path) -> None:
    one = event("appear", clip="c.mp4")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/c.mp4").write_bytes(bytes(range(256)) * 40)
    with reviewed(tmp_path, one) as made:
        path = f"/api/v1/events/{one.id}/clip.mp4"
        status, data, told = made.get(path, **TOKEN, Range="bytes=256-259")
        assert (status, data) == (206, bytes([0, 1, 2, 3])) and told["content-type"] == "video/mp4"
        _, _, told = made.get(f"{path}?download=1", **TOKEN)
        assert "attachment" in told["content-disposition"]
        assert ask(made, f"/api/v1/events/{one.id}/snapshot.jpg")[0] == 404
        assert ask(made, f"/api/v1/events/{one.id}/kestrel.db")[0] == 404


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium (apt install chromium)")
@pytest.mark.parametrize("width", [1440, 390])
def test_the_page_in_a_browser(tmp_path: Path, width: int) -> None:
    one = event("appear", 1, clip="c.mp4", snapshot="s.jpg")
    two = event("appear", 2, label="dog")
    (tmp_path / "clips").mkdir()
    (tmp_path / "snapshots").mkdir()
    cv2.imwrite(str(tmp_path / "snapshots/s.jpg"), textured(1))
    video = VideoFileSink(tmp_path / "clips/c.mp4", draw=False)
    video.open(CLIP, LABELS)
    for i in range(20):
        video.emit(result(i, pixels=textured(i)))
    video.close()

    async def look(url: str, made: Site) -> None:
        async with open_page(url, width=width, height=844) as page:
            await page.until("document.querySelector('#live').textContent === 'live'")
            assert await page.evaluate("document.querySelectorAll('#cards li').length") == 2
            await page.until("document.querySelector('#cards img')?.naturalWidth > 0")
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
            await page.evaluate("document.querySelector('.card:has(.play)').click()")
            await page.until("document.querySelector('video')?.currentTime > 0")
            await page.until("document.querySelectorAll('#cards li.seen').length === 1")
            await page.evaluate("document.getElementById('delete').click()")
            await page.evaluate("document.getElementById('yes').click()")
            await page.until("document.querySelectorAll('#cards li').length === 1")
            made.service.events.happened([replace(event("appear", 3), label="dog")], [])
            await page.until("document.querySelector('#cards li.fresh') !== null")
            hours = "[...document.querySelectorAll('#hours button')].map(each => each.ariaLabel)"
            assert any("events: 2" in each for each in await page.evaluate(hours))
            await page.screenshot(tmp_path / "page.png")
            await page.call("Page.navigate", url=f"{made.service.url}review?event={two.id}")
            await page.until("document.querySelector('#detail')?.open === true")
            assert await page.evaluate("document.querySelector('#title').textContent") == (
                "dog appeared"
            )
            # a picture may be asked for just when its event is deleted
            assert [each for each in page.errors if "404" not in each] == []

    with reviewed(tmp_path, one, two) as made:
        url = f"{made.service.url}review?token=the-right-token"
        asyncio.run(asyncio.wait_for(look(url, made), 100))
    assert not (tmp_path / "clips/c.mp4").exists() and not (tmp_path / "snapshots/s.jpg").exists()
    assert np.asarray(cv2.imread(str(tmp_path / "page.png"))).std() > 5
