"""Webhook: events posted to a web service that may be slow, or away; TLS of all clients."""

from __future__ import annotations

import base64
import http.client
import io
import logging
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from .. import __version__
from ..config import WebhookOptions
from ..core.errors import ConfigError
from ..core.stats import OutputMeter
from ..core.text import foreign
from ..core.tls import client_context, untrusted
from .events import EventMessage, MessageQueue

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
STOP_S = 1.0
ANSWER_BYTES = 65_536  # of all that a server says to one event; more is no answer
_KEPT = "%/:?#[]@!$&'()*+,;=~"  # of an address; the rest is written as %XX
_WORTH_ANOTHER_TRY = (408, 425, 429)  # and all of 5xx


class Webhook:
    """Posts each event as JSON, in order, on a thread of its own; ``notice`` never waits.

    What the service does not take is tried again with growing pauses, ``attempts`` times; what a
    full queue has no room for is dropped, oldest first. Redirects are refused: the address that
    was configured gets the event, or nobody. ``timeout_s`` is for all of one attempt, however
    slowly the server speaks; only the look-up of its name has the system's own limit.
    """

    def __init__(
        self, options: WebhookOptions, meter: OutputMeter, *, first_pause_s: float = FIRST_PAUSE_S
    ) -> None:
        assert options.url is not None
        self._options, self._meter, self._first_pause_s = options, meter, first_pause_s
        self._url, self._headers = _address(options.url)
        parts = urlsplit(self._url)
        self.name = f"{parts.scheme}://{parts.hostname}/***"  # the path itself is often the secret
        self._open = _opener(options)
        self._queue = MessageQueue(
            "webhook", capacity=options.queue, meter=meter, handle=self._deliver, stop_s=STOP_S
        )
        self.notice, self.stop = self._queue.put, self._queue.stop

    def start(self) -> None:
        log.info("events are posted to %s", self.name)
        self._queue.start()

    def _deliver(self, event: EventMessage) -> None:
        pause_s = self._first_pause_s
        for attempt in range(1, self._options.attempts + 1):
            fault, again = self._post(event)
            if fault is None:
                if self._meter.trouble:
                    log.info("%s takes events again", self.name)
                self._meter.trouble = ""
                self._meter.delivered()
                return
            if not self._meter.trouble:
                log.warning("%s does not take an event: %s", self.name, fault)
            self._meter.trouble = fault
            if not again:
                self._meter.dropped("refused")
                return
            if attempt < self._options.attempts and self._queue.stopping.wait(pause_s):
                self._meter.dropped("stopped")
                return
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        self._meter.dropped("unreachable")

    def _post(self, event: EventMessage) -> tuple[str | None, bool]:
        """(None, …) when it was taken, else what is wrong and whether to try again."""
        request = urllib.request.Request(
            self._url, event.text.encode(), self._headers, method="POST"
        )
        try:
            with self._open(request, timeout=self._options.timeout_s) as answer:
                answer.read(1024)
            return None, False
        except urllib.error.HTTPError as error:
            with error:
                return _refusal(error), error.code >= 500 or error.code in _WORTH_ANOTHER_TRY
        except urllib.error.URLError as error:
            why = error.reason
            if isinstance(why, ssl.SSLCertVerificationError):
                return untrusted(why, "webhook"), True
            return f"it cannot be reached ({_words(why)})", True
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: IDNA
            return f"no answer ({_words(error)})", True


def _refusal(error: urllib.error.HTTPError) -> str:
    if 300 <= error.code < 400:
        return f"it redirects ({error.code}); configure the address that it redirects to"
    return f"it answers {error.code} {http.client.responses.get(error.code, '')}".rstrip()


def _address(url: str) -> tuple[str, dict[str, str]]:
    """The URL without credentials, and the headers that carry them instead."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        url.encode()
        (host or "").encode("idna")
    except ValueError:  # a surrogate is one, too
        host, port, parts = None, None, SplitResult("", "", "", "", "")
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(
            "--webhook must be https://HOST[:PORT]/PATH or http://…, for a login with "
            "USER:PASSWORD and an @ before HOST"
        )
    headers = {"Content-Type": "application/json", "User-Agent": f"kestrel/{__version__}"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    netloc = f"[{host}]" if ":" in host else host
    netloc += f":{port}" if port else ""
    path, query = quote(parts.path, safe=_KEPT), quote(parts.query, safe=_KEPT)
    return parts._replace(netloc=netloc, path=path, query=query, fragment="").geturl(), headers


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None: the answer counts as it is, an error."""
        return None


def _words(why: object) -> str:
    return foreign(getattr(why, "strerror", None) or why) or type(why).__name__


class _Answer(io.RawIOBase):
    """What a server sends until ``end_s``; raises OSError for more than ANSWER_BYTES, or later."""

    def __init__(self, sock: socket.socket, end_s: float) -> None:
        self._sock, self._end_s, self._left = sock, end_s, ANSWER_BYTES
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_until(self._end_s))
        count = self._file.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise OSError(f"it says more than {ANSWER_BYTES} bytes")
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, end_s: float, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_Answer(sock, end_s))


class _Exchange(http.client.HTTPConnection):
    """One exchange, all of it within the time-out."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._end_s = monotonic() + (self.timeout or 0)
        self.response_class = partial(_Response, end_s=self._end_s)  # type: ignore[assignment]
        # http.client would give each address of the host the whole time
        self._create_connection = partial(_connect, self._end_s)

    def send(self, data: Any) -> None:
        if self.sock is not None:
            self.sock.settimeout(_until(self._end_s))
        super().send(data)


class _TlsConnection(http.client.HTTPSConnection, _Exchange):
    """The same over TLS."""


def _connect(end_s: float, address: tuple[str, int], *_: object) -> socket.socket:
    fault: OSError | None = None
    for family, kind, protocol, _name, place in socket.getaddrinfo(
        *address, type=socket.SOCK_STREAM
    ):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(_until(end_s))
            sock.connect(place)
            sock.settimeout(_until(end_s))  # for TLS
            return sock
        except OSError as error:
            fault = error
            sock.close()
    raise fault or OSError("its name has no address")


def _until(end_s: float) -> float:
    left_s = end_s - monotonic()
    if left_s <= 0:
        raise TimeoutError("not done within timeout_s")
    return left_s


class _Http(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Exchange, request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._trusted = context

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_TlsConnection, request, context=self._trusted)


def _opener(options: WebhookOptions) -> Callable[..., Any]:
    context = client_context(options.ca_file, "webhook")
    return urllib.request.build_opener(_Http(), _Https(context), _NoRedirect).open
