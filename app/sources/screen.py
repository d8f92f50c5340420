"""A part of an X display as a camera that watches it, for `bench --glass`.

In a process of its own: PyAV's libraries of X and those of Qt do not live in one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

from ..core.errors import SourceEnded, SourceError
from ..core.frame import Frame, SourceInfo
from ..core.interfaces import FrameSource
from ..core.package import child_command
from .base import SourceOptions, load_av
from .frame_ipc import serve
from .subprocess_source import IsolatedSource


def watch_screen(display: str, wh_px: tuple[int, int], fps: float) -> FrameSource:
    """``wh_px`` pixels from the corner of ``display`` (":0"), ``fps`` times a second."""
    return IsolatedSource(
        "{} {} {}".format(display, *wh_px) + f" {fps:g}",
        label=f"screen {display}",
        options=SourceOptions(),
        command=lambda: child_command("sources.screen:main"),
    )


class ScreenSource:
    """See ``watch_screen``; by FFmpeg's x11grab.

    ``captured_ns`` is when FFmpeg has handed the picture over, as with a camera's.
    """

    def __init__(self, display: str, wh_px: tuple[int, int], fps: float) -> None:
        self._display, self._wh_px, self._fps = display, wh_px, fps
        self._container: Any = None
        self._pictures: Iterator[Any] = iter(())
        self._index = 0

    def open(self) -> SourceInfo:
        """Raises SourceError where there is no such display."""
        av = load_av()
        width, height = self._wh_px
        options = {"video_size": f"{width}x{height}", "framerate": f"{self._fps:g}"}
        try:
            self._container = av.open(
                self._display, format="x11grab", options={**options, "draw_mouse": "0"}
            )
        except (av.error.FFmpegError, ValueError) as error:
            raise SourceError(
                f"cannot watch the display {self._display!r} ({error}): name a camera that looks "
                "at the screen with --source"
            ) from error
        self._pictures = self._container.decode(video=0)
        return SourceInfo(f"screen {self._display}", True, self._wh_px, self._fps, detail="x11grab")

    def read(self, timeout_s: float) -> Frame | None:
        """The next picture."""
        picture = next(self._pictures, None)
        if picture is None:
            raise SourceEnded
        captured_ns = time.monotonic_ns()
        self._index += 1
        return Frame(picture.to_ndarray(format="bgr24"), self._index - 1, captured_ns)

    def close(self) -> None:
        """Let go of the display."""
        container, self._container, self._pictures = self._container, None, iter(())
        if container is not None:
            container.close()


def _make(request: dict[str, Any]) -> FrameSource:
    display, width, height, fps = request["uri"].split()
    return ScreenSource(display, (int(width), int(height)), float(fps))


def main() -> int:
    """The child process; see subprocess_source."""
    return serve(sys.argv[1:], _make, load_av)
