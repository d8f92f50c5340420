"""Between an engine that is built for minutes and whoever waits for it: how far it is, and
whether it is still wanted.

Each thread that builds has one ``Build``. The builder, deep inside, asks for that of its thread, so
that factories of engines need not pass it on; who builds without a run (a check, a benchmark) has
none, and gets one that wants it and that nobody reads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

_here = threading.local()


class Unwanted(Exception):
    """The build was given up, because the run was stopped or another engine chosen: no fault."""


class Build:
    """``text``: the latest word of what is done, "" where nothing takes long; any thread.

    ``is_wanted`` is asked between the steps of the build, on whatever thread makes them.
    """

    def __init__(self, is_wanted: Callable[[], bool] = lambda: True) -> None:
        self.is_wanted, self.text = is_wanted, ""

    def take_thread(self) -> None:
        """What the calling thread builds from now on is this."""
        _here.build = self


def build_here() -> Build:
    """That of the calling thread."""
    build: Build | None = getattr(_here, "build", None)
    return build or Build()
