"""How is a pipeline run from its start to its end, with the signals that come meanwhile?"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

from app.errors import KestrelError
from app.pipeline import Pipeline

log = logging.getLogger(__name__)


class Ending(NamedTuple):
    """How a run ended: by a signal, or with what error."""

    stopped: bool
    error: BaseException | None


def conduct(
    pipeline: Pipeline,
    reload: Callable[[], None] | None = None,
    *,
    beside: Callable[[Callable[[], bool]], None] | None = None,
) -> Ending:
    """Start, wait for the end or a signal, stop, join.

    ``beside`` waits instead, as long as what it is given says that the run goes on.
    ``reload`` is called on SIGHUP, which without it ends the process: its terminal has gone.
    """
    stopped = hung_up = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal stopped  # only a note: no lock may be taken in here
        if stopped:
            os._exit(128 + number)  # asked twice: at once
        stopped = True

    def hang_up(number: int, frame: FrameType | None) -> None:
        nonlocal hung_up
        hung_up = True

    def ended() -> bool:
        nonlocal hung_up
        if stopped:
            pipeline.stop()
        if hung_up and reload:
            hung_up = False
            reload()
        return pipeline.wait(0 if beside else 0.1)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    if reload is not None and not os.isatty(0):
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, hang_up)
    try:
        log.debug("pipeline starts")  # `bench --startup` times by this line
        pipeline.start()
        if beside:
            beside(lambda: not ended())
            pipeline.stop()
        while not stopped and not ended():
            pass
        pipeline.stop()
        pipeline.join()
        return Ending(stopped, None)
    except KestrelError as error:
        return Ending(stopped, error)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
