"""`bench --compare A.json B.json`: what became faster or slower between two reports?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from app.errors import ConfigError

NOISE = 0.05  # a difference below this is not called one: machines are no quieter


class Row(NamedTuple):
    """One figure of both reports; ``better``: whether less of it is ("less") or more."""

    name: str
    a: float
    b: float
    better: str

    @property
    def verdict(self) -> str:
        """In one word; empty where the two do not differ by more than noise."""
        if not self.a or abs(self.b / self.a - 1) <= NOISE:
            return ""
        return "better" if (self.b < self.a) == (self.better == "less") else "worse"


def run_compare(first: Path, second: Path) -> int:
    """Print the table."""
    print(compare(first, second))
    return 0


def compare(first: Path, second: Path) -> str:
    """The table for people. Raises ConfigError for what is no report of `bench`."""
    a, b = (_read(path) for path in (first, second))
    try:
        return _table(a, b)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as fault:
        raise ConfigError(
            f"{first} and {second} are not two reports of `bench --json`: {fault!r}"
        ) from fault


def _table(a: dict[str, Any], b: dict[str, Any]) -> str:
    lines = []
    for key in ("model", "engine", "kestrel"):
        lines.append(_both(key, a.get(key), b.get(key)))
    lines.append(_both("source", a["throughput"].get("source"), b["throughput"].get("source")))
    lines.append(_both("cpu", a["device"].get("cpu"), b["device"].get("cpu")))
    lines += ["", f"{'':24}{'A':>10}{'B':>10}{'B / A':>9}"]
    for row in _rows(a, b):
        ratio = f"{row.b / row.a:9.2f}" if row.a else f"{'–':>9}"
        lines.append(f"{row.name:24}{row.a:10.2f}{row.b:10.2f}{ratio}  {row.verdict}".rstrip())
    lines += [
        "",
        f"differences up to {NOISE:.0%} are noise, larger ones may be: measure interleaved",
    ]
    return "\n".join(lines)


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise ConfigError(f"cannot read {path}: {fault.strerror}") from fault
    except (ValueError, RecursionError) as fault:
        raise ConfigError(f"{path} is no JSON: {fault}") from fault
    parts: dict[str, Any] = report if isinstance(report, dict) else {}
    if not all(isinstance(parts.get(k), dict) for k in ("throughput", "overload", "device")):
        raise ConfigError(f"{path} is no report of `bench --json`")
    return parts


def _both(name: str, a: Any, b: Any) -> str:
    return f"{name:10}{a}" if a == b else f"{name:10}A: {a}\n{'':10}B: {b}"


def _rows(a: dict[str, Any], b: dict[str, Any]) -> Iterator[Row]:
    """The figures that both have."""
    for stage, ms in a["throughput"].get("stages_ms", {}).items():
        other = b["throughput"].get("stages_ms", {}).get(stage)
        if other is not None:
            yield Row(f"{stage} p50, ms", ms["p50"], other["p50"], "less")
    for part, key, name, better in (
        ("throughput", "overall_fps", "throughput, FPS", "more"),
        ("overload", "overall_fps", "overload, FPS", "more"),
        ("overload", "service_ms", "service time, ms", "less"),
    ):
        if key in a[part] and key in b[part]:
            yield Row(name, a[part][key], b[part][key], better)
    for quantile in ("p50", "p99"):
        before, after = (r["overload"].get("age_ms", {}).get(quantile) for r in (a, b))
        if before is not None and after is not None:
            yield Row(f"age under load {quantile}, ms", before, after, "less")
    if "rss_mb" in a and "rss_mb" in b:
        yield Row("memory, MB", a["rss_mb"], b["rss_mb"], "less")
