"""Service under systemd: log levels, readiness, watchdog and reload.

READY=1 after the first result; WATCHDOG=1 only if something was inferred since the last one: a
source that hangs, an engine that hangs and an output that hangs all end in a restart. While a
source is away the canary's inferences show that the engine is well.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic, monotonic_ns
from typing import Any

from ..config import SETTINGS, Config
from ..core.credentials import mask_text
from ..core.detections import Result
from ..core.interfaces import Sink, Updatable
from ..core.stats import PipelineStats
from ..core.text import ForeignFormatter

log = logging.getLogger(__name__)


FORMAT = "kestrel: %(message)s"
_LEVELS = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7))


def into_journal(environ: Mapping[str, str] | None = None, fd: int = 2) -> bool:
    """Whether the stream is the journal's; one that was redirected since is not."""
    named = (os.environ if environ is None else environ).get("JOURNAL_STREAM", "")
    try:
        stat = os.fstat(fd)
    except OSError:
        return False
    return named == f"{stat.st_dev}:{stat.st_ino}"


def journal_line(text: str, level: int) -> str:
    """Every line with its level in front, as the journal has one entry a line."""
    number = next(number for least, number in (*_LEVELS, (0, 7)) if level >= least)
    return "\n".join(f"<{number}>{line}" for line in text.splitlines() or [""])


class JournalFormatter(ForeignFormatter):
    """Log records for the journal."""

    def format(self, record: logging.LogRecord) -> str:
        return journal_line(super().format(record), record.levelno)


def configure_logging() -> None:
    """Log to standard error; with levels where that is the journal."""
    handler = logging.StreamHandler(sys.stderr)
    kind = JournalFormatter if into_journal() else ForeignFormatter
    handler.setFormatter(kind(FORMAT))
    logging.basicConfig(handlers=[handler])


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
        return self._socket is not None

    def send(self, *lines: str) -> None:
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


@dataclass(frozen=True, slots=True)
class Reload:
    """``config`` is what runs from now on: the old one with what could be changed."""

    config: Config
    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]

    def line(self) -> str:
        if not self.changed and not self.needs_restart:
            return "configuration read again: nothing has changed"
        told = []
        if self.changed:
            values = {e.path: e.of(self.config) for e in SETTINGS if e.path in self.changed}
            texts = (n if _is_rows(v) else mask_text(f"{n} = {v}") for n, v in values.items())
            told.append(f"changed {', '.join(texts)}")
        if self.needs_restart:
            told.append(f"after a restart only: {', '.join(self.needs_restart)}")
        return f"configuration read again: {'; '.join(told)}"


def _is_rows(value: object) -> bool:
    """Whether it is a list of tables, such as zones, which no line holds."""
    return isinstance(value, tuple) and any(isinstance(each, dict) for each in value)


def plan_reload(old: Config, new: Config) -> Reload:
    """What is taken up, and what is not; by ``key``, or ``table.key``."""
    differ = [each for each in SETTINGS if each.of(old) != each.of(new)]
    config = old
    for each in differ:
        if each.key.reload:
            value: Any = {each.name: each.of(new)}
            if each.table:
                value = {each.table: replace(getattr(config, each.table), **value)}
            config = replace(config, **value)
    taken, left = ([e.path for e in differ if e.key.reload is is_] for is_ in (True, False))
    return Reload(config, tuple(taken), tuple(left))


TICK_S = 1.0
STATUS_S = 5.0
BUILDING_S = 1800.0  # TensorRT builds for minutes; longer than this is a hang
EXTENSION = "EXTEND_TIMEOUT_USEC=30000000"


class Supervised(Sink, Updatable):
    """A sink, and a context manager whose thread tells; silent where nobody listens."""

    def __init__(
        self,
        notifier: Notifier,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._notifier, self._clock = notifier, clock
        self._stats: Callable[[], PipelineStats] | None = None
        self._results = self._inferences = self._fed = 0  # each written by one thread only
        self._ready = False
        self._started_s = self._fed_s = clock()
        self._told_s = float("-inf")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, stats: Callable[[], PipelineStats]) -> None:
        """Where the figures of STATUS= come from; before it is entered."""
        self._stats = stats

    def __enter__(self) -> Supervised:
        if self._notifier.listening:
            self._thread = threading.Thread(target=self._run, name="supervised", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._notifier.send("STOPPING=1", "STATUS=stopping")
        self._stop.set()
        if self._thread is not None:
            self._thread.join(TICK_S)
        self._notifier.close()

    def emit(self, result: Result) -> None:
        self._results += 1
        self._inferences += 1

    def inferred(self) -> None:
        """The engine has worked, though for no result; on the pipeline thread as ``emit``."""
        self._inferences += 1

    def reloading(self, apply: Callable[[], None]) -> None:
        """Tell, ``apply``, and tell that it is done; before it is ready only ``apply``."""
        if not self._ready:
            apply()
            return
        self._notifier.reloading()
        try:
            apply()
        finally:
            self._notifier.send("READY=1")

    def tick(self) -> None:
        """Tell what there is to tell."""
        now_s = self._clock()
        status_due = now_s - self._told_s >= STATUS_S
        # percentiles over an hour's frames take milliseconds: not every second
        wanted = self._stats is not None and (status_due or not self._ready)
        stats = self._stats() if wanted and self._stats is not None else None
        if not self._ready and self._results:
            self._ready = True
            self._notifier.send("READY=1")
        building = not self._ready and stats is not None and stats.state == "building"
        if building and now_s - self._started_s < BUILDING_S:
            self._notifier.send(EXTENSION)
        self._feed(now_s)
        if stats is not None and status_due:
            self._told_s = now_s
            self._notifier.send(f"STATUS={status_line(stats)}")

    def _feed(self, now_s: float) -> None:
        watchdog_s, inferences = self._notifier.watchdog_s, self._inferences
        if watchdog_s is None or inferences == self._fed or now_s - self._fed_s < watchdog_s / 2:
            return
        self._fed, self._fed_s = inferences, now_s
        self._notifier.send("WATCHDOG=1")

    def _run(self) -> None:
        period_s = min(TICK_S, (self._notifier.watchdog_s or TICK_S) / 8)
        while not self._stop.wait(period_s):
            self.tick()


def status_line(stats: PipelineStats) -> str:
    dropped = sum(stats.dropped.values())
    if not stats.processed:
        building = stats.cause if stats.state == "building" else ""
        return f"{building or stats.status.text}, no result yet"
    return (
        f"{stats.status.text}: {stats.fps:.1f} FPS, age {stats.age_ms[0]:.0f} ms, "
        f"{stats.processed} processed, {dropped} dropped"
    )
