"""Webhook: events posted to a web service that may be slow, or away; TLS of all clients."""

from __future__ import annotations

import base64
import http.client
import logging
import ssl
import threading
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from .. import __version__
from ..config import WebhookOptions
from ..core.errors import ConfigError
from ..core.stats import OutputMeter
from ..core.tls import client_context, untrusted
from .events import EventMessage

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
STOP_S = 1.0
_WORTH_ANOTHER_TRY = (408, 425, 429)  # and all of 5xx


class Webhook:
    """Posts each event as JSON, in order, on a thread of its own; ``notice`` never waits.

    What the service does not take is tried again with growing pauses, ``attempts`` times; what a
    full queue has no room for is dropped, oldest first. Redirects are refused: the address that
    was configured gets the event, or nobody.
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
        self._queue: deque[EventMessage] = deque()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="output-webhook", daemon=True)

    def start(self) -> None:
        """Begin to post."""
        log.info("events are posted to %s", self.name)
        self._thread.start()

    def notice(self, event: EventMessage) -> None:
        """Take one event; any thread."""
        with self._changed:
            if len(self._queue) >= self._options.queue:
                self._queue.popleft()
                self._meter.dropped("queue full")
            self._queue.append(event)
            self._meter.waiting = len(self._queue)
            self._changed.notify()

    def stop(self) -> None:
        """Give what waits a moment, then count it as lost."""
        self._stop.set()
        with self._changed:
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(STOP_S)
        with self._changed:
            under_way = int(self._thread.is_alive())
            self._meter.dropped("stopped", len(self._queue) + under_way)
            self._queue.clear()
            self._meter.waiting = 0

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._stop.is_set())
                if not self._queue:
                    return
                event = self._queue.popleft()
                self._meter.waiting = len(self._queue)
            self._deliver(event)

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
            if attempt < self._options.attempts and self._stop.wait(pause_s):
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
            return f"it cannot be reached ({getattr(why, 'strerror', None) or why})", True
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: IDNA
            return f"no answer ({error or type(error).__name__})", True


def _refusal(error: urllib.error.HTTPError) -> str:
    if 300 <= error.code < 400:
        return f"it redirects ({error.code}); configure the address that it redirects to"
    return f"it answers {error.code} {http.client.responses.get(error.code, '')}".rstrip()


def _address(url: str) -> tuple[str, dict[str, str]]:
    """The URL without credentials, and the headers that carry them instead."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, SplitResult("", "", "", "", "")
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(
            "the webhook must be https://[user:password@]host[:port]/path, or http://"
        )
    headers = {"Content-Type": "application/json", "User-Agent": f"kestrel/{__version__}"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    netloc = f"[{host}]" if ":" in host else host
    netloc += f":{port}" if port else ""
    return parts._replace(netloc=netloc, fragment="").geturl(), headers


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None: the answer counts as it is, an error."""
        return None


def _opener(options: WebhookOptions) -> Callable[..., Any]:
    https = urllib.request.HTTPSHandler(context=client_context(options.ca_file, "webhook"))
    return urllib.request.build_opener(https, _NoRedirect).open
