"""Signals that stop a process or make it read its configuration again.

While a run goes on, a signal is only noted, as a handler may take no lock; the run asks between two
steps. Before there is a run, a signal interrupts whatever goes on. Python ignores an exception that
strikes in some places (a finaliser, a callback of the import machinery), so the signal is noted as
well, and a run that starts afterwards finds it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


ONE_STOP_S = 0.5  # `timeout` and some supervisors signal the process and then its whole group


class Heard:
    """What has been asked for by signals so far; the second stop ends the process at once.

    A SIGHUP does not: of a terminal that has gone both the kernel and the shell tell. Nor does one
    that comes within ``ONE_STOP_S`` of the first: it is the same stop.
    """

    def __init__(self, *, interrupts: bool = False) -> None:
        self.stop = self.hang_up = False
        self._interrupts = interrupts
        self._since = 0.0

    def on_stop(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.stop and (number == signal.SIGHUP or now - self._since < ONE_STOP_S):
            return
        if self.stop:
            os._exit(128 + number)
        self.stop, self._since = True, now
        if self._interrupts:
            raise KeyboardInterrupt

    def on_hang_up(self, number: int, frame: FrameType | None) -> None:
        self.hang_up = True


@contextmanager
def interrupting() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt on the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = Heard(interrupts=True)
    before = {number: signal.signal(number, heard.on_stop) for number in stops()}
    try:
        yield
    finally:
        _restore(before)


@contextmanager
def noting(*, hang_ups: bool = False) -> Iterator[Heard]:
    """SIGINT, SIGTERM and SIGHUP are noted as stops, those that came before included.

    With ``hang_ups`` SIGHUP is noted as one, to read the configuration again; but at a terminal it
    says that the terminal has gone.
    """
    heard = Heard()
    handlers = dict.fromkeys(stops(), heard.on_stop)
    if hang_ups and not os.isatty(0):
        handlers[signal.SIGHUP] = heard.on_hang_up
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    earlier = [getattr(handler, "__self__", None) for handler in before.values()]
    if any(isinstance(each, Heard) and each.stop for each in earlier):
        heard.stop = True
    try:
        yield heard
    finally:
        _restore(before)


def stops() -> list[signal.Signals]:
    """The signals that stop this process: not SIGHUP where it is ignored, as by nohup."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [each for each in STOPS if each != signal.SIGHUP or not ignored]


def forget_interrupt() -> None:
    """Keep a KeyboardInterrupt that was caught from ending the process as if it hadn't been.

    ``python -m`` dies of SIGINT at its very end if an interrupt has left an ``exec`` of text, such
    as makes every named tuple and dataclass, wherever it was caught after that; the next ``exec``
    of text clears the note (CPython, Python/pythonrun.c, run_eval_code_obj).
    """
    exec("")


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
