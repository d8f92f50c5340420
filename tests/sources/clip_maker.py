"""Makes the clips of the source tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

FRAMES, FPS, SIZE_WH_PX = 40, 20, (160, 120)


def picture(index: int) -> np.ndarray:
    """Noise, so that data cannot be squeezed away, beside a flat field that tells the index."""
    pixels = np.random.default_rng(index).integers(0, 255, (120, 160, 3), np.uint8)
    pixels[:, :80] = index * 6
    return pixels


def write_clip(path: Path, *, frames: int = FRAMES, codec: str = "libx264", **container) -> Path:
    """Encode with PyAV; keyword arguments are the muxer's options."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w", options=container) as out:
        stream = out.add_stream(codec, rate=FPS)
        stream.width, stream.height = SIZE_WH_PX
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = {"g": "10"}
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(index), format="bgr24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def trim_start(path: Path, source: Path, seconds: float) -> Path:
    """A copy that plays from ``seconds`` on but keeps the frames before, as phones trim clips."""
    av = pytest.importorskip("av")
    with av.open(str(source)) as inp, av.open(str(path), "w") as out:
        video = inp.streams.video[0]
        copy = out.add_stream_from_template(video)
        shift = round(seconds / video.time_base)
        for packet in inp.demux(video):
            if packet.dts is not None:
                packet.pts -= shift
                packet.dts -= shift
                packet.stream = copy
                out.mux(packet)
    return path
