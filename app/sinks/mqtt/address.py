"""Which broker and which topics does an MQTT URL mean?"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.errors import ConfigError

EXAMPLE = "mqtts://[user:password@]host[:port]/topic-prefix"
DEFAULT_PREFIX = "kestrel"


@dataclass(frozen=True, slots=True)
class Address:
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
        given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]  # systemd's
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        folder = Path(given) if given else Path(state) / "kestrel"
        return folder / f"mqtt-{_mark(self.name)}.sqlite"

    def client_id(self) -> str:
        """The same after a restart, so that the broker ends the session of a process that died."""
        return f"kestrel-{_mark(f'{socket.gethostname()} {self.name}')}"


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def parse_address(url: str) -> Address:
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
    return Address(
        host=host,
        port=port or (8883 if tls else 1883),
        tls=tls,
        prefix=prefix,
        user=unquote(user) if user else None,
        password=unquote(password) if colon else None,
    )
