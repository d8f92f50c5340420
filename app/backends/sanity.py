"""Does the network still give numbers? NaN hides itself: no threshold is ever reached."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import ModelError

log = logging.getLogger(__name__)

MOST_IN_A_ROW = 30  # frames: one strange picture is no reason to end, a second of nothing is


class Sanity:
    """Watches one slot's outputs; the first NaN is told, a row of them ends the run."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._row = self._seen = 0

    def check(self, outputs: Sequence[NDArray[Any]]) -> None:
        """Look at raw outputs on the host."""
        self.note(any(map(_has_nan, outputs)))

    def note(self, bad: bool) -> None:
        """One more frame. Raises ModelError after MOST_IN_A_ROW bad ones."""
        if not bad:
            self._row = 0
            return
        self._row += 1
        self._seen += 1
        told = (
            f"the network of {self._name} gives NaN instead of numbers; if --precision fp32 cures "
            "it, half precision is too narrow for it, else its weights are damaged: export them "
            "again"
        )
        if self._row >= MOST_IN_A_ROW:
            raise ModelError(f"{told} (on {self._row} frames in a row)")
        log.log(logging.DEBUG if self._seen > 1 else logging.ERROR, "%s", told)


def _has_nan(output: NDArray[Any]) -> bool:
    """A maximum hands NaN on, and most decoders begin with one: its code is then at hand."""
    if output.dtype.kind != "f":
        return False
    return math.isnan(np.maximum.reduce(output, axis=None, initial=0.0))
