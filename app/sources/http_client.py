"""GET requests to cameras: verified TLS, authentication, redirects, and an end to every wait.

Python's own http.client and ssl read the answer's head (at most 100 lines of 64 KiB) and its
chunks: FFmpeg plays only some of what browsers play, urllib.request has no total deadline and hands
credentials on to other hosts, and aiohttp belongs to the optional outputs.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import math
import re
import secrets
import socket
import ssl
import time
import urllib.request
from collections.abc import Iterable
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from .. import __version__
from ..core.errors import SourceError
from ..core.tls import client_context, untrusted
from .base import SourceOptions
from .diagnose import unreachable

MOST_REDIRECTS = 5
_PORTS = {"http": 80, "https": 443}
_PATH_SAFE = "%/:=&?~#+!$,;'@()*[]"


class Wire:
    """What http.client needs of a socket; every wait ends at ``deadline_s`` (monotonic)."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.deadline_s = math.inf

    def limit(self) -> None:
        """Give the socket the time that is left; raises TimeoutError where there is none."""
        left_s = self.deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self.sock.settimeout(None if math.isinf(left_s) else left_s)

    def sendall(self, data: Any) -> None:
        """As socket.sendall."""
        self.limit()
        self.sock.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """For the answer."""
        return io.BufferedReader(_Incoming(self))

    def close(self) -> None:
        """Nothing yet: http.client closes while the answer is still to be read. See ``shut``."""

    def shut(self) -> None:
        """Close the connection."""
        self.sock.close()


class _Incoming(io.RawIOBase):
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._wire.limit()
        return self._wire.sock.recv_into(buffer)


class _Connection(http.client.HTTPConnection):
    """To ``parts``' host, through the proxy of the environment where there is one."""

    def __init__(self, parts: SplitResult, context: ssl.SSLContext | None) -> None:
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        self._context = context
        self._server = host
        proxy = _proxy(parts.scheme, host)
        self.proxy_login: dict[str, str] = {}
        self.absolute = proxy is not None and self._context is None
        if proxy is None:
            super().__init__(host, port)
            return
        super().__init__(proxy.hostname or "", proxy.port or 80)
        if proxy.username is not None:
            pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
            self.proxy_login = {"Proxy-Authorization": _basic(pair)}
        if self._context:
            self.set_tunnel(host, port, headers=self.proxy_login)

    def connect(self) -> None:
        """Also the TLS handshake: the certificate is checked before anything is sent."""
        super().connect()
        sock = self.sock
        try:
            if self._context:
                sock = self._context.wrap_socket(sock, server_hostname=self._server)
        except BaseException:
            sock.close()
            raise
        self.sock: Any = Wire(sock)


def _proxy(scheme: str, host: str) -> SplitResult | None:
    address = urllib.request.getproxies().get(scheme)
    if not address or urllib.request.proxy_bypass(host):
        return None
    return urlsplit(address if "//" in address else f"http://{address}")


def _basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


class HttpLogin:
    """Answers a server's challenge: digest (RFC 7616), else basic (RFC 7617)."""

    def __init__(self, user: str, password: str) -> None:
        self._user, self._password = user, password
        self._digest: dict[str, str] | None = None
        self._basic = False
        self._count = 0
        self.works = False  # the server took the last answer; an older one it may refuse by now

    def challenged(self, challenges: Iterable[str]) -> bool:
        """Take up a challenge; False: there is none that another answer could meet."""
        text = ", ".join(challenges)
        offers = [
            {name.lower(): value.strip('"') for name, value in reversed(_FIELD.findall(each))}
            for each in re.split(r"(?i)\bdigest\s+", text)[1:]
        ]
        known = [each for each in offers if "nonce" in each and _hash_of(each) is not None]
        known.sort(key=lambda each: "sha-256" in each.get("algorithm", "").lower())
        digest = known[-1] if known else None
        worked, self.works = self.works, False
        first = self._digest is None and not self._basic
        stale = digest is not None and digest.get("stale", "").lower() == "true"
        self._digest, self._count = digest, 0
        self._basic = digest is None and re.search(r"(?i)\bbasic\b", text) is not None
        return (digest is not None or self._basic) and (first or worked or stale)

    def header(self, path: str) -> dict[str, str]:
        """The request's header; none as long as nobody asked."""
        if self._digest is not None:
            return {"Authorization": self._answer(self._digest, path)}
        return {"Authorization": _basic(f"{self._user}:{self._password}")} if self._basic else {}

    def _answer(self, asked: dict[str, str], path: str) -> str:
        hash_of = _hash_of(asked)
        assert hash_of is not None
        self._count += 1
        nonce, realm = asked["nonce"], asked.get("realm", "")
        mine, count = secrets.token_hex(8), f"{self._count:08x}"
        first = hash_of(f"{self._user}:{realm}:{self._password}")
        if asked.get("algorithm", "").lower().endswith("-sess"):
            first = hash_of(f"{first}:{nonce}:{mine}")
        second = hash_of(f"GET:{path}")
        by_qop = "auth" in re.split(r"[,\s]+", asked.get("qop", "").lower())
        middle = f"{nonce}:{count}:{mine}:auth" if by_qop else nonce
        fields = {
            "username": self._user.replace("\\", "\\\\").replace('"', '\\"'),
            "realm": realm,
            "nonce": nonce,
            "uri": path,
            "response": hash_of(f"{first}:{middle}:{second}"),
            **{name: asked[name] for name in ("opaque",) if name in asked},
        }
        told = ", ".join(f'{name}="{value}"' for name, value in fields.items())
        if "algorithm" in asked:
            told += f", algorithm={asked['algorithm']}"
        return f"Digest {told}" + (f', qop=auth, nc={count}, cnonce="{mine}"' if by_qop else "")


