"""Somebody logs in, changes a threshold on the page, and the run and its file have it."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import app.sinks.http.users as users_of
from app.sinks.http.users import User, UserFile
from tests.sinks.http.chromium import Page, find_chromium, open_page
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


async def _type(page: Page, where: str, text: str) -> None:
    await page.evaluate(f"(e => {{ e.focus(); e.select() }})(document.querySelector({where!r}))")
    await page.call("Input.insertText", text=text)
