"""What does a run say of itself, as one JSON object for the live page and MQTT?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from app.output_meter import OutputMeter
from app.stats import PipelineStats


def instruments(stats: PipelineStats, outputs: Sequence[OutputMeter]) -> dict[str, Any]:
    """Rates per second, times in ms as [p50, p95, p99], null where there is no figure yet."""
    figures = [meter.figures() for meter in outputs]
    return {
        "state": stats.state,
        "fps": round(stats.fps, 2),
        "capture_fps": round(stats.capture_fps, 2),
        "captured": stats.captured,
        "processed": stats.processed,
        "dropped": dict(stats.dropped),
        "age_ms": _rounded(stats.age_ms),
        "stages_ms": {name: _rounded(values) for name, values in stats.stages_ms.items()},
        "outputs": [
            {
                "name": each.name,
                "delivered": each.delivered,
                "dropped": each.dropped,
                "waiting": each.waiting,
                "trouble": each.trouble,
            }
            for each in figures
        ],
    }


def _rounded(values: Sequence[float]) -> list[float | None]:
    return [None if math.isnan(value) else round(value, 2) for value in values]
