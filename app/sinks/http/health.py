"""Is the application doing its work? Told by completed inferences, not by a living process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.output_meter import OutputMeter

WORKING = ("live", "replay")


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
    state: str,
    idle_s: float | None,
    *,
    stale_s: float,
    outputs: Sequence[OutputMeter] = (),
    sources: Mapping[str, str] | None = None,
) -> Health:
    """``idle_s``: since the last completed inference, None if there was none yet.

    ``sources``: the state of each of several: while one of them works, the others are warnings.
    """
    reasons = []
    if state == "failed":
        reasons.append("the run has failed; see the log")
    if idle_s is None:
        reasons.append(f"no inference completed yet ({state})")
    elif idle_s > stale_s:
        reasons.append(f"no inference completed for {idle_s:.0f} s ({state})")
    troubles = (meter.figures() for meter in outputs)
    warnings = [f"{each.name}: {each.trouble}" for each in troubles if each.trouble]
    away = [(name, is_) for name, is_ in (sources or {}).items() if is_ not in WORKING]
    warnings += [f"source {name}: {is_}" for name, is_ in away]
    return Health(tuple(reasons), tuple(warnings))
