"""What does a run say at its end?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

from app.config import Config
from app.power import EnergySink
from app.sinks.summary import SummarySink
from app.stats import PipelineStats


def report(
    config: Config,
    error: BaseException | None,
    stats: PipelineStats,
    summary: SummarySink,
    remarks: Sequence[str],
    energy: EnergySink | None = None,
) -> None:
    """Say what was seen, also when the run ended by an error; then raise that."""
    if stats.processed or error is None:
        out = sys.stderr if config.json == "-" else sys.stdout
        _print_summary(stats, summary, remarks, energy, out)
    if error is not None:
        raise error


def _print_summary(
    stats: PipelineStats,
    summary: SummarySink,
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
    for i, line in enumerate(summary.lines()):
        lines.append(f"{'seen' if i == 0 else '':8} {line}")
    print("\n".join(lines), file=out)
