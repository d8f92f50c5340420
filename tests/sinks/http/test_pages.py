"""The pages: complete in themselves, bound by a policy, in every language, accessible."""

from __future__ import annotations

import asyncio
import html
import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import get_args
from urllib.parse import parse_qs

import pytest

from app.core.events import EventType
from app.core.filters import REASONS
from app.core.states import STATES
from app.core.stats import PipelineStats
from app.sinks.http.pages import HERE, LANGUAGES, POLICY, Pages
from tests.sinks.http.chromium import Page, find_chromium, open_page
from tests.sinks.http.kit import Site, filters, run_of, shapes, site
from tests.sinks.http.test_review import reviewed
from tests.sinks.kit import event

TEXTS = {code: json.loads((HERE / f"{code}.json").read_text()) for code in LANGUAGES}
SOURCES = "\n".join(p.read_text() for p in HERE.iterdir() if p.suffix in (".html", ".js"))
DYNAMIC = {  # families of keys that are put together in the page, and what they end in
    "state.": [*STATES, "building", "silent"],
    "type.": get_args(EventType),
    "hidden.": REASONS,
    "direction.": ["in", "out", "up", "down"],
    "page.": ["live", "review", "settings", "login", "fleet"],
    "zones.hint.": ["none", "one", "zone", "line"],
    "all.": ["source", "label", "zone", "line", "type"],
    "fact.": [
        *("time", "camera", "label", "zone", "line", "score", "duration", "cause", "track", "did")
    ],
    "review.no": ["clip", "picture"],
    "login.": ["wrong", "wait"],
    "missing.": ["camera"],
}


def used_keys() -> set[str]:
    families = {key.partition(".")[0] for key in TEXTS["en"]}
    quoted = set(re.findall(r'"([a-z]+(?:\.\w+)*)"', SOURCES))
    keys = {each for each in quoted if each.partition(".")[0] in families and "." in each}
    keys |= {"language", "hidden"}
    dynamic = {f"{family}{end}" for family, ends in DYNAMIC.items() for end in ends}
    return keys | dynamic


def test_every_catalogue_has_every_key_that_is_used() -> None:
    keys = used_keys()
    for code, texts in TEXTS.items():
        own = {key for key in texts if key != "_"}
        assert keys - own == set(), f"{code}.json lacks texts"
        assert own - keys == set(), f"{code}.json has texts that nobody uses"
        assert all(texts.values()) and ("_" in texts) == (code != "en")
        for key, text in texts.items():
            places = set(re.findall(r"\{\w+\}", text))
            assert key == "_" or places == set(re.findall(r"\{\w+\}", TEXTS["en"][key])), key


def test_pages_hold_no_script_and_no_style_and_name_their_files() -> None:
    with site() as made:
        code, body, headers = made.get("/")
        page = body.decode()
        assert code == 200 and headers["content-type"].startswith("text/html")
        assert headers["content-security-policy"] == POLICY and "unsafe" not in POLICY
        assert "<style" not in page and not re.search(r"<script(?! src=)|\son\w+=|\sstyle=", page)
        assert not re.search(r"(src|href)=\"(https?:)?//", page), "nothing comes from elsewhere"
        names = re.findall(r'"(/static/[^"]+)"', page)
        assert len(names) >= 3
        for name in names:
            code, body, headers = made.get(name)
            assert code == 200 and body and "immutable" in headers["cache-control"]
            assert headers["x-content-type-options"] == "nosniff"
        for name in ("en.json", "camera.html", "pages.py", "..%2fpages.py", "x.js"):
            assert made.get(f"/static/{name}")[0] == 404


