"""Is the application doing its work? Told by completed inferences, not by a living process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.output_meter import OutputMeter


@dataclass(frozen=True, slots=True)
class Health:
    """``reasons`` say what is wrong, ``warnings`` what is wrong but stops no work."""

    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether frames are being processed."""
        return not self.reasons


def judge(
    state: str, idle_s: float | None, *, stale_s: float, outputs: Sequence[OutputMeter] = ()
) -> Health:
    """``idle_s``: since the last completed inference, None if there was none yet."""
    reasons = []
    if state == "failed":
        reasons.append("the run has failed; see the log")
    if idle_s is None:
        reasons.append(f"no inference completed yet ({state})")
    elif idle_s > stale_s:
        reasons.append(f"no inference completed for {idle_s:.0f} s ({state})")
    troubles = (meter.figures() for meter in outputs)
    return Health(
        tuple(reasons), tuple(f"{each.name}: {each.trouble}" for each in troubles if each.trouble)
    )
