"""Short films in which a square wanders, a detector that finds it, and the command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np

from app.archive.results import file_names
from tests.blob_detector import save_blob_detector

ROOT = Path(__file__).parents[2]
FPS = 20


def film(path: Path, *, frames: int, seed: int = 1, codec: str = "libx264", **options: str) -> Path:
    """64 x 64: a white square on dim noise, B-frames, a key frame every 10 frames."""
    noise = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=FPS)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.options = {"g": "10", "bf": "2", "crf": "10", **options}
        for index in range(frames):
            pixels = noise.integers(0, 60, (64, 64, 3), np.uint8)
            left = 8 * (seed % 5) + index // 8 % 4 * 4
            if index % 40 < 30:  # it also goes, and comes back
                pixels[24:40, left : left + 16] = 255
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    return path


def make_films(folder: Path) -> Path:
    """One of 6 s, four of 1 s in a folder of their own, and one that is none."""
    film(folder / "long.mp4", frames=120)
    for number in range(4):
        film(folder / "cam 1" / f"{number}.mkv", frames=20, seed=number)
    (folder / "bad.mp4").write_text("no film")
    return folder


def command(clips: Path, out: Path, model: Path, *words: str) -> list[str]:
    """``archive`` in a process of its own."""
    how = ["--out", str(out), "--model", str(model), *words]
    return [sys.executable, "-m", "app", "archive", str(clips), *how]


def archive(clips: Path, out: Path, model: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    words = ("--processes", "2", *words) if "--cluster" not in words else words
    return subprocess.run(
        command(clips, out, model, *words), cwd=ROOT, capture_output=True, text=True, timeout=150
    )


def contents(out: Path) -> dict[str, bytes]:
    """All files of results, by their path, and those that were set aside."""
    files = [*(out / "clips").rglob("*.*"), out / "aside.jsonl"]
    return {str(each.relative_to(out)): each.read_bytes() for each in files if each.is_file()}


def rows(path: Path) -> list[dict[str, Any]]:
    """Of JSON lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def blob_model(folder: Path) -> Path:
    """The detector's manifest."""
    folder.mkdir()
    save_blob_detector(folder)
    return folder / "blob.toml"


def is_complete(out: Path, name: str) -> bool:
    """Whether the clip has all of its files."""
    return all((out / "clips" / name / each).is_file() for each in file_names())
