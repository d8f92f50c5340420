"""How a source is: the states that log, window, page, MQTT, /healthz, metrics and summary tell."""

from __future__ import annotations

import datetime
import time
from typing import Literal, NamedTuple

State = Literal[
    "live",  # frames come from a camera or stream, or from a recording at its own pace
    "replay",  # frames come from a recording, as fast as they are taken
    "stalled",  # open, but no frame has come for a while
    "reconnecting",  # was live, and is being opened again
    "opening",  # is being opened for the first time
    "offline",  # has not opened at the first attempt, or has been away for long; tried again
    "ended",  # no more frames come: the recording is over, or the run was stopped
    "failed",  # given up, or the run has failed
]
STATES: tuple[State, ...] = (
    *("live", "replay", "stalled", "reconnecting", "opening", "offline", "ended", "failed"),
)  # best first
WORKING: tuple[State, ...] = ("live", "replay")  # frames come
LOST: tuple[State, ...] = ("reconnecting", "offline", "failed")
OVER: tuple[State, ...] = ("ended", "failed")
_SILENT: tuple[State, ...] = ("stalled", "reconnecting", "opening", "offline")


def goes_on(old: str, new: str) -> bool:
    """Whether the new state began with the old one: no frames have come all the time."""
    return old == new or (old in _SILENT and new in _SILENT and new != "opening")


class SourceStatus(NamedTuple):
    """A state, since when (seconds since 1970), and why it came to that; "" where nothing did."""

    state: str = "opening"  # State; a pipeline also says "building"
    since_s: float = 0.0
    cause: str = ""

    def then(self, state: str, cause: str = "") -> SourceStatus:
        """What follows from now on."""
        since_s = self.since_s if goes_on(self.state, state) and self.since_s else time.time()
        return SourceStatus(state, since_s, cause)

    @property
    def since(self) -> str:
        moment = datetime.datetime.fromtimestamp(self.since_s, datetime.timezone.utc)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    @property
    def text(self) -> str:
        """For people: "offline since 2026-01-31 12:00:04"."""
        if self.state not in ("stalled", "reconnecting", "offline"):
            return self.state
        return f"{self.state} since {time.strftime('%F %T', time.localtime(self.since_s))}"
