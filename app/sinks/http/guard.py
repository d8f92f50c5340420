"""Who may ask the server what: addresses, tokens, logins, limits, and a line for each change."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from time import monotonic
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from ...core.errors import ConfigError
from ...core.text import foreign
from .login import (
    Login,
    asks_for_page,
    form_of,
    login_page,
    onwards,
    session_cookie,
)
from .users import CHANGED, ROLES, WHO, Sessions, Throttle, User, UserFile, Who

log = logging.getLogger(__name__)


LOOPBACK = "127.0.0.1"
MIN_TOKEN = 8


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """A host and port to bind to, and who may use it: all of this machine where nothing is said.

    With ``view_token`` everything can be seen and nothing changed.
    """

    host: str
    port: int
    token: str | None = field(default=None, repr=False)
    view_token: str | None = field(default=None, repr=False)
    users: UserFile | None = None

    @property
    def is_loopback(self) -> bool:
        """Only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def asks(self) -> str:
        """What for, in words; "": nothing."""
        asked = [*["a password"] * (self.users is not None), *["the token"] * bool(self.token)]
        return " or ".join(asked)


def parse_address(
    text: str,
    token: str | None = None,
    *,
    view_token: str | None = None,
    users: UserFile | None = None,
) -> ListenAddress:
    """``[ADDRESS:]PORT``; raises ConfigError, also for an open address that asks for nothing."""
    match = re.fullmatch(r"(?:(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):)?([0-9]{1,5})", text.strip())
    if match is None or int(match[2]) > 65535:
        raise ConfigError(f"--http is {text!r}; write PORT, ADDRESS:PORT or [IPV6]:PORT")
    host, port = (match[1] or LOOPBACK).strip("[]"), int(match[2])
    if users is not None and not users.users():
        raise ConfigError(
            f"users of [http]: nobody is in {users.path}; add somebody by `kestrel users add NAME "
            f"--file {users.path}`"
        )
    address = ListenAddress(host, port, token or None, view_token or None, users)
    if not address.is_loopback and not address.asks:
        raise ConfigError(
            f"--http {text} can be reached from outside, so it needs a token or users: "
            "--http-token, --http-users, KESTREL_HTTP_TOKEN, or token_file or users in [http]"
        )
    if address.view_token is not None and address.token in (None, address.view_token):
        raise ConfigError("view_token of [http] needs a token beside it, another one; set both")
    for given in filter(None, (address.token, address.view_token)):
        if len(given) < MIN_TOKEN or not re.fullmatch(r"[!-~]+", given):
            raise ConfigError(
                f"the token of --http needs {MIN_TOKEN} or more visible ASCII characters; "
                "for example: openssl rand -hex 16"
            )
    return address


