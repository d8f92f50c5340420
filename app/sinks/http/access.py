"""Who may ask for what, how often, and for how long may a connection say nothing?"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from app.sinks.http.address import Address

RATE_PER_S, BURST = 30.0, 90.0  # requests of one client; a page needs five
FAILED_COSTS = 10.0  # a wrong token counts as so many
CLIENTS = 1024  # remembered
CONNECTIONS = 64  # open at a time
SILENT_S = 10.0  # without a whole request
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class Guard:
    """Checks each request before it is answered, and closes connections that never ask."""

    def __init__(self, address: Address, *, clock_s: Callable[[], float] = monotonic) -> None:
        self._address, self._clock_s = address, clock_s
        self._tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()  # left, as of when
        self._serving: set[object] = set()  # connections with a request under way
        self._since_s: dict[object, float] = {}  # others: silent since

    def middleware(self) -> Middleware:
        """For the application."""

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._serving.add(request.protocol)
            try:
                refusal = self._refusal(request)
                return refusal if refusal is not None else await handler(request)
            except web.HTTPException as error:  # not found, method not allowed
                return web.Response(status=error.status, text=f"{error.status}: {error.reason}\n")
            finally:
                self._serving.discard(request.protocol)
                self._since_s[request.protocol] = self._clock_s()

        return check

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """On every answer (the application's on_response_prepare)."""
        response.headers.update(_HEADERS)
        response.headers["Server"] = "kestrel"

    async def sweep(self, server: web.Server) -> None:
        """Until cancelled: close what has been silent for too long, and what is too much."""
        while True:
            await asyncio.sleep(min(1.0, SILENT_S / 4))
            now_s, connections = self._clock_s(), server.connections
            self._since_s = {each: self._since_s.get(each, now_s) for each in connections}
            silent = [each for each in connections if each not in self._serving]
            silent.sort(key=lambda each: self._since_s[each])
            surplus = len(connections) - CONNECTIONS
            for i, each in enumerate(silent):
                if i < surplus or now_s - self._since_s[each] > SILENT_S:
                    with suppress(RuntimeError):
                        each.force_close()

    def _refusal(self, request: web.Request) -> web.Response | None:
        client = request.remote or ""
        if not self._spend(client, 1.0):
            return _text(429, "too many requests", {"Retry-After": "1"})
        if self._address.token is None:
            # A page of a stranger, opened in a browser here, may ask a name that it made point to
            # this machine; then it would read the answer. Only this machine's own names are served.
            if re.sub(r":\d+$", "", request.headers.get("Host", "")) in _LOCAL_NAMES:
                return None
            return _text(403, "ask for localhost, or set a token (--http-token)")
        if self._has_token(request, self._address.token):
            return None
        self._spend(client, FAILED_COSTS)
        return _text(
            401,
            "a token is needed: the header 'Authorization: Bearer TOKEN', or ?token=TOKEN",
            {"WWW-Authenticate": "Bearer"},
        )

    def _has_token(self, request: web.Request, token: str) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = request.query.get("token", "")
        return hmac.compare_digest(given.strip().encode(), token.encode())

    def _spend(self, client: str, cost: float) -> bool:
        """Whether the client had so much left; a bucket that fills at RATE_PER_S up to BURST."""
        now_s = self._clock_s()
        left, as_of_s = self._tokens.pop(client, (BURST, now_s))
        left = min(BURST, left + (now_s - as_of_s) * RATE_PER_S)
        enough = left >= cost
        self._tokens[client] = (max(0.0, left - cost), now_s)
        while len(self._tokens) > CLIENTS:
            self._tokens.popitem(last=False)
        return enough


def _text(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=f"{status}: {text}\n", headers=headers)
