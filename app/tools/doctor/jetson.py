"""Does this machine run as fast as it could: power mode, clocks, temperature?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from app.tools.doctor.finding import Finding, Section, only, warning
from app.tools.doctor.opencv import is_jetson
from app.tools.doctor.probe import Probe

HOT_C = 85.0  # a Jetson slows down from about 97 on
GPU_CLOCKS = (
    "/sys/class/devfreq/17000000.gpu",  # Orin
    "/sys/class/devfreq/17000000.ga10b",
    "/sys/class/devfreq/17000000.gv11b",  # Xavier
    "/sys/class/devfreq/57000000.gpu",  # Nano
)
CPU_CLOCK = "/sys/devices/system/cpu/cpu0/cpufreq"


@dataclass(frozen=True, slots=True)
class SpeedFacts:
    """``modes``: nvpmodel's, by number. Clocks in kHz (CPU) and Hz (GPU) as (lowest, highest)."""

    board: str | None  # None: no Jetson
    release: str | None
    mode: int | None
    modes: Mapping[int, str]
    cpu_clock: tuple[int, int] | None
    gpu_clock: tuple[int, int] | None
    governor: str | None
    scaling_driver: str | None
    hottest_c: float | None


def gather(probe: Probe) -> SpeedFacts:
    """From sysfs and nvpmodel; none of it needs root."""
    jetson = is_jetson(probe)
    modes = {
        int(number): name
        for number, name in re.findall(
            r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", probe.read("/etc/nvpmodel.conf") or ""
        )
    }
    gpu = probe.first(GPU_CLOCKS)
    return SpeedFacts(
        board=(probe.read("/proc/device-tree/model") or "unknown board") if jetson else None,
        release=_release(probe.read("/etc/nv_tegra_release")) if jetson else None,
        mode=_mode(probe) if jetson else None,
        modes=modes,
        cpu_clock=_range(probe, CPU_CLOCK, ("scaling_min_freq", "scaling_max_freq")),
        gpu_clock=_range(probe, gpu, ("min_freq", "max_freq")) if gpu else None,
        governor=probe.read(f"{CPU_CLOCK}/scaling_governor"),
        scaling_driver=probe.read(f"{CPU_CLOCK}/scaling_driver"),
        hottest_c=_hottest(probe),
    )


def _release(text: str | None) -> str | None:
    """ "# R36 (release), REVISION: 4.3, …" is L4T 36.4.3."""
    found = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", text or "")
    return f"L4T {found[1]}.{found[2]}" if found else None


def _mode(probe: Probe) -> int | None:
    told = re.search(r"^(\d+)\s*$", probe.run(["nvpmodel", "-q"]).out, re.M)
    kept = re.search(r"pmode:(\d+)", probe.read("/var/lib/nvpmodel/status") or "")
    found = told or kept
    return int(found[1]) if found else None


def _range(probe: Probe, folder: str, names: tuple[str, str]) -> tuple[int, int] | None:
    low, high = (probe.read(f"{folder}/{name}") for name in names)
    if low is None or high is None or not (low.isdigit() and high.isdigit()):
        return None
    return int(low), int(high)


def _hottest(probe: Probe) -> float | None:
    texts = (probe.read(name) for name in probe.glob("/sys/class/thermal/thermal_zone*/temp"))
    degrees = [int(text) / 1000 for text in texts if text and text.lstrip("-").isdigit()]
    return max(degrees, default=None)


def fastest_mode(modes: Mapping[int, str]) -> int | None:
    """MAXN_SUPER before MAXN before the most watts."""

    def rank(number: int) -> tuple[int, int]:
        name = modes[number].upper()
        watts = re.search(r"(\d+)W", name)
        return ("MAXN" in name) + ("SUPER" in name), int(watts[1]) if watts else 0

    return max(modes, key=rank) if modes else None


def check_power_mode(facts: SpeedFacts) -> Finding | None:
    """A Jetson comes in a mode below its best."""
    best = fastest_mode(facts.modes)
    if facts.board is None or facts.mode is None or best is None or facts.mode == best:
        return None
    now = facts.modes.get(facts.mode, str(facts.mode))
    return warning(f"the power mode is {now}, not {facts.modes[best]}", f"sudo nvpmodel -m {best}")


def check_clocks(facts: SpeedFacts) -> Finding | None:
    """After jetson_clocks the lowest clock is the highest."""
    if facts.board is None:
        return None
    ranges = {"CPU": facts.cpu_clock, "GPU": facts.gpu_clock}
    moving = [name for name, span in ranges.items() if span and span[0] < span[1]]
    if not moving:
        return None
    return warning(
        f"the clocks of {' and '.join(moving)} move with the load, which costs latency",
        "sudo jetson_clocks (at every start: scripts/install_service --system --jetson-clocks)",
    )


def check_governor(facts: SpeedFacts) -> Finding | None:
    """intel_pstate's "powersave" is its usual one, and quick; elsewhere it is the lowest clock."""
    if facts.governor != "powersave" or facts.scaling_driver in ("intel_pstate", "amd-pstate-epp"):
        return None
    return warning(
        "the CPU's governor is powersave, which keeps its lowest clock",
        "sudo cpupower frequency-set -g schedutil",
    )


def check_heat(facts: SpeedFacts) -> Finding | None:
    """Slower soon."""
    if facts.hottest_c is None or facts.hottest_c < HOT_C:
        return None
    return warning(
        f"{facts.hottest_c:.0f} °C: it is about to slow down",
        "clean or add a fan, or lower the mode",
    )


CHECKS = (check_power_mode, check_clocks, check_governor, check_heat)


def look(probe: Probe) -> Section:
    """The subject."""
    facts = gather(probe)
    lines = []
    if facts.board:
        mode = "unknown" if facts.mode is None else facts.modes.get(facts.mode, str(facts.mode))
        lines.append(f"{facts.board}, {facts.release or 'unknown release'}, power mode {mode}")
    heat = "unknown" if facts.hottest_c is None else f"{facts.hottest_c:.0f} °C"
    lines.append(f"governor {facts.governor or 'unknown'}, hottest {heat}")
    return Section("speed", lines, asdict(facts), only(check(facts) for check in CHECKS))
