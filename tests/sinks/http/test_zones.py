"""Zones over HTTP: who may change them, what is refused, and a browser that draws one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.config import read_config_file
from tests.sinks.http.chromium import Page, find_chromium, open_page
from tests.sinks.http.kit import Site, shapes, site
from tests.sinks.kit import ROOT

PATH = "/api/v1/zones"
DOOR = {"name": "door", "points": [[0, 0], [0.5, 0], [0.5, 1]]}
JSON = {"Content-Type": "application/json"}


def put(made: Site, body: object, path: str = PATH, **headers: str) -> tuple[int, dict]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, told, _ = made.get(path, "PUT", data, **{**JSON, **headers})
    return status, json.loads(told)


def test_rows_are_read_and_changed(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text("# mine\n[[zone]]\nname = 'old'\npoints = [[0, 0], [1, 0], [1, 1]]\n")
    with site(shapes=shapes(file, zone=tuple(read_config_file(file)["zone"]))) as made:
        status, told, _ = made.get(PATH)
        assert status == 200 and json.loads(told)["zone"][0]["name"] == "old"
        assert json.loads(told)["file"] == "shop.toml"
        assert put(made, {"zone": [DOOR]}) == (
            200,
            {"zone": [DOOR], "line": [], "file": "shop.toml"},
        )
        assert "old" in file.read_text(), "it was not asked to save"
        assert put(made, {"zone": [DOOR], "save": True})[0] == 200
    assert read_config_file(file)["zone"] == [DOOR] and "# mine" in file.read_text()


@pytest.mark.parametrize(
    ("body", "cure"),
    [
        (b"{", "JSON"),
        (b"[" * 100_000, "JSON"),
        ([], "one object"),
        ({"zones": []}, "zone, line, save"),
        ({"zone": "door"}, "[[zone]]"),
        ({"zone": [{**DOOR, "ponits": []}]}, "did you mean 'points'"),
        ({"zone": [{**DOOR, "points": [[0, 0], [2, 0], [1, 1]]}]}, "0 to 1"),
        ({"zone": [{**DOOR, "points": [[0, 0], [float("nan"), 0], [1, 1]]}]}, "finite"),
        ({"zone": [{**DOOR, "points": [[0, 0], [1, 1]]}]}, "3 to 100"),
        ({"zone": [{**DOOR, "labels": ["persn"]}]}, "did you mean 'person'"),
        ({"zone": [DOOR, DOOR]}, "its own name"),
        ({"zone": [{**DOOR, "source": "x"}]}, "?source=NAME"),
        ({"zone": [], "save": 1}, "true or false"),
    ],
)
def test_what_is_wrong_is_told_with_its_cure_and_changes_nothing(body, cure: str) -> None:
    book = shapes()
    book.write({"zone": [DOOR]})
    with site(shapes=book) as made:
        status, told = put(made, body)
    assert status == 400 and cure in told["error"]
    assert book.read()["zone"] == [DOOR]


def test_a_rule_keeps_its_zone() -> None:
    rule = {"name": "night", "when": "enter", "zone": "door", "then": ["webhook"]}
    book = shapes(zone=(DOOR,), rule=(rule,))
    with site(shapes=book) as made:
        status, told = put(made, {"zone": []})
    assert status == 400 and "night" in told["error"] and book.read()["zone"] == [DOOR]


def test_strangers_too_much_and_other_types_are_refused() -> None:
    book = shapes()
    with site(shapes=book) as made:
        assert put(made, {"zone": [DOOR]}, Origin="https://evil.example")[0] == 403
        assert put(made, {"zone": [DOOR]}, **{"Content-Type": "text/plain"})[0] == 415
        assert put(made, b" " * 300_000)[0] == 413
        assert put(made, {"zone": [DOOR]}, f"{PATH}?source=none")[0] == 404
        assert book.read()["zone"] == []
        own = f"http://127.0.0.1:{made.port}"
        assert put(made, {"zone": [DOOR]}, Origin=own)[0] == 200


def test_the_token_is_asked_for_and_saving_needs_a_file() -> None:
    book = shapes()
    with site("127.0.0.1:0", "the-right-token", shapes=book) as made:
        assert made.get(PATH, "PUT", b"{}", **JSON)[0] == 401
        status, told = put(made, {"zone": [DOOR], "save": True}, f"{PATH}?token=the-right-token")
    assert status == 409 and "--config" in told["error"]
    assert book.read()["zone"] == [DOOR], "it holds until the end of the run"


def test_a_run_without_zones_says_so() -> None:
    with site() as made:
        status, told, _ = made.get(PATH)
        assert status == 200 and json.loads(told)["fixed"]
        status, answer = put(made, {"zone": [DOOR]})
        assert status == 404 and "error" in answer


async def _mouse(page: Page, kind: str, x: float, y: float, *, clicks: int = 1) -> None:
    held = 0 if kind == "mouseReleased" else 1
    await page.call(
        "Input.dispatchMouseEvent",
        type=kind,
        x=x,
        y=y,
        button="left",
        buttons=held,
        clickCount=clicks,
    )


async def _press(page: Page, key: str) -> None:
    more = {"text": "\r", "windowsVirtualKeyCode": 13} if key == "Enter" else {}
    await page.call("Input.dispatchKeyEvent", type="keyDown", key=key, **more)
    await page.call("Input.dispatchKeyEvent", type="keyUp", key=key)


class Hand:
    """A mouse over the picture of the page; places are parts of the frame."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def at(self, x: float, y: float) -> tuple[float, float]:
        told = await self.page.evaluate(
            "JSON.stringify((r => [r.left, r.top])(view.getBoundingClientRect())"
            ".concat(Object.values(pictureRect())))"
        )
        left, top, x0, y0, w, h = json.loads(told)
        return left + x0 + x * w, top + y0 + y * h

    async def click(self, x: float, y: float) -> None:
        place = await self.at(x, y)
        await _mouse(self.page, "mousePressed", *place)
        await _mouse(self.page, "mouseReleased", *place)

    async def drag(self, a: tuple[float, float], b: tuple[float, float]) -> None:
        await _mouse(self.page, "mousePressed", *await self.at(*a))
        for part in (0.5, 1.0):
            place = [p + part * (q - p) for p, q in zip(a, b, strict=True)]
            await _mouse(self.page, "mouseMoved", *await self.at(*place))
        await _mouse(self.page, "mouseReleased", *await self.at(*b))


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium (apt install chromium)")
@pytest.mark.timeout(200)
def test_a_zone_is_drawn_dragged_saved_and_its_event_comes(
    tiny_model: Path, tmp_path: Path
) -> None:
    file, told = tmp_path / "shop.toml", tmp_path / "events.jsonl"
    file.write_text("# the shop\n")
    words = ["run", "--headless", "--source", "pattern:?fps=20", "--model", str(tiny_model)]
    words += ["--http", "127.0.0.1:0", "--config", str(file), "--events", str(told)]
    process = subprocess.Popen(
        [sys.executable, "-m", "app", *words],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        url = next(line.split()[-1] for line in process.stderr if "live page at" in line)
        asyncio.run(asyncio.wait_for(_draw(url, file, told, tmp_path), 150))
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    rows = read_config_file(file)["zone"]
    assert "# the shop" in file.read_text() and [row["name"] for row in rows] == ["everything"]


async def _draw(url: str, file: Path, told: Path, folder: Path) -> None:
    async with open_page(url) as page:
        await page.until("shown !== null && !$('editZones').hidden")
        await page.evaluate("$('editZones').click(); $('zoneNew').click()")
        hand = Hand(page)
        for point in ((0.02, 0.02), (0.98, 0.02), (0.98, 0.5), (0.02, 0.5), (0.02, 0.02)):
            await hand.click(*point)
        await page.until("shapes.length === 1 && shapes[0].points.length === 4 && !draft")
        await hand.drag((0.98, 0.5), (0.98, 0.98))
        await hand.drag((0.02, 0.5), (0.02, 0.98))
        await page.until("shapes[0].points[2][1] > 0.95 && shapes[0].points[3][1] > 0.95")
        await page.evaluate("$('zoneName').focus(); $('zoneName').select()")
        await page.call("Input.insertText", text="everything")
        await page.evaluate("$('zoneName').blur()")
        await page.until("shapes[0].name === 'everything'")
        await page.evaluate("$('zoneDelete').click(); $('zoneUndo').click()")
        await page.until("shapes.length === 1 && shapes[0].name === 'everything'")
        await page.evaluate("chosen = 0; panel(); $('zoneSave').click()")
        await page.until("$('zoneSaid').textContent.includes('shop.toml')")
        await page.evaluate("$('zoneNew').focus()")
        await _press(page, "Enter")  # without a pointer
        await page.until("shapes.length === 2 && document.activeElement === view")
        for key in ("c", "ArrowLeft", "ArrowUp"):
            await _press(page, key)
        await page.until("!failed && shapes[1].points[0].join() === '0.34,0.34'")
        await page.evaluate("$('zoneDelete').click()")
        await page.until("shapes.length === 1")
        await page.screenshot(folder / "zones.png")
        if keep := os.environ.get("KESTREL_SCREENSHOTS"):
            await page.screenshot(Path(keep, "page.png"))
        assert page.errors == []
        await page.call("Page.reload")
        await page.until(
            "typeof shapes !== 'undefined' && shapes.some(s => s.name === 'everything')"
        )
        for _ in range(300):
            lines = [json.loads(line) for line in told.read_text().splitlines()]
            if any(each["type"] == "enter" and each["zone"] == "everything" for each in lines):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"nobody entered: {lines}")
