"""Somebody logs in, changes a threshold on the page, and the run and its file have it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import app.sinks.http.users as users_of
from app.sinks.http.users import User, UserFile
from app.sources.onvif import CameraStream, Device
from tests.sinks.http.chromium import Page, find_chromium, open_page
from tests.sinks.http.kit import Site, run_of, site
from tests.sinks.kit import ROOT

FILE = """# the shop
source = "pattern:?fps=20"   # moving boxes
score = 0.95   # how sure

[http]
address = "127.0.0.1:0"
users = "USERS"
"""
PASSWORD = "correct horse"


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium (apt install chromium)")
@pytest.mark.timeout(200)
def test_a_threshold_changed_on_the_page_is_in_force(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users_of, "N", 2**10)
    UserFile(tmp_path / "users").write({"anna": User.made("anna", "admin", PASSWORD)})
    file, lines = tmp_path / "shop.toml", tmp_path / "lines.jsonl"
    file.write_text(FILE.replace("USERS", str(tmp_path / "users")))
    words = ["run", "--headless", "--config", str(file), "--model", str(tiny_model)]
    process = subprocess.Popen(
        [sys.executable, "-m", "app", *words, "--json", str(lines)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        url = next(line.split(",")[0].split()[-1] for line in process.stderr if "live page" in line)
        asyncio.run(asyncio.wait_for(_change(url, lines), 150))
    finally:
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=30)[1]
    assert file.read_text() == FILE.replace("USERS", str(tmp_path / "users")).replace("0.95", "0.5")
    assert "anna (admin)" in told and "score = 0.95 -> 0.5" in told and PASSWORD not in told


async def _change(url: str, lines: Path) -> None:
    async with open_page(f"{url}settings", width=390, height=844) as page:
        await page.until("document.querySelector('#password') !== null")
        await _type(page, "#name", "anna")
        await _type(page, "#password", PASSWORD)
        await page.evaluate("document.querySelector('form').requestSubmit()")
        await page.until("location.pathname === '/settings' && !!document.querySelector('.item')")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for value, said in (("7", "Not saved"), ("0.5", "Saved")):
            await _type(page, "[data-path='score'] input", value)
            await page.evaluate("document.querySelector('#save').click()")
            said = f"document.querySelector('#said').textContent.startsWith({said!r})"
            await page.until(said)
            fault = "document.querySelector('[data-path=score] .fault').textContent"
            told = await page.evaluate(fault)
            assert bool(told) is (value == "7"), "the fault stands beside its field"
        for _ in range(300):  # the network finds one thing, of 0.9
            rows = [json.loads(line) for line in lines.read_text().splitlines()]
            if rows and rows[-1]["detections"]:
                break
            await asyncio.sleep(0.1)
        assert not rows[0]["detections"] and rows[-1]["detections"]
        assert not [each for each in page.errors if "status of 4" not in each]


DOOR = Device(
    "http://10.0.0.7/onvif/device_service",
    "Front door",
    (CameraStream("rtsp://10.0.0.7/main", "main", "H264", (1920, 1080), 25.0),),
)
LOCKED = Device("http://10.0.0.8/onvif/device_service", "Yard", (), "it asks for a login")


@contextlib.contextmanager
def searchable(
    path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, *found: Device, **options: Any
) -> Iterator[Site]:
    """A page of a run of this file, in whose network there are these cameras."""
    monkeypatch.setattr("app.sources.onvif.discover", lambda **_: list(found))
    path.write_text('sources = ["a=pattern:"]\n')
    made = run_of(path, model=str(model), engine="cpu")
    with site("127.0.0.1:0", settings=made.settings, **options) as running:
        yield running


def test_cameras_of_the_network_are_told_to_admins_alone(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = {"token": "the-admins-token", "view_token": "the-viewers-token"}
    file = tmp_path / "k.toml"
    with searchable(file, tiny_model, monkeypatch, DOOR, LOCKED, **tokens) as running:
        answers = [
            running.get("/api/v1/discover", Authorization=f"Bearer {token}")
            for token in (*tokens.values(), "another-token")
        ]
    assert [status for status, _, _ in answers] == [200, 403, 401]
    door, yard = json.loads(answers[0][1])["cameras"]
    assert door["streams"][0]["uri"] == "rtsp://10.0.0.7/main" and door["fault"] == ""
    assert yard["fault"] == "it asks for a login" and not yard["streams"]


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium (apt install chromium)")
@pytest.mark.timeout(100)
def test_a_camera_that_was_found_is_added(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "k.toml"

    async def add(url: str) -> None:
        async with open_page(f"{url}settings", width=900, height=900) as page:
            await page.until("document.querySelector('#discover') !== null")
            await page.evaluate("document.querySelector('#discover').click()")
            here = "[...document.querySelectorAll('[data-path=sources] [role=status] button')]"
            await page.until(f"{here}.length === 1")
            found = "document.querySelector('[data-path=sources] [role=status]').textContent"
            told = await page.evaluate(found)
            assert "1920×1080" in told and "it asks for a login" in told
            await page.evaluate(f"{here}[0].click()")
            await page.until("!document.querySelector('#save').disabled")
            await page.evaluate("document.querySelector('#save').click()")
            said = "document.querySelector('#said').textContent.startsWith('Saved')"
            await page.until(said)
            assert not page.errors

    with searchable(file, tiny_model, monkeypatch, DOOR, LOCKED) as running:
        asyncio.run(asyncio.wait_for(add(running.service.url), 90))
    assert "Front-door=rtsp://10.0.0.7/main" in file.read_text()


async def _type(page: Page, where: str, text: str) -> None:
    await page.evaluate(f"(e => {{ e.focus(); e.select() }})(document.querySelector({where!r}))")
    await page.call("Input.insertText", text=text)
