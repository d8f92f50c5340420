"""Doctor: whether GPU, driver, toolkit and PyCUDA are here and fit together."""

from __future__ import annotations

import re

from ...cuda.context import OLDEST_CAPABILITY
from ...runtime.engines import GPU_NODES
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
    told, fault = probe.ask("gpu") if node and pycuda else (None, "")
    told = told or {}
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
    section = Section(
        "GPU",
        [
            line,
            f"toolkit {_dotted(toolkit)}, cuda-bindings {nvrtc or 'none'}, "
            f"PyCUDA {pycuda or 'none'}, cuda.h {header or 'none'}",
        ],
        {
            **{"node": node, "on_bus": on_bus, "module": module, "nouveau": nouveau, "name": name},
            **{"capability": capability, "driver_cuda": driver_cuda, "toolkit": toolkit},
            **{"nvrtc": nvrtc, "header": header, "pycuda": pycuda, "fault": fault, "smi": smi},
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
