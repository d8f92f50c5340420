"""Doctor: system, storage, power, ONNX Runtime, models and the state of a Jetson."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ... import __version__
from ...core.package import COMMAND, FOLDER
from ...cuda.ort_providers import WHEELS, reinstall
from ...models.cache import cache_dir
from ...models.store import list_models, weights_state
from ...ops.machine import device
from ...ops.power import find_sensors
from ...runtime.engines import GPU_NODES
from .devices import is_jetson
from .probe import Probe, Section

LEAST_MEMORY_MB = 500  # a run takes about 160, TensorRT's builder far more
LEAST_FILES = 1024  # cameras, streams, outputs and the GPU take some tens of descriptors each
LEAST_FREE_MB = 1000  # recordings, weights and engines want some
HOT_C = 85.0  # a Jetson slows down from about 97 on
GPU_CLOCKS = (
    "/sys/class/devfreq/17000000.gpu",  # Orin
    "/sys/class/devfreq/17000000.ga10b",
    "/sys/class/devfreq/17000000.gv11b",  # Xavier
    "/sys/class/devfreq/57000000.gpu",  # Nano
)
CPU_CLOCK = "/sys/devices/system/cpu/cpu0/cpufreq"
Range = tuple[int, int]  # (lowest, highest)


def look_system(probe: Probe) -> Section:
    """Versions, processor, memory (MB) and the soft limit of descriptors."""
    machine = device()
    pairs = re.findall(r"^(\w+):\s+(\d+) kB", probe.read("/proc/meminfo") or "", re.M)
    memory = {name: int(kb) // 1024 for name, kb in pairs}
    total_mb, free_mb = memory.get("MemTotal"), memory.get("MemAvailable")
    release = re.search(r'^PRETTY_NAME="?([^"\n]+)', probe.read("/etc/os-release") or "", re.M)
    system = f"{release[1] if release else platform.system()}, {platform.platform()}"
    python, cpu, cores = str(machine["python"]), str(machine["cpu"]), len(os.sched_getaffinity(0))
    open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    packages = {name: probe.version(name) for name in ("numpy", "av")}
    shown = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    told = "unknown" if total_mb is None else f"{total_mb} MB, {free_mb} MB free"
    section = Section(
        "system",
        [
            f"Kestrel {__version__}, Python {python}, {shown}",
            system,
            f"{cpu}, {cores} cores; memory {told}; open files {open_files}",
        ],
        {
            **{"kestrel": __version__, "system": system, "python": python, "cpu": cpu},
            **{"cores": cores, "memory_mb": total_mb, "available_mb": free_mb},
            **{"open_files": open_files, "packages": packages},
        },
    )
    if free_mb is not None and free_mb < LEAST_MEMORY_MB:
        section.warn(
            f"only {free_mb} MB of memory are free",
            "end other programs, run with --headless, or add swap (Jetson: zram)",
        )
    if open_files != resource.RLIM_INFINITY and open_files < LEAST_FILES:
        section.warn(
            f"the limit of open files is {open_files}",
            f"ulimit -n {LEAST_FILES}, or LimitNOFILE= in the service",
        )
    return section


def look_inference(probe: Probe) -> Section:
    """ONNX Runtime: every engine but ``cuda`` is made of it, or falls back to it."""
    told, fault = probe.ask("onnxruntime")
    built_for = str(told.get("cuda", ""))
    providers = tuple(told.get("providers", ()))
    wheels = {name: found for name in WHEELS if (found := probe.version(name))}
    version = told.get("version")
    gpu = probe.first(GPU_NODES) is not None
    cuda = f" (for CUDA {built_for})" if built_for else ""
    what = f"{version}{cuda}, providers: {', '.join(providers)}" if version else "does not load"
    lines = [what]
    section = Section(
        "ONNX Runtime",
        lines,
        {
            **{"version": version, "providers": providers, "built_for_cuda": built_for},
            **{"wheels": wheels, "fault": fault, "gpu": gpu},
        },
    )
    cure = reinstall("cuda" if gpu else "cpu")
    if version is None and wheels:
        section.error(f"ONNX Runtime does not load: {fault}", cure)
    elif version is None:
        section.error("ONNX Runtime is not installed", "scripts/setup")
    if len(wheels) > 1:  # what is left after one is removed does not load
        section.warn(f"{' and '.join(wheels)} are both installed, and share files", cure)
    if gpu and version is not None and "CUDAExecutionProvider" not in providers:
        lacks = "no CUDA provider: --engine ort-cuda and ort-tensorrt cannot run"
        # set-up's choice where PyPI has no other: the GPU is used, by --engine cuda
        if probe.version("pycuda") and list(wheels) == ["onnxruntime"]:
            lines.append(lacks)
        else:
            section.warn(f"this ONNX Runtime has {lacks}", f"{cure} (JetPack 6: scripts/setup)")
    return section


def look_jetson(probe: Probe) -> Section:
    """Power mode, clocks (CPU in kHz, GPU in Hz) and heat, without root."""
    jetson = is_jetson(probe)
    modes = {
        int(number): name
        for number, name in re.findall(
            r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", probe.read("/etc/nvpmodel.conf") or ""
        )
    }
    board = (probe.read("/proc/device-tree/model") or "unknown board") if jetson else None
    release = _release(probe.read("/etc/nv_tegra_release")) if jetson else None
    mode = _mode(probe) if jetson else None
    gpu = probe.first(GPU_CLOCKS)
    cpu_clock = _range(probe, CPU_CLOCK, ("scaling_min_freq", "scaling_max_freq"))
    gpu_clock = _range(probe, gpu, ("min_freq", "max_freq")) if gpu else None
    governor = probe.read(f"{CPU_CLOCK}/scaling_governor")
    driver = probe.read(f"{CPU_CLOCK}/scaling_driver")
    hottest_c = _hottest(probe)
    named = "unknown" if mode is None else modes.get(mode, str(mode))
    heat = "unknown" if hottest_c is None else f"{hottest_c:.0f} °C"
    lines = [f"{board}, {release or 'unknown release'}, power mode {named}"] if board else []
    section = Section(
        "speed",
        [*lines, f"governor {governor or 'unknown'}, hottest {heat}"],
        {
            **{"board": board, "release": release, "mode": mode, "modes": modes},
            **{"cpu_clock": cpu_clock, "gpu_clock": gpu_clock, "governor": governor},
            **{"scaling_driver": driver, "hottest_c": hottest_c},
        },
    )
    best = fastest_mode(modes)
    if mode is not None and best is not None and mode != best:
        section.warn(f"the power mode is {named}, not {modes[best]}", f"sudo nvpmodel -m {best}")
    ranges = {"CPU": cpu_clock, "GPU": gpu_clock}
    moving = [name for name, span in ranges.items() if span and span[0] < span[1]]
    if jetson and moving:  # after jetson_clocks the lowest clock is the highest
        section.warn(
            f"the clocks of {' and '.join(moving)} move with the load, which costs latency",
            "sudo jetson_clocks (at every start: scripts/install_service --system --jetson-clocks)",
        )
    # intel_pstate's "powersave" is its usual one, and quick; elsewhere it is the lowest clock
    if governor == "powersave" and driver not in ("intel_pstate", "amd-pstate-epp"):
        section.warn(
            "the CPU's governor is powersave, which keeps its lowest clock",
            "sudo cpupower frequency-set -g schedutil",
        )
    if hottest_c is not None and hottest_c >= HOT_C:
        section.warn(f"{heat}: it is about to slow down", "clean or add a fan, or lower the mode")
    return section


def _release(text: str | None) -> str | None:
    """ "# R36 (release), REVISION: 4.3, …" is L4T 36.4.3."""
    found = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", text or "")
    return f"L4T {found[1]}.{found[2]}" if found else None


def _mode(probe: Probe) -> int | None:
    told = re.search(r"^(\d+)\s*$", probe.run(["nvpmodel", "-q"]).out, re.M)
    kept = re.search(r"pmode:(\d+)", probe.read("/var/lib/nvpmodel/status") or "")
    found = told or kept
    return int(found[1]) if found else None


def _range(probe: Probe, folder: str, names: tuple[str, str]) -> Range | None:
    low, high = (probe.read(f"{folder}/{name}") for name in names)
    if low is None or high is None or not (low.isdigit() and high.isdigit()):
        return None
    return int(low), int(high)


def _hottest(probe: Probe) -> float | None:
    texts = (probe.read(name) for name in probe.glob("/sys/class/thermal/thermal_zone*/temp"))
    degrees = [int(text) / 1000 for text in texts if text and text.lstrip("-").isdigit()]
    return max(degrees, default=None)


def fastest_mode(modes: Mapping[int, str]) -> int | None:
    """MAXN_SUPER before MAXN before the most watts."""

    def rank(number: int) -> tuple[int, int]:
        name = modes[number].upper()
        watts = re.search(r"(\d+)W", name)
        return ("MAXN" in name) + ("SUPER" in name), int(watts[1]) if watts else 0

    return max(modes, key=rank) if modes else None


def look_models(probe: Probe) -> Section:
    """Every manifest and the state of its weights; compares every checksum."""
    models, section = list_models(), Section("models", [], {})
    by_state: dict[str, list[str]] = {}
    if not any(model.spec.default for model in models):
        section.error("no model is the default one", "git checkout models/, or always give --model")
    for model in models:
        name, state = model.spec.name, weights_state(model, verify=True)
        by_state.setdefault(state, []).append(name + " (default)" * model.spec.default)
        section.facts[name] = {
            **{"name": name, "default": model.spec.default},
            **{"state": state, "weights": str(model.weights)},
        }
        if state not in ("missing", "damaged", "unreadable"):  # never fetched is not wrong
            continue
        if model.spec.default:
            section.error(
                f"the default model {name} is {state} ({model.weights})",
                f"git checkout {model.weights}, or {COMMAND} models fetch {name}",
            )
        else:
            section.warn(
                f"model {name}: its weights are {state} ({model.weights})",
                f"{COMMAND} models fetch {name}, or put the file there",
            )
    section.lines = [f"{each}: {', '.join(names)}" for each, names in by_state.items()] or ["none"]
    return section


def look_power(probe: Probe) -> Section:
    """What the sensors cover. None at all is no fault; one that is closed to this user is."""
    sensors, reason = find_sensors(probe.root)
    covers = tuple(sensor.covers for sensor in sensors)
    line = f"measured: {', '.join(covers)}" if sensors else f"not measured: {reason}"
    section = Section("power", [line], {"covers": covers, "reason": reason})
    what, _, cure = reason.partition(": ")
    if cure:
        section.warn(what, cure)
    return section


def look_storage(probe: Probe) -> Section:
    """Room and permission in the folders that are used, or where they would be made."""
    temporary = Path(tempfile.gettempdir())
    folders = {"project": FOLDER.parent, "cache": cache_dir(""), "temporary": temporary}
    section = Section("disk", lines := [], {})
    for role, path in folders.items():
        there = next(each for each in (path, *path.parents) if each.exists())
        try:
            free_mb = shutil.disk_usage(there).free // 2**20
        except OSError:
            free_mb = None
        # write permission alone: nothing is written for a look
        writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
        section.facts[role] = {
            **{"role": role, "path": str(path), "free_mb": free_mb, "writable": writable}
        }
        room = "unknown" if free_mb is None else free_mb
        lines.append(f"{role} {path}: {room} MB free{'' if writable else ', not writable'}")
        if free_mb is not None and free_mb < LEAST_FREE_MB:
            section.warn(
                f"only {free_mb} MB are free for the {role} folder {path}",
                "make room (du -xh --max-depth=2 / | sort -h), or name a folder elsewhere",
            )
        if role == "cache" and not writable:  # a project folder may well be read-only
            section.warn(
                f"the cache folder {path} cannot be written: kernels, engines and measurements are "
                "made anew at every start",
                f"sudo chown -R $USER {path}, or KESTREL_CACHE=FOLDER",
            )
    return section
