"""Several sources in a window: what does it see of the run?"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence

from app.detections import Result
from app.errors import ConfigError
from app.pipeline import Pipeline
from app.sinks.latest import LatestSink
from app.stats import PipelineStats

log = logging.getLogger(__name__)


class Seats:
    """See gui.ports.Seats; ``screens``: the mailbox of each source."""

    def __init__(
        self, pipeline: Pipeline, names: Sequence[str], screens: Mapping[str, LatestSink]
    ) -> None:
        self._pipeline, self.names, self._screens = pipeline, names, screens

    def take(self, name: str) -> tuple[Result, Sequence[str]] | None:
        """See gui.ports."""
        return self._screens[name].take_labelled()

    def stats(self) -> Sequence[PipelineStats]:
        """See gui.ports."""
        return self._pipeline.lane_stats()

    def show(self, goes_on: Callable[[], bool]) -> None:
        """The window, until it is closed or the run has ended."""
        from app.gui.window import run_wall

        run_wall(self, interrupted=lambda: not goes_on(), on_display_lost=self._display_lost)

    def _display_lost(self, told: str) -> None:
        """Qt knows no way back: the run ends in order, and the process here."""
        log.error("%s The run ends with it; use --headless for one that needs no display", told)
        self._pipeline.stop()
        try:
            self._pipeline.join()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(ConfigError.exit_code)
