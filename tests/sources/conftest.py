"""What the source tests share: clips that the tests make themselves, and where real ones lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from clip_maker import write_clip

from app.core.errors import SourceEnded


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """40 H.264 frames, 160x120, 20 fps, its index before the data."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return write_clip(path, movflags="faststart")


@pytest.fixture(scope="session")
def clip_index_last(tmp_path_factory) -> Path:
    """The same with its index behind the data, as recorders write it."""
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4")


@pytest.fixture(scope="session")
def assets() -> Path:
    """Real clips, where this checkout has them beside it."""
    here = Path(__file__).parents[2].parent / "shared/assets"
    path = Path(os.environ.get("KESTREL_ASSETS", here))
    if not (path / "MANIFEST.json").exists():
        pytest.skip(f"no real clips at {path} (set KESTREL_ASSETS)")
    return path


@pytest.fixture
def read_all():
    """Opens a source, takes frames until its end (at most ``limit``), closes it."""

    def read_all(source, limit: int = 100_000):
        source.open()
        frames = []
        try:
            while len(frames) < limit:
                frame = source.read(5.0)
                if frame is not None:
                    frames.append(frame)
        except SourceEnded:
            pass
        finally:
            source.close()
        return frames

    return read_all
