"""In a real browser: the page shows the picture, its boxes and the figures."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from app.core.overlay import TINT
from tests.sinks.http.chromium import find_chromium, open_page
from tests.sinks.http.kit import Site, filters, shapes, site
from tests.sinks.kit import TASKS, gray, of_task

pytestmark = pytest.mark.skipif(
    find_chromium() is None, reason="no Chromium (apt install chromium)"
)
GREEN_BGR = (94, 219, 57)  # the first class's colour


def show(made: Site, url: str, picture: Path, width: int) -> dict:
    """Open the page while frames keep coming; what it shows, and a screenshot."""
    stop = threading.Event()

    def feed() -> None:
        while not stop.wait(0.05):
            made.feed()

    async def look() -> dict:
        async with open_page(url, width=width, height=800) as page:
            await page.until("shown !== null && lines.has(shown.frame) && trend.length > 1")
            await page.evaluate("draw()")
            await page.screenshot(picture)
            texts = {
                name: await page.evaluate(f"document.getElementById('{name}').textContent")
                for name in (
                    "state",
                    "fps",
                    "p50",
                    "processed",
                    "stages",
                    "seen",
                    "reasons",
                    "source",
                )
            }
            wide = await page.evaluate("document.documentElement.scrollWidth")
            return {**texts, "errors": page.errors, "scroll_width": wide}

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        return asyncio.run(asyncio.wait_for(look(), 100))
    finally:
        stop.set()
        feeder.join()


@pytest.mark.parametrize("width", [1360, 400])
def test_the_page_shows_picture_boxes_and_figures(tmp_path: Path, width: int) -> None:
    with site("127.0.0.1:0", "the-right-token", shapes=shapes(), filters=filters()) as made:
        picture = tmp_path / "page.png"
        told = show(made, f"{made.service.url}?token=the-right-token", picture, width)
    assert told["errors"] == []
    assert told["state"] == "live" and float(told["fps"]) > 0 and told["p50"] == "9.0"
    assert "network" in told["stages"] and told["seen"] == "person" and told["reasons"] == ""
    assert told["source"] == "camera:0" and told["scroll_width"] <= width
    pixels = np.asarray(cv2.imread(str(picture)), int)
    green = (np.abs(pixels - GREEN_BGR) < 12).all(axis=2)
    assert green.sum() > 1000, "the box, its label and the chip are drawn"
    assert pixels.std() > 20


@pytest.mark.parametrize("task", TASKS)
def test_masks_skeletons_and_turned_boxes_are_drawn(task: str) -> None:
    detections, full, mixed, untouched = of_task(task)
    asked = ", ".join(f"[{x}, {y}]" for x, y in (*full, *mixed, *untouched))
    place = "p[0] * view.width / 320, p[1] * view.height / 240"
    pixel = f"[...pen.getImageData({place}, 1, 1).data]"

    async def look(url: str) -> list[list[int]]:
        async with open_page(url, width=1360, height=900) as page:
            await page.until("shown !== null && lines.has(shown.frame)")
            colours = await page.evaluate(f"draw(), [{asked}].map(p => {pixel})")
            assert page.errors == []
            return colours

    stop = threading.Event()
    with site("127.0.0.1:0", filters=filters()) as made:
        made.found, made.picture = detections, lambda index: gray()

        def feed() -> None:
            while not stop.wait(0.05):
                made.feed()

        feeder = threading.Thread(target=feed)
        feeder.start()
        try:
            colours = asyncio.run(asyncio.wait_for(look(made.service.url), 100))
        finally:
            stop.set()
            feeder.join()
    ink = np.array(GREEN_BGR[::-1])
    told = np.array(colours)[:, :3].tolist()
    for colour in told[: len(full)]:
        assert colour == pytest.approx(ink.tolist(), abs=40)
    for colour in told[len(full) : len(full) + len(mixed)]:
        assert colour == pytest.approx((128 * (1 - TINT) + ink * TINT).tolist(), abs=6)
    for colour in told[len(full) + len(mixed) :]:
        assert colour == pytest.approx([128] * 3, abs=4)
