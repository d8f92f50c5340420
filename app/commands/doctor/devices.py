"""Doctor: GPU and CUDA, cameras, OpenCV, GStreamer and the display."""

from __future__ import annotations

import fcntl
import grp
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ...cuda.context import OLDEST_CAPABILITY
from ...runtime.engines import GPU_NODES
from ...sources.camera import Ioctl, Mode, list_cameras
from .probe import Probe, Section

NVIDIA = "0x10de"  # of PCI
PCI = "/sys/bus/pci/devices/*/vendor"
PROC = "/proc/driver/nvidia/version"
HEADERS = ("/usr/local/cuda/include/cuda.h", "/usr/include/cuda.h")
Version = tuple[int, int]  # of CUDA, or a compute capability


def look_gpu(probe: Probe) -> Section:
    """Asks the kernel, the driver (in a child, through PyCUDA) and the compiler."""
    node = probe.first(GPU_NODES)  # the device file; None: no driver has made one
    on_bus = any(probe.read(name) == NVIDIA for name in probe.glob(PCI))
    pycuda, nvrtc = probe.version("pycuda"), probe.version("cuda-bindings")
    told, fault = probe.ask("gpu") if node and pycuda else ({}, "")
    name, fault = told.get("name"), str(told.get("fault", fault))
    major, minor = told.get("capability", (None, None))
    capability: Version | None = None if major is None else (int(major), int(minor))
    number = told.get("driver")  # what it can run: 12060 is CUDA 12.6
    driver_cuda: Version | None = (number // 1000, number % 1000 // 10) if number else None
    toolkit = _toolkit(probe)
    found = re.search(r"Kernel Module.*?(\d+\.\d+[.\d]*)", probe.read(PROC) or "")
    module = found[1] if found else None  # the kernel's part of the driver
    nouveau = bool(re.search(r"^nouveau ", probe.read("/proc/modules") or "", re.M))
    homes = [probe.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if name in probe.environ]
    header = probe.first([*(f"{home}/include/cuda.h" for home in homes), *HEADERS])
    answer = probe.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
    smi = " ".join((answer.out + " " + answer.err).split())

    line = "none that can be used" if node or on_bus else "no NVIDIA GPU"
    if name:
        line = (
            f"{name}, compute capability {_dotted(capability)}, "
            f"driver {module or ''} (CUDA {_dotted(driver_cuda)})"
        )
    tensorrt, why = probe.ask("tensorrt") if name else ({}, "")
    version = tensorrt.get("version")
    lines = [
        line,
        f"toolkit {_dotted(toolkit)}, cuda-bindings {nvrtc or 'none'}, "
        f"PyCUDA {pycuda or 'none'}, cuda.h {header or 'none'}",
    ]
    if name:  # an offer: our own kernels do without
        lines.append(f"TensorRT {version}" if version else str(tensorrt.get("fault", why)))
    section = Section(
        "GPU",
        lines,
        {
            **{"node": node, "on_bus": on_bus, "module": module, "nouveau": nouveau, "name": name},
            **{"capability": capability, "driver_cuda": driver_cuda, "toolkit": toolkit},
            **{"nvrtc": nvrtc, "header": header, "pycuda": pycuda, "fault": fault, "smi": smi},
            "tensorrt": version,
        },
    )
    if node is None and module is not None:
        section.warn(
            f"the NVIDIA driver {module} is loaded, but there is no /dev/nvidia0",
            "in a container: --device nvidia.com/gpu=all (podman) or --gpus all (docker); "
            "else run nvidia-smi once as root",
        )
    elif node is None and on_bus:
        why = "nouveau drives it" if nouveau else "no driver is loaded"
        section.warn(
            f"there is an NVIDIA GPU, but {why}",
            "install NVIDIA's driver (Ubuntu: sudo ubuntu-drivers install) and restart the machine",
        )
    if "Driver/library version mismatch" in smi:  # after an update, until a restart
        section.warn("the driver's library and its kernel module differ", "restart the machine")
    elif fault:  # its text has the cure after the semicolon or colon
        section.warn("the GPU cannot be used", fault)
    if node is not None and pycuda is None and header is None:
        section.warn(
            "a GPU, but no cuda.h to build PyCUDA with, so only the CPU is used",
            "install the CUDA toolkit (Jetson: apt install nvidia-jetpack), then scripts/setup",
        )
    elif node is not None and pycuda is None:  # the toolkit came after the set-up
        section.warn(
            "a GPU and cuda.h, but PyCUDA is missing",
            "run scripts/setup (KESTREL_VARIANT=cuda forces it)",
        )
    if capability is not None and capability < OLDEST_CAPABILITY:
        has, least = _dotted(capability), _dotted(OLDEST_CAPABILITY)
        section.warn(f"{name} has compute capability {has}, below {least}", "--engine cpu")
    # a newer toolkit makes code that an older driver refuses; within a major it may still run
    if driver_cuda is not None and toolkit is not None and toolkit > driver_cuda:
        driver = _dotted(driver_cuda)
        section.warn(
            f"the toolkit is CUDA {_dotted(toolkit)}, but the driver runs CUDA {driver} at most",
            f"install a newer driver, or the toolkit of CUDA {driver}",
        )
    if node is not None and pycuda is not None and not toolkit and not nvrtc:
        section.warn(
            "neither nvcc nor NVRTC is here to compile the kernels",
            "pip install 'cuda-bindings[all]', or ship kernels (scripts/compile_kernels.py)",
        )
    return section


def _dotted(version: Version | None) -> str:
    return ".".join(map(str, version)) if version else "none"


def _toolkit(probe: Probe) -> Version | None:
    nvcc = probe.which("nvcc") or probe.first(("/usr/local/cuda/bin/nvcc",))
    if nvcc is None:
        return None
    found = re.search(r"release (\d+)\.(\d+)", probe.run([nvcc, "--version"]).out)
    return (int(found[1]), int(found[2])) if found else None


SHOWN_SIZES = 4
OPENCV_WHEELS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
SYSTEM_COPIES = ("usr/lib/python3*/dist-packages/cv2*", "usr/local/lib/python3*/dist-packages/cv2*")
PACKAGES = "python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good"
PLUGINS = "QT_QPA_PLATFORM_PLUGIN_PATH"


def is_jetson(probe: Probe) -> bool:
    """By what NVIDIA's system leaves on every one."""
    return probe.first(("/etc/nv_tegra_release", "/sys/module/tegra_fuse")) is not None


def look_cameras(probe: Probe, *, ioctl: Ioctl = fcntl.ioctl) -> Section:
    """V4L2 devices that give frames, or that cannot be asked; by permission and by answer."""
    groups = group_names()
    cameras, lines = [], []
    closed: list[str] = []
    mute: list[str] = []
    for camera in list_cameras(probe.path("/dev"), ioctl):
        shown = f"/dev/video{camera.number}"
        path = probe.path(shown)
        usable, answers = probe.may_use(path), camera.name != str(path)
        by_id = _by_id(probe, path)
        cameras.append(
            {
                **{"path": shown, "name": camera.name, "usable": usable, "answers": answers},
                **{"by_id": by_id, "modes": [asdict(mode) for mode in camera.modes]},
            }
        )
        name = camera.name if answers else "does not answer"
        lines.append(f"{shown}: {name if usable else 'closed to this user'}")
        lines += [f"  --source camera:{by_id}"] if by_id else []
        lines += mode_lines(camera.modes)
        closed += [] if usable else [shown]
        mute += [shown] if usable and not answers else []
    lines = lines or ["no camera (no /dev/video*); streams, files and sample: need none"]
    facts = {"cameras": cameras, "groups": groups}
    section = Section("cameras", [*lines, f"groups {', '.join(groups)}"], facts)
    if closed and "video" in groups:
        section.warn(
            f"no permission to use {', '.join(closed)}, though this user is in the video group",
            f"sudo chgrp video {' '.join(closed)}; sudo chmod g+rw {' '.join(closed)}",
        )
    elif closed:
        section.warn(
            f"no permission to use {', '.join(closed)}: this user is not in the video group",
            "sudo usermod -aG video $USER, and log in again",
        )
    if mute:
        section.warn(
            f"{', '.join(mute)} cannot be asked for its formats",
            "plug it in again, look at dmesg, and end other programs that use it",
        )
    return section


def _by_id(probe: Probe, path: Path) -> str | None:
    """The name that stays when the camera is plugged in elsewhere."""
    names = probe.glob("/dev/v4l/by-id/*")
    return next((n for n in names if probe.path(n).resolve() == path.resolve()), None)


def group_names() -> tuple[str, ...]:
    """Of this user."""
    names = []
    for number in sorted({os.getgid(), *os.getgroups()}):
        try:
            names.append(grp.getgrgid(number).gr_name)
        except KeyError:  # a group of the host, in a container
            names.append(str(number))
    return tuple(names)


def mode_lines(modes: Sequence[Mode]) -> list[str]:
    """A line for each format, with the largest sizes and their highest rates."""
    by_code: dict[str, list[str]] = {}
    for mode in modes:
        rate = f"@{mode.fps:g}" if mode.fps else ""
        by_code.setdefault(mode.fourcc, []).append(f"{mode.wh_px[0]}x{mode.wh_px[1]}{rate}")
    lines = []
    for code, sizes in by_code.items():
        more = f" and {len(sizes) - SHOWN_SIZES} more" if len(sizes) > SHOWN_SIZES else ""
        lines.append(f"  {code} {', '.join(sizes[:SHOWN_SIZES])}{more}")
    return lines


def look_opencv(probe: Probe) -> Section:
    """Sources and preprocessing are made of it; GStreamer is reached without it."""
    told, fault = probe.ask("opencv")
    version, file, jetson = told.get("version"), told.get("file"), is_jetson(probe)
    gstreamer = str(told.get("gstreamer", "")).upper().startswith("YES")
    wheels = tuple(name for name in OPENCV_WHEELS if probe.version(name))
    copies = tuple(name for pattern in SYSTEM_COPIES for name in probe.glob(pattern))
    what = f"{version} ({file})" if version else "does not load"
    section = Section(
        "OpenCV",
        [f"{what}, GStreamer {'yes' if gstreamer else 'no'}"],
        {
            **{"version": version, "file": file, "gstreamer": gstreamer, "fault": fault},
            **{"wheels": wheels, "system_copies": copies, "jetson": jetson},
        },
    )
    if version is None:
        cure = "run scripts/setup again"
        if "libGL" in fault or "libgthread" in fault:
            cure = "sudo apt install libgl1 libglib2.0-0"
        elif "numpy" in fault.lower() or "_ARRAY_API" in fault:
            cure = ".venv/bin/python -m pip install 'numpy<2'"
        section.error(f"OpenCV does not load: {fault}", cure)
    if len(wheels) > 1:  # the last one that was installed wins in part
        section.warn(
            f"{len(wheels)} wheels of OpenCV share one folder: {', '.join(wheels)}",
            f".venv/bin/python -m pip uninstall -y {' '.join(wheels)}; scripts/setup",
        )
    return section


def look_gstreamer(probe: Probe) -> Section:
    """The tool, and Python's binding; only on a Jetson there is hardware that needs it."""
    found = re.search(r"version ([\d.]+)", probe.run(["gst-inspect-1.0", "--version"]).out)
    tool = found[1] if found else None
    told, fault = probe.ask("gstreamer")
    binding, elements = told.get("version"), tuple(told.get("elements", ()))
    jetson = is_jetson(probe)
    line = "none (optional)"
    if binding:
        line = f"{binding} ({', '.join(elements) or 'none of the elements that matter'})"
    elif tool:
        line = "not reached from Python"
    facts = {"tool": tool, "binding": binding, "elements": elements}
    section = Section("GStreamer", [line], {**facts, "fault": fault, "jetson": jetson})
    if jetson and binding is None:
        section.warn(
            f"Python does not reach GStreamer ({fault}): no CSI camera, no hardware decoder",
            f"sudo apt install {PACKAGES}, and a .venv with --system-site-packages (scripts/setup)",
        )
    elif jetson and "nvv4l2decoder" not in elements:  # it comes with JetPack
        section.warn(
            "GStreamer has no nvv4l2decoder, so video is decoded by the CPU",
            "sudo apt install nvidia-l4t-gstreamer; rm -rf ~/.cache/gstreamer-1.0",
        )
    return section


def look_window(probe: Probe) -> Section:
    """The display, Qt, and what the user's environment says about Qt's plugins."""
    told, fault = probe.ask("window")
    told = told or {"display": False, "reason": fault, "qt": None, "fault": fault}
    display, qt, reason, fault = bool(told["display"]), told["qt"], told["reason"], told["fault"]
    plugins = probe.environ.get(PLUGINS)
    there = bool(plugins) and probe.path(str(plugins)).is_dir()
    section = Section(
        "window",
        [f"{reason}; PyQt5 {f'(Qt {qt})' if qt else 'none'}"],
        {
            **{"display": display, "reason": reason, "qt": qt, "fault": fault},
            **{"plugins": plugins, "plugins_there": there},
        },
    )
    if not display:
        section.warn(
            f"no window: {reason}",
            "log in at the desktop, or use ssh -X; without one Kestrel runs --headless",
        )
    elif qt is None:
        section.warn(
            f"PyQt5 does not load: {fault}",
            "scripts/setup (aarch64: sudo apt install python3-pyqt5), or run --headless",
        )
    elif fault:
        section.warn("PyQt5 cannot open a window", fault)
    if plugins is not None and "cv2" in Path(plugins).parts:
        section.warn(
            f"{PLUGINS} is exported and names OpenCV's Qt plugins, with which PyQt5 aborts "
            "(Kestrel drops it for itself)",
            f"unset {PLUGINS}, also in your shell's start files",
        )
    elif plugins is not None and not there:
        section.warn(
            f"{PLUGINS} names {plugins}, which is not there, so Qt finds no plugin",
            f"unset {PLUGINS}",
        )
    return section
