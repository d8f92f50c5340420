"""Messages to people through apprise: text and picture of what a rule tells."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

from ..config import NotifyOptions
from ..core.errors import ConfigError
from ..core.events import Event
from ..core.stats import OutputMeter
from .events import EventMessage, MessageQueue

log = logging.getLogger(__name__)

STOP_S = 1.5
PICTURE_S = 2.0  # a message waits so long for its picture, which another thread writes


class AppriseNotifier:
    """Sends messages one after the other on a thread of its own; ``notice`` never waits.

    A message that takes longer than ``timeout_s`` is given up and counted, and the next one waits
    until it has come back. What a full queue has no room for is dropped, oldest first; of a rule at
    most one message every ``cooldown_s`` is sent. ``snapshots``: the folder of the pictures.
    """

    def __init__(
        self, options: NotifyOptions, meter: OutputMeter, *, snapshots: str | None
    ) -> None:
        assert options.url is not None
        import apprise

        # it logs each message, and addresses in full where a service fails; that is told here
        logging.getLogger("apprise").setLevel(logging.CRITICAL)
        self._options, self._meter = options, meter
        self._snapshots = None if snapshots is None else Path(snapshots)
        self._services: Any = apprise.Apprise()
        if not self._services.add(options.url):
            raise ConfigError(
                "--notify is no address that apprise knows; see "
                "https://github.com/caronc/apprise/wiki for how they are written"
            )
        self._sent_s: dict[str, float] = {}
        self._lock = threading.Lock()
        self._queue = MessageQueue(
            "notify", capacity=options.queue, meter=meter, handle=self._send, stop_s=STOP_S
        )
        self.start, self.stop = self._queue.start, self._queue.stop

    def notice(self, message: EventMessage) -> None:
        now_s = time.monotonic()
        with self._lock:
            last_s = self._sent_s.get(message.rule, float("-inf"))
            if now_s - last_s < self._options.cooldown_s:
                self._meter.dropped("cooldown")
                return
            self._sent_s[message.rule] = now_s
        self._queue.put(message)

    def _send(self, message: EventMessage) -> None:
        sender = _Sender(self._services, message, self._picture(message.event))
        sender.start()
        sender.join(self._options.timeout_s)
        if sender.is_alive():
            self._failed("timeout", f"no answer for {self._options.timeout_s:g} s")
            sender.join()  # at most one is under way
        elif sender.sent:
            self._meter.trouble = ""
            self._meter.delivered()
        else:
            self._failed("refused", "the service takes no message; is its address right?")

    def _failed(self, reason: str, why: str) -> None:
        self._meter.dropped(reason)
        if not self._meter.trouble:
            log.warning("notify: %s", why)
        self._meter.trouble = why

    def _picture(self, event: Event | None) -> str | None:
        """The file of the snapshot, once it is there."""
        if event is None or event.snapshot is None or self._snapshots is None:
            return None
        path, until_s = self._snapshots / event.snapshot, time.monotonic() + PICTURE_S
        while not path.exists():
            if time.monotonic() > until_s or self._queue.stopping.wait(0.05):
                return None
        return str(path)


class _Sender(threading.Thread):
    """One message under way: the libraries of services have no deadline for the whole of it."""

    def __init__(self, services: Any, message: EventMessage, picture: str | None) -> None:
        super().__init__(name="output-notify-send", daemon=True)
        self._services, self._message, self._picture = services, message, picture
        self.sent = False

    def run(self) -> None:
        title, body = told(self._message)
        try:
            self.sent = bool(self._services.notify(title=title, body=body, attach=self._picture))
        except Exception as error:  # of one of a hundred services
            log.debug("notify: %s: %s", type(error).__name__, error)


def told(message: EventMessage) -> tuple[str, str]:
    """Title and text: "night: person enters door", "2026-01-31T12:00:04.500Z, rtsp://…"."""
    event = message.event
    if event is None:
        return message.rule or "Kestrel", message.text
    place = event.zone or event.line or ""
    words = [event.label or "", event.type.replace("_", " "), place, event.direction or ""]
    if event.duration_s is not None:
        words.append(f"({event.duration_s:.0f} s)")
    title = " ".join(word for word in words if word)
    if message.rule:
        title = f"{message.rule}: {title}"
    parts = [event.time, event.name or event.source, event.cause or ""]
    return title, ", ".join(part for part in parts if part)