def test_a_camera_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    with yard()[0] as made:
        for path in ("/?source=zzz%3Cb%3E", "/?source="):
            code, body, headers = made.get(path, **{"Accept-Language": "de-DE,de;q=0.9"})
            page = body.decode()
            assert code == 404 and headers["content-security-policy"] == POLICY
            assert 'lang="de"' in page and "<b>" not in page
            assert "zzz&lt;b&gt;" in page or path == "/?source="
            places = [html.unescape(each) for each in re.findall(r'href="(\?[^"]+)"', page)]
            assert sorted(parse_qs(each[1:])["source"][0] for each in places) == sorted(NAMES)
            assert all(made.get(f"/{each}")[0] == 200 for each in places)
        assert made.get("/?source=door")[0] == 200
    with site() as made:
        assert made.get("/?source=")[0] == 200
        code, body, _ = made.get("/?source=zzz")
        assert code == 404 and 'href="/"' in body.decode()
    own = {"Authorization": "Bearer the-right-token"}
    with reviewed(tmp_path, event("appear")) as made:  # of a camera that was there once
        assert made.get("/review?source=camera%3A0", **own)[0] == 200
        code, body, _ = made.get("/review?source=zzz", **own)
        assert code == 404 and "camera:0" in body.decode()


def test_a_file_that_changes_gets_another_address(monkeypatch, tmp_path: Path) -> None:
    copy = shutil.copytree(HERE, tmp_path / "static")
    monkeypatch.setattr("app.sinks.http.pages.HERE", copy)
    before = Pages([""])._pages["camera"]
    (copy / "page.css").write_text("body { color: red }")
    after = Pages([""])._pages["camera"]
    assert before != after and before.count("?v=") == after.count("?v=")


# --- in a browser --------------------------------------------------------------------------------

BROWSER = pytest.mark.skipif(find_chromium() is None, reason="no Chromium (apt install chromium)")
NAMES = ("door", "yard", "a <b>&'\" name")


def several(made: Site) -> PipelineStats:
    """The first works, the second is away, the third has not begun."""
    one = made.stats.snapshot()
    away = PipelineStats(
        **{**vars_of(one), "state": "offline", "cause": "no route", "since_s": 1e9}
    )
    opening = PipelineStats(**{**vars_of(one), "state": "opening", "since_s": 1e9})
    return PipelineStats(
        **{**vars_of(one), "sources": dict(zip(NAMES, (one, away, opening), strict=True))}
    )


def vars_of(stats: PipelineStats) -> dict:
    return {name: getattr(stats, name) for name in stats.__dataclass_fields__}


def yard(**more):
    made: list[Site] = []
    return site(names=NAMES, stats=lambda: several(made[0]), **more), made


def in_browser(look, url: str, *, width: int = 1440, height: int = 900) -> None:
    async def run() -> None:
        async with open_page(url, width=width, height=height) as page:
            await look(page)
            assert page.errors == []
            assert await page.evaluate("document.documentElement.scrollWidth") <= width

    asyncio.run(asyncio.wait_for(run(), 100))


CARDS = "[...document.querySelectorAll('#cameras li')].map(each => each.innerText)"


@BROWSER
@pytest.mark.parametrize("width", [1440, 390])
def test_the_grid_shows_each_camera_with_its_state(width: int) -> None:
    async def look(page: Page) -> None:
        await page.until("document.querySelector('#cameras img')?.naturalWidth > 0")
        door, away, odd = await page.evaluate(CARDS)
        assert "live" in door and "person appeared" in door and "person" in door
        assert "offline" in away and "no route" in away
        assert NAMES[2] in odd and "opening" in odd
        links = "document.querySelectorAll('#cameras a')"
        await page.evaluate(f"{links}[2].click()")
        await page.until("document.getElementById('name')?.textContent.includes('<b>')")
        await page.until("document.getElementById('note').textContent.includes('opening')")

    context, made = yard()
    with context as server:
        made.append(server)
        server.feed(3, "door")
        server.service.events.happened([event("appear", name="door")], [])
        in_browser(look, server.service.url, width=width, height=844)