RATE_PER_S, BURST = 30.0, 90.0  # requests of one client; a page needs five
FILES, FILE_COSTS = "/api/v1/events/", 0.1  # below this path, the files of events
STATIC = "/static/"  # scripts and styles of the pages, which anybody may see
FAILED_COSTS = 10.0  # a wrong token counts as so many
CLIENTS = 1024  # remembered
CONNECTIONS = 64  # open at a time
LOGINS = 8  # passwords that wait to be looked at
SILENT_S = 10.0  # without a whole request
TOLD_AGAIN_S = 60.0  # a fault of the same client
READS = ("GET", "HEAD")
OWN = "X-Kestrel"  # a header that no page of another origin can send without being allowed to
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class Guard:
    """Checks each request before it is answered, and closes connections that never ask.

    Whoever has sent the request under way is ``WHO``. What a handler has changed, in words, it
    leaves in ``CHANGED`` for the log.
    """

    def __init__(
        self,
        address: ListenAddress,
        *,
        tls: bool = False,
        clock_s: Callable[[], float] = monotonic,
    ) -> None:
        self._clock_s, self._tls, self._users = clock_s, tls, address.users
        tokens = address.token, address.view_token
        self._logins = [
            Login(token, role, tls=tls) for token, role in zip(tokens, ROLES, strict=True) if token
        ]
        self._sessions = None if address.users is None else Sessions(address.users)
        self._cookie = session_cookie(address.users.path, tls=tls) if address.users else ""
        self._throttle = Throttle(clock_s=clock_s)
        self._passwords = ThreadPoolExecutor(1, "http-login")
        self._looked_at = 0  # passwords under way
        self._faults: OrderedDict[str, float] = OrderedDict()  # of whom, and when one was told
        self._tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()  # left, as of when
        self._serving: set[object] = set()  # connections with a request under way
        self._since_s: dict[object, float] = {}  # others: silent since

    def middleware(self) -> Middleware:
        """For the application."""

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._serving.add(request.protocol)
            CHANGED.set("")
            try:
                answer = await self._own_answer(request)
                if answer is not None:
                    return answer
                made = await handler(request)
                if request.method not in READS and made.status < 400:
                    who, changed = WHO.get(), CHANGED.get()
                    what = f"{request.method} {request.path} {changed}".strip()
                    self._note(f"{who.name} ({who.role})", request, what)
                return made
            except web.HTTPException as error:  # not found, method not allowed
                kept = {k: v for k, v in error.headers.items() if k in ("Allow", "Location")}
                return refusal(request, error.status, error.reason, kept)
            except ConnectionError:  # it has left
                raise
            except Exception as error:
                self.tell(request.remote or "", error)
                raise
            finally:
                self._serving.discard(request.protocol)
                self._since_s[request.protocol] = self._clock_s()

        return check

    def add_to(self, app: web.Application) -> None:
        """Who one is, and logging out."""
        app.router.add_get("/api/v1/session", self.session)
        app.router.add_delete("/api/v1/session", self.log_out)
        app.on_response_prepare.append(self.add_headers)

    async def session(self, request: web.Request) -> web.Response:
        """Name, role, and whether one can log out."""
        return web.json_response(WHO.get()._asdict())

    async def log_out(self, request: web.Request) -> web.Response:
        """The cookies are worth nothing from now on."""
        answer = web.json_response({"name": None})
        if self._sessions is not None:
            self._sessions.end(request.cookies.get(self._cookie, ""))
        for name in (self._cookie, *(each.cookie for each in self._logins)):
            if name in request.cookies:
                answer.del_cookie(name, httponly=True, samesite="Strict", secure=self._tls)
        return answer

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """On every answer (the application's on_response_prepare)."""
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
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

    def tell(self, client: str, error: BaseException) -> None:
        """A fault of ours in answering: a line a minute and client, at most CLIENTS of them."""
        log.debug("a request failed", exc_info=error)
        now_s = self._clock_s()
        while self._faults and now_s - next(iter(self._faults.values())) > TOLD_AGAIN_S:
            self._faults.popitem(last=False)
        if client in self._faults or len(self._faults) >= CLIENTS:
            return
        self._faults[client] = now_s
        what = f"{type(error).__name__}: {error}"
        log.warning("a request of %s could not be answered (%s)", client or "?", foreign(what))

    async def _own_answer(self, request: web.Request) -> web.StreamResponse | None:
        """A refusal, or what a login gives; None: the request may be answered."""
        client = _client(request)
        # a page of cards asks for dozens of small pictures, a video for a piece after the other
        if not self._spend(client, FILE_COSTS if request.path.startswith(FILES) else 1.0):
            return refusal(request, 429, "too many requests", {"Retry-After": "1"})
        if not self._logins and self._sessions is None:
            # A page of a stranger, opened in a browser here, may ask a name that it made point to
            # this machine; then it would read the answer. Only this machine's own names are served.
            if re.sub(r":\d+$", "", request.headers.get("Host", "")) not in _LOCAL_NAMES:
                return refusal(request, 403, "ask for localhost, or set a token (--http-token)")
            return self._may(request, Who("this machine", "admin", "address"))
        if request.path.startswith(STATIC) and request.method in READS:
            return self._may(request, Who("anybody", "viewer", "address"))
        for login in self._logins:
            welcome = login.by_link(request)
            if welcome is not None and (request.path == "/" or asks_for_page(request)):
                return welcome
            if welcome is not None:  # a program may give the token in the address of a picture
                return self._may(request, login.who)
            if (who := login.admitted(request)) is not None:
                return self._may(request, who)
        if self._sessions is not None:
            user = self._sessions.user(request.cookies.get(self._cookie, ""))
            if user is not None:
                return self._may(request, Who(user.name, user.role, "session"))
        if request.method == "POST" and request.path in ("/", "/login"):
            return await self._log_in(request, client)
        self._spend(client, FAILED_COSTS)
        if asks_for_page(request):
            return self._login_page(request, request.path_qs)
        return refusal(
            request,
            401,
            "log in at /, or send the header 'Authorization: Bearer TOKEN'",
            {"WWW-Authenticate": "Bearer"},
        )

    def _login_page(
        self, request: web.Request, after: str, fault: str = "", status: int = 401
    ) -> web.Response:
        asks = {"people": self._users is not None, "token": bool(self._logins)}
        return login_page(request, after, fault, status=status, **asks)

    async def _log_in(self, request: web.Request, client: str) -> web.StreamResponse:
        if _is_foreign(request):
            return refusal(request, 403, "only the page of this server may log in")
        form = await form_of(request)
        after = "/" if form is None else form.get("next", "/")
        if (wait_s := self._throttle.wait_s(client)) > 0:
            answer = self._login_page(request, after, "wait", 429)
            answer.headers["Retry-After"] = str(int(wait_s) + 1)
            return answer
        token, name = (form or {}).get("token", ""), (form or {}).get("name", "").strip()
        password = (form or {}).get("password", "")
        if not token and not (name and password):
            self._spend(client, FAILED_COSTS)
            return self._login_page(request, after, "wrong")
        self._throttle.failed(client)  # those that are under way count, too
        for login in self._logins:
            if token and login.is_right(token):
                self._throttle.succeeded(client)
                return login.welcome(onwards(after))
        user = None if token else await self._find(name, password)
        if user is None or self._sessions is None:
            self._note("somebody", request, "wrong password or token")
            return self._login_page(request, after, "wrong")
        self._throttle.succeeded(client)
        self._note(f"{user.name} ({user.role})", request, "login")
        answer = web.Response(status=303, headers={"Location": onwards(after)})
        answer.set_cookie(
            self._cookie,
            self._sessions.begin(user),
            httponly=True,
            samesite="Strict",
            secure=self._tls,
            max_age=30 * 86_400,
        )
        return answer

    async def _find(self, name: str, password: str) -> User | None:
        if self._users is None or self._looked_at >= LOGINS:
            return None
        self._looked_at += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._passwords, self._users.find, name, password)
        except ConfigError as fault:  # the file is not sound any more
            log.error("%s", fault)
            return None
        finally:
            self._looked_at -= 1

    def _may(self, request: web.Request, who: Who) -> web.StreamResponse | None:
        """A refusal for who may only look, or for a page of somebody else."""
        WHO.set(who)
        if request.path == "/login":
            return web.Response(status=303, headers={"Location": "/"})
        if request.method in READS:
            return None
        if who.by != "token" and (_is_foreign(request) or not _is_own(request, who)):
            return refusal(
                request, 403, f"only the page of this server, or who sends {OWN}: 1, may do that"
            )
        if who.role == "viewer" and request.path != "/api/v1/session":
            text = "whoever you are logged in as may look and change nothing; log in as an admin"
            return refusal(request, 403, text)
        return None

    def _note(self, who: str, request: web.Request, what: str) -> None:
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        log.info("audit: %s %s at %s: %s", now, who, request.remote, foreign(what, 400))

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


def _client(request: web.Request) -> str:
    """The address; of IPv6 the network, as one machine has all of its addresses."""
    try:
        address = ipaddress.ip_address((request.remote or "").partition("%")[0])
    except ValueError:
        return ""
    if address.version == 6 and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((int(address), 64), strict=False))
    return str(address)


def _is_foreign(request: web.Request) -> bool:
    """Whether a page of another origin sends it."""
    origin = request.headers.get("Origin")
    if origin is None:
        return request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
    try:
        return urlsplit(origin).netloc != request.headers.get("Host")
    except ValueError:
        return True


def _is_own(request: web.Request, who: Who) -> bool:
    """Whether a browser says that a page of this server sends it; without a cookie none must."""
    return who.by == "address" or "Origin" in request.headers or OWN in request.headers


def refusal(
    request: web.Request, status: int, text: str, headers: dict[str, str] | None = None
) -> web.Response:
    """JSON for programs, a line for people."""
    if request.path.startswith("/api/"):
        return web.json_response({"error": text}, status=status, headers=headers)
    return web.Response(status=status, text=f"{status}: {text}\n", headers=headers)
