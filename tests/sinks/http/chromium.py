"""A headless Chromium for the live page, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import atexit
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab. ``errors`` are what the page's script or its policy complained of."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._next = socket, 0
        self.errors: list[str] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._next += 1
        await self._socket.send_json({"id": self._next, "method": method, "params": params})
        while True:
            told = json.loads((await self._socket.receive(timeout=30)).data)
            if told.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(told["params"]["exceptionDetails"])[:500])
            if (
                told.get("method") == "Log.entryAdded"
                and told["params"]["entry"]["level"] == "error"
            ):
                self.errors.append(told["params"]["entry"]["text"])
            if told.get("id") == self._next:
                assert "error" not in told, told
                result: dict[str, Any] = told["result"]
                return result

    async def evaluate(self, expression: str) -> Any:
        """Its value, also that of a promise."""
        told = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        return told["result"].get("value")

    async def until(self, expression: str, timeout_s: float = 30) -> None:
        for _ in range(int(timeout_s / 0.1)):
            if await self.evaluate(expression):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"never true in the page: {expression}; {self.errors}")

    async def screenshot(self, path: Path) -> None:
        told = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(told["data"]))


_RUNNING: list[tuple[subprocess.Popen[bytes], str, str]] = []  # process, address, path of DevTools


def _browser() -> tuple[str, str]:
    """Chromium, started once for all tests of this process: where its DevTools are."""
    if _RUNNING and _RUNNING[-1][0].poll() is None:
        return _RUNNING[-1][1:]
    binary, profile = find_chromium(), tempfile.mkdtemp()
    assert binary is not None
    process = subprocess.Popen(
        [
            binary,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            "about:blank",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def end() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        shutil.rmtree(profile, ignore_errors=True)

    atexit.register(end)
    told = Path(profile, "DevToolsActivePort")
    for _ in range(300):
        if told.exists() and len(lines := told.read_text().splitlines()) == 2:
            _RUNNING.append((process, f"ws://127.0.0.1:{lines[0]}", lines[1]))
            return _RUNNING[-1][1:]
        assert process.poll() is None, "Chromium did not start"
        time.sleep(0.1)
    raise AssertionError("Chromium does not answer")


@contextlib.asynccontextmanager
async def open_page(url: str, *, width: int = 1360, height: int = 800) -> AsyncIterator[Page]:
    """A tab at ``url`` that knows nothing of those before: no cookie, no storage."""
    address, path = _browser()
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{address}{path}", max_msg_size=0) as to_browser,
    ):
        browser = Page(to_browser)
        profile = await browser.call("Target.createBrowserContext", disposeOnDetach=True)
        size = {"width": width, "height": height}
        tab = await browser.call("Target.createTarget", url="about:blank", **profile, **size)
        at = f"{address}/devtools/page/{tab['targetId']}"
        async with session.ws_connect(at, max_msg_size=0) as socket:
            page = Page(socket)
            for domain in ("Page", "Runtime", "Log"):
                await page.call(f"{domain}.enable")
            await page.call(
                "Emulation.setDeviceMetricsOverride",
                **size,
                deviceScaleFactor=1,
                mobile=width < 600,
            )
            await page.call("Page.navigate", url=url)
            yield page
