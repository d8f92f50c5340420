"""Is GStreamer here, for CSI cameras and hardware decoding?"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from app.tools.doctor.finding import Finding, Section, only, warning
from app.tools.doctor.opencv import is_jetson
from app.tools.doctor.probe import Probe

ASK = """
import json
import gi
gi.require_version("Gst", "1.0")
from gi.repository import Gst
Gst.init(None)
names = ("nvarguscamerasrc", "nvv4l2decoder", "nvvidconv", "v4l2h264dec", "rtspsrc", "appsink")
print(json.dumps({"version": Gst.version_string(),
                  "elements": [n for n in names if Gst.ElementFactory.find(n)]}))
"""
PACKAGES = "python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good"


@dataclass(frozen=True, slots=True)
class GstreamerFacts:
    """``tool``: version of the command-line tools; ``binding``: as Python (PyGObject) sees it."""

    tool: str | None
    binding: str | None
    elements: tuple[str, ...]
    fault: str
    jetson: bool


def gather(probe: Probe) -> GstreamerFacts:
    """Ask the tool, and Python's binding in a child."""
    tool = re.search(r"version ([\d.]+)", probe.run(["gst-inspect-1.0", "--version"]).out)
    told, fault = probe.python(ASK)
    told = told or {}
    return GstreamerFacts(
        tool=tool[1] if tool else None,
        binding=told.get("version"),
        elements=tuple(told.get("elements", ())),
        fault=fault,
        jetson=is_jetson(probe),
    )


def check_binding(facts: GstreamerFacts) -> Finding | None:
    """Only where there is hardware that nothing else reaches."""
    if not facts.jetson or facts.binding is not None:
        return None
    return warning(
        f"Python does not reach GStreamer ({facts.fault}): no CSI camera, no hardware decoder",
        f"sudo apt install {PACKAGES}, and a .venv with --system-site-packages (scripts/setup)",
    )


def check_elements(facts: GstreamerFacts) -> Finding | None:
    """NVIDIA's elements come with JetPack, not with GStreamer."""
    if not facts.jetson or facts.binding is None or "nvv4l2decoder" in facts.elements:
        return None
    return warning(
        "GStreamer has no nvv4l2decoder, so video is decoded by the CPU",
        "sudo apt install nvidia-l4t-gstreamer; rm -rf ~/.cache/gstreamer-1.0",
    )


def look(probe: Probe) -> Section:
    """The subject."""
    facts = gather(probe)
    found = ", ".join(facts.elements) or "none of the elements that matter"
    binding = f"{facts.binding} ({found})" if facts.binding else "not reached from Python"
    lines = [binding if facts.binding or facts.tool else "none (optional)"]
    findings = only(check(facts) for check in (check_binding, check_elements))
    return Section("GStreamer", lines, asdict(facts), findings)
