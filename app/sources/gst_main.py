"""What does GStreamer's own process do? (PYTHON -m app.sources.gst_main SOCKET MEMORY)

It plays a pipeline into an appsink and sends what comes out as BGR. It may run in the system's
Python, where python3-gi is installed: standard library and PyGObject only.
"""

from __future__ import annotations

import re
import sys
import time
from typing import Any

from ..core.credentials import mask_credentials
from ..core.errors import SourceEnded, SourceError
from .frame_ipc import Picture, serve

# One frame waits, and a newer one replaces it.
APPSINK = "appsink name=kestrel max-buffers=1 drop=true"
CAPS = "video/x-raw,format=BGR"
MAX_LATE_NS = 5_000_000_000  # an older stamp is on another clock
PLUGINS = {  # the Debian package that has an element that is missing
    "nvarguscamerasrc": "nvidia-l4t-gstreamer (Jetson)",
    "nvvidconv": "nvidia-l4t-gstreamer (Jetson)",
    "libcamerasrc": "gstreamer1.0-libcamera",
    "x264enc": "gstreamer1.0-plugins-ugly",
    "h264parse": "gstreamer1.0-plugins-bad",
    "avdec_h264": "gstreamer1.0-libav",
    "avdec_h265": "gstreamer1.0-libav",
}
Gst: Any = None


def load_gst() -> None:
    """Import and start GStreamer; who starts this process has looked that it is there."""
    global Gst
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstApp", "1.0")
    from gi.repository import Gst as gst  # noqa: N813
    from gi.repository import GstApp  # noqa: F401 - gives appsink its methods

    gst.init(None)
    Gst = gst


class GstChild:
    """One pipeline. Whether it is live, GStreamer knows: then its end is a fault."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._text = request["uri"]
        self._open_ns = round(request["options"]["open_timeout_s"] * 1e9)
        self._pipeline: Any = None
        self._first: Any = None
        self._index = 0
        self._live = True

    def open(self) -> dict[str, Any]:
        """Play, and wait for the first frame: only it tells size and rate."""
        self._pipeline = self._parse()
        self._sink = self._pipeline.get_by_name("kestrel")
        paused = self._pipeline.set_state(Gst.State.PAUSED)
        self._live = paused == Gst.StateChangeReturn.NO_PREROLL
        playing = self._pipeline.set_state(Gst.State.PLAYING)
        if Gst.StateChangeReturn.FAILURE in (paused, playing):
            raise self._fault("does not start")
        deadline_ns = time.monotonic_ns() + self._open_ns
        while self._first is None:
            self._first = self._sink.try_pull_sample(100_000_000)
            self._raise_if_over()
            if self._first is None and time.monotonic_ns() > deadline_ns:
                raise SourceError(f"gst: gave no frame within {self._open_ns / 1e9:g} s")
        shape = _structure(self._first)
        ok, upper, lower = shape.get_fraction("framerate")
        return {
            "uri": "",
            "live": True,
            "wh_px": [shape.get_value("width"), shape.get_value("height")],
            "fps": upper / lower if ok and upper and lower else None,
            "frame_count": None,
            "detail": f"GStreamer {Gst.version_string().split()[-1]}",
        }

    def _parse(self) -> Any:
        text = self._text
        if not re.search(r"\bappsink\b", text):
            text += f" ! videoconvert ! {CAPS} ! {APPSINK}"
        elif "name=kestrel" not in text:
            text = re.sub(r"\bappsink\b", APPSINK, text, count=1)
        try:
            return Gst.parse_launch(text)
        except Exception as error:  # GLib.Error: its kind needs gi to be named
            raise SourceError(f"gst: {_cure(str(getattr(error, 'message', error)))}") from error

    def read(self, timeout_s: float) -> Picture | None:
        """The newest frame."""
        sample, self._first = self._first, None
        if sample is None:
            sample = self._sink.try_pull_sample(round(timeout_s * 1e9))
        if sample is None:
            self._raise_if_over()
            return None
        buffer, shape = sample.get_buffer(), _structure(sample)
        if shape.get_value("format") != "BGR":
            raise SourceError(f"gst: the appsink gives {shape.get_value('format')}; add {CAPS}")
        width, height = shape.get_value("width"), shape.get_value("height")
        ok, mapped = buffer.map(Gst.MapFlags.READ)
        if not ok:
            raise SourceError("gst: a frame's memory cannot be read: add videoconvert or nvvidconv")
        try:
            pixels = _without_padding(mapped.data, width * 3, height)
        finally:
            buffer.unmap(mapped)
        self._index += 1
        about = {
            "shape": [height, width, 3],
            "format": "bgr8",
            "index": self._index - 1,
            "captured_ns": time.monotonic_ns() - self._late_ns(buffer),
            "media_ns": None,
        }
        return Picture(memoryview(pixels), about)

    def close(self) -> None:
        """Stop the pipeline."""
        if self._pipeline is not None:
            self._pipeline.set_state(Gst.State.NULL)
            self._pipeline = None

    def _late_ns(self, buffer: Any) -> int:
        """How long ago the frame was captured: its stamp is on the pipeline's clock."""
        clock = self._pipeline.get_clock()
        if clock is None or buffer.pts == Gst.CLOCK_TIME_NONE:
            return 0
        late_ns = int(clock.get_time() - self._pipeline.get_base_time() - buffer.pts)
        return late_ns if 0 <= late_ns < MAX_LATE_NS else 0

    def _raise_if_over(self) -> None:
        """The bus tells of errors; the end of a live pipeline is one."""
        kinds = Gst.MessageType.ERROR | Gst.MessageType.EOS
        message = self._pipeline.get_bus().pop_filtered(kinds)
        if message is None:
            return
        if message.type == Gst.MessageType.EOS:
            if self._live:
                raise SourceError("gst: the pipeline ended: check that the device still streams")
            raise SourceEnded
        error, _ = message.parse_error()
        raise SourceError(f"gst: {_cure(error.message)}")

    def _fault(self, what: str) -> Exception:
        try:
            self._raise_if_over()
        except SourceError as error:
            return error
        return SourceError(f"gst: the pipeline {what}; try it with gst-launch-1.0")


def _structure(sample: Any) -> Any:
    return sample.get_caps().get_structure(0)


def _without_padding(data: bytes, row_bytes: int, height: int) -> bytes:
    """GStreamer's rows of BGR begin at multiples of 4 bytes."""
    stride = len(data) // height
    if stride == row_bytes:
        return data
    rows = memoryview(data)
    return b"".join(rows[y * stride : y * stride + row_bytes] for y in range(height))


def _cure(text: str) -> str:
    """What GStreamer says, and which package it lacks."""
    text = mask_credentials(f"gst:{text}").removeprefix("gst:")
    missing = re.search(r'no element "([\w-]+)"', text)
    package = PLUGINS.get(missing[1]) if missing else None
    if package:
        return f"{text}: sudo apt install {package}"
    if missing:
        return f"{text}: sudo apt install gstreamer1.0-plugins-good, -bad or gstreamer1.0-libav"
    return f"{text} try the pipeline with gst-launch-1.0"


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1:], GstChild, load_gst))
