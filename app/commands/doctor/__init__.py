"""``doctor``: examines the machine and prints what is wrong with the cures.

Exit code 2 if nothing can run, else 0.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from ... import __version__
from ...core.errors import ConfigError
from . import devices, host
from .probe import Probe, Section

Subject = Callable[[Probe], Section]
SUBJECTS: tuple[Subject, ...] = (
    *(host.look_system, devices.look_gpu, host.look_inference),
    *(devices.look_opencv, devices.look_cameras, devices.look_gstreamer, devices.look_window),
    *(host.look_jetson, host.look_power, host.look_storage, host.look_models),
)
AT_ONCE = 4  # most of the time is children that load libraries
MARKS = {"error": "WRONG", "warning": "warning"}


def run_doctor(*, as_json: bool, subjects: Sequence[Subject] = SUBJECTS) -> int:
    """Look, tell, and give the exit code."""
    sections = examine(Probe(), subjects)
    healthy = not any(f.level == "error" for section in sections for f in section.findings)
    print(_json(sections, healthy) if as_json else "\n".join(_lines(sections)))
    return 0 if healthy else ConfigError.exit_code


def examine(probe: Probe, subjects: Sequence[Subject]) -> list[Section]:
    """All subjects in order. One that meets something unforeseen is told, and the others go on."""

    def look(subject: Subject) -> Section:
        try:
            return subject(probe)
        except Exception as fault:
            name = subject.__name__.removeprefix("look_")
            told = f"{type(fault).__name__}: {fault}"
            section = Section(name, ["could not be examined"], {})
            section.warn(f"{name} could not be examined ({told})", "please report this")
            return section

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(look, subjects))


def _json(sections: Sequence[Section], healthy: bool) -> str:
    report = {
        "kestrel": __version__,
        "can_run": healthy,
        "facts": {section.name: section.facts for section in sections},
        "findings": [
            {"subject": section.name, **asdict(finding)}
            for section in sections
            for finding in section.findings
        ],
    }
    return json.dumps(report, indent=1, default=str, allow_nan=False)


def _lines(sections: Sequence[Section]) -> list[str]:
    width = max(len(section.name) for section in sections) + 2
    lines = []
    for section in sections:
        for i, line in enumerate(section.lines):
            lines.append(f"{section.name if i == 0 else '':{width}}{line}")
    found = [finding for section in sections for finding in section.findings]
    lines.append("")
    if not found:
        lines.append("Nothing is wrong.")
    for finding in sorted(found, key=lambda f: f.level != "error"):
        lines.append(f"{MARKS[finding.level]}: {finding.what}")
        lines.append(f"    cure: {finding.cure}")
    return lines
