"""Who is asked, in which order, and how is it told? Exit code 2 if nothing can run, else 0."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from app import __version__
from app.errors import ConfigError
from app.tools.doctor import (
    cameras,
    gpu,
    gstreamer,
    inference,
    jetson,
    models,
    opencv,
    power,
    storage,
    system,
    window,
)
from app.tools.doctor.finding import Section, warning
from app.tools.doctor.probe import Probe

Subject = Callable[[Probe], Section]
SUBJECTS: tuple[Subject, ...] = (
    *(system.look, gpu.look, inference.look, opencv.look, cameras.look, gstreamer.look),
    *(window.look, jetson.look, power.look, storage.look, models.look),
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
            name = subject.__module__.rpartition(".")[2]
            told = f"{type(fault).__name__}: {fault}"
            unseen = warning(f"{name} could not be examined ({told})", "please report this")
            return Section(name, ["could not be examined"], {}, [unseen])

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
    return json.dumps(report, indent=1, default=str)


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
