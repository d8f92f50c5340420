#!/usr/bin/env python3
"""Measures how old frames grow when one process has many cameras.

    python scripts/measure_many.py [--cameras 16] [--fps 5] [--seconds 60] [--batch N] [--json FILE]

A real headless `run` of so many test patterns, all ticking together, which is the worst case; its
own JSON lines are read, the first two seconds left out. Figures want a quiet machine.
"""

from __future__ import annotations

import argparse
import datetime
import json
import resource
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from app.ops.machine import device

ROOT = Path(__file__).parents[1]
WARM_UP_S = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cameras", type=int, default=16)
    parser.add_argument("--fps", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder, "lines.jsonl")
        frames = round((a.seconds + WARM_UP_S) * a.fps)
        sources = [
            f"c{i}=pattern:?fps={a.fps:g}&frames={frames}&seed={i}" for i in range(a.cameras)
        ]
        words = [word for source in sources for word in ("--source", source)]
        command = [sys.executable, "-m", "app", "run", "--headless", *words]
        command += ["--batch", str(a.batch), "--json", str(lines)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        report = figures(lines, first_frame=round(WARM_UP_S * a.fps))
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    report |= {
        "cameras": a.cameras,
        "fps_each": a.fps,
        "batch": a.batch,
        "memory_mb": round(usage.ru_maxrss / 1024, 1),
        "date": datetime.date.today().isoformat(),
        "device": device(),
        "command": f"python scripts/measure_many.py {' '.join(sys.argv[1:])}".strip(),
    }
    p50, p95, p99 = report["age_ms"]
    print(
        f"{a.cameras} cameras at {a.fps:g} FPS: {report['frames']} frames, "
        f"{report['lost']} dropped; age p50 {p50} ms, p95 {p95} ms, p99 {p99} ms; "
        f"worst camera's p99 {report['worst_camera_p99_ms']} ms; "
        f"fewest frames of a camera {report['fewest']}, most {report['most']}; "
        f"at most {report['memory_mb']} MB"
    )
    if a.json:
        a.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def figures(lines: Path, *, first_frame: int) -> dict[str, Any]:
    """From the run's own lines; dropped frames are gaps in a camera's numbers."""
    ages: dict[str, list[float]] = defaultdict(list)
    last: dict[str, int] = {}
    for text in lines.read_text().splitlines():
        line = json.loads(text)
        if line["frame"] >= first_frame:
            ages[line["name"]].append(line["age_ms"])
            last[line["name"]] = line["frame"]
    counts = [len(each) for each in ages.values()]
    every = np.concatenate([np.array(each) for each in ages.values()])
    return {
        "frames": sum(counts),
        "lost": sum(last[name] - first_frame + 1 - len(ages[name]) for name in ages),
        "fewest": min(counts),
        "most": max(counts),
        "age_ms": [round(float(v), 1) for v in np.percentile(every, (50, 95, 99))],
        "worst_camera_p99_ms": round(max(float(np.percentile(v, 99)) for v in ages.values()), 1),
    }


if __name__ == "__main__":
    sys.exit(main())
