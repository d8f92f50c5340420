"""MQTT: every event reaches the broker once and in order, while it comes and goes.

The spool hands messages out in order; at most ``WINDOW`` of them are with the MQTT library at a
time, which sends them with QoS 1 and, after a lost connection, again what was not acknowledged.
A message leaves the spool when the broker has acknowledged it. So nothing is sent twice unless an
acknowledgement was lost; the ``id`` in each message tells those apart.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import re
import socket
import ssl
import sys
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from ..config import MqttOptions
from ..core.detections import Result
from ..core.errors import ConfigError
from ..core.frame import SourceInfo
from ..core.interfaces import Sink
from ..core.stats import OutputMeter
from ..core.text import foreign
from ..core.tls import client_context, untrusted
from .events import EventMessage
from .json_lines import ResultEncoder
from .objects import topic_part
from .spool import Spool, state_folder

log = logging.getLogger(__name__)


EXAMPLE = "mqtts://HOST[:PORT]/TOPIC-PREFIX, for a login with USER:PASSWORD and an @ before HOST"
DEFAULT_PREFIX = "kestrel"


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """A broker and the topics below which everything is published."""

    host: str
    port: int
    tls: bool
    prefix: str
    user: str | None
    password: str | None = field(repr=False)

    @property
    def name(self) -> str:
        """For the log: no credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt{'s' if self.tls else ''}://{host}:{self.port}/{self.prefix}"

    def default_spool(self) -> Path:
        """One file a broker and prefix, in the service's or the user's state directory."""
        return state_folder() / f"mqtt-{_mark(self.name)}.sqlite"

    def client_id(self) -> str:
        """The same after a restart, so that the broker ends the session of a process that died."""
        return f"kestrel-{_mark(f'{socket.gethostname()} {self.name}')}"


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def parse_address(url: str) -> BrokerAddress:
    """Raises ConfigError, which never repeats the URL: it may hold a password."""
    try:
        # a raw "/" or "@" in a password: all up to the last "@" is user and password
        scheme, separator, rest = url.partition("://")
        login, _, place = rest.rpartition("@")
        parts = urlsplit(f"{scheme}{separator}{place}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(f"--mqtt is no URL of a broker; write {EXAMPLE}") from None
    if parts.scheme not in ("mqtt", "mqtts") or not host or re.search("[?#]", place):
        raise ConfigError(f"--mqtt must be {EXAMPLE} (mqtt:// is without TLS)")
    prefix = unquote(parts.path).strip("/") or DEFAULT_PREFIX
    if any(c in prefix for c in "+#\0") or len(prefix.encode(errors="replace")) > 1000:
        raise ConfigError("the topic prefix of --mqtt must not contain + or #, nor be very long")
    try:
        f"{host}{prefix}".encode()
    except UnicodeEncodeError:
        raise ConfigError("--mqtt holds bytes that are no UTF-8; write them as %XX") from None
    user, colon, password = login.partition(":")
    tls = parts.scheme == "mqtts"
    return BrokerAddress(
        host=host,
        port=port or (8883 if tls else 1883),
        tls=tls,
        prefix=prefix,
        user=unquote(user) if user else None,
        password=unquote(password) if colon else None,
    )


WINDOW = 20
TICK_S = 0.5
RETAINED_S = 1.0  # between two messages of one retained topic at least
STOP_S = 1.5  # for what waits to leave, at the end of a run
LONGEST_PAUSE_S = 30
_TAKEN = (mqtt.MQTT_ERR_SUCCESS, mqtt.MQTT_ERR_NO_CONN)


def _can_be_sent(topic: str, text: str) -> bool:
    """Whether a message that lay on a disk is still one: a topic, and a JSON object."""
    if not topic or re.search(r"[+#\0]", topic) or len(topic.encode()) > 65_535:
        return False
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


class MqttPublisher(Sink):
    """Publishes ``PREFIX/detections``, ``/events``, ``/stats`` and, retained, ``/status``.

    Events of a zone or line also go to ``/zones/NAME/events`` and ``/lines/NAME/events``. What
    ``retained`` gives, JSON by topic, is published and kept by the broker whenever it has changed,
    at most once a second. At the end the state of the source stays there, and all else is cleared.
    ``announced``, absolute topics with their JSON, are retained; the newest snapshot of an event, a
    file below ``snapshots``, is retained under ``/snapshot``.
    ``start`` and ``stop`` around the run, ``emit`` and ``notice`` from any thread: they append to
    the spool and never wait. A thread of its own and one of the library do all else.
    """

    def __init__(
        self,
        address: BrokerAddress,
        options: MqttOptions,
        meter: OutputMeter,
        *,
        figures: Callable[[], Mapping[str, Any]],
        retained: Callable[[], Mapping[str, Any]] = dict,
        announced: Mapping[str, Any] | None = None,
        snapshots: Path | None = None,
    ) -> None:
        self._retained, self._announced, self._snapshots = retained, announced or {}, snapshots
        self._picture: Path | None = None  # of the newest event that has one
        self._shown: tuple[Path, int] | None = None  # the one that the broker has, and its time
        self._told: dict[str, str] = {}  # by topic, what the broker keeps
        self._address, self._options, self._meter = address, options, meter
        self._figures = figures
        path = Path(options.spool) if options.spool else address.default_spool()
        self._spool = Spool(
            path, max_bytes=int(options.spool_mb * 1e6), on_drop=meter.dropped, sound=_can_be_sent
        )
        self._line = ResultEncoder()
        self._run, self._count = uuid.uuid4().hex[:12], 0
        self._client = self._make_client()
        self._connected = False
        self._inflight: dict[int, int] = {}  # message id of the library: seq of the spool
        self._acks: deque[int] = deque()
        self._save_s = self._stats_s = self._told_s = 0.0
        self._settling = False  # connected anew: what was under way comes first
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="output-mqtt", daemon=True)

    # -- the run ----------------------------------------------------------------------------------

    def start(self) -> None:
        self._spool.open()
        if self._client.username and not self._address.tls:
            log.warning("%s: without TLS (mqtts://) the password is readable", self._address.name)
        if len(self._spool):
            log.info("%d messages of an earlier run wait for the broker", len(self._spool))
        self._client.connect_async(
            self._address.host, self._address.port, keepalive=self._options.keepalive_s
        )
        self._client.loop_start()
        self._thread.start()

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self._line.open(source, labels)

    def emit(self, result: Result) -> None:
        """One message for a frame in which something was found."""
        if self._options.detections and len(result.detections):
            self._count += 1
            line = self._line(result)
            self._put("detections", f'{{"id": "{self._run}-{self._count}", {line[1:]}')

    def notice(self, event: EventMessage) -> None:
        """One message for an event, and another for those who follow its zone or line."""
        self._put("events", event.text)
        if event.event is not None and event.event.zone is not None:
            self._put(f"zones/{topic_part(event.event.zone)}/events", event.text)
        if event.event is not None and event.event.line is not None:
            self._put(f"lines/{topic_part(event.event.line)}/events", event.text)
        if self._snapshots is not None and event.event is not None and event.event.snapshot:
            self._picture = self._snapshots / event.event.snapshot

    def stop(self) -> None:
        """Let what waits leave for a moment, say offline, keep the rest in the spool."""
        if self._thread.ident is not None:
            self._stop.set()
            self._wake.set()
            self._thread.join(STOP_S + 1)
            if self._connected:
                self._tell_retained(over=True)
                farewell = self._client.publish(self._topic("status"), "offline", 1, True)
                try:
                    farewell.wait_for_publish(0.5)
                except (ValueError, RuntimeError) as error:
                    log.debug("no farewell: %s", error)
            self._client.disconnect()
            # loop_stop would wait for as long as a connection attempt takes
            stopper = threading.Thread(target=self._client.loop_stop, daemon=True)
            stopper.start()
            stopper.join(0.5)
        self._spool.close()

    # -- this thread ------------------------------------------------------------------------------

    def _work(self) -> None:
        end_s: float | None = None
        while end_s is None or (monotonic() < end_s and self._connected and len(self._spool)):
            self._wake.wait(TICK_S)
            self._wake.clear()
            if end_s is None and self._stop.is_set():
                end_s = monotonic() + STOP_S
            try:
                self._turn(monotonic())
            except Exception as error:  # events go on, whatever it was
                self._away(f"internal error: {type(error).__name__}: {foreign(error)}")

    def _turn(self, now_s: float) -> None:
        """Everything that is due."""
        self._take_acks()
        self._feed()
        if now_s >= self._save_s:
            self._save_s = now_s + TICK_S
            self._spool.save()
            if self._spool.trouble or self._connected:
                self._meter.trouble = self._spool.trouble
        self._meter.waiting = len(self._spool)
        if self._connected and now_s >= self._told_s:
            self._told_s = now_s + RETAINED_S
            self._tell_retained()
            self._tell_picture()
        if self._options.stats_s and self._connected and now_s >= self._stats_s:
            self._stats_s = now_s + self._options.stats_s
            self._client.publish(
                self._topic("stats"), json.dumps(self._figures(), allow_nan=False), 0
            )

    def _tell_retained(self, *, over: bool = False) -> None:
        """Let the broker keep what has changed; once all is ``over`` the source's state alone."""
        for topic, told in self._retained().items():
            text = "" if over and topic != "source" else json.dumps(told)
            if self._told.get(topic, "") != text:
                self._told[topic] = text
                self._client.publish(self._topic(topic), text, 1, True)

    def _tell_picture(self) -> None:
        """Let the broker keep the newest snapshot once it is written, and whenever it is better."""
        if (path := self._picture) is None:
            return
        try:
            shown = path, path.stat().st_mtime_ns
            if shown != self._shown:
                self._client.publish(self._topic("snapshot"), path.read_bytes(), 0, True)
                self._shown = shown
        except OSError as error:  # not written yet, or removed by now
            log.debug("no snapshot: %s", error)

    def _take_acks(self) -> None:
        while self._acks:
            seq = self._inflight.pop(self._acks.popleft(), None)
            if seq is not None:
                self._spool.remove(seq)
                self._meter.delivered()

    def _feed(self) -> None:
        """Hand the next messages to the library, while there is room and a connection."""
        if self._settling and not self._inflight:
            self._settling = False
        if self._settling or not self._connected or len(self._inflight) >= WINDOW:
            return
        for message in self._spool.hand_out(WINDOW - len(self._inflight)):
            try:
                info = self._client.publish(message.topic, message.text, 1)
                fault = None if info.rc in _TAKEN else mqtt.error_string(info.rc)
            except ValueError as error:  # of this message; those behind it go on
                fault = str(error)
            if fault is not None:
                log.warning("a message is not taken: %s", foreign(fault))
                self._meter.dropped("refused")
                self._spool.remove(message.seq)
                continue
            self._inflight[info.mid] = message.seq

    def _put(self, kind: str, text: str) -> None:
        self._spool.append(self._topic(kind), text)
        self._wake.set()

    def _topic(self, kind: str) -> str:
        return f"{self._address.prefix}/{kind}"

    # -- the library's thread ---------------------------------------------------------------------

    def _make_client(self) -> mqtt.Client:
        ident = self._options.client_id or self._address.client_id()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=ident)
        client.max_inflight_messages_set(2 * WINDOW)  # the window is ours; status comes besides
        client.reconnect_delay_set(random.choice((1, 2)), LONGEST_PAUSE_S)
        client.will_set(self._topic("status"), "offline", 1, retain=True)
        user = self._options.user or self._address.user
        if user:
            client.username_pw_set(user, self._password())
        if self._address.tls:
            client.tls_set_context(client_context(self._options.ca_file, "mqtt"))
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        return client

    def _password(self) -> str | None:
        path = self._options.password_file
        if path is None:
            return self._address.password or os.environ.get("KESTREL_MQTT_PASSWORD")
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read password_file {path} of [mqtt]: {error}") from error

    def _on_connect(
        self, client: mqtt.Client, userdata: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        if reason.is_failure:
            self._away(f"the broker refuses the connection: {foreign(reason)}")
            return
        client.publish(self._topic("status"), "online", 1, True)
        for topic, message in self._announced.items():
            client.publish(topic, json.dumps(message), 1, True)
        self._shown = None
        log.info("connected to %s", self._address.name)
        self._meter.trouble = ""
        self._told.clear()  # a broker that was restarted may have forgotten it
        self._settling, self._connected = True, True
        self._wake.set()

    def _on_connect_fail(self, client: mqtt.Client, userdata: Any) -> None:
        error = sys.exc_info()[1]  # called while it is handled
        if isinstance(error, ssl.SSLCertVerificationError):
            self._away(untrusted(error, "mqtt"))
        else:
            self._away(getattr(error, "strerror", None) or foreign(error) or "no answer")

    def _on_disconnect(
        self, client: mqtt.Client, userdata: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        was, self._connected = self._connected, False
        if was and not self._stop.is_set():
            self._away(f"connection lost ({foreign(reason)})")

    def _on_publish(
        self, client: mqtt.Client, userdata: Any, mid: int, reason: Any, properties: Any
    ) -> None:
        self._acks.append(mid)
        self._wake.set()

    def _away(self, why: str) -> None:
        """Say it once for each reason; the spool keeps what comes."""
        if self._meter.trouble != why:
            log.warning("%s: %s; events wait in the spool", self._address.name, why)
        self._meter.trouble = why
