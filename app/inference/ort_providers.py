"""Options of ONNX Runtime's GPU providers, and the cache of TensorRT engines."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import hashlib
import importlib.util
import io
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..config import Precision
from ..core.errors import ConfigError, DeviceError
from ..core.package import INSTALLED
from ..models.onnx_session import NetworkIO, load_onnxruntime
from ..models.store import cache_dir

log = logging.getLogger(__name__)


KEY_FILE = "key.json"


class EngineCache:
    """A folder for what ``key`` describes: model, versions, device, precision, sizes.

    The folder comes into being whole or not at all: an engine is built into another one, which is
    renamed when it is done.
    """

    def __init__(self, name: str, key: Mapping[str, object]) -> None:
        self._key = json.dumps(key, indent=1, sort_keys=True)
        digest = hashlib.sha256(self._key.encode()).hexdigest()[:16]
        self.folder = cache_dir("engines") / f"{name}-{digest}"
        self._borrowed: tempfile.TemporaryDirectory[str] | None = None

    @property
    def built(self) -> bool:
        """Whether there is an engine to load."""
        return (self.folder / KEY_FILE).is_file()

    def forget(self) -> None:
        """Remove what does not load."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def building(self) -> Iterator[Path]:
        """A folder to build in; kept when the block ends well, removed when it does not."""
        part = self._part()
        try:
            yield part
            self._keep(part)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def close(self) -> None:
        """Remove what could be kept for this process only."""
        if self._borrowed is not None:
            self._borrowed.cleanup()

    def _part(self) -> Path:
        prefix = f"{self.folder.name}.{os.getpid()}."
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(".part", prefix, dir=self.folder.parent))
        except OSError as fault:
            log.warning("the engine cannot be kept in %s: %s", self.folder.parent, fault.strerror)
        # for the other slots of this process, at least
        self._borrowed = tempfile.TemporaryDirectory()
        self.folder = Path(self._borrowed.name) / self.folder.name
        return Path(tempfile.mkdtemp(".part", prefix, dir=self.folder.parent))

    def _keep(self, part: Path) -> None:
        try:
            (part / KEY_FILE).write_text(self._key + "\n")
            part.chmod(0o755)  # mkdtemp's are for their maker alone; a cache may be shipped
            part.rename(self.folder)
        except OSError as fault:
            if not self.built:  # else another process was quicker, with the same
                log.warning("the engine cannot be kept in %s: %s", self.folder, fault.strerror)


WHEELS = ("onnxruntime", "onnxruntime-gpu")


def reinstall(variant: str) -> str:
    """The commands that leave one ONNX Runtime, that for "cpu" or for "cuda"."""
    wheel = {"cpu": "onnxruntime", "cuda": "onnxruntime-gpu"}[variant]
    what = wheel if INSTALLED else f"-r requirements-{variant}.txt"
    return f"pip uninstall -y onnxruntime onnxruntime-gpu && pip install {what}"


# stands in an ONNX file that says which tensors have 8 bits: the type of a node (field 4), of
# fourteen characters
QUANTISED = b"\x22\x0eQuantizeLinear"
Options = dict[str, str]


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
    both = all(_installed(wheel) for wheel in WHEELS)
    told = (
        f"onnxruntime and onnxruntime-gpu are both installed, and share files: {reinstall('cuda')}"
    )
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
    with contextlib.suppress(PackageNotFoundError):
        return bool(version(wheel))
    return False


def load_libraries(engine: str) -> None:
    """Load what pip's NVIDIA wheels brought, which the dynamic loader does not find by itself.

    Raises DeviceError where TensorRT is missing altogether.
    """
    ort = load_onnxruntime()
    ort.set_default_logger_severity(_severity())
    if hasattr(ort, "preload_dlls"):
        told = io.StringIO()  # it prints, and standard output may be the results
        with contextlib.redirect_stdout(told):
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
    wheel = "'onnxruntime-gpu[cuda,cudnn]'" if name == CUDA.name else f"tensorrt-cu{cuda}"
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
            "TensorRT is missing: pip install tensorrt-cu13 (tensorrt-cu12 where ONNX Runtime is "
            "built for CUDA 12; on a Jetson: sudo apt install tensorrt), or use --engine ort-cuda"
        )
    return str(ctypes.CDLL(library).getInferLibVersion())


def choose_precision(engine: str, precision: Precision, *, quantised: bool) -> Precision:
    """What TensorRT computes in; for ort-cuda "auto", as the file says, or "fp32": without TF32.

    Raises ConfigError where the engine or the model cannot.
    """
    if engine == "ort-cuda":
        if precision not in ("auto", "fp32"):
            raise ConfigError(
                f"precision {precision}: ort-cuda computes as the model's file says; `models "
                "quantize NAME --to fp16` makes one for it, or use --engine ort-tensorrt"
            )
        return precision
    if quantised:
        if precision not in ("auto", "int8"):
            raise ConfigError(f"the model is quantised to 8 bits, so precision {precision} is none")
        return "int8"
    if precision == "int8":
        raise ConfigError(
            "precision int8 needs a quantised model: `models quantize NAME --to int8 --for gpu "
            "--calibrate SOURCE` makes one"
        )
    return "fp16" if precision == "auto" else precision


def session_providers(
    engine: str,
    *,
    stream: int,
    device: int,
    precision: Precision,
    network: NetworkIO,
    engine_cache: Path | None = None,
) -> list[tuple[str, Options]]:
    """Providers and options for InferenceSession, best first; the CPU's comes by itself.

    ``stream``: address of the CUDA stream that all work goes on.
    """
    if PROVIDERS[engine].memory == "cpu":
        return [(PROVIDERS[engine].name, {})]
    common = {
        "device_id": str(device),
        "has_user_compute_stream": "1",
        "user_compute_stream": str(stream),
    }
    cuda = {
        **common,
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "use_tf32": "0" if precision == "fp32" else "1",
    }
    if engine == "ort-cuda":
        return [(CUDA.name, cuda)]
    tensorrt = {
        **common,
        "trt_fp16_enable": "0" if precision == "fp32" else "1",
        "trt_int8_enable": "1" if precision == "int8" else "0",
    }
    if network.nameless:  # sizes left open without a name, which no session option can set
        shape = f"{network.input}:{'x'.join(map(str, network.shape))}"
        tensorrt |= {f"trt_profile_{which}_shapes": shape for which in ("min", "opt", "max")}
    if engine_cache is not None:
        tensorrt |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(engine_cache)}
    return [(TENSORRT.name, tensorrt), (CUDA.name, cuda)]


def session_options(network: NetworkIO) -> Any:
    """For a session on the GPU: quiet, and with every size of the input written down."""
    options = load_onnxruntime().SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _severity()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for name, size in network.open_dims.items():
        options.add_free_dimension_override_by_name(name, size)
    return options


def _severity() -> int:
    """Of ONNX Runtime's own log on standard error: fatal only, as what matters is raised."""
    return 2 if log.isEnabledFor(logging.DEBUG) else 4
