"""Encoded clips and their packets, for recordings that copy them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av

from app.core.detections import Detections, Result
from app.core.packets import EncodedPacket, PacketFan, StreamHead
from app.sources.packets import Copier, stream_ns
from tests.sinks.kit import found, result, textured

FPS = 25


def encoded(path: Path, frames: int, *, codec: str = "libx264", wh: tuple = (160, 120)) -> Path:
    """A clip with B-frames and a key frame each second."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *wh, "yuv420p"
        stream.gop_size = FPS
        stream.max_b_frames = 2
        stream.options = {"preset": "ultrafast", "x265-params": "log-level=none:keyint=25"}
        if codec == "libx264":
            stream.options = {"preset": "veryfast", "g": str(FPS)}
        for i in range(frames):
            picture = av.VideoFrame.from_ndarray(textured(i, *wh), format="bgr24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


class Played:
    """A clip as a source gives it: packets into ``fan``, and results of its frames."""

    def __init__(self, clip: Path, fan: PacketFan) -> None:
        self._clip, self._fan = clip, fan

    def results(self, detections: Detections | None = None) -> Iterator[Result]:
        boxes = found((0, 0.9, 1, 2, 30, 40)) if detections is None else detections
        with av.open(str(self._clip)) as container:
            stream = container.streams.video[0]
            copier = Copier(stream, self._fan)
            index = 0
            for packet in container.demux(stream):
                copier.put(packet)
                for picture in packet.decode():
                    each = result(index, boxes, live=True)
                    frame = replace(each.frame, stream_ns=stream_ns(picture))
                    yield replace(each, frame=frame)
                    index += 1


class Collected:
    """A PacketTap's place, which keeps all."""

    def __init__(self) -> None:
        self.items: list[StreamHead | EncodedPacket | None] = []

    def begin(self, head: StreamHead | None) -> None:
        self.items.append(head)

    def put(self, packet: EncodedPacket) -> None:
        self.items.append(packet)


def times_ms(path: Path) -> list[float]:
    """When each frame that can be decoded is shown, from the first one on."""
    with av.open(str(path)) as container:
        shown = [float(frame.time) * 1000 for frame in container.decode(video=0)]
    return [round(each - shown[0], 3) for each in shown]
