"""Doctor: system, storage, power, ONNX Runtime, models and the state of a Jetson."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ... import __version__
from ...core.errors import ModelError
from ...inference.ort_providers import REINSTALL, WHEELS
from ...models.manifest import Model
from ...models.store import cache_dir, list_models, mirror_file, sha256_fault
from ...ops.machine import device
from ...ops.power import find_sensors
from ...runtime.engines import GPU_NODES
from .probe import PROJECT, Finding, Probe, Section, error, only, warning
from .video import is_jetson

ASK_INFERENCE = """
import json
from app.models.onnx_session import load_onnxruntime
ort = load_onnxruntime()
print(json.dumps({"version": ort.__version__, "providers": ort.get_available_providers(),
                  "cuda": getattr(ort, "cuda_version", "")}))
"""


@dataclass(frozen=True, slots=True)
class InferenceFacts:
    """``wheels``: name and version of those that are installed."""

    version: str | None
    providers: tuple[str, ...]
    built_for_cuda: str
    wheels: dict[str, str]
    fault: str
    gpu: bool


def gather_inference(probe: Probe) -> InferenceFacts:
    """Load it in a child."""
    told, fault = probe.python(ASK_INFERENCE)
    told = told or {}
    versions = {name: probe.version(name) for name in WHEELS}
    return InferenceFacts(
        version=told.get("version"),
        providers=tuple(told.get("providers", ())),
        built_for_cuda=str(told.get("cuda", "")),
        wheels={name: version for name, version in versions.items() if version},
        fault=fault,
        gpu=probe.first(GPU_NODES) is not None,
    )


def check_loads(facts: InferenceFacts) -> Finding | None:
    """Every engine but ``cuda`` is made of it, and the CPU's is what the others fall back to."""
    if facts.version is not None:
        return None
    if facts.wheels:
        return error(f"ONNX Runtime does not load: {facts.fault}", REINSTALL)
    return error("ONNX Runtime is not installed", "scripts/setup")


def check_both_wheels(facts: InferenceFacts) -> Finding | None:
    """They share files, and what is left after one is removed does not load."""
    if len(facts.wheels) < 2:
        return None
    cure = REINSTALL
    if not facts.gpu:
        cure = REINSTALL.replace("requirements-cuda.txt", "requirements-cpu.txt")
    return warning(f"{' and '.join(facts.wheels)} are both installed, and share files", cure)


def check_gpu_provider(facts: InferenceFacts) -> Finding | None:
    """A GPU that ONNX Runtime cannot use; --engine cuda does not need it."""
    if not facts.gpu or facts.version is None or "CUDAExecutionProvider" in facts.providers:
        return None
    return warning(
        "this ONNX Runtime has no CUDA provider: --engine ort-cuda and ort-tensorrt cannot run",
        f"{REINSTALL} (on a Jetson: NVIDIA's own wheel)",
    )


INFERENCE_CHECKS = (check_loads, check_both_wheels, check_gpu_provider)


def look_inference(probe: Probe) -> Section:
    """The subject."""
    facts = gather_inference(probe)
    what = "does not load"
    if facts.version:
        cuda = f" (for CUDA {facts.built_for_cuda})" if facts.built_for_cuda else ""
        what = f"{facts.version}{cuda}, providers: {', '.join(facts.providers)}"
    return Section(
        "ONNX Runtime", [what], asdict(facts), only(check(facts) for check in INFERENCE_CHECKS)
    )


HOT_C = 85.0  # a Jetson slows down from about 97 on
GPU_CLOCKS = (
    "/sys/class/devfreq/17000000.gpu",  # Orin
    "/sys/class/devfreq/17000000.ga10b",
    "/sys/class/devfreq/17000000.gv11b",  # Xavier
    "/sys/class/devfreq/57000000.gpu",  # Nano
)
CPU_CLOCK = "/sys/devices/system/cpu/cpu0/cpufreq"


