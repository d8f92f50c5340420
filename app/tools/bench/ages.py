"""Does the age of results grow while a run lasts?"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from app.detections import Result
from app.frame import SourceInfo

POINTS = 100  # of the curve, however long the run


class AgeSink:
    """Every age in order."""

    def __init__(self) -> None:
        self._ages_ms = array("d")

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Nothing to open."""

    def emit(self, result: Result) -> None:
        """Note the age."""
        self._ages_ms.append(result.age_ns / 1e6)

    def close(self) -> None:
        """Nothing to close."""

    def drift(self) -> dict[str, Any]:
        """p99 of the first and of the last quarter of the run, and its course: [p50, highest]."""
        ages = np.array(self._ages_ms)
        quarter = max(1, len(ages) // 4)
        parts = np.array_split(ages, min(POINTS, len(ages)))
        return {
            "age_first_quarter_p99_ms": round(float(np.percentile(ages[:quarter], 99)), 3),
            "age_last_quarter_p99_ms": round(float(np.percentile(ages[-quarter:], 99)), 3),
            "age_course_ms": [
                [round(float(np.median(p)), 3), round(float(p.max()), 3)] for p in parts
            ],
        }
