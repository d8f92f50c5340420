"""The token of the page: as a header, or once in a form, for which a browser gets a cookie."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from contextvars import ContextVar
from urllib.parse import parse_qs

from aiohttp import web

DAYS = 30  # that a browser keeps the cookie
BODY_S, BODY_BYTES = 10.0, 4096  # of the form
LOOKS_ONLY = ContextVar("looks_only", default=False)  # who sent the request under way
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Kestrel</title>
<style nonce="__NONCE__">
body { font: 16px system-ui, sans-serif; background: #14171a; color: #e8eaed;
  display: grid; place-items: center; min-height: 90vh; margin: 0 }
input, button { font: inherit; padding: .5em .8em; border-radius: .3em; border: 1px solid #5f6368 }
p { color: #ffb4a9; min-height: 1.5em }
</style>
<form method="post"><h1>Kestrel</h1>
<label>Token <input type="password" name="token" autocomplete="current-password" autofocus
required></label> <button>Show</button><p role="alert">__FAULT__</p></form>
</html>
"""


class Login:
    """Who has ``token``. The cookie is made from it and does not tell it."""

    def __init__(self, token: str, *, tls: bool) -> None:
        self._token, self._tls = token.encode(), tls
        # by token, as browsers share cookies among the ports of a host
        self._name = f"kestrel-{self._derived(b'name')[:12]}"
        self._value = self._derived(b"value")

    def _derived(self, what: bytes) -> str:
        return hmac.new(self._token, b"kestrel cookie " + what, "sha256").hexdigest()

    def admits(self, request: web.Request) -> bool:
        """Whether the request has the token as a header, or the cookie."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.is_right(given)
        cookie = request.cookies.get(self._name, "")
        return hmac.compare_digest(_bytes(cookie), self._value.encode())

    def by_link(self, request: web.Request) -> web.Response | None:
        """To the same address without its right ``?token=``, which leaves a cookie instead."""
        if not self.is_right(request.query.get("token", "")):
            return None
        return self.welcome(request)

    def is_right(self, given: str) -> bool:
        """Whether it is the token."""
        return hmac.compare_digest(_bytes(given.strip()), self._token)

    def welcome(self, request: web.Request) -> web.Response:
        """To the same address without a token in it, with the cookie."""
        clean = request.rel_url.without_query_params("token")
        # a path that begins with two slashes would be another host
        answer = web.Response(status=303, headers={"Location": "/" + str(clean).lstrip("/\\")})
        answer.set_cookie(
            self._name,
            self._value,
            max_age=DAYS * 86_400,
            httponly=True,
            samesite="Strict",
            secure=self._tls,
        )
        return answer


async def token_of_form(request: web.Request) -> str | None:
    """What the form of the login page holds; None where it is not that form."""
    length = request.content_length
    if length is None or length > BODY_BYTES or "Content-Encoding" in request.headers:
        return None
    try:
        body = await asyncio.wait_for(request.read(), BODY_S)
    except (web.HTTPException, web.RequestPayloadError, asyncio.TimeoutError):
        return None
    return parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0]


def asks_for_page(request: web.Request) -> bool:
    """Whether a person looks at the answer."""
    return "text/html" in request.headers.get("Accept", "")


def login_page(*, again: bool) -> web.Response:
    """Asks for the token. ``again``: the one that was given is wrong."""
    nonce = secrets.token_urlsafe(16)
    text = _PAGE.replace("__NONCE__", nonce).replace("__FAULT__", "This is not it." * again)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    return web.Response(
        status=401,
        text=text,
        content_type="text/html",
        headers={"Content-Security-Policy": policy, "WWW-Authenticate": "Bearer"},
    )


def _bytes(text: str) -> bytes:
    """Of what a header holds, which may be no Unicode: compare_digest takes no such text."""
    return text.encode("utf-8", "surrogatepass")
