"""Who may do what: one token file on the machine of the server, and one for each node.

The server's file holds everything that is secret: its key and certificate, and the passwords of the
nodes. A node's file holds that node's password and the certificate, which it trusts and nothing
else. A node may write its own membership, take leases, hand its own cameras over and tell events;
it reads what it must know, its answers come to an inbox that no other node may read, and it may
change neither cameras nor streams.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError
from .configuration import KEYS
from .connection import (
    EVENT_SUBJECT,
    EVENTS,
    LEASES,
    MEMBERS,
    NODE_SUBJECT,
    SERVER_NAME,
    STATE_SUBJECT,
    Credentials,
)
from .events import SNAPSHOT_SUBJECT, SNAPSHOTS
from .leases import LOCK
from .models import ROLLOUT

ADMIN = "admin"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


def checked_name(name: str, what: str) -> str:
    """The name; raises ConfigError for one that is no key."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name of a {what}; use up to 32 letters, digits, _ and -")
    return name


@dataclass(slots=True)
class Secrets:
    """What the server's token file holds. ``users``: passwords by name, nodes and ADMIN."""

    url: str
    key: str = field(repr=False)
    certificate: str
    users: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def make(cls, url: str) -> Secrets:
        """New ones, for a server at this address."""
        key, certificate = _certificate()
        made = cls(url, key, certificate)
        made.token(ADMIN)
        return made

    @classmethod
    def load(cls, file: Path) -> Secrets:
        """Read them; raises ConfigError."""
        try:
            return cls(**json.loads(file.read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"cannot read the server's tokens {file}: {type(error).__name__}; name the folder "
                "of `kestrel fleet serve` by --folder"
            ) from error

    def save(self, file: Path) -> None:
        """Write them, for their owner alone."""
        part = file.with_name(f"{file.name}.part")
        part.touch(mode=0o600)
        part.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")
        part.replace(file)

    def token(self, user: str) -> Credentials:
        """Of this user, who is made where there is none."""
        if user not in self.users:
            self.users[user] = secrets.token_urlsafe(24)
        return Credentials(user, self.users[user], self.certificate, self.url)

    def accounts(self) -> list[dict[str, Any]]:
        """The users as nats-server's configuration has them."""
        return [
            {"user": user, "password": password}
            | ({} if user == ADMIN else {"permissions": permissions(user)})
            for user, password in self.users.items()
        ]


def permissions(node: str) -> dict[str, Any]:
    """The subjects that a node may send to and hear."""
    stream = "$JS.API.STREAM"
    own = f"{NODE_SUBJECT}.{node}", f"{NODE_SUBJECT}.{node}.picture"
    return {
        "publish": {
            "allow": [
                f"$KV.{MEMBERS}.node.{node}",
                f"$KV.{MEMBERS}.{LOCK}",
                f"$KV.{LEASES}.*",
                f"{NODE_SUBJECT}.*",
                f"{NODE_SUBJECT}.*.picture",
                f"{SNAPSHOT_SUBJECT}.>",
                f"$KV.{KEYS}.{node}",
                f"$KV.{ROLLOUT}.have.{node}",
                f"{EVENT_SUBJECT}.>",
                f"{STATE_SUBJECT}.>",
                "$JS.API.INFO",
                f"{stream}.INFO.*",
                f"{stream}.NAMES",
                f"{stream}.MSG.GET.*",
                "$JS.API.DIRECT.GET.>",
                *(f"$JS.API.CONSUMER.{what}.>" for what in ("CREATE", "INFO", "DELETE", "MSG")),
                *(f"$JS.ACK.{name}.>" for name in (EVENTS, SNAPSHOTS)),
                "$JS.FC.>",
            ]
        },
        "subscribe": {"allow": [f"_INBOX_{node}.>", *own, f"{NODE_SUBJECT}s"]},
        "allow_responses": {"max": 1, "ttl": "2s"},
    }


def _certificate() -> tuple[str, str]:
    """A new key and its certificate, which is its own authority; PEM."""
    if shutil.which("openssl") is None:
        raise ConfigError("a certificate is made by openssl, which is not here; install it")
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = Path(folder, "key"), Path(folder, "certificate")
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-nodes", "-days", "3650", "-subj"),
                *(f"/CN={SERVER_NAME}", "-newkey", "ec", "-pkeyopt"),
                *("ec_paramgen_curve:prime256v1", "-keyout", str(key), "-out", str(certificate)),
                *("-addext", f"subjectAltName=DNS:{SERVER_NAME}"),
                *("-addext", "keyUsage=critical,digitalSignature,keyCertSign"),
            ],
            check=True,
            capture_output=True,
        )
        return key.read_text(), certificate.read_text()
