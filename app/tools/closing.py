"""What does a run say at its end?"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from app.config import Config
from app.power import EnergySink
from app.sinks.summary import SummarySink
from app.stats import PipelineStats


def report(
    config: Config,
    error: BaseException | None,
    stats: PipelineStats,
    summaries: Mapping[str, SummarySink],
    remarks: Sequence[str],
    energy: EnergySink | None = None,
) -> None:
    """Say what was seen, source by source, also when an error ended the run; then raise that."""
    if stats.processed or error is None:
        out = sys.stderr if config.json == "-" else sys.stdout
        _print_summary(stats, summaries, remarks, energy, out)
    if error is not None:
        raise error


def _print_summary(
    stats: PipelineStats,
    summaries: Mapping[str, SummarySink],
    remarks: Sequence[str],
    energy: EnergySink | None,
    out: TextIO,
) -> None:
    dropped = ", ".join(f"{n} {reason}" for reason, n in sorted(stats.dropped.items())) or "none"
    counts = f"{stats.processed} processed, {stats.captured} captured"
    lines = [f"frames   {counts}; dropped: {dropped}"]
    if stats.processed:
        p50, p95, p99 = stats.age_ms
        lines.append(f"FPS      {stats.overall_fps:.1f}")
        lines.append(f"age      p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms")
        if energy is not None:
            lines.append(f"energy   {energy.energy().line()}")
    lines += [f"{'engine' if i == 0 else '':8} {line}" for i, line in enumerate(remarks)]
    if stats.events:
        happened = ", ".join(f"{n} {event}" for event, n in sorted(stats.events.items()))
        lines.append(f"events   {happened}")
    for name, each in stats.sources.items():
        lost = sum(each.dropped.values())
        figures = f"{each.processed} processed, {lost} dropped, {each.overall_fps:.1f} FPS"
        if each.processed:
            figures += f", age p50 {each.age_ms[0]:.1f} ms, p99 {each.age_ms[2]:.1f} ms"
        lines.append(f"{'source':8} {name} ({each.state}): {figures}")
    seen = [
        f"{name + ': ' if name else ''}{line}"
        for name, summary in summaries.items()
        for line in summary.lines()
    ]
    lines += [f"{'seen' if i == 0 else '':8} {line}" for i, line in enumerate(seen)]
    print("\n".join(lines), file=out)
