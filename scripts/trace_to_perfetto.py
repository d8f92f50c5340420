"""Turns a trace of `run --trace FILE` into one for https://ui.perfetto.dev or chrome://tracing.

python scripts/trace_to_perfetto.py FILE OUT.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from app.core.errors import KestrelError
from app.ops.flight import read_trace
from app.ops.retrace import chrome_trace


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