_FIELD = re.compile(r'([A-Za-z][\w-]*)\s*=\s*("[^"]*"|[^\s,"]+)')


def _hash_of(asked: dict[str, str]) -> Any:
    """The hash of hexadecimal texts that a challenge wants; None: an unknown one."""
    name = asked.get("algorithm", "MD5").lower().removesuffix("-sess").replace("-", "")
    if name not in ("md5", "sha256"):
        return None
    return lambda text: hashlib.new(name, text.encode(), usedforsecurity=False).hexdigest()


class HttpClient:
    """Asks one address, again and again, over a connection that is kept where the server lets it.

    Credentials in the address answer a server's challenge, over TLS only once its certificate was
    verified, and never another server's. An answer without TLS is never taken for one with.
    """

    def __init__(self, uri: str, *, label: str, options: SourceOptions) -> None:
        parts = urlsplit(uri)
        self._uri, self._label = uri, label
        self._parts = _without_login(parts)
        self._userinfo = parts.netloc.rpartition("@")[0]
        self._login: HttpLogin | None = None
        if self._userinfo:
            self._login = HttpLogin(unquote(parts.username or ""), unquote(parts.password or ""))
        self._options = options
        self._context: ssl.SSLContext | None = None  # made for the first server with TLS
        self._connection: _Connection | None = None
        self._wire: Wire | None = None  # of the last answer, whose body may outlive the connection
        self._origin: tuple[Any, ...] = ()
        self.url = uri  # where the last answer came from; with credentials if it was given these

    def get(self, limit_s: float, headers: dict[str, str] | None = None) -> Any:
        """The answer, its head read; raises SourceError with the cure.

        ``limit_s`` bounds all of it: connections, redirects, authentication. The answer's body is
        bounded by ``limit``.
        """
        began_s = time.monotonic()
        try:
            return self._follow(began_s + limit_s, headers or {})
        except ssl.SSLCertVerificationError as error:
            raise SourceError(f"cannot open {self._label}: {untrusted(error)}") from error
        except ssl.SSLError as error:
            raise SourceError(
                f"cannot open {self._label}: no TLS there ({error.reason}); check port and scheme"
            ) from error
        except (OSError, http.client.RemoteDisconnected) as error:
            late = isinstance(error, TimeoutError)
            spent = {"waited_s": limit_s if late else time.monotonic() - began_s}
            raise unreachable(self._uri, self._label, error, **spent, limit_s=limit_s) from error
        except http.client.HTTPException as error:
            raise SourceError(
                f"cannot open {self._label}: what answers there is no web server "
                f"({type(error).__name__}): check address and port"
            ) from error

    def limit(self, deadline_s: float) -> None:
        """Until then the answer's body may be read; later reads raise TimeoutError."""
        if self._wire is not None:
            self._wire.deadline_s = deadline_s

    def close(self) -> None:
        """Idempotent."""
        if self._wire is not None:
            self._wire.shut()
        self._connection = self._wire = None

    def _follow(self, deadline_s: float, headers: dict[str, str]) -> Any:
        parts, login = self._parts, self._login
        for _ in range(MOST_REDIRECTS + 1):
            answer = self._ask(parts, login, deadline_s, headers)
            if answer.status not in (301, 302, 303, 307, 308):
                netloc = f"{self._userinfo}@{parts.netloc}" if login else parts.netloc
                self.url = parts._replace(netloc=netloc).geturl()
                return answer
            where = urljoin(parts.geturl(), answer.headers.get("Location", ""))
            to = _without_login(urlsplit(where))
            self.close()
            if to.scheme not in _PORTS or not to.hostname:
                raise self._refused("it redirects to what is no http:// or https:// address")
            if parts.scheme == "https" and to.scheme == "http":
                raise self._refused("it redirects from https to http, which nothing protects")
            if not _same_server(parts, to):
                login = None
            parts = to
        raise self._refused(f"it redirects more than {MOST_REDIRECTS} times")

    def _refused(self, why: str) -> SourceError:
        return SourceError(f"cannot open {self._label}: {why}; give the address that it means")

    def _ask(
        self,
        parts: SplitResult,
        login: HttpLogin | None,
        deadline_s: float,
        headers: dict[str, str],
    ) -> Any:
        for turn in range(3):  # the third for a digest whose nonce has grown old
            answer = self._once(parts, login, deadline_s, headers)
            asked = answer.headers.get_all("WWW-Authenticate", [])
            if turn == 2 or answer.status != 401 or login is None or not login.challenged(asked):
                break
            self._finish(answer)
        if answer.status >= 400:
            self.close()
            raise self._no(answer.status, login)
        if login is not None:
            login.works = True
        return answer

    def _finish(self, answer: Any) -> None:
        """Read the body of an answer that is of no use, so that the connection can be kept."""
        if answer.length is None or answer.length > 65536:
            self.close()
        else:
            answer.read()
            if answer.will_close:
                self.close()

    def _no(self, status: int, login: HttpLogin | None) -> SourceError:
        if status == 401 and login is None:
            why = "the server wants a user name and password: write user:password@ before the host"
        elif status in (401, 403):
            why = f"the server answers {status}: check the user name and the password"
        else:
            reason = http.client.responses.get(status, "an error")
            why = f"the server answers {status} ({reason}): check the path"
        return SourceError(f"cannot open {self._label}: {why}")

    def _once(
        self,
        parts: SplitResult,
        login: HttpLogin | None,
        deadline_s: float,
        headers: dict[str, str],
    ) -> Any:
        origin, self._origin = self._origin, (parts.scheme, parts.hostname, parts.port)
        if self._origin != origin:
            self.close()
        path = quote(parts.path or "/", safe=_PATH_SAFE)
        if parts.query:
            path += "?" + quote(parts.query, safe=_PATH_SAFE)
        told = {"User-Agent": f"kestrel/{__version__}", "Accept": "*/*", **headers}
        told |= login.header(path) if login else {}
        kept = self._connection is not None
        try:
            return self._send(parts, path, told, deadline_s)
        except (ConnectionError, http.client.BadStatusLine):
            if not kept:
                raise
        self.close()  # the server has closed a connection that was kept
        return self._send(parts, path, told, deadline_s)

    def _send(
        self, parts: SplitResult, path: str, headers: dict[str, str], deadline_s: float
    ) -> Any:
        if self._connection is None:
            self.close()
            secure = parts.scheme == "https"
            if secure and self._context is None:
                trust = self._options
                self._context = client_context(trust.ca_file, insecure=trust.tls_insecure)
            connection = _Connection(parts, self._context if secure else None)
            connection.timeout = max(0.001, deadline_s - time.monotonic())
            connection.connect()
            self._connection, self._wire = connection, connection.sock
        self.limit(deadline_s)
        connection = self._connection
        if connection.absolute:
            path = f"http://{parts.netloc}{path}"
            headers = {**headers, **connection.proxy_login}
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        if answer.will_close:
            self._connection = None  # the next request needs another one
        return answer


def _without_login(parts: SplitResult) -> SplitResult:
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")


def _same_server(one: SplitResult, other: SplitResult) -> bool:
    """Whether what one may know the other may know; the same host with TLS added may."""
    if one.hostname != other.hostname:
        return False
    ports = [each.port or _PORTS[each.scheme] for each in (one, other)]
    return (one.scheme == other.scheme and ports[0] == ports[1]) or (
        (one.scheme, other.scheme) == ("http", "https") and ports == [80, 443]
    )
