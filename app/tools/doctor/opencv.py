"""Which OpenCV is loaded, is it the right one, and does it load at all?"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from app.tools.doctor.finding import Finding, Section, error, only, warning
from app.tools.doctor.probe import Probe

WHEELS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
ASK = """
import json
from app.sources._cv2 import load_cv2
cv2 = load_cv2()
said = [line.split(":", 1)[1].strip() for line in cv2.getBuildInformation().splitlines()
        if line.strip().startswith("GStreamer:")]
print(json.dumps({"version": cv2.__version__, "file": cv2.__file__,
                  "gstreamer": (said or ["NO"])[0]}))
"""
SYSTEM_COPIES = ("usr/lib/python3*/dist-packages/cv2*", "usr/local/lib/python3*/dist-packages/cv2*")


@dataclass(frozen=True, slots=True)
class OpencvFacts:
    """``system_copies``: those of the distribution or JetPack; ``jetson``: whether it is one."""

    version: str | None
    file: str | None
    gstreamer: bool
    fault: str
    wheels: tuple[str, ...]
    system_copies: tuple[str, ...]
    jetson: bool


def gather(probe: Probe) -> OpencvFacts:
    """Load it in a child, and look for others."""
    told, fault = probe.python(ASK)
    return OpencvFacts(
        version=told["version"] if told else None,
        file=told["file"] if told else None,
        gstreamer=bool(told) and str((told or {})["gstreamer"]).upper().startswith("YES"),
        fault=fault,
        wheels=tuple(name for name in WHEELS if probe.version(name)),
        system_copies=tuple(name for pattern in SYSTEM_COPIES for name in probe.glob(pattern)),
        jetson=is_jetson(probe),
    )


def is_jetson(probe: Probe) -> bool:
    """By what NVIDIA's system leaves on every one."""
    return probe.first(("/etc/nv_tegra_release", "/sys/module/tegra_fuse")) is not None


def check_loads(facts: OpencvFacts) -> Finding | None:
    """Sources and preprocessing are made of it."""
    if facts.version is not None:
        return None
    if "libGL" in facts.fault or "libgthread" in facts.fault:
        return error(f"OpenCV does not load: {facts.fault}", "sudo apt install libgl1 libglib2.0-0")
    if "numpy" in facts.fault.lower() or "_ARRAY_API" in facts.fault:
        return error(
            f"OpenCV does not load: {facts.fault}", ".venv/bin/python -m pip install 'numpy<2'"
        )
    return error(f"OpenCV does not load: {facts.fault}", "run scripts/setup again")


def check_shadowed(facts: OpencvFacts) -> Finding | None:
    """On a Jetson pip's OpenCV has neither GStreamer nor CUDA, and comes first."""
    if not facts.jetson or not facts.wheels or not facts.system_copies:
        return None
    return warning(
        f"{facts.wheels[0]} of pip hides the Jetson's own OpenCV ({facts.system_copies[0]})",
        f".venv/bin/python -m pip uninstall {' '.join(facts.wheels)}",
    )


def check_several(facts: OpencvFacts) -> Finding | None:
    """All wheels write into one folder, and the last one wins in part."""
    if len(facts.wheels) < 2:
        return None
    return warning(
        f"{len(facts.wheels)} wheels of OpenCV share one folder: {', '.join(facts.wheels)}",
        f".venv/bin/python -m pip uninstall -y {' '.join(facts.wheels)}; scripts/setup",
    )


def check_gstreamer(facts: OpencvFacts) -> Finding | None:
    """Only there it matters: CSI cameras and hardware decoding need it."""
    if not facts.jetson or facts.gstreamer or facts.version is None:
        return None
    return warning(
        "this OpenCV has no GStreamer, so no CSI camera and no hardware decoding through it",
        "use JetPack's: sudo apt install nvidia-opencv, and pip uninstall any opencv wheel",
    )


CHECKS = (check_loads, check_shadowed, check_several, check_gstreamer)


def look(probe: Probe) -> Section:
    """The subject."""
    facts = gather(probe)
    what = f"{facts.version} ({facts.file})" if facts.version else "does not load"
    lines = [f"{what}, GStreamer {'yes' if facts.gstreamer else 'no'}"]
    return Section("OpenCV", lines, asdict(facts), only(check(facts) for check in CHECKS))
