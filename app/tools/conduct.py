"""How is a pipeline run from its start to its end, with the signals that come meanwhile?"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from app.errors import KestrelError
from app.pipeline import Pipeline
from app.signals import noting

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
    with noting(hang_ups=reload is not None) as heard:

        def ended() -> bool:
            if heard.stop:
                pipeline.stop()
            if heard.hang_up and reload:
                heard.hang_up = False
                reload()
            return pipeline.wait(0 if beside else 0.1)

        try:
            log.debug("pipeline starts")  # `bench --startup` times by this line
            pipeline.start()
            if beside:
                beside(lambda: not ended())
                pipeline.stop()
            while not heard.stop and not ended():
                pass
            pipeline.stop()
            pipeline.join()
            return Ending(heard.stop, None)
        except KestrelError as error:
            return Ending(heard.stop, error)
