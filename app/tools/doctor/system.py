"""Which system, processor, memory and limits are there?"""

from __future__ import annotations

import os
import platform
import re
import resource
from dataclasses import asdict, dataclass

from app import __version__
from app.tools.doctor.finding import Finding, Section, only, warning
from app.tools.doctor.probe import Probe
from app.tools.machine import device

LEAST_MEMORY_MB = 500
LEAST_FILES = 1024
PACKAGES = ("numpy", "av")


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """Memory in MB; ``open_files`` is the soft limit of descriptors."""

    kestrel: str
    system: str
    python: str
    cpu: str
    cores: int
    memory_mb: int | None
    available_mb: int | None
    open_files: int
    packages: dict[str, str | None]


def gather(probe: Probe) -> SystemFacts:
    """Read them."""
    machine = device()
    memory = _meminfo(probe.read("/proc/meminfo") or "")
    release = re.search(r'^PRETTY_NAME="?([^"\n]+)', probe.read("/etc/os-release") or "", re.M)
    return SystemFacts(
        kestrel=__version__,
        system=f"{release[1] if release else platform.system()}, {platform.platform()}",
        python=str(machine["python"]),
        cpu=str(machine["cpu"]),
        cores=len(os.sched_getaffinity(0)),
        memory_mb=memory.get("MemTotal"),
        available_mb=memory.get("MemAvailable"),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        packages={name: probe.version(name) for name in PACKAGES},
    )


def _meminfo(text: str) -> dict[str, int]:
    """MB by name."""
    pairs = re.findall(r"^(\w+):\s+(\d+) kB", text, re.M)
    return {name: int(kb) // 1024 for name, kb in pairs}


def check_memory(facts: SystemFacts) -> Finding | None:
    """A run takes about 160 MB, TensorRT's builder far more."""
    if facts.available_mb is None or facts.available_mb >= LEAST_MEMORY_MB:
        return None
    return warning(
        f"only {facts.available_mb} MB of memory are free",
        "end other programs, run with --headless, or add swap (Jetson: zram)",
    )


def check_open_files(facts: SystemFacts) -> Finding | None:
    """Cameras, streams, outputs and the GPU take some tens of descriptors each."""
    if facts.open_files == resource.RLIM_INFINITY or facts.open_files >= LEAST_FILES:
        return None
    return warning(
        f"the limit of open files is {facts.open_files}",
        f"ulimit -n {LEAST_FILES}, or LimitNOFILE= in the service",
    )


def look(probe: Probe) -> Section:
    """The subject."""
    facts = gather(probe)
    memory = "unknown"
    if facts.memory_mb is not None:
        memory = f"{facts.memory_mb} MB, {facts.available_mb} MB free"
    packages = ", ".join(f"{name} {version}" for name, version in facts.packages.items() if version)
    lines = [
        f"Kestrel {facts.kestrel}, Python {facts.python}, {packages}",
        facts.system,
        f"{facts.cpu}, {facts.cores} cores; memory {memory}; open files {facts.open_files}",
    ]
    return Section(
        "system",
        lines,
        asdict(facts),
        only(check(facts) for check in (check_memory, check_open_files)),
    )
