"""Tokens as a header, in a link or in a form, and the page that asks for them and for passwords."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import html
import re
from pathlib import Path
from urllib.parse import parse_qs

from aiohttp import web

from .pages import POLICY, told_page
from .users import Role, Who

DAYS = 30  # that a browser keeps the cookie
BODY_S, BODY_BYTES = 10.0, 4096  # of the form


class Login:
    """Who has ``token``. The cookie is made from it and does not tell it."""

    def __init__(self, token: str, role: Role, *, tls: bool) -> None:
        self._token, self._tls = token.encode(), tls
        self.who = Who("the token" if role == "admin" else "the view token", role, "token")
        # by token, as browsers share cookies among the ports of a host
        self.cookie = f"kestrel-{self._derived(b'name')[:12]}"
        self._value = self._derived(b"value")

    def _derived(self, what: bytes) -> str:
        return hmac.new(self._token, b"kestrel cookie " + what, "sha256").hexdigest()

    def admitted(self, request: web.Request) -> Who | None:
        """Who it is, where the request has the token as a header, or the cookie."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.who if self.is_right(given) else None
        cookie = request.cookies.get(self.cookie, "")
        right = hmac.compare_digest(_bytes(cookie), self._value.encode())
        return self.who._replace(by="cookie") if right else None

    def by_link(self, request: web.Request) -> web.Response | None:
        """To the same address without its right ``?token=``, which leaves a cookie instead."""
        if not self.is_right(request.query.get("token", "")):
            return None
        return self.welcome(onwards(str(request.rel_url.without_query_params("token"))))

    def is_right(self, given: str) -> bool:
        """Whether it is the token."""
        return hmac.compare_digest(_bytes(given.strip()), self._token)

    def welcome(self, to: str) -> web.Response:
        """To that address, with the cookie."""
        answer = web.Response(status=303, headers={"Location": to})
        answer.set_cookie(
            self.cookie,
            self._value,
            max_age=DAYS * 86_400,
            httponly=True,
            samesite="Strict",
            secure=self._tls,
        )
        return answer


def session_cookie(file: Path, *, tls: bool) -> str:
    """Its name: by file, as browsers share cookies among the ports of a host."""
    tag = hashlib.sha256(str(file.absolute()).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{'__Host-' * tls}kestrel-user-{tag}"


def onwards(path: str) -> str:
    """An address of this server: a path that begins with two slashes would be another host."""
    return "/" + re.sub(r"[\x00-\x20\x7f]", "", path).lstrip("/\\")


async def form_of(request: web.Request) -> dict[str, str] | None:
    """What the form of the login page holds; None where it is not that form."""
    length = request.content_length
    if length is None or length > BODY_BYTES or "Content-Encoding" in request.headers:
        return None
    try:
        body = await asyncio.wait_for(request.read(), BODY_S)
    except (web.HTTPException, web.RequestPayloadError, asyncio.TimeoutError):
        return None
    return {name: given[0] for name, given in parse_qs(body.decode("utf-8", "replace")).items()}


def asks_for_page(request: web.Request) -> bool:
    """Whether a person looks at the answer."""
    return "text/html" in request.headers.get("Accept", "")


def login_page(
    request: web.Request, after: str, fault: str, *, status: int, people: bool, token: bool
) -> web.Response:
    """Asks for name and password of ``people``, or for the token, and leads to ``after``.

    ``fault``: of the attempt before: "wrong", "wait" or none.
    """
    text, texts = told_page("login", request)
    for name, kept in (("people", people), ("token", token), ("either", people and token)):
        if not kept:
            text = re.sub(rf"<!--{name}-->.*?<!--/{name}-->", "", text, flags=re.DOTALL)
    text = text.replace("<title>", f"<title>{html.escape(texts['login.go'])} · ")
    told = html.escape(texts[f"login.{fault}"]) if fault else ""
    text = text.replace("__FAULT__", told).replace("__NEXT__", html.escape(onwards(after)))
    return web.Response(
        status=status,
        text=text,
        content_type="text/html",
        headers={
            "Content-Security-Policy": POLICY.replace("form-action 'none'", "form-action 'self'"),
            "Referrer-Policy": "same-origin",  # with none, a form is sent with "Origin: null"
            "WWW-Authenticate": "Bearer",
        },
    )


def _bytes(text: str) -> bytes:
    """Of what a header holds, which may be no Unicode: compare_digest takes no such text."""
    return text.encode("utf-8", "surrogatepass")
