"""How is systemd told how a service is? Datagrams of KEY=VALUE lines (man sd_notify)."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic_ns

log = logging.getLogger(__name__)


class Notifier:
    """Sends to the socket that systemd named, or, where it named none, nothing.

    Never blocks and never fails: a supervisor that does not listen must not stop the service.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        env = os.environ if environ is None else environ
        name = env.get("NOTIFY_SOCKET", "")
        # "@" stands for the zero byte of the abstract namespace
        self._address = f"\0{name[1:]}" if name.startswith("@") else name
        self._socket: socket.socket | None = None
        if name.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        # meant for this process, not for one that inherited the variables
        ours = env.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        period_us = env.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(period_us) / 1e6 if ours and period_us.isdigit() else None

    @property
    def listening(self) -> bool:
        """Whether there is somebody to tell."""
        return self._socket is not None

    def send(self, *lines: str) -> None:
        """One datagram."""
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as fault:
            log.debug("systemd was not told %s: %s", lines, fault)

    def reloading(self) -> None:
        """To be followed by READY=1."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns() // 1000}")

    def close(self) -> None:
        """Idempotent."""
        with suppress(OSError):
            if self._socket is not None:
                self._socket.close()
        self._socket = None