@BROWSER
def test_filters_are_changed_in_the_page() -> None:
    own = filters()

    async def look(page: Page) -> None:
        await page.until("!$('editFilters').hidden")
        await page.evaluate("$('editFilters').click()")
        await page.until("document.querySelectorAll('#classes > div').length > 1")
        row = "document.querySelector('#classes > div[data-label=person]')"
        await page.evaluate(f"{row}.querySelector('[type=number]').value = 70")
        await page.evaluate("$('none').click(); $('tune').min_box.value = '24x48'")
        await page.evaluate(f"{row}.querySelector('[type=checkbox]').click()")
        await page.evaluate("$('tune').requestSubmit()")
        await page.until("$('tuned').textContent !== ''")
        told = own.read()
        assert (told["classes"], told["class_scores"]) == ("person", "person=0.7")
        assert told["min_box"] == "24x48"
        await page.evaluate("$('tune').min_box.value = 'wide'; $('tune').requestSubmit()")
        await page.until("$('tuneFailed').textContent.includes('min_box')")
        assert own.read()["min_box"] == "24x48"
        page.errors.clear()  # the browser's note of the refusal

    with site(filters=own, shapes=shapes()) as made:
        made.feed(3)
        in_browser(look, made.service.url)


@BROWSER
def test_language_theme_and_tabs_are_switched(tmp_path: Path) -> None:
    async def look(page: Page) -> None:
        await page.until("last !== null")
        await page.evaluate("$('theme').click()")
        theme = await page.evaluate("document.documentElement.dataset.theme")
        await page.evaluate("$('language').value = 'de'; $('language').onchange()")
        await page.until("document.documentElement.lang === 'de' && last !== null")
        assert await page.evaluate("document.documentElement.dataset.theme") == theme
        assert await page.evaluate("tabs[0].textContent") == TEXTS["de"]["tab.now"]
        await page.evaluate("tabs[0].focus()")
        for _ in range(2):  # the first tab after the last one
            await page.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight")
            await page.call("Input.dispatchKeyEvent", type="keyUp", key="ArrowRight")
        assert await page.evaluate("!$('now').hidden && document.activeElement === tabs[0]")

    with site() as made:
        in_browser(look, made.service.url)


@BROWSER
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_login_has_the_theme_of_the_other_pages(theme: str) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"

    async def look(page: Page) -> None:
        seen = set()
        for path in ("", "?token=the-right-token", "?source=zzz"):
            media = [{"name": "prefers-color-scheme", "value": theme}]
            await page.call("Emulation.setEmulatedMedia", features=media)
            await page.call("Page.navigate", url=f"{made.service.url}{path}")
            await page.until(
                f"!!document.body && document.documentElement.dataset.theme === '{theme}'"
            )
            seen.add(await page.evaluate(ground))
        assert len(seen) == 1
        page.errors.clear()  # the browser's notes of 401 and 404

    with site("127.0.0.1:0", "the-right-token") as made:
        in_browser(look, "about:blank")


