"""Does this machine tell how much power it draws?"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from app.power import find_sensors
from app.tools.doctor.finding import Section, warning
from app.tools.doctor.probe import Probe


@dataclass(frozen=True, slots=True)
class PowerFacts:
    """What the sensors cover, or why there is none."""

    covers: tuple[str, ...]
    reason: str


def look(probe: Probe) -> Section:
    """The subject. No sensor at all is no fault; one that is closed to this user is."""
    sensors, reason = find_sensors(probe.root)
    facts = PowerFacts(tuple(sensor.covers for sensor in sensors), reason)
    lines = [f"measured: {', '.join(facts.covers)}" if sensors else f"not measured: {reason}"]
    what, _, cure = reason.partition(": ")
    findings = [warning(what, cure)] if cure else []
    return Section("power", lines, asdict(facts), findings)