@dataclass(frozen=True, slots=True)
class SpeedFacts:
    """``modes``: nvpmodel's, by number. Clocks in kHz (CPU) and Hz (GPU) as (lowest, highest)."""

    board: str | None  # None: no Jetson
    release: str | None
    mode: int | None
    modes: Mapping[int, str]
    cpu_clock: tuple[int, int] | None
    gpu_clock: tuple[int, int] | None
    governor: str | None
    scaling_driver: str | None
    hottest_c: float | None


def gather_jetson(probe: Probe) -> SpeedFacts:
    """From sysfs and nvpmodel; none of it needs root."""
    jetson = is_jetson(probe)
    modes = {
        int(number): name
        for number, name in re.findall(
            r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", probe.read("/etc/nvpmodel.conf") or ""
        )
    }
    gpu = probe.first(GPU_CLOCKS)
    return SpeedFacts(
        board=(probe.read("/proc/device-tree/model") or "unknown board") if jetson else None,
        release=_release(probe.read("/etc/nv_tegra_release")) if jetson else None,
        mode=_mode(probe) if jetson else None,
        modes=modes,
        cpu_clock=_range(probe, CPU_CLOCK, ("scaling_min_freq", "scaling_max_freq")),
        gpu_clock=_range(probe, gpu, ("min_freq", "max_freq")) if gpu else None,
        governor=probe.read(f"{CPU_CLOCK}/scaling_governor"),
        scaling_driver=probe.read(f"{CPU_CLOCK}/scaling_driver"),
        hottest_c=_hottest(probe),
    )


def _release(text: str | None) -> str | None:
    """ "# R36 (release), REVISION: 4.3, …" is L4T 36.4.3."""
    found = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", text or "")
    return f"L4T {found[1]}.{found[2]}" if found else None


def _mode(probe: Probe) -> int | None:
    told = re.search(r"^(\d+)\s*$", probe.run(["nvpmodel", "-q"]).out, re.M)
    kept = re.search(r"pmode:(\d+)", probe.read("/var/lib/nvpmodel/status") or "")
    found = told or kept
    return int(found[1]) if found else None


def _range(probe: Probe, folder: str, names: tuple[str, str]) -> tuple[int, int] | None:
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


def check_power_mode(facts: SpeedFacts) -> Finding | None:
    """A Jetson comes in a mode below its best."""
    best = fastest_mode(facts.modes)
    if facts.board is None or facts.mode is None or best is None or facts.mode == best:
        return None
    now = facts.modes.get(facts.mode, str(facts.mode))
    return warning(f"the power mode is {now}, not {facts.modes[best]}", f"sudo nvpmodel -m {best}")


def check_clocks(facts: SpeedFacts) -> Finding | None:
    """After jetson_clocks the lowest clock is the highest."""
    if facts.board is None:
        return None
    ranges = {"CPU": facts.cpu_clock, "GPU": facts.gpu_clock}
    moving = [name for name, span in ranges.items() if span and span[0] < span[1]]
    if not moving:
        return None
    return warning(
        f"the clocks of {' and '.join(moving)} move with the load, which costs latency",
        "sudo jetson_clocks (at every start: scripts/install_service --system --jetson-clocks)",
    )


def check_governor(facts: SpeedFacts) -> Finding | None:
    """intel_pstate's "powersave" is its usual one, and quick; elsewhere it is the lowest clock."""
    if facts.governor != "powersave" or facts.scaling_driver in ("intel_pstate", "amd-pstate-epp"):
        return None
    return warning(
        "the CPU's governor is powersave, which keeps its lowest clock",
        "sudo cpupower frequency-set -g schedutil",
    )


def check_heat(facts: SpeedFacts) -> Finding | None:
    """Slower soon."""
    if facts.hottest_c is None or facts.hottest_c < HOT_C:
        return None
    return warning(
        f"{facts.hottest_c:.0f} °C: it is about to slow down",
        "clean or add a fan, or lower the mode",
    )


JETSON_CHECKS = (check_power_mode, check_clocks, check_governor, check_heat)


