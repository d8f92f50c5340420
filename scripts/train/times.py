"""What networks cost: processor time of one thread, in turn, beside the first of them.

    python -m scripts.train.times yolox_nano_416@320 kestrel kestrel_small net.onnx@320x192

Models by name or manifest, at their own input or the one after ``@``, or ONNX files. They take
turns, so that a busy machine is equally busy for each; the median over the rounds is told.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from app.models.onnx_edit import with_input
from app.models.onnx_session import open_session
from app.models.store import find_model
from scripts.train.command import guarded, parser


def opened(text: str, folder: Path) -> tuple[Path, int, int]:
    """The file, its input's width and height; a copy in ``folder`` where it takes others only."""
    name, _, size = text.partition("@")
    if name.endswith(".onnx"):
        weights, wide, high = Path(name), 320, 320
    else:
        model = find_model(name)
        weights, (wide, high) = model.weights, model.spec.input.size_wh
    if size:
        parts = size.split("x")
        if not all(part.isdecimal() for part in parts) or len(parts) > 2:
            raise ValueError(f"{text}: write NAME@320 or NAME@320x192")
        wide, high = int(parts[0]), int(parts[-1])
    return with_input(weights, (1, 3, high, wide), folder), wide, high


def main(arguments: list[str] | None = None) -> None:
    asked = parser("scripts.train.times", __doc__)
    asked.add_argument("networks", nargs="+", metavar="MODEL_OR_FILE[@SIZE]")
    asked.add_argument("--rounds", type=int, default=100)
    a = asked.parse_args(arguments)
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for text in a.networks:
            file, wide, high = opened(text, Path(folder))
            session = open_session(file, threads=1)
            pixels = np.random.default_rng(0).integers(0, 256, (1, 3, high, wide))
            feed = {session.get_inputs()[0].name: pixels.astype(np.float32)}
            runs.append((session, feed))
        spent = np.zeros((a.rounds, len(runs)))
        for row in range(-max(5, a.rounds // 10), a.rounds):  # the first ones are not counted
            for i, (session, feed) in enumerate(runs):
                began = time.thread_time()
                session.run(None, feed)
                if row >= 0:
                    spent[row, i] = time.thread_time() - began
    medians = np.median(spent, 0) * 1000
    for text, median in zip(a.networks, medians, strict=True):
        print(f"{text:40} {median:7.2f} ms  {median / medians[0]:.3f}", flush=True)


if __name__ == "__main__":
    sys.exit(guarded(main))
