"""GStreamer pipelines and CSI cameras, played by a process of their own that sends frames as BGR.

GStreamer's plugins are many and drivers among them, so IsolatedSource (subprocess_source.py) runs
``main`` in a child. PyGObject is a system package: the child runs in whichever Python has it, and
this file needs the standard library and PyGObject only.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.credentials import mask_credentials
from ..core.errors import SourceEnded, SourceError
from ..core.package import child_command
from .frame_ipc import PlainFrame, serve

PYTHONS = (sys.executable, "/usr/bin/python3")
_PROBE = (
    "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstApp', '1.0'); "
    "from gi.repository import Gst, GstApp; Gst.init(None); "
    "print([Gst.ElementFactory.find(name) is not None for name in {names!r}])"
)
JETSON, LIBCAMERA = "nvarguscamerasrc", "libcamerasrc"


def gst_command() -> list[str]:
    """The process that plays pipelines. Raises SourceError with the cure."""
    return child_command("sources.gstreamer:main", python=_python_with_gst())


def csi_pipeline(
    number: int, *, wh_px: tuple[int, int] = (1280, 720), fps: float = 30.0, flip: int = 0
) -> str:
    """The pipeline of a CSI sensor: through the ISP of a Jetson, or through libcamera."""
    size = f"width={wh_px[0]},height={wh_px[1]},framerate={round(fps * 1000)}/1000"
    here = elements_here((JETSON, LIBCAMERA))
    if here[JETSON]:
        return (
            f"{JETSON} sensor-id={number} ! video/x-raw(memory:NVMM),{size} ! "
            f"nvvidconv flip-method={flip} ! video/x-raw,format=BGRx"
        )
    if here[LIBCAMERA]:
        turned = f" ! videoflip method={flip}" if flip else ""
        return f"{LIBCAMERA} ! video/x-raw,{size} ! videoconvert{turned}"
    raise SourceError(
        f"csi:{number} needs GStreamer's {JETSON} (on a Jetson: sudo apt install "
        f"nvidia-l4t-gstreamer) or {LIBCAMERA} (sudo apt install gstreamer1.0-libcamera); where "
        "the driver offers the sensor as /dev/videoN use camera:N"
    )


@functools.cache
def elements_here(names: tuple[str, ...]) -> Mapping[str, bool]:
    """Which elements GStreamer has."""
    done = _ask(_python_with_gst(), names)
    assert done is not None
    return dict(zip(names, done, strict=True))


@functools.cache
def _python_with_gst() -> str:
    for python in PYTHONS:
        if Path(python).exists() and _ask(python, ()) is not None:
            return python
    raise SourceError(
        "gst: and csi: need GStreamer and PyGObject, which this machine lacks: sudo apt install "
        "python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good"
    )


def _ask(python: str, names: tuple[str, ...]) -> list[bool] | None:
    """Which of the elements there are; None: this Python has no GStreamer."""
    code = _PROBE.format(names=list(names))
    try:
        done = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    return [word.strip() == "True" for word in done.stdout.strip(" []\n").split(",") if word]


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
    from gi.repository import (
        Gst as gst,  # noqa: N813
        GstApp,  # noqa: F401 - gives appsink its methods
    )

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

    def read(self, timeout_s: float) -> PlainFrame | None:
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
        shaped = memoryview(pixels).cast("B", (height, width, 3))
        return PlainFrame(shaped, self._index - 1, time.monotonic_ns() - self._late_ns(buffer))

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


def main() -> int:
    """Serve one pipeline."""
    return serve(sys.argv[1:], GstChild, load_gst)
