#!/usr/bin/env python3
"""How fast the review page opens over a large store, and what the grid of many cameras costs.

A store is filled with events of 16 cameras on 30 days, the server runs over it without a pipeline,
and headless Chromium (Debian: chromium) opens the pages.

    python -m scripts.measure_page [--events 100000] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import threading
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic_ns, perf_counter, process_time, sleep
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from app.config import HttpOptions, StoreOptions
from app.core.detections import Detections, Result
from app.core.events import Event, EventType
from app.core.frame import Frame, SourceInfo
from app.core.stats import Meter, OutputMeter
from app.sinks.http.guard import parse_address
from app.sinks.http.server import HttpService
from app.sinks.store import EventStore
from app.sinks.store_read import EventQuery, StoreReader
from tests.sinks.http.chromium import open_page

CAMERAS = tuple(f"camera {i:02}" for i in range(16))
LABELS, ZONES = ("person", "car", "dog", "bicycle", "truck", "bird"), ("door", "yard", "gate", "")
DAY_MS, DAYS, FIRST_MS = 86_400_000, 30, 1_767_225_600_000  # from 2026-01-01 on
LIFE: tuple[EventType, ...] = ("appear", "enter", "leave", "gone")
BATCH, PICTURES, ROUNDS, GRID_S = 2000, 50, 5, 15
CLIP = Path(__file__).parents[1] / "app" / "sources" / "sample.mp4"


def events(count: int) -> list[Event]:
    """Objects that come, enter a zone or not, leave it and go; in the order of time."""
    chance, made = random.Random(1), list[Event]()
    for number in range(count // len(LIFE)):
        at_ms = FIRST_MS + number * DAYS * DAY_MS * len(LIFE) // count
        camera, zone = chance.choice(CAMERAS), chance.choice(ZONES)
        label = chance.choices(LABELS, (40, 40, 8, 8, 3, 1))[0]
        for step, kind in enumerate(LIFE):
            inside = zone if zone and kind in ("enter", "leave") else None
            made.append(
                Event(
                    type=kind if inside or step in (0, 3) else "dwell",
                    id=f"{len(made):026}",
                    time=_rfc3339(at_ms + 2000 * step),
                    source=f"rtsp://{camera.replace(' ', '-')}.local/stream",
                    name=camera,
                    track_id=number,
                    label=label,
                    score=round(chance.uniform(0.4, 0.99), 3),
                    box=(10.0, 20.0, 110.0, 220.0),
                    snapshot=f"{number % PICTURES}.jpg",
                    zone=inside,
                )
            )
    return made


def _rfc3339(moment_ms: int) -> str:
    told = datetime.fromtimestamp(moment_ms / 1e3, timezone.utc).isoformat(timespec="milliseconds")
    return told.replace("+00:00", "Z")


def fill(store: EventStore, meter: OutputMeter, made: list[Event]) -> float:
    """Seconds that writing took."""
    began_s = perf_counter()
    for at in range(0, len(made), BATCH):
        store.offer("camera", made[at : at + BATCH])
        while meter.figures().delivered < min(at + BATCH, len(made)):
            sleep(0.01)
    return perf_counter() - began_s


def queries(folder: Path) -> dict[str, dict[str, float]]:
    """Milliseconds of each question that the page asks, median and longest of ROUNDS."""
    reader = StoreReader(folder)
    start_ms = FIRST_MS + 20 * DAY_MS
    day = EventQuery(since_ms=start_ms, until_ms=start_ms + DAY_MS, objects=True)
    every = replace(day, objects=False)
    asked: dict[str, Any] = {
        "first page of a day": lambda: reader.page(day),
        "every event of a day": lambda: reader.page(every),
        "page of a rare label, all days": lambda: reader.page(EventQuery(label="bird")),
        "page of a zone and a camera": lambda: reader.page(
            EventQuery(zone="gate", camera=CAMERAS[3])
        ),
        "search that finds nothing, all days": lambda: reader.page(EventQuery(text="zebra")),
        "search for a camera and a label": lambda: reader.page(EventQuery(text="05 truck")),
        "unseen, all days": lambda: reader.page(EventQuery(seen=False, objects=True)),
        "last events of a camera": lambda: reader.page(EventQuery(camera=CAMERAS[7], limit=8)),
        "timeline of a day": lambda: reader.timeline(day, 900_000),
        "choices": reader.choices,
    }
    told = {}
    for name, question in asked.items():
        times_ms = []
        for _ in range(ROUNDS):
            began_s = perf_counter()
            question()
            times_ms.append(1e3 * (perf_counter() - began_s))
        told[name] = {"p50": round(statistics.median(times_ms), 1), "max": round(max(times_ms), 1)}
    return told


async def opened(base: str) -> dict[str, Any]:
    """Milliseconds from navigation to the cards of the day, with a cold and a warm browser."""
    day = _rfc3339(FIRST_MS + 20 * DAY_MS)[:10]
    cold, warm, errors = list[float](), list[float](), list[str]()
    for _ in range(3):
        async with open_page("about:blank", width=1440, height=900) as page:
            for times in (cold, warm, warm):
                await page.call("Page.navigate", url=f"{base}review?day={day}")
                await page.until("performance.getEntriesByName('ready').length > 0")
                ready = "performance.getEntriesByName('ready')[0].startTime"
                times.append(await page.evaluate(ready))
            assert await page.evaluate("document.querySelectorAll('#cards li').length") > 0
            errors += page.errors
    told: dict[str, Any] = {
        name: {"p50": round(statistics.median(times)), "max": round(max(times))}
        for name, times in (("cold_ms", cold), ("warm_ms", warm))
    }
    return told | {"errors": errors}


def pictures() -> list[NDArray[np.uint8]]:
    """Frames of the bundled clip, as 1080p cameras would give them."""
    capture, made = cv2.VideoCapture(str(CLIP)), list[NDArray[np.uint8]]()
    while len(made) < PICTURES and capture.read()[0]:
        made.append(np.asarray(cv2.resize(capture.read()[1], (1920, 1080)), np.uint8))
    return made


async def grid(service: HttpService) -> dict[str, float]:
    """Bytes, requests and CPU time a second of the grid while every camera gives new frames."""
    stop, frames = threading.Event(), pictures()

    def feed() -> None:
        index = 0
        while not stop.wait(0.1):
            index += 1
            for number, name in enumerate(CAMERAS):
                pixels = frames[(index + 3 * number) % len(frames)]
                frame = Frame(pixels, index, captured_ns=monotonic_ns())
                service.feed(name).emit(Result(frame, Detections.empty(), 9_000_000))

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    try:
        async with open_page(service.url, width=1440, height=900) as page:
            await page.until("document.querySelectorAll('#cameras img').length >= 12")
            await page.evaluate("performance.clearResourceTimings()")
            before_s = process_time()
            await asyncio.sleep(GRID_S)
            busy_s = process_time() - before_s
            sizes = await page.evaluate(
                "performance.getEntriesByType('resource').map(each => each.transferSize)"
            )
    finally:
        stop.set()
        feeder.join()
    return {
        "kbyte_per_s": round(sum(sizes) / GRID_S / 1e3, 1),
        "requests_per_s": round(len(sizes) / GRID_S, 1),
        "server_cpu_ms_per_s": round(1e3 * busy_s / GRID_S),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, meter = Path(name), OutputMeter("store")
        (folder / "snapshots").mkdir()
        for i, picture in enumerate(pictures()):
            small = cv2.resize(picture, (480, 270))
            cv2.imwrite(str(folder / f"snapshots/{i}.jpg"), small)
        folders = {"snapshot": folder / "snapshots", "clip": folder / "clips"}
        store = EventStore(StoreOptions(path=name), meter, folders=folders)
        store.start()
        stats = Meter()
        stats.state = "live"
        try:
            made = events(asked.events)
            told: dict[str, Any] = {"events": len(made), "fill_s": round(fill(store, meter, made))}
            told["queries_ms"] = queries(folder)
            service = HttpService(
                parse_address("0"),
                HttpOptions(),
                OutputMeter("http"),
                stats=stats.snapshot,
                outputs=[],
                engine=lambda: "none",
                names=CAMERAS,
                store=store,
            )
            service.start()
            try:
                for each in CAMERAS:
                    service.feed(each).open(SourceInfo(each, live=True), LABELS)
                told["review"] = asyncio.run(opened(service.url))
                told["grid_of_16"] = asyncio.run(grid(service))
            finally:
                service.stop()
        finally:
            store.stop()
    text = json.dumps(told, indent=1)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
