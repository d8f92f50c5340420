"""Turns a trace of `run --trace FILE` into one for https://ui.perfetto.dev or chrome://tracing.

python scripts/trace_to_perfetto.py FILE OUT.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from app.core.errors import KestrelError
from app.ops.flight import Trace, read_trace

TRACKS = {"capture": 1, "waiting": 2, "inference": 3, "state": 4}
DROPS = ("replaced", "stale")


def chrome_trace(trace: Trace) -> dict[str, Any]:
    """Waiting and inference as spans, arrivals and drops as instants, ages as a counter; in µs."""
    start_ns = trace.events[0][1] if trace.events else 0
    out: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "tid": tid, "name": "thread_name", "args": {"name": name}}
        for name, tid in TRACKS.items()
    ]

    def us(time_ns: int) -> float:
        return (time_ns - start_ns) / 1e3

    def instant(track: str, name: str, time_ns: int, **args: Any) -> None:
        event = {"ph": "i", "s": "t", "pid": 1, "tid": TRACKS[track], "ts": us(time_ns)}
        out.append({**event, "name": name, "args": args})

    def span(track: str, name: str, begin_ns: int, end_ns: int, key: str, **args: Any) -> None:
        # asynchronous: several frames are in flight at a time
        common = {"pid": 1, "tid": TRACKS[track], "cat": track, "id": key, "name": name}
        out.append({**common, "ph": "b", "ts": us(begin_ns), "args": args})
        out.append({**common, "ph": "e", "ts": us(end_ns)})

    put_ns: dict[int, int] = {}
    kept_ns: dict[int, int] = {}
    for event in trace.events:
        kind, time_ns, index = event[:3]
        if kind == "put":
            put_ns[index] = time_ns
            instant("capture", f"frame {index}", time_ns)
        elif kind in DROPS:
            instant("waiting", f"{kind} {index}", time_ns, frame=index)
            put_ns.pop(index, None)
        elif kind == "kept":
            kept_ns[index] = time_ns
            if index in put_ns:
                span("waiting", f"frame {index}", put_ns.pop(index), time_ns, f"w{index}")
        elif kind == "result":
            age_ns, stages_ns, boxes = event[3:6]
            stages_ms = {name: ns / 1e6 for name, ns in stages_ns.items()}
            if index in kept_ns:
                key, begin_ns = f"i{index}", kept_ns.pop(index)
                span("inference", f"frame {index}", begin_ns, time_ns, key, **stages_ms)
            args = {"age_ms": age_ns / 1e6}
            out.append({"ph": "C", "pid": 1, "ts": us(time_ns), "name": "age", "args": args})
            args = {"boxes": len(boxes)}
            out.append({"ph": "C", "pid": 1, "ts": us(time_ns), "name": "boxes", "args": args})
        elif kind in ("state", "error"):
            instant("state", str(event[3]), time_ns)
    return {"traceEvents": out, "displayTimeUnit": "ms", "otherData": dict(trace.header)}


def main(words: list[str]) -> int:
    """Exit code 0, or 2 with one line of what is wrong."""
    if len(words) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        text = json.dumps(chrome_trace(read_trace(Path(words[0]))))
        Path(words[1]).write_text(text, encoding="utf-8")
    except (KestrelError, OSError) as fault:
        print(f"trace_to_perfetto: {fault}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