@BROWSER
def test_who_may_only_look_is_offered_nothing_else(tmp_path: Path) -> None:
    """Nothing that is offered, or done by itself, ends in a refusal."""
    offered = """[...document.querySelectorAll('button, [role=tab], form input, select')].filter(
        each => each.offsetParent !== null && !each.matches(':disabled')).map(each => each.id)"""

    async def look(page: Page) -> None:
        for token, changes in (("a-view-token", False), ("the-right-token", True)):
            await page.call("Page.navigate", url=f"{made.service.url}?token={token}")
            await page.until("shown !== null && last !== null")
            await page.until(f"$('editFilters').hidden !== {str(changes).lower()}")
            await page.call("Page.navigate", url=f"{made.service.url}review")
            await page.until("document.querySelectorAll('#cards li').length > 0")
            assert ("allseen" in await page.evaluate(offered)) == changes
            await page.evaluate("document.querySelector('.card').click()")
            await page.until("document.querySelectorAll('#facts dt').length > 0")
            assert {"mark", "delete"} & {*await page.evaluate(offered)} == (
                {"mark", "delete"} if changes else set()
            )
            assert await page.evaluate("$('fault').hidden")
            await page.call("Page.navigate", url=f"{made.service.url}settings")
            await page.until("document.querySelectorAll('.item').length > 10")
            seen = {*await page.evaluate(offered)} - {"find", "language", "theme", "out", ""}
            assert bool(seen) == changes, seen

    own = filters()
    own.make().labels = ["person"]
    path = tmp_path / "k.toml"
    path.write_text("score = 0.4\n")
    more = {"filters": own, "shapes": shapes(), "settings": run_of(path).settings}
    with reviewed(tmp_path / "store", event("appear"), view_token="a-view-token", **more) as made:
        made.feed(3)
        in_browser(look, "about:blank")


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe-core, fetched by npm."""
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("axe")
    if npm is None:
        pytest.skip("no npm to fetch axe-core with (apt install npm)")
    got = subprocess.run(
        [npm, "pack", "axe-core@4.10.3", "--silent"], cwd=folder, capture_output=True, timeout=60
    )
    if got.returncode:
        pytest.skip("npm cannot fetch axe-core here")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode()


ALL = "{resultTypes: ['violations']}"
COLOURS = "{resultTypes: ['violations'], runOnly: ['color-contrast']}"  # what a theme changes


async def faults(page: Page, axe: str, wanted: str = ALL) -> list[str]:
    await page.evaluate(f"if (!window.axe) {{ {axe} }}; 0")
    told = await page.evaluate(f"axe.run({wanted}).then(f => JSON.stringify(f.violations))")
    return [
        f"{each['id']}: {node['html'][:150]} {node['failureSummary'][:200]}"
        for each in json.loads(told)
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


VISITS = {  # of each page: what must be true, and what to do to see more of it
    "": ("document.querySelector('#cameras img')?.naturalWidth > 0", []),
    "?source=door": (
        "shown !== null && last !== null && !$('editFilters').hidden",
        [f"choose(tabs[{i}])" for i in (1, 2, 3)],
    ),
    "review": (
        "document.querySelectorAll('#cards li').length > 0",
        ["document.querySelector('.card').click()"],
    ),
    "settings": (
        "document.querySelectorAll('.item').length > 10",
        ["document.querySelectorAll('details').forEach(each => each.open = true)"],
    ),
}


@BROWSER
@pytest.mark.timeout(150)
def test_axe_finds_no_serious_fault(axe: str, tmp_path: Path) -> None:
    found: dict[str, list[str]] = {}

    async def run(base: str) -> None:
        async with open_page(f"{base}?token=the-right-token", width=1440, height=900) as page:
            await page.until("document.getElementById('main') !== null")
            for theme, wanted in (("dark", ALL), ("light", COLOURS)):
                media = [{"name": "prefers-color-scheme", "value": theme}]
                await page.call("Emulation.setEmulatedMedia", features=media)
                for path, (ready, more) in VISITS.items():
                    await page.call("Page.navigate", url=f"{base}{path}")
                    await page.until(ready)
                    found[f"{theme} /{path}"] = await faults(page, axe, wanted)
                    for act in more:
                        await page.evaluate(act)
                        await asyncio.sleep(0.3)
                        found[f"{theme} /{path} {act}"] = await faults(page, axe, wanted)
            await page.evaluate("$('out').click()")
            await page.until("document.querySelector('#token') !== null")
            found["login"] = await faults(page, axe)

    made: list[Site] = []
    own = filters()
    own.make("door").labels = ["person", "dog"]
    (tmp_path / "shop.toml").write_text("[[zone]]\nname = 'a'\npoints = [[0, 0], [1, 0], [1, 1]]\n")
    settings = run_of(tmp_path / "shop.toml").settings
    live = {"filters": own, "shapes": shapes_of("door"), "settings": settings}
    both = {"names": NAMES, **live}
    happened = [event("appear", name="door"), event("enter", name="door", zone="aisle")]
    with reviewed(tmp_path, *happened, stats=lambda: several(made[0]), **both) as server:
        made.append(server)
        server.feed(3, "door")
        server.service.events.happened(happened, [])
        asyncio.run(asyncio.wait_for(run(server.service.url), 120))
    assert len(found) == 19 and {place: each for place, each in found.items() if each} == {}


def shapes_of(name: str):
    """Zones of a run, those of ``name`` being any source's here."""
    book = shapes()
    book.write({"zone": [{"name": "aisle", "points": [[0, 0], [0.5, 0], [0.5, 1]]}]})

    class Named:
        file = None

        def read(self, source: str = ""):
            return book.read()

        def write(self, tables, source: str = "") -> None:
            book.write(tables)

    return Named()
