"""The connection of a process to the fleet's NATS server, and the names of what lies there."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import ssl
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import nats
import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import BucketNotFoundError, NotFoundError
from nats.js.kv import KeyValue

from ..core.credentials import mask_text
from ..core.errors import ConfigError, SourceError

log = logging.getLogger(__name__)
# nats-py's end of a TLS connection is no news: "returning true from eof_received() has no effect"
logging.getLogger("asyncio").setLevel(logging.ERROR)

# Buckets (key-value). Keys are names of nodes and cameras.
MEMBERS = "kestrel_members"  # a node's session; an entry lives for the bucket's TTL
LEASES = "kestrel_leases"  # who runs a camera; the revision is the lease's number
CAMERAS = "kestrel_cameras"  # a camera's table as in TOML: uri, labels, zones, rules, …
NODES = "kestrel_nodes"  # what people say of a node: {"drain": true}
MODELS = "kestrel_models"  # object store
PICTURES = "kestrel_pictures"  # object store of snapshots

# Streams and their subjects; the last word is a camera's or node's name.
EVENTS, EVENT_SUBJECT = "KESTREL_EVENTS", "kestrel.event"  # kestrel.event.CAMERA
STATES, STATE_SUBJECT = "KESTREL_STATES", "kestrel.state"  # kestrel.state.CAMERA
NODE_SUBJECT = "kestrel.node"  # kestrel.node.NODE: requests of one node to another

SERVER_NAME = "kestrel-fleet"  # in the certificate, whatever the server's address is
TIMEOUT_S = 1.0  # of a request to JetStream
OPEN_S = 8.0
RECONNECT_S = 0.3
PING_S = 1  # a server that is silent for two of these is left


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who a process is to the server. ``ca``: PEM of the authority that signed its certificate.

    ``url``: where the server is, as far as the token file knows.
    """

    user: str
    password: str
    ca: str = ""
    url: str = ""

    def __repr__(self) -> str:
        return f"Credentials(user={self.user!r})"  # the password is for no log

    def save(self, file: Path) -> None:
        """Write the token file, which only its owner may read."""
        file.touch(mode=0o600)
        file.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, file: Path) -> Credentials:
        """Read a token file; raises ConfigError."""
        try:
            table = json.loads(file.read_text("utf-8"))
            return cls(**{key: str(table[key]) for key in ("user", "password", "ca", "url")})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"cannot read the token file {file}: {type(error).__name__}; name a file that "
                "`kestrel fleet serve` or `kestrel fleet token` has written"
            ) from error


class Link(NamedTuple):
    """An open connection. For the thread and loop that opened it."""

    client: Client
    js: JetStreamContext


def is_loopback(url: str) -> bool:
    """Whether this address never leaves the machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def connect(
    url: str,
    credentials: Credentials | None,
    *,
    name: str,
    on_change: Callable[[bool], None] = lambda connected: None,
) -> Link:
    """Connect once, within seconds; from then on a lost server is sought for ever.

    ``name`` is what the server calls this client. ``on_change`` is called on the loop when the
    server is lost and when it is back. Raises ConfigError for a connection outside loopback
    without credentials, SourceError where there is no server or it refuses.
    """
    if credentials is None and not is_loopback(url):
        raise ConfigError(
            f"{mask_text(url)} is another machine: give the node's token file by --token FILE "
            "(kestrel fleet token NODE writes it)"
        )
    if urlsplit(url).scheme not in ("nats", "tls"):
        raise ConfigError(f"{mask_text(url)} is no NATS server: write nats://… or tls://…")
    trust: ssl.SSLContext | None = None
    if credentials is not None and credentials.ca:
        trust = ssl.create_default_context(cadata=credentials.ca)
    elif urlsplit(url).scheme == "tls":
        trust = ssl.create_default_context()

    async def lost() -> None:
        on_change(False)

    async def back() -> None:
        on_change(True)

    faults: list[Exception] = []

    async def fault(error: Exception) -> None:
        faults[:] = [error]
        log.debug("fleet server: %s", mask_text(f"{type(error).__name__}: {error}"))

    client = Client()
    inbox = "_INBOX" if credentials is None else f"_INBOX_{credentials.user}"
    opening = client.connect(
        [url],
        name=name,
        user=None if credentials is None else credentials.user,
        password=None if credentials is None else credentials.password,
        tls=trust,
        tls_hostname=SERVER_NAME if credentials is not None and credentials.ca else None,
        inbox_prefix=inbox,
        connect_timeout=2,
        reconnect_time_wait=RECONNECT_S,  # type: ignore[arg-type]  # seconds, as the code has
        max_reconnect_attempts=3,
        ping_interval=PING_S,
        max_outstanding_pings=2,
        disconnected_cb=lost,
        reconnected_cb=back,
        error_cb=fault,
    )
    try:
        await asyncio.wait_for(opening, OPEN_S)  # it never returns where TLS is refused
    except (nats.errors.Error, OSError, ssl.SSLError, asyncio.TimeoutError) as error:
        told = next(iter(faults), error)
        raise SourceError(
            f"cannot reach the fleet at {mask_text(url)}: {type(told).__name__}: "
            f"{mask_text(str(told))}; is `kestrel fleet serve` running there, and the token its "
            "own?"
        ) from error
    client.options["max_reconnect_attempts"] = -1
    return Link(client, client.jetstream(timeout=TIMEOUT_S))


async def bucket(
    js: JetStreamContext, name: str, *, ttl_s: float | None = None, history: int = 1
) -> KeyValue:
    """The key-value bucket with this name, made where it is absent and this user may do so."""
    try:
        return await js.key_value(name)
    except (BucketNotFoundError, NotFoundError):
        return await js.create_key_value(
            KeyValueConfig(bucket=name, ttl=ttl_s, history=history, storage=StorageType.FILE)
        )
