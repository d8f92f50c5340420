"""python -m app"""

import contextlib
import os
import signal
import sys
import threading


def run() -> int:
    """One command, from the first moment on ended in order by SIGINT, SIGTERM and SIGHUP."""
    stops = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # by nohup
        stops.remove(signal.SIGHUP)
    for number in stops:
        signal.signal(number, lambda *_: os._exit(0))  # until a command knows better
    _fill_closed_streams()
    from .commands.cli import main

    code = main()
    for number in stops:
        # It is over. Python would put the system's handler back while it tears itself down.
        signal.signal(number, signal.SIG_IGN)
    if any(thread.daemon for thread in threading.enumerate()):
        # Stuck in a driver or an output: Python would tear itself down under it, and abort.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)
    return code


def _fill_closed_streams() -> None:
    """Give closed standard streams to /dev/null, lest the next file opened becomes one of them."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - for as long as the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123


if __name__ == "__main__":
    sys.exit(run())
