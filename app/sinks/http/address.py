"""Where does the HTTP server listen, and who may come there?"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

from app.errors import ConfigError

LOOPBACK = "127.0.0.1"
MIN_TOKEN = 8


@dataclass(frozen=True, slots=True)
class Address:
    """A host and port to bind to, and the token that is asked for, if any."""

    host: str
    port: int
    token: str | None = field(default=None, repr=False)

    @property
    def is_loopback(self) -> bool:
        """Only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def parse_address(text: str, token: str | None = None) -> Address:
    """``[ADDRESS:]PORT``; raises ConfigError, also for an open address without a token."""
    match = re.fullmatch(r"(?:(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):)?([0-9]{1,5})", text.strip())
    if match is None or int(match[2]) > 65535:
        raise ConfigError(f"--http is {text!r}; write PORT, ADDRESS:PORT or [IPV6]:PORT")
    address = Address((match[1] or LOOPBACK).strip("[]"), int(match[2]), token or None)
    if not address.is_loopback and address.token is None:
        raise ConfigError(
            f"--http {text} can be reached from outside, so it needs a token: --http-token, "
            "KESTREL_HTTP_TOKEN or token_file in [http]"
        )
    if address.token is not None and (
        len(address.token) < MIN_TOKEN or not re.fullmatch(r"[!-~]+", address.token)
    ):
        raise ConfigError(
            f"the token of --http needs {MIN_TOKEN} or more visible ASCII characters; "
            "for example: openssl rand -hex 16"
        )
    return address
