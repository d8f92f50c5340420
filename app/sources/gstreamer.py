"""Frames of a GStreamer pipeline, or of a Jetson's CSI camera.

Always in a process of its own: its plugins are many and drivers among them. PyGObject is a system
package, so that process runs in whichever Python has it.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from ..core.errors import SourceError
from ..core.package import child_command
from .base import SourceOptions
from .subprocess_source import IsolatedSource

PYTHONS = (sys.executable, "/usr/bin/python3")
_PROBE = (
    "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstApp', '1.0'); "
    "from gi.repository import Gst, GstApp; Gst.init(None); "
    "print([Gst.ElementFactory.find(name) is not None for name in {names!r}])"
)
JETSON, LIBCAMERA = "nvarguscamerasrc", "libcamerasrc"


class GstSource(IsolatedSource):
    """Frames of a pipeline as gst-launch-1.0 takes it, without its sink."""

    def __init__(self, pipeline: str, *, label: str, options: SourceOptions) -> None:
        super().__init__(pipeline, label=label, options=options, command=gst_command)


def gst_command() -> list[str]:
    """The process that plays pipelines. Raises SourceError with the cure."""
    return child_command("sources.gst_main:main", python=_python_with_gst())


def csi_pipeline(
    number: int, *, wh_px: tuple[int, int] | None, fps: float | None, flip: int
) -> str:
    """The pipeline of a CSI sensor: through the ISP of a Jetson, or through libcamera."""
    width_px, height_px = wh_px or (1280, 720)
    rate = f",framerate={round((fps or 30) * 1000)}/1000"
    size = f"width={width_px},height={height_px}{rate}"
    if elements_here((JETSON, LIBCAMERA))[JETSON]:
        return (
            f"{JETSON} sensor-id={number} ! video/x-raw(memory:NVMM),{size} ! "
            f"nvvidconv flip-method={flip} ! video/x-raw,format=BGRx"
        )
    if elements_here((JETSON, LIBCAMERA))[LIBCAMERA]:
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
