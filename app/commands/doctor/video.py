"""Doctor: cameras, OpenCV, GStreamer and the display."""

from __future__ import annotations

import fcntl
import grp
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from ...sources.camera import Ioctl, Mode, list_cameras
from .probe import Finding, Probe, Section, error, only, warning

SHOWN_SIZES = 4


@dataclass(frozen=True, slots=True)
class Camera:
    """One V4L2 device; ``by_id`` is a name that stays when it is plugged in elsewhere."""

    path: str
    name: str
    usable: bool  # by its permissions
    answers: bool  # to the question what it can
    by_id: str | None
    modes: tuple[Mode, ...]


@dataclass(frozen=True, slots=True)
class CameraFacts:
    """Devices that give frames, or that could not be asked."""

    cameras: tuple[Camera, ...]
    groups: tuple[str, ...]


def gather_cameras(probe: Probe, *, ioctl: Ioctl = fcntl.ioctl) -> CameraFacts:
    """Ask every device that may be opened."""
    found = []
    for camera in list_cameras(probe.path("/dev"), ioctl):
        path = probe.path(f"/dev/video{camera.number}")
        found.append(
            Camera(
                f"/dev/video{camera.number}",
                camera.name,
                usable=probe.may_use(path),
                answers=camera.name != str(path),
                by_id=_by_id(probe, path),
                modes=camera.modes,
            )
        )
    return CameraFacts(tuple(found), _groups())


def _by_id(probe: Probe, path: Path) -> str | None:
    names = probe.glob("/dev/v4l/by-id/*")
    return next((n for n in names if probe.path(n).resolve() == path.resolve()), None)


def _groups() -> tuple[str, ...]:
    names = []
    for number in sorted({os.getgid(), *os.getgroups()}):
        try:
            names.append(grp.getgrgid(number).gr_name)
        except KeyError:  # a group of the host, in a container
            names.append(str(number))
    return tuple(names)


def check_permission(facts: CameraFacts) -> Finding | None:
    """By the group that systems give their cameras."""
    closed = [camera.path for camera in facts.cameras if not camera.usable]
    if not closed:
        return None
    if "video" in facts.groups:
        return warning(
            f"no permission to use {', '.join(closed)}, though this user is in the video group",
            f"sudo chgrp video {' '.join(closed)}; sudo chmod g+rw {' '.join(closed)}",
        )
    return warning(
        f"no permission to use {', '.join(closed)}: this user is not in the video group",
        "sudo usermod -aG video $USER, and log in again",
    )


def check_answers(facts: CameraFacts) -> Finding | None:
    """A device that is there, and does not say what it can."""
    mute = [camera.path for camera in facts.cameras if camera.usable and not camera.answers]
    if not mute:
        return None
    return warning(
        f"{', '.join(mute)} cannot be asked for its formats",
        "plug it in again, look at dmesg, and end other programs that use it",
    )


def look_cameras(probe: Probe) -> Section:
    """The subject."""
    facts = gather_cameras(probe)
    lines = [line for camera in facts.cameras for line in _lines(camera)]
    lines = lines or ["no camera (no /dev/video*); streams, files and sample: need none"]
    lines.append(f"groups {', '.join(facts.groups)}")
    findings = only(check(facts) for check in (check_permission, check_answers))
    return Section("cameras", lines, asdict(facts), findings)


def _lines(camera: Camera) -> list[str]:
    name = camera.name if camera.answers else "does not answer"
    lines = [f"{camera.path}: {name if camera.usable else 'closed to this user'}"]
    if camera.by_id:
        lines.append(f"  --source camera:{camera.by_id}")
    by_code: dict[str, list[str]] = {}
    for mode in camera.modes:
        rate = f"@{mode.fps:g}" if mode.fps else ""
        by_code.setdefault(mode.fourcc, []).append(f"{mode.wh_px[0]}x{mode.wh_px[1]}{rate}")
    for code, sizes in by_code.items():
        more = f" and {len(sizes) - SHOWN_SIZES} more" if len(sizes) > SHOWN_SIZES else ""
        lines.append(f"  {code} {', '.join(sizes[:SHOWN_SIZES])}{more}")
    return lines


WHEELS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
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


def gather_opencv(probe: Probe) -> OpencvFacts:
    """Load it in a child, and look for others."""
    told, fault = probe.ask("opencv")
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


