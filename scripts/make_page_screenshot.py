#!/usr/bin/env python3
"""Makes the pictures of the pages in README and docs: a real browser on a real run.

Parts of the bundled clip play as cameras, and one camera is not there. Needs Chromium (Debian:
chromium).

    python -m scripts.make_page_screenshot [FOLDER]
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import av.video.stream

from tests.sinks.http.chromium import Page, open_page

ROOT = Path(__file__).parents[1]
OUT = ROOT / "scripts" / "results"
FPS = 5
CAMERAS = {  # frames of the clip (app/sources/sample.README.md)
    "Entrance": range(84, 150, 4),
    "Corridor": range(144, 200, 4),
    "Office": range(0, 60, 4),
    "Reception": range(200, 220, 4),
    "Kitchen": range(220, 240, 4),
}
CONFIG = """
sources = [{sources}, "Garden=rtsp://127.0.0.1:9/stream"]
http = "{port}"
store = "store"

[[zone]]
name = "camera stand"
source = "Corridor"
points = [[0.3, 0.6], [0.66, 0.6], [0.72, 0.97], [0.24, 0.97]]
colour = "#ff9f1c"

[[line]]
name = "door"
source = "Entrance"
points = [[0.5, 0.95], [0.5, 0.35]]
colour = "#40a9ff"
"""
SEEN = "shown && lines.get(shown.frame)?.detections.filter(d => d.track_id).length > 1"
EVENTS = "[...cards.values()].filter(each => each.frame && !/since/.test(each.event.textContent))"
GRID = f"{EVENTS}.length > 4 && document.querySelectorAll('#cameras .pill.bad').length > 0"
CARDS = "document.querySelectorAll('#cards img')"
PICTURES = {  # path, width, height, theme, what must be true
    "page_grid": ("", 1440, 900, "dark", GRID),
    "page_camera": ("?source=Corridor", 1440, 900, "dark", f"{SEEN} && trend.length > 3"),
    "page_review": ("review", 1440, 900, "light", f"{CARDS}.length > 9"),
    "page_settings": (
        *("settings", 1440, 900, "dark"),
        "document.querySelectorAll('.item').length > 10 && !$('live').matches('.bad')",
    ),
    "page_phone": ("?source=Entrance", 390, 844, "light", f"{SEEN} && trend.length > 3"),
}


def cut(folder: Path) -> None:
    """A file for each camera."""
    with av.open(str(ROOT / "app" / "sources" / "sample.mp4")) as clip:
        frames = list(clip.decode(video=0))
    for name, wanted in CAMERAS.items():
        with av.open(str(folder / f"{name}.mp4"), "w") as made:
            stream = made.add_stream("libx264", rate=FPS, options={"crf": "16"})
            assert isinstance(stream, av.video.stream.VideoStream)
            stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
            for number, index in enumerate(wanted):
                frame = frames[index].reformat(format="yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                made.mux(stream.encode(frame))
            made.mux(stream.encode())


async def take(page: Page, out: Path, ready: str) -> None:
    """A picture once ``ready`` is true, as WebP."""
    await page.until(ready, timeout_s=60)
    await asyncio.sleep(1)
    await page.until(ready, timeout_s=60)
    told = await page.call("Page.captureScreenshot", format="webp", quality=82)
    out.write_bytes(base64.b64decode(told["data"]))


async def take_all(url: str, out: Path) -> list[str]:
    """All pictures; returns what the pages complained of."""
    errors = list[str]()
    for name, (path, width, height, theme, ready) in PICTURES.items():
        async with open_page("about:blank", width=width, height=height) as page:
            media = [{"name": "prefers-color-scheme", "value": theme}]
            await page.call("Emulation.setEmulatedMedia", features=media)
            await page.call("Page.navigate", url=f"{url}{path}")
            await take(page, out / f"{name}.webp", ready)
            # the picture of who has just appeared may still be to come; it is asked for again
            errors += [each for each in page.errors if "404" not in each]
    return errors


def main() -> int:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cut(folder)
        sources = ", ".join(f'"{each}={each}.mp4?loop=1"' for each in CAMERAS)
        (folder / "cameras.toml").write_text(CONFIG.format(sources=sources, port=port))
        words = [sys.executable, "-m", "app", "run", "--headless", "--config", "cameras.toml"]
        own = {**os.environ, "PYTHONPATH": str(ROOT)}
        app = subprocess.Popen(words, cwd=folder, env=own)
        try:
            url = f"http://127.0.0.1:{port}/"
            while app.poll() is None and socket.socket().connect_ex(("127.0.0.1", port)):
                asyncio.run(asyncio.sleep(0.3))
            errors = asyncio.run(asyncio.wait_for(take_all(url, out), 300))
        finally:
            app.terminate()
            app.wait(20)
    for error in errors:
        print(f"the page complains: {error}", file=sys.stderr)
    return len(errors) > 0


if __name__ == "__main__":
    sys.exit(main())
