"""What do the processors draw? (RAPL energy counters through sysfs: Intel, and AMD since Zen)"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic_ns

ZONES = "sys/class/powercap"
CURE = "sudo chmod o+r /sys/class/powercap/intel-rapl:*/energy_uj, or run as root"


class Rapl:
    """All packages. The counters count microjoules and wrap around."""

    covers = "CPU packages"
    averaged = True

    def __init__(
        self, zones: Sequence[Path], *, clock_ns: Callable[[], int] = monotonic_ns
    ) -> None:
        self._clock_ns = clock_ns
        self._zones = {_text(zone / "name"): zone for zone in zones}
        self._range_uj = {
            name: int(_text(zone / "max_energy_range_uj")) for name, zone in self._zones.items()
        }
        self._last: tuple[int, dict[str, int]] | None = None

    def read(self) -> Mapping[str, float]:
        """See PowerSensor."""
        now_ns, now_uj = self._clock_ns(), self.counters()
        last, self._last = self._last, (now_ns, now_uj)
        if last is None or now_ns <= last[0]:
            return {}
        then_ns, then_uj = last
        used_uj = {
            name: (uj - then_uj[name]) % (self._range_uj[name] + 1) for name, uj in now_uj.items()
        }
        # µJ over ns is kW
        return {name: uj * 1e3 / (now_ns - then_ns) for name, uj in used_uj.items()}

    def counters(self) -> dict[str, int]:
        """Microjoules by package; raises OSError."""
        try:
            return {name: int(_text(zone / "energy_uj")) for name, zone in self._zones.items()}
        except ValueError as fault:
            raise OSError(f"RAPL gives no number: {fault}") from fault


def find_rapl(
    root: Path = Path("/"), *, clock_ns: Callable[[], int] = monotonic_ns
) -> tuple[Rapl | None, str]:
    """The sensor, or why there is none that can be read."""
    # intel-rapl:0 is a package, intel-rapl:0:1 a part of it; -mmio shows the same counters again
    zones = [
        zone
        for zone in sorted((root / ZONES).glob("intel-rapl:*"))
        if zone.name.count(":") == 1 and (zone / "energy_uj").exists()
    ]
    try:
        packages = [zone for zone in zones if _text(zone / "name").startswith("package")]
        if not packages:
            return None, ""
        rapl = Rapl(packages, clock_ns=clock_ns)
        rapl.counters()
        return rapl, ""
    except PermissionError:
        return None, f"the processors' energy counters are closed to this user: {CURE}"
    except (OSError, ValueError) as fault:
        return None, f"RAPL cannot be read: {fault}"


def _text(file: Path) -> str:
    return file.read_text().strip()
