"""Doctor: whether GPU, driver, toolkit and PyCUDA are here and fit together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ...cuda.context import OLDEST_CAPABILITY
from ...runtime.engines import GPU_NODES
from .probe import Finding, Probe, Section, only, warning

NVIDIA = "0x10de"  # of PCI
HEADERS = ("/usr/local/cuda/include/cuda.h", "/usr/include/cuda.h")
ASK = """
import json
from app.core.errors import DeviceError
from app.cuda.context import find_gpu
try:
    gpu = find_gpu()
    print(json.dumps({"name": gpu.name, "capability": gpu.capability, "driver": gpu.driver}))
except DeviceError as fault:
    print(json.dumps({"fault": str(fault)}))
"""


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """CUDA versions as (major, minor): what the driver can run, and what the toolkit is."""

    node: str | None  # the device file; None: no driver has made one
    on_bus: bool  # an NVIDIA device on PCI, driver or not
    module: str | None  # version of the kernel's part of the driver
    nouveau: bool
    name: str | None
    capability: tuple[int, int] | None
    driver_cuda: tuple[int, int] | None
    toolkit: tuple[int, int] | None
    nvrtc: str | None
    header: str | None
    pycuda: str | None
    fault: str
    smi: str


def gather(probe: Probe) -> GpuFacts:
    """Ask the kernel, the driver (in a child, through PyCUDA) and the compiler."""
    node = probe.first(GPU_NODES)
    pycuda = probe.version("pycuda")
    told, fault = probe.python(ASK) if node and pycuda else (None, "")
    told = told or {}
    module = re.search(r"Kernel Module.*?(\d+\.\d+[.\d]*)", probe.read(PROC) or "")
    homes = [probe.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if name in probe.environ]
    smi = probe.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
    driver = told.get("driver")
    return GpuFacts(
        node=node,
        on_bus=any(probe.read(name) == NVIDIA for name in probe.glob(PCI)),
        module=module[1] if module else None,
        nouveau=bool(re.search(r"^nouveau ", probe.read("/proc/modules") or "", re.M)),
        name=told.get("name"),
        capability=_pair(told["capability"]) if "capability" in told else None,
        driver_cuda=(driver // 1000, driver % 1000 // 10) if driver else None,
        toolkit=_toolkit(probe),
        nvrtc=probe.version("cuda-bindings"),
        header=probe.first([*(f"{home}/include/cuda.h" for home in homes), *HEADERS]),
        pycuda=pycuda,
        fault=str(told.get("fault", fault)),
        smi=" ".join((smi.out + " " + smi.err).split()),
    )


PROC = "/proc/driver/nvidia/version"
PCI = "/sys/bus/pci/devices/*/vendor"


def _pair(numbers: Sequence[int]) -> tuple[int, int]:
    return int(numbers[0]), int(numbers[1])


def _toolkit(probe: Probe) -> tuple[int, int] | None:
    nvcc = probe.which("nvcc") or probe.first(("/usr/local/cuda/bin/nvcc",))
    if nvcc is None:
        return None
    found = re.search(r"release (\d+)\.(\d+)", probe.run([nvcc, "--version"]).out)
    return (int(found[1]), int(found[2])) if found else None


def check_driver(facts: GpuFacts) -> Finding | None:
    """A GPU without a device file, by why that is."""
    if facts.node is not None:
        return None
    if facts.module is not None:
        return warning(
            f"the NVIDIA driver {facts.module} is loaded, but there is no /dev/nvidia0",
            "in a container: --device nvidia.com/gpu=all (podman) or --gpus all (docker); "
            "else run nvidia-smi once as root",
        )
    if not facts.on_bus:
        return None
    why = "nouveau drives it" if facts.nouveau else "no driver is loaded"
    return warning(
        f"there is an NVIDIA GPU, but {why}",
        "install NVIDIA's driver (Ubuntu: sudo ubuntu-drivers install) and restart the machine",
    )


def check_library(facts: GpuFacts) -> Finding | None:
    """After an update of the driver its library and the kernel's module differ until a restart."""
    if "Driver/library version mismatch" not in facts.smi:
        return None
    return warning("the driver's library and its kernel module differ", "restart the machine")


def check_header(facts: GpuFacts) -> Finding | None:
    """PyCUDA is built from source."""
    if facts.node is None or facts.pycuda is not None or facts.header is not None:
        return None
    return warning(
        "a GPU, but no cuda.h to build PyCUDA with, so only the CPU is used",
        "install the CUDA toolkit (Jetson: sudo apt install nvidia-jetpack), then scripts/setup",
    )


def check_pycuda(facts: GpuFacts) -> Finding | None:
    """The toolkit came after the set-up."""
    if facts.node is None or facts.pycuda is not None or facts.header is None:
        return None
    return warning(
        "a GPU and cuda.h, but PyCUDA is missing",
        "run scripts/setup (KESTREL_VARIANT=cuda forces it)",
    )


def check_starts(facts: GpuFacts) -> Finding | None:
    """What PyCUDA or the driver said; its text has the cure after the semicolon or colon."""
    if not facts.fault or check_library(facts):
        return None
    return warning("the GPU cannot be used", facts.fault)


def check_capability(facts: GpuFacts) -> Finding | None:
    """The kernels need it."""
    if facts.capability is None or facts.capability >= OLDEST_CAPABILITY:
        return None
    has, least = (".".join(map(str, pair)) for pair in (facts.capability, OLDEST_CAPABILITY))
    return warning(f"{facts.name} has compute capability {has}, below {least}", "--engine cpu")


def check_toolkit(facts: GpuFacts) -> Finding | None:
    """A newer toolkit makes code that an older driver refuses; within a major it may still run."""
    if facts.driver_cuda is None or facts.toolkit is None or facts.toolkit <= facts.driver_cuda:
        return None
    toolkit, driver = (".".join(map(str, pair)) for pair in (facts.toolkit, facts.driver_cuda))
    return warning(
        f"the toolkit is CUDA {toolkit}, but the driver runs CUDA {driver} at most",
        f"install a newer driver, or the toolkit of CUDA {driver}",
    )


def check_compiler(facts: GpuFacts) -> Finding | None:
    """Kernels are compiled at the first start, unless they were shipped."""
    if facts.node is None or facts.pycuda is None or facts.toolkit or facts.nvrtc:
        return None
    return warning(
        "neither nvcc nor NVRTC is here to compile the kernels",
        "pip install 'cuda-bindings[all]', or ship kernels (scripts/compile_kernels.py)",
    )


CHECKS = (
    *(check_driver, check_library, check_header, check_pycuda),
    *(check_starts, check_capability, check_toolkit, check_compiler),
)


def look_gpu(probe: Probe) -> Section:
    """The subject."""
    facts = gather(probe)

    def dotted(pair: tuple[int, int] | None) -> str:
        return ".".join(map(str, pair)) if pair else "none"

    if facts.name:
        lines = [
            f"{facts.name}, compute capability {dotted(facts.capability)}, "
            f"driver {facts.module or ''} (CUDA {dotted(facts.driver_cuda)})"
        ]
    else:
        lines = ["none that can be used" if facts.node or facts.on_bus else "no NVIDIA GPU"]
    lines.append(
        f"toolkit {dotted(facts.toolkit)}, cuda-bindings {facts.nvrtc or 'none'}, "
        f"PyCUDA {facts.pycuda or 'none'}, cuda.h {facts.header or 'none'}"
    )
    return Section("GPU", lines, asdict(facts), only(check(facts) for check in CHECKS))
