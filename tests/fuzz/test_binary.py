"""A thousand malformed networks, pictures and clips: native decoders, each batch in a child.

A decoder that crashes takes its child with it, and the file that did it is still there.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from app.core.errors import KestrelError, SourceEnded
from app.models.importer import draft_model, read_graph
from app.sources.uri import make_source
from tests.blob_detector import save_blob_detector
from tests.fuzz.mutate import spoilt
from tests.shelf_kit import ROOT, rows, save_graph


def network(path: Path) -> None:
    read_graph(path)
    draft_model(path, labels=["thing"])


def frames(path: Path) -> None:
    """All of the file's frames, as a replay reads them."""
    source = make_source(str(path), realtime=False, isolate=False)
    try:
        source.open()
        while (frame := source.read(1.0)) is None or frame.index < 20:
            assert frame is None or frame.pixels.dtype == np.uint8
    except SourceEnded:
        pass
    finally:
        source.close()


READERS: dict[str, Callable[[Path], None]] = {
    ".onnx": network,
    **dict.fromkeys((".jpg", ".png", ".bmp", ".webp", ".gif", ".mp4", ".avi"), frames),
}


def sound_files(folder: Path, *suffixes: str) -> list[Path]:
    picture = np.random.default_rng(1).integers(0, 255, (24, 32, 3), np.uint8)
    if ".onnx" in suffixes:
        return [
            save_blob_detector(folder),
            save_graph(folder / "x.onnx", {"o": rows(84, 1)[None]}, metadata={"names": "{0: 'a'}"}),
        ]
    found = []
    for suffix in suffixes:
        path = folder / f"sound{suffix}"
        if suffix in (".mp4", ".avi"):
            code = cv2.VideoWriter.fourcc(*("mp4v" if suffix == ".mp4" else "MJPG"))
            writer = cv2.VideoWriter(str(path), code, 10, (32, 24))
            for i in range(6):
                writer.write(np.roll(picture, i, 1))
            writer.release()
        elif suffix == ".gif":
            from PIL import Image

            stills = [Image.fromarray(np.roll(picture, i, 1)) for i in range(3)]
            stills[0].save(path, save_all=True, append_images=stills[1:], duration=40)
        else:
            cv2.imwrite(str(path), picture)
        found.append(path)
    return found


def main(folder: Path, count: int, suffixes: list[str]) -> None:
    """In the child: every one is refused clearly or read; of each suffix the number of refusals is
    printed."""
    now = folder / "now"
    now.mkdir()
    for suffix in suffixes:
        sound = [path.read_bytes() for path in folder.glob(f"*{suffix}")]
        refused = 0
        path = now / f"now{suffix}"
        for data in spoilt(sound, count):
            path.write_bytes(data)
            try:
                READERS[suffix](path)
            except KestrelError:
                refused += 1
        path.unlink()
        sys.stdout.write(f"{refused}\n")


@pytest.mark.parametrize(
    ("suffixes", "each"),
    [
        ((".onnx",), 1000),
        ((".jpg", ".png", ".bmp", ".webp", ".gif"), 200),
        ((".mp4", ".avi"), 500),
    ],
    ids=["networks", "pictures", "clips"],
)
def test_a_thousand_malformed_files_crash_no_decoder(
    suffixes: tuple[str, ...], each: int, tmp_path: Path
) -> None:
    sound_files(tmp_path, *suffixes)
    words = [sys.executable, "-m", "tests.fuzz.test_binary", str(tmp_path), str(each), *suffixes]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=170)
    kept = list((tmp_path / "now").iterdir())
    assert done.returncode == 0, f"{done.returncode}: {kept}\n{done.stderr[-2000:]}"
    refused = [int(word) for word in done.stdout.split()]
    assert len(refused) == len(suffixes) and min(refused) > each / 20, "some were malformed"


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
