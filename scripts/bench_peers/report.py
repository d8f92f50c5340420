"""Medians and ratios of all rounds, the verdict on the boxes, and a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from statistics import median
from typing import Any

from scripts.bench_peers.boxes import compare
from scripts.bench_peers.registry import REFERENCE, Peer
from scripts.bench_peers.rounds import Outcome


def summarise(
    outcomes: Mapping[str, Outcome], peers: Mapping[str, Peer], *, threshold: float
) -> dict[str, Any]:
    """By peer: every round, medians, how many times faster Kestrel is, and whether the boxes agree.

    ``times`` are ratios of medians, above 1 where Kestrel is ahead; absent and failed peers keep
    their line, with the reason.
    """
    rows: dict[str, Any] = {}
    for name, outcome in outcomes.items():
        row: dict[str, Any] = {"what": peers[name].what}
        rows[name] = row
        if outcome.absent is not None:
            row["absent"] = outcome.absent
        elif outcome.failed is not None:
            row["failed"] = outcome.failed
        if not outcome.fps:
            continue
        row["fps"] = [round(value, 2) for value in outcome.fps]
        row["cpu_ms"] = [round(value, 3) for value in outcome.cpu_ms]
        row["median_fps"] = round(median(outcome.fps), 2)
        row["median_cpu_ms"] = round(median(outcome.cpu_ms), 3)
        row["detail"] = outcome.detail
        row["against"] = peers[name].against
        ours = outcomes[peers[name].against]
        if name == REFERENCE or not ours.fps:
            continue
        row["times"] = round(median(ours.fps) / median(outcome.fps), 3)
        row["times_cpu"] = round(median(outcome.cpu_ms) / median(ours.cpu_ms), 3)
        tolerance = peers[name].tolerance
        if tolerance is None:
            row["boxes"] = "another network: not compared"
            continue
        verdict = compare(ours.frames, outcome.frames, tolerance, threshold=threshold)
        row["boxes"] = {"tolerance": asdict(tolerance), **asdict(verdict)}
    return rows


def passed(rows: Mapping[str, Any]) -> bool:
    """No peer failed and no box differs; an absent peer fails nothing, it is only told."""
    for row in rows.values():
        boxes = row.get("boxes")
        if "failed" in row or (isinstance(boxes, dict) and not boxes["same"]):
            return False
    return "fps" in rows[REFERENCE]


def text_table(rows: Mapping[str, Any]) -> str:
    """For a person to read."""
    lines = [("peer", "FPS", "CPU ms/frame", "Kestrel is", "boxes")]
    for name, row in rows.items():
        if "fps" not in row:
            reason = f"failed: {row['failed']}" if "failed" in row else f"absent: {row['absent']}"
            lines.append((name, "–", "–", "–", reason))
            continue
        times = f"{row['times']:.2f}× as fast" if "times" in row else ""
        if times and row["against"] != REFERENCE:
            times += f" ({row['against']})"
        told = _boxes(row.get("boxes"))
        if "failed" in row:
            told = f"failed later: {row['failed']}"
        lines.append((name, f"{row['median_fps']:.1f}", f"{row['median_cpu_ms']:.2f}", times, told))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    padded = (map(str.ljust, line, widths) for line in lines)
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


def _boxes(boxes: Any) -> str:
    if not isinstance(boxes, dict):
        return boxes or ""
    near = f", {boxes['borderline']} at the threshold" if boxes["borderline"] else ""
    if not boxes["compared"]:
        return "none to compare"
    if not boxes["same"]:
        return f"{boxes['alone']} of {boxes['compared']} DIFFER{near}; {boxes['example']}"
    but = f" but {boxes['alone']}" if boxes["alone"] else ""
    return f"the same {boxes['compared']}{but} (≤ {boxes['worst_px']:.2f} px{near})"