def look_jetson(probe: Probe) -> Section:
    """The subject."""
    facts = gather_jetson(probe)
    lines = []
    if facts.board:
        mode = "unknown" if facts.mode is None else facts.modes.get(facts.mode, str(facts.mode))
        lines.append(f"{facts.board}, {facts.release or 'unknown release'}, power mode {mode}")
    heat = "unknown" if facts.hottest_c is None else f"{facts.hottest_c:.0f} °C"
    lines.append(f"governor {facts.governor or 'unknown'}, hottest {heat}")
    return Section("speed", lines, asdict(facts), only(check(facts) for check in JETSON_CHECKS))


State = Literal["ready", "in the mirror", "to be fetched", "missing", "damaged", "unreadable"]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One manifest. "to be fetched": absent, but its manifest names an address."""

    name: str
    default: bool
    state: State
    weights: str


def gather_models(models: Sequence[Model]) -> list[ModelFacts]:
    """Compares every checksum."""
    return [ModelFacts(m.spec.name, m.spec.default, _state(m), str(m.weights)) for m in models]


def _state(model: Model) -> State:
    if model.weights.is_file():
        try:
            return "damaged" if sha256_fault(model.spec, model.weights) else "ready"
        except ModelError:
            return "unreadable"
    mirrored = mirror_file(model.spec)
    if mirrored is not None:
        return "in the mirror" if mirrored.is_file() else "missing"
    return "to be fetched" if model.spec.url else "missing"


def check_default(models: Sequence[ModelFacts]) -> Finding | None:
    """Plain runs need it."""
    default = next((model for model in models if model.default), None)
    if default is None:
        return error("no model is the default one", "git checkout models/, or always give --model")
    if default.state in ("missing", "damaged", "unreadable"):
        return error(
            f"the default model {default.name} is {default.state} ({default.weights})",
            f"git checkout {default.weights}, or python -m app models fetch {default.name}",
        )
    return None


def check_others(models: Sequence[ModelFacts]) -> list[Finding]:
    """Those that are told wrong; one that was never fetched is not wrong."""
    return [
        warning(
            f"model {model.name}: its weights are {model.state} ({model.weights})",
            f"python -m app models fetch {model.name}, or put the file there",
        )
        for model in models
        if not model.default and model.state in ("missing", "damaged", "unreadable")
    ]


def look_models(probe: Probe) -> Section:
    """The subject."""
    models = gather_models(list_models())
    by_state: dict[str, list[str]] = {}
    for model in models:
        by_state.setdefault(model.state, []).append(model.name + " (default)" * model.default)
    lines = [f"{state}: {', '.join(names)}" for state, names in by_state.items()] or ["none"]
    default = check_default(models)
    findings = ([default] if default else []) + check_others(models)
    return Section("models", lines, {m.name: asdict(m) for m in models}, findings)


@dataclass(frozen=True, slots=True)
class PowerFacts:
    """What the sensors cover, or why there is none."""

    covers: tuple[str, ...]
    reason: str


def look_power(probe: Probe) -> Section:
    """The subject. No sensor at all is no fault; one that is closed to this user is."""
    sensors, reason = find_sensors(probe.root)
    facts = PowerFacts(tuple(sensor.covers for sensor in sensors), reason)
    lines = [f"measured: {', '.join(facts.covers)}" if sensors else f"not measured: {reason}"]
    what, _, cure = reason.partition(": ")
    findings = [warning(what, cure)] if cure else []
    return Section("power", lines, asdict(facts), findings)


LEAST_FREE_MB = 1000
ROLES = {"project": PROJECT, "cache": cache_dir(""), "temporary": Path(tempfile.gettempdir())}


@dataclass(frozen=True, slots=True)
class Folder:
    """``free_mb`` None: it cannot be asked."""

    role: str
    path: str
    free_mb: int | None
    writable: bool


def gather_storage(folders: dict[str, Path]) -> list[Folder]:
    """The folders, or where they would be made."""
    return [_folder(role, path) for role, path in folders.items()]


def _folder(role: str, path: Path) -> Folder:
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        free_mb = shutil.disk_usage(there).free // 2**20
    except OSError:
        free_mb = None
    # write permission alone: nothing is written for a look
    writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    return Folder(role, str(path), free_mb, writable)


def check_room(folder: Folder) -> Finding | None:
    """Recordings, weights and engines want some."""
    if folder.free_mb is None or folder.free_mb >= LEAST_FREE_MB:
        return None
    return warning(
        f"only {folder.free_mb} MB are free for the {folder.role} folder {folder.path}",
        "make room (du -xh --max-depth=2 / | sort -h), or name a folder elsewhere",
    )


def check_writable(folder: Folder) -> Finding | None:
    """Of the cache alone: a project folder may well be read-only."""
    if folder.role != "cache" or folder.writable:
        return None
    return warning(
        f"the cache folder {folder.path} cannot be written: kernels, engines and measurements are "
        "made anew at every start",
        f"sudo chown -R $USER {folder.path}, or KESTREL_CACHE=FOLDER",
    )


def look_storage(probe: Probe) -> Section:
    """The subject."""
    folders = gather_storage({**ROLES, "cache": cache_dir("")})
    lines = [
        f"{folder.role} {folder.path}: {'unknown' if folder.free_mb is None else folder.free_mb} "
        f"MB free{'' if folder.writable else ', not writable'}"
        for folder in folders
    ]
    findings = only(check(folder) for folder in folders for check in (check_room, check_writable))
    return Section("disk", lines, {folder.role: asdict(folder) for folder in folders}, findings)


LEAST_MEMORY_MB = 500
LEAST_FILES = 1024
PACKAGES = ("numpy", "av")


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """Memory in MB; ``open_files`` is the soft limit of descriptors."""

    kestrel: str
    system: str
    python: str
    cpu: str
    cores: int
    memory_mb: int | None
    available_mb: int | None
    open_files: int
    packages: dict[str, str | None]


def gather_system(probe: Probe) -> SystemFacts:
    """Read them."""
    machine = device()
    memory = _meminfo(probe.read("/proc/meminfo") or "")
    release = re.search(r'^PRETTY_NAME="?([^"\n]+)', probe.read("/etc/os-release") or "", re.M)
    return SystemFacts(
        kestrel=__version__,
        system=f"{release[1] if release else platform.system()}, {platform.platform()}",
        python=str(machine["python"]),
        cpu=str(machine["cpu"]),
        cores=len(os.sched_getaffinity(0)),
        memory_mb=memory.get("MemTotal"),
        available_mb=memory.get("MemAvailable"),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        packages={name: probe.version(name) for name in PACKAGES},
    )


def _meminfo(text: str) -> dict[str, int]:
    """MB by name."""
    pairs = re.findall(r"^(\w+):\s+(\d+) kB", text, re.M)
    return {name: int(kb) // 1024 for name, kb in pairs}


def check_memory(facts: SystemFacts) -> Finding | None:
    """A run takes about 160 MB, TensorRT's builder far more."""
    if facts.available_mb is None or facts.available_mb >= LEAST_MEMORY_MB:
        return None
    return warning(
        f"only {facts.available_mb} MB of memory are free",
        "end other programs, run with --headless, or add swap (Jetson: zram)",
    )


def check_open_files(facts: SystemFacts) -> Finding | None:
    """Cameras, streams, outputs and the GPU take some tens of descriptors each."""
    if facts.open_files == resource.RLIM_INFINITY or facts.open_files >= LEAST_FILES:
        return None
    return warning(
        f"the limit of open files is {facts.open_files}",
        f"ulimit -n {LEAST_FILES}, or LimitNOFILE= in the service",
    )


def look_system(probe: Probe) -> Section:
    """The subject."""
    facts = gather_system(probe)
    memory = "unknown"
    if facts.memory_mb is not None:
        memory = f"{facts.memory_mb} MB, {facts.available_mb} MB free"
    packages = ", ".join(f"{name} {version}" for name, version in facts.packages.items() if version)
    lines = [
        f"Kestrel {facts.kestrel}, Python {facts.python}, {packages}",
        facts.system,
        f"{facts.cpu}, {facts.cores} cores; memory {memory}; open files {facts.open_files}",
    ]
    return Section(
        "system",
        lines,
        asdict(facts),
        only(check(facts) for check in (check_memory, check_open_files)),
    )
