"""The application as a process of its own, for tests of whole runs, and what it has written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

ROOT = Path(__file__).parents[1]
APP = (sys.executable, "-m", "app")


def start(
    *words: str, more: Mapping[str, str] | None = None, program: Sequence[str] = APP, **options: Any
) -> subprocess.Popen[str]:
    """Both its outputs are pipes unless ``options``, those of Popen, say otherwise.

    ``more``: in addition to this process's environment.
    """
    usual = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    whole = {**usual, "cwd": ROOT, "env": {**os.environ, **(more or {})}, "text": True, **options}
    return subprocess.Popen([*program, *words], **whole)


def json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def half_red(path: Path, *, frames: int) -> Path:
    """A film, green on the left, where the tiny model finds its thing, and red on the right."""
    pixels = np.zeros((120, 160, 3), np.uint8)
    pixels[:, :80], pixels[:, 80:] = (0, 160, 0), (0, 0, 255)
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=20, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for _ in range(frames):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgr24")))
        out.mux(stream.encode())
    return path
