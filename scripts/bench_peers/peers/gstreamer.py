"""GStreamer decodes into an appsink on its own threads, ONNX Runtime runs the network."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from app.models.manifest import Model
from scripts.bench_peers.contract import NotHere, Run
from scripts.bench_peers.peers.ort_loop import loop
from scripts.bench_peers.plain import Pixels

PIPELINE = (
    'filesrc location="{}" ! decodebin ! queue ! videoconvert ! video/x-raw,format=BGR ! '
    "appsink name=out sync=false max-buffers=4 drop=false"
)
SYSTEM = "/usr/lib/python3/dist-packages"  # where python3-gi of Debian and Ubuntu lies


def run(clip: str, model: Model) -> Run:
    """The appsink's queue is full rather than lossy."""
    gst = _load_gst()
    told = {"gstreamer": gst.version_string()}
    return loop(_frames(gst, clip), model, "CPUExecutionProvider", told)


def _load_gst() -> Any:
    """Also the system's PyGObject, if this is the same Python; raises NotHere with the cure."""
    try:
        if importlib.util.find_spec("gi") is None:
            sys.path.append(SYSTEM)
        gi = importlib.import_module("gi")
        gi.require_version("Gst", "1.0")
        gi.require_version("GstApp", "1.0")
        gst = importlib.import_module("gi.repository.Gst")
        importlib.import_module("gi.repository.GstApp")
    except (ImportError, ValueError) as fault:
        raise NotHere(f"PyGObject: {fault} (apt install python3-gi, in that Python)") from fault
    gst.init(None)
    return gst


def _frames(gst: Any, clip: str) -> Iterator[Pixels]:
    pipeline = gst.parse_launch(PIPELINE.format(Path(clip).absolute()))
    sink = pipeline.get_by_name("out")
    pipeline.set_state(gst.State.PLAYING)
    try:
        while (sample := sink.try_pull_sample(10 * gst.SECOND)) is not None:
            shape = sample.get_caps().get_structure(0)
            width, height = shape.get_value("width"), shape.get_value("height")
            ok, view = sample.get_buffer().map(gst.MapFlags.READ)
            assert ok
            try:  # rows are padded to four bytes
                rows = np.frombuffer(view.data, np.uint8).reshape(height, -1)
                yield rows[:, : width * 3].reshape(height, width, 3)
            finally:
                sample.get_buffer().unmap(view)
        error = pipeline.get_bus().pop_filtered(gst.MessageType.ERROR)
        if error is not None:
            raise NotHere(f"GStreamer: {error.parse_error()[0].message}")
    finally:
        pipeline.set_state(gst.State.NULL)
