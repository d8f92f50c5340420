"""The process that opens and reads a source for the process that started it.

Its arguments are two file descriptors, a socket and a memory file (frame_ipc.py).
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from .base import SourceOptions, load_cv2
from .frame_ipc import Picture, serve
from .uri import make_source


class DecoderChild:
    """Any source of ours, in words that can be sent."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._source = make_source(
            request["uri"],
            realtime=False,
            isolate=False,
            options=SourceOptions(**request["options"]),
        )

    def open(self) -> dict[str, Any]:
        """The fields of SourceInfo."""
        return dataclasses.asdict(self._source.open())

    def read(self, timeout_s: float) -> Picture | None:
        """The source's next frame."""
        frame = self._source.read(timeout_s)
        if frame is None:
            return None
        about = {
            "shape": frame.pixels.shape,
            "format": frame.format,
            "index": frame.index,
            "captured_ns": frame.captured_ns,
            "media_ns": frame.media_ns,
        }
        return Picture(frame.pixels.data, about)

    def close(self) -> None:
        """Close the source."""
        self._source.close()


def main() -> int:
    """Serve one source."""
    return serve(sys.argv[1:], DecoderChild, load_cv2)
