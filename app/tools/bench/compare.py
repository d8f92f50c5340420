"""`bench --compare A.json B.json`: what became faster or slower between two reports?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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
        return _table(first, second, a, b)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as fault:
        raise ConfigError(
            f"{first} and {second} are not two reports of `bench --json`: {fault!r}"
        ) from fault


def _table(first: Path, second: Path, a: dict[str, Any], b: dict[str, Any]) -> str:
    kinds = [report.get("kind", "run") for report in (a, b)]
    if kinds[0] != kinds[1]:
        raise ConfigError(f"{first} is of kind {kinds[0]}, {second} of kind {kinds[1]}")
    lines = []
    for key in ("model", "engine", "kestrel"):
        if key in a or key in b:
            lines.append(_both(key, a.get(key), b.get(key)))
    lines.append(_both("source", *(_source(report) for report in (a, b))))
    lines.append(_both("cpu", a["device"].get("cpu"), b["device"].get("cpu")))
    rows = list(_ROWS[kinds[0]](a, b))
    width = max(24, *(len(row.name) + 1 for row in rows)) if rows else 24
    lines += ["", f"{'':{width}}{'A':>10}{'B':>10}{'B / A':>9}"]
    for row in rows:
        ratio = f"{row.b / row.a:9.2f}" if row.a else f"{'–':>9}"
        lines.append(f"{row.name:{width}}{row.a:10.2f}{row.b:10.2f}{ratio}  {row.verdict}".rstrip())
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
    wanted = _PARTS.get(parts.get("kind", "run"), {"kind": dict})
    if not all(isinstance(parts.get(k), kind) for k, kind in wanted.items()):
        raise ConfigError(f"{path} is no report of `bench --json`")
    return parts


def _both(name: str, a: Any, b: Any) -> str:
    return f"{name:10}{a}" if a == b else f"{name:10}A: {a}\n{'':10}B: {b}"


def _source(report: dict[str, Any]) -> Any:
    return report.get("source") or report.get("throughput", {}).get("source")


def _run_rows(a: dict[str, Any], b: dict[str, Any]) -> Iterator[Row]:
    """The figures that both have."""
    stages = (report["throughput"].get("stages_ms", {}) for report in (a, b))
    yield from _pairs(
        *({f"{stage} p50, ms": ms and ms["p50"] for stage, ms in each.items()} for each in stages)
    )
    for part, key, name, better in (
        ("throughput", "overall_fps", "throughput, FPS", "more"),
        ("overload", "overall_fps", "overload, FPS", "more"),
        ("overload", "service_ms", "service time, ms", "less"),
        ("alone", "work_ms", "work alone, ms", "less"),
        ("energy", "joules_per_frame", "energy, J a frame", "less"),
    ):
        yield from _pairs(*({name: r.get(part, {}).get(key)} for r in (a, b)), better=better)
    for part, name in (("live", "age live"), ("overload", "age under load")):
        ages = (r.get(part, {}).get("age_ms", {}) for r in (a, b))
        yield from _pairs(
            *({f"{name} {q}, ms": each.get(q) for q in ("p50", "p99")} for each in ages)
        )
    yield from _pairs(*({"memory, MB": r.get("rss_mb")} for r in (a, b)))


def _sweep_rows(a: dict[str, Any], b: dict[str, Any]) -> Iterator[Row]:
    """Configurations that ran in both."""
    points = ({f"{p['name']}, FPS": p["fps"] for p in r["points"]} for r in (a, b))
    yield from _pairs(*points, better="more")


def _startup_rows(a: dict[str, Any], b: dict[str, Any]) -> Iterator[Row]:
    parts = (
        {name.removesuffix("_ms").replace("_", " ") + ", ms": ms for name, ms in each.items()}
        for each in (r["parts_ms"] | {"command to first boxes": r["total_ms"]} for r in (a, b))
    )
    yield from _pairs(*parts)


def _pairs(
    a: Mapping[str, float | None], b: Mapping[str, float | None], *, better: str = "less"
) -> Iterator[Row]:
    """What both know."""
    for name, before in a.items():
        after = b.get(name)
        if before is not None and after is not None:
            yield Row(name, before, after, better)


_ROWS = {"run": _run_rows, "sweep": _sweep_rows, "startup": _startup_rows}
_PARTS: Mapping[str, Mapping[str, type]] = {
    "run": {"throughput": dict, "overload": dict, "device": dict},
    "sweep": {"points": list, "device": dict},
    "startup": {"parts_ms": dict, "device": dict},
}