OPENCV_CHECKS = (check_loads, check_shadowed, check_several, check_gstreamer)


def look_opencv(probe: Probe) -> Section:
    """The subject."""
    facts = gather_opencv(probe)
    what = f"{facts.version} ({facts.file})" if facts.version else "does not load"
    lines = [f"{what}, GStreamer {'yes' if facts.gstreamer else 'no'}"]
    return Section("OpenCV", lines, asdict(facts), only(check(facts) for check in OPENCV_CHECKS))


PACKAGES = "python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good"


@dataclass(frozen=True, slots=True)
class GstreamerFacts:
    """``tool``: version of the command-line tools; ``binding``: as Python (PyGObject) sees it."""

    tool: str | None
    binding: str | None
    elements: tuple[str, ...]
    fault: str
    jetson: bool


def gather_gstreamer(probe: Probe) -> GstreamerFacts:
    """Ask the tool, and Python's binding in a child."""
    tool = re.search(r"version ([\d.]+)", probe.run(["gst-inspect-1.0", "--version"]).out)
    told, fault = probe.ask("gstreamer")
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


def look_gstreamer(probe: Probe) -> Section:
    """The subject."""
    facts = gather_gstreamer(probe)
    found = ", ".join(facts.elements) or "none of the elements that matter"
    binding = f"{facts.binding} ({found})" if facts.binding else "not reached from Python"
    lines = [binding if facts.binding or facts.tool else "none (optional)"]
    findings = only(check(facts) for check in (check_binding, check_elements))
    return Section("GStreamer", lines, asdict(facts), findings)


PLUGINS = "QT_QPA_PLATFORM_PLUGIN_PATH"


@dataclass(frozen=True, slots=True)
class WindowFacts:
    """``plugins``: what the user's environment says about Qt's plugins, ours is set later."""

    display: bool
    reason: str
    qt: str | None
    fault: str
    plugins: str | None
    plugins_there: bool


def gather_window(probe: Probe) -> WindowFacts:
    """Look for the display and for Qt in a child: Qt ends a process that lacks something."""
    told, fault = probe.ask("window")
    told = told or {"display": False, "reason": fault, "qt": None, "fault": fault}
    plugins = probe.environ.get(PLUGINS)
    return WindowFacts(
        display=bool(told["display"]),
        reason=str(told["reason"]),
        qt=told["qt"],
        fault=str(told["fault"]),
        plugins=plugins,
        plugins_there=bool(plugins) and probe.path(str(plugins)).is_dir(),
    )


def check_display(facts: WindowFacts) -> Finding | None:
    """Only the window needs one."""
    if facts.display:
        return None
    return warning(
        f"no window: {facts.reason}",
        "log in at the desktop, or use ssh -X; without one Kestrel runs --headless",
    )


def check_qt(facts: WindowFacts) -> Finding | None:
    """What PyQt5 lacks; only where there is a display to use it on."""
    if not facts.display or (facts.qt and not facts.fault):
        return None
    if facts.qt is None:
        return warning(
            f"PyQt5 does not load: {facts.fault}",
            "scripts/setup (aarch64: sudo apt install python3-pyqt5), or run --headless",
        )
    return warning("PyQt5 cannot open a window", facts.fault)


def check_plugins(facts: WindowFacts) -> Finding | None:
    """OpenCV's own setting is dropped by Kestrel; what the user exported is not."""
    if facts.plugins is None:
        return None
    if "cv2" in Path(facts.plugins).parts:
        return warning(
            f"{PLUGINS} is exported and names OpenCV's Qt plugins, with which PyQt5 aborts "
            "(Kestrel drops it for itself)",
            f"unset {PLUGINS}, also in your shell's start files",
        )
    if facts.plugins_there:
        return None
    return warning(
        f"{PLUGINS} names {facts.plugins}, which is not there, so Qt finds no plugin",
        f"unset {PLUGINS}",
    )


WINDOW_CHECKS = (check_display, check_qt, check_plugins)


def look_window(probe: Probe) -> Section:
    """The subject."""
    facts = gather_window(probe)
    lines = [f"{facts.reason}; PyQt5 {f'(Qt {facts.qt})' if facts.qt else 'none'}"]
    return Section("window", lines, asdict(facts), only(check(facts) for check in WINDOW_CHECKS))
