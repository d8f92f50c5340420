"""Which providers of ONNX Runtime are here, and why one is not."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import io
import logging
import re
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..core.errors import DeviceError
from ..core.package import INSTALLED
from ..models.onnx_session import (
    load_onnxruntime,
)

log = logging.getLogger(__name__)

WHEELS = ("onnxruntime", "onnxruntime-gpu")


def reinstall(variant: str) -> str:
    """The commands that leave one ONNX Runtime, that for "cpu" or for "cuda"."""
    wheel = {"cpu": "onnxruntime", "cuda": "onnxruntime-gpu"}[variant]
    what = wheel if INSTALLED else f"-r requirements-{variant}.txt"
    return f"pip uninstall -y onnxruntime onnxruntime-gpu && pip install {what}"


@dataclass(frozen=True, slots=True)
class Provider:
    """``name`` is ONNX Runtime's; ``memory`` its word for where the tensors that we bind lie."""

    name: str
    memory: str = "cuda"


CUDA = Provider("CUDAExecutionProvider")
TENSORRT = Provider("TensorrtExecutionProvider")
LIBRARIES = {CUDA.name: "cuda", TENSORRT.name: "tensorrt"}
PROVIDERS = {"ort-cuda": CUDA, "ort-tensorrt": TENSORRT}


def missing_provider(engine: str) -> str | None:
    """Why ONNX Runtime as installed cannot run ``engine``, with the cure; None if it can."""
    ort = load_onnxruntime()
    both = all(map(_installed, WHEELS))
    told = f"{' and '.join(WHEELS)} are both installed, and share files: {reinstall('cuda')}"
    name = PROVIDERS[engine].name
    if name in ort.get_available_providers():
        if both:
            log.warning("%s", told)
        return None
    if both:
        return told
    return (
        f"ONNX Runtime {ort.__version__} has no {name}: {reinstall('cuda')} "
        "(on a Jetson: NVIDIA's own wheel), or use --engine cuda or cpu"
    )


def _installed(wheel: str) -> bool:
    try:
        return bool(version(wheel))
    except PackageNotFoundError:
        return False


def load_libraries(engine: str) -> None:
    """Load what pip's NVIDIA wheels brought, which the dynamic loader does not find by itself.

    Raises DeviceError where TensorRT is missing altogether.
    """
    ort = load_onnxruntime()
    ort.set_default_logger_severity(_severity())
    if hasattr(ort, "preload_dlls"):
        told = io.StringIO()  # it prints, and standard output may be the results
        with redirect_stdout(told):
            ort.preload_dlls()
        log.debug("%s", told.getvalue())
    if engine == "ort-tensorrt":
        tensorrt_version()


def unloadable(name: str) -> str:
    """Why a provider's library does not load, with the cure; to be asked after ONNX Runtime tried.

    ONNX Runtime itself only logs it.
    """
    ort, cuda = load_onnxruntime(), _cuda_release().partition(".")[0]
    file = Path(ort.__file__).parent / "capi" / f"libonnxruntime_providers_{LIBRARIES[name]}.so"
    why = "no reason is known"
    try:
        ctypes.CDLL(str(file))
    except OSError as fault:
        why = str(fault)
    if "undefined symbol: cu" in why:
        return f"{name} cannot be loaded ({why}): {older_driver()}"
    wheel = "'onnxruntime-gpu[cuda,cudnn]'"
    if name == TENSORRT.name:  # PyPI's newest TensorRT is often too new for it
        wanted = re.search(r"libnvinfer\w*\.so\.(\d+)", why)
        wheel = f"tensorrt-cu{cuda}"
        if wanted is not None:
            wheel = f"'{wheel}<{int(wanted[1]) + 1}' (or use --engine tensorrt, which takes any)"
    return (
        f"{name} cannot be loaded ({why}): pip install {wheel}, in the version whose library is "
        f"asked for, for CUDA {cuda}; or use --engine cuda"
    )


def older_driver() -> str:
    """The cure for a driver older than what ONNX Runtime was built for."""
    return (
        f"the driver is older than CUDA {_cuda_release()}, for which this ONNX Runtime was built: "
        "install a newer driver, or an older onnxruntime-gpu, or use --engine cuda"
    )


def _cuda_release() -> str:
    """What ONNX Runtime was built for."""
    return str(getattr(load_onnxruntime(), "cuda_version", "") or "12")


def tensorrt_version() -> str:
    """Of the wheel, or of the system's library; raises DeviceError with the cure."""
    if importlib.util.find_spec("tensorrt") is not None:
        import tensorrt

        return str(tensorrt.__version__)
    library = ctypes.util.find_library("nvinfer")
    if library is None:
        raise DeviceError(
            "TensorRT is missing: pip install 'tensorrt-cu13<11' (tensorrt-cu12 where ONNX Runtime "
            "is built for CUDA 12; Jetson: sudo apt install tensorrt), or use --engine ort-cuda"
        )
    return str(ctypes.CDLL(library).getInferLibVersion())


def _severity() -> int:
    """Of ONNX Runtime's own log on standard error: fatal only, as what matters is raised."""
    return 2 if log.isEnabledFor(logging.DEBUG) else 4
