"""Doctor: what it asks of libraries, each answer in a process of its own.

A library that aborts, hangs or lacks a symbol must not end the doctor, and Qt ends a process that
lacks something. ``Probe.ask`` has ``answer`` run in a child. What is imported is what is asked of,
so the imports stand in the functions.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import Any

ELEMENTS = ("nvarguscamerasrc", "nvv4l2decoder", "nvvidconv", "v4l2h264dec", "rtspsrc", "appsink")


def ask_gpu() -> dict[str, Any]:
    """What the driver says through PyCUDA."""
    from ...core.errors import DeviceError
    from ...cuda.context import find_gpu

    try:
        gpu = find_gpu()
    except DeviceError as fault:
        return {"fault": str(fault)}
    return {"name": gpu.name, "capability": gpu.capability, "driver": gpu.driver}


def ask_onnxruntime() -> dict[str, Any]:
    """Version, providers, and for which CUDA it was built."""
    from ...models.onnx_session import load_onnxruntime

    ort = load_onnxruntime()
    providers = ort.get_available_providers()
    cuda = getattr(ort, "cuda_version", "")
    return {"version": ort.__version__, "providers": providers, "cuda": cuda}


def ask_opencv() -> dict[str, Any]:
    """Version, file, and what it says of GStreamer."""
    from ...sources.base import load_cv2

    cv2 = load_cv2()
    lines = [line.strip() for line in cv2.getBuildInformation().splitlines()]
    said = [line.split(":", 1)[1].strip() for line in lines if line.startswith("GStreamer:")]
    return {"version": cv2.__version__, "file": cv2.__file__, "gstreamer": (said or ["NO"])[0]}


def ask_gstreamer() -> dict[str, Any]:
    """Version, and which of the elements that matter are there, through PyGObject."""
    import gi

    gi.require_version("Gst", "1.0")
    from gi.repository import Gst

    Gst.init(None)
    found = [name for name in ELEMENTS if Gst.ElementFactory.find(name)]
    return {"version": Gst.version_string(), "elements": found}


def ask_window() -> dict[str, Any]:
    """Whether there is a display, and Qt to use it."""
    from ...core.errors import ConfigError
    from ...gui.window import prepare_qt, qt_version
    from ...ops.display import find_display
    from ...sources.base import load_cv2

    found, qt, fault = find_display(), None, ""
    with suppress(ImportError, ConfigError):
        load_cv2()  # first, as in a run: it is what steers Qt to plugins of its own
    try:
        qt = qt_version()
        if found.usable:
            prepare_qt()
    except (ImportError, ConfigError) as error:
        fault = str(error)
    return {"display": found.usable, "reason": found.reason, "qt": qt, "fault": fault}


QUESTIONS = {
    "gpu": ask_gpu,
    "onnxruntime": ask_onnxruntime,
    "opencv": ask_opencv,
    "gstreamer": ask_gstreamer,
    "window": ask_window,
}


def answer() -> int:
    """Print the answer to the question that the first argument names, as one line of JSON."""
    print(json.dumps(QUESTIONS[sys.argv[1]]()))
    return 0
