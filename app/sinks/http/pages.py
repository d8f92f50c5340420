"""The pages for people, and the scripts, styles and texts that they are made of.

Pages hold no script and no style of their own, so that one strict policy binds them all. Each file
is read once; its address names its contents, so that a browser asks for it once.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlencode

from aiohttp import web

from ...core.overlay import COCO17, PALETTE, SCREEN, SURE, TINT, bones_of
from .users import WHO

HERE = Path(__file__).with_name("static")
PAGES = ("grid", "camera", "review", "settings", "fleet")  # of scripts, unlike login and missing
LANGUAGES = ("en", "de", "es", "zh")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_TYPES = {".css": "text/css", ".js": "text/javascript"}


def page_text(name: str) -> str:
    """A page, with the head that all of them share."""
    head, page = ((HERE / f"{each}.html").read_text(encoding="utf-8") for each in ("head", name))
    return page.replace("<!-- head.html -->\n", head)


def told_page(name: str, request: web.Request) -> tuple[str, dict[str, str]]:
    """A page that no script fills in, in a language that the browser asks for; and all texts."""
    asked = (e.strip()[:2].lower() for e in request.headers.get("Accept-Language", "").split(","))
    language = next((each for each in asked if each in LANGUAGES), LANGUAGES[0])
    texts: dict[str, str] = json.loads((HERE / f"{language}.json").read_bytes())
    page = page_text(name).replace('lang="en"', f'lang="{language}"')
    return re.sub(r'data-t="([\w.]+)">', lambda m: f">{html.escape(texts[m[1]])}", page), texts


class Pages:
    """``/`` is the grid of ``cameras``, or the view of the only one; ``?source=NAME`` that of one.

    ``links``: the other pages that there are, such as ``/review``, each with a file of its name.
    Without cameras the first of them is meant by ``/``. ``remembered``: the cameras of ``/review``,
    where others may have been before.
    """

    def __init__(
        self,
        cameras: Collection[str],
        links: Sequence[str] = (),
        *,
        remembered: Callable[[], Awaitable[Collection[str]]] | None = None,
    ) -> None:
        self._cameras, self._links, self._remembered = cameras, tuple(links), remembered
        self._files = {p.name: p.read_bytes() for p in HERE.iterdir() if p.suffix in _TYPES}
        texts = {each: json.loads((HERE / f"{each}.json").read_bytes()) for each in LANGUAGES}
        people = {"people": COCO17, "bones": bones_of(COCO17), "sure": SURE, "tint": TINT}
        style = {"palette": PALETTE, **people, **asdict(SCREEN)}
        constants = {"TEXTS": texts, "STYLE": style, "LINKS": [*["/"][: len(cameras)], *links]}
        first = '"use strict";' + "".join(
            f"const {name} = {json.dumps(v)};" for name, v in constants.items()
        )
        self._files["common.js"] = first.encode() + self._files["common.js"]
        self._pages = {each: self._named(page_text(each)) for each in PAGES}

    def _named(self, page: str) -> str:
        """The page, with addresses of files that change with their contents."""

        def versioned(match: re.Match[str]) -> str:
            tag = hashlib.sha256(self._files[match[1]]).hexdigest()[:12]
            return f'"/static/{match[1]}?v={tag}"'

        return re.sub(r'"/static/([\w.]+)"', versioned, page)

    def add_to(self, app: web.Application) -> None:
        """The paths; no other file can be asked for."""
        for path in ("/", *self._links):
            app.router.add_get(path, self.page)
        for name in self._files:
            app.router.add_get(f"/static/{name}", self.file)

    async def page(self, request: web.Request) -> web.Response:
        """One page, in the language that its script chooses; 404 for a camera that is not there."""
        name, source = request.path.strip("/"), request.query.get("source")
        known = set(self._cameras)
        if name == "review" and source is not None and self._remembered is not None:
            known |= {"", *await self._remembered()}
        if source is not None and known and source not in known:
            return self._missing(request, source, sorted(known - {""}))
        if not name and not self._cameras:
            return web.Response(status=302, headers={"Location": self._links[0]})
        if not name:
            name = "grid" if len(self._cameras) > 1 and "source" not in request.query else "camera"
        role = f'<html data-role="{WHO.get().role}" '  # its scripts offer what that may do
        return web.Response(
            text=self._pages[name].replace("<html ", role, 1),
            content_type="text/html",
            headers={"Content-Security-Policy": POLICY},
        )

    def _missing(self, request: web.Request, name: str, known: Sequence[str]) -> web.Response:
        page, texts = told_page("missing", request)
        links = [(f"?{urlencode({'source': each})}", each) for each in known]
        links = links or [(request.path, texts["camera.title"])]
        told = texts["missing.camera"].replace("{camera}", name[:80])
        page = page.replace("__FAULT__", html.escape(told))
        items = (f'<li><a href="{html.escape(u)}">{html.escape(n)}</a></li>' for u, n in links)
        return web.Response(
            status=404,
            text=page.replace("__CAMERAS__", "".join(items)),
            content_type="text/html",
            headers={"Content-Security-Policy": POLICY},
        )

    async def file(self, request: web.Request) -> web.Response:
        """A script or a style; kept by the browser where its address names the contents."""
        name = Path(request.path).name
        known = "v" in request.query
        kept = {"Cache-Control": "private, max-age=31536000, immutable"} if known else {}
        return web.Response(
            body=self._files[name],
            content_type=_TYPES[Path(name).suffix],
            charset="utf-8",
            headers=kept,
        )
