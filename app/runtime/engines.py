"""The model and the engine that a configuration asks for, or the best there is."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import sys
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import __version__
from ..config import Config, Precision
from ..core.errors import ConfigError, DeviceError, KestrelError, ModelError, SourceEnded
from ..core.filters import MOST, Filters
from ..core.frame import Frame
from ..core.interfaces import GPU_ENGINES, WHOLE_INPUT, BackendFactory, EngineKind
from ..models.engine_file import is_engine
from ..models.manifest import Model, ModelSpec
from ..models.store import default_model, find_model
from ..ops.machine import device
from ..pipeline.handoff import Policy
from ..pipeline.privacy import FACE_SCORE
from ..sources.uri import make_source
from .filters import all_filters

if TYPE_CHECKING:
    from ..cuda.context import Gpu, GpuContext
    from ..cuda.native.engine import GpuEngine
    from ..inference.auto import EngineChoice
    from ..inference.onnxruntime import OpenNetwork
    from ..inference.regions import Regions
    from ..inference.slices import SliceGrid

log = logging.getLogger(__name__)


# a driver makes one of these: desktop and server, Jetson, Jetson (newer), WSL
GPU_NODES = ("/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvgpu", "/dev/dxg")
INTEL_NODES = {"GPU": "/dev/dri", "NPU": "/dev/accel"}
# the last one's error is told when none opens
ENGINES_TRIED: tuple[EngineKind, ...] = (
    *("tensorrt", "ort-tensorrt", "cuda", "ort-cuda", "openvino", "cpu"),
)
PROVED_FRAMES = 8  # of the bundled clip, on which an engine must find the CPU's boxes
SWITCH_S = 0.0005
PIECES_AT_ONCE = 8  # of a sliced frame, on a GPU


def backend_factory(config: Config, model: Model, policy: Policy) -> BackendFactory:
    """The engine asked for. Raises ConfigError where it cannot compute in ``config.precision``."""
    model, grid = choosing(config, model), slices_of(config)
    engine = _engine(config, model, policy)
    if grid is None:
        return engine
    from ..inference.slices import SlicedBackend

    iou = thresholds(config, model.spec).iou
    return lambda wake: SlicedBackend(engine, grid, model.spec, wake=wake, iou=iou)


def slices_of(config: Config) -> SliceGrid | Regions | None:
    """How frames are sliced; None where they are not."""
    if config.motion.regions:
        from ..inference.regions import Regions

        return Regions(config.motion.floor_s)
    if config.slices is None:
        return None
    from ..inference.slices import SliceGrid

    return SliceGrid.parse(config.slices, config.slice_overlap)


def _engine(config: Config, model: Model, policy: Policy) -> BackendFactory:
    if is_engine(model.weights):
        if config.engine not in ("auto", "tensorrt"):
            raise ConfigError(
                f"{model.weights} is an engine of TensorRT: use --engine tensorrt, or its ONNX file"
            )
        return _cuda(config, model, "tensorrt")
    if config.engine == "auto":
        return _auto(config, model, policy)
    if config.engine in GPU_ENGINES:
        return _cuda(config, model, config.engine)
    return _cpu(config, model, policy, config.engine)


def _auto(config: Config, model: Model, policy: Policy) -> BackendFactory:
    from ..inference.openvino import openvino_version

    if (reason := without_gpu()) and openvino_version() is None:
        log.info("engine auto: cpu, as %s", reason)
        return _cpu(config, model, policy, "cpu")
    from ..inference.auto import fastest

    return lambda wake: fastest(lambda: choose_from(config, model, policy, no_gpu=reason), wake)


def without_gpu() -> str | None:
    """Why there is nothing but the CPU, without looking further; None: there may be more."""
    if not any(Path(node).exists() for node in GPU_NODES):
        return "there is no NVIDIA GPU"
    if importlib.util.find_spec("pycuda") is None:
        return "PyCUDA is missing for the GPU that is there (scripts/setup on a CUDA toolkit)"
    return None


def why_no_engine(engine: str) -> str | None:
    """Why this machine cannot run it, in one line; None where nothing speaks against it."""
    family, _, device = engine.partition(":")
    if family == "openvino":
        from ..inference.openvino import need_device, openvino_version

        if openvino_version() is None:
            return "OpenVINO is not installed (pip install -r requirements-openvino.txt)"
        if device and not Path(INTEL_NODES[device]).exists():
            return f"there is no Intel {device} ({INTEL_NODES[device]} is missing)"
        try:
            if device:
                need_device(device)  # imports OpenVINO, which takes a while
        except KestrelError as fault:
            return str(fault)
        return None
    if engine not in GPU_ENGINES:
        return None
    if reason := without_gpu():
        return reason
    from ..cuda.context import find_gpu

    try:
        find_gpu()
    except DeviceError as fault:
        return str(fault)
    if engine == "tensorrt":
        from ..cuda.tensorrt_build import missing_tensorrt

        return missing_tensorrt()
    from ..cuda.ort_providers import missing_provider

    return missing_provider(engine) if engine in ("ort-cuda", "ort-tensorrt") else None


def choose_from(
    config: Config, model: Model, policy: Policy, *, no_gpu: str | None = None
) -> EngineChoice:
    """The engines worth a measurement; the CPU is the last, and always one.

    ``no_gpu``: why none is looked for.
    """
    from ..cuda.context import find_gpu
    from ..cuda.kernels import kernels_digest
    from ..inference.auto import EngineChoice
    from ..inference.openvino import openvino_version

    engines: dict[str, BackendFactory] = {}
    skipped: dict[str, str] = {}
    gpu = None
    if no_gpu is None:
        try:
            gpu = find_gpu()
        except DeviceError as fault:
            skipped["GPU"] = str(fault)
    for engine in ENGINES_TRIED:
        if gpu is None and engine in GPU_ENGINES:
            continue
        if engine == "openvino" and openvino_version() is None:
            continue  # an offer of its own, and no fault where it is not taken up
        try:
            if reason := _not_worth(engine, config, model, gpu):
                skipped[engine] = reason
            else:
                chosen = replace(config, engine=engine)
                engines[engine] = _engine(chosen, model, policy)
        except KestrelError as fault:
            skipped[engine] = str(fault)
    if not engines:  # a precision that none of them has
        raise ConfigError("; ".join(f"{name}: {why}" for name, why in skipped.items()))
    machine = device()
    key = {
        "model_sha256": hashlib.sha256(model.weights.read_bytes()).hexdigest(),
        "input": [*model.spec.input.size_wh, model.spec.input.fit],
        "cpu": f"{machine['cpu']}, {machine['cores']} cores",
        "gpu": gpu,
        "kestrel": __version__,
        "onnxruntime": machine["onnxruntime"] or machine["onnxruntime-gpu"],
        "kernels": kernels_digest(),
        "bindings": [machine["pycuda"], machine["cuda-bindings"]],
        "openvino": openvino_version(),
        "engines": list(engines),
        "policy": policy.name,
        "settings": [
            *(config.precision, config.workers, config.threads),
            *(config.slots, config.transfer, config.batch),
            *([config.slices] if config.slices else []),
        ],
    }
    return EngineChoice(engines, skipped, key, known_frames, {"openvino": "cpu"})


def known_frames() -> list[Frame]:
    """Frames of the bundled clip, spread over it."""
    source = make_source("sample:", realtime=False)
    frames: list[Frame] = []
    try:
        info = source.open()
        step = max(1, (info.frame_count or 1) // PROVED_FRAMES)
        while len(frames) < PROVED_FRAMES:
            frame = source.read(1.0)
            if frame is not None and frame.index % step == 0:
                frames.append(replace(frame, pixels=frame.pixels.copy()))
    except SourceEnded:
        pass
    finally:
        source.close()
    return frames


def _not_worth(engine: EngineKind, config: Config, model: Model, gpu: Gpu | None) -> str | None:
    """Why an engine that is asked for by name only is not measured."""
    if engine not in ("tensorrt", "ort-cuda", "ort-tensorrt") or gpu is None:
        return None
    spec, weights, precision = spec_computed(engine, model.spec), model.weights, config.precision
    where: dict[str, Any] = {"device": gpu.name, "capability": gpu.capability}
    if engine == "tensorrt":
        from ..cuda.tensorrt import plan_cache
        from ..cuda.tensorrt_build import missing_tensorrt

        if reason := missing_tensorrt():
            return reason
        caches = [
            plan_cache(spec, weights, precision, driver=gpu.driver, frames=frames, **where)
            for frames in {1, config.batch or 1}
        ]
    else:
        from ..cuda.ort import tensorrt_cache
        from ..cuda.ort_providers import missing_provider

        if (reason := missing_provider(engine)) or engine == "ort-cuda":
            return reason
        caches = [tensorrt_cache(spec, weights, precision, **where)]
    if all(cache.built for cache in caches):
        return None
    return "its engine takes minutes to build; ask for it once by name"


class Thresholds(NamedTuple):
    """The lowest score that is reported, and the IoU above which NMS drops a box."""

    score: float
    iou: float


def choosing(config: Config, model: Model) -> Model:
    """Without the model's own thresholds of classes for which the run has others, and with the
    masks that are asked for.
    """
    asked = {label for filters in all_filters(config) for label in filters.class_scores}
    own = {label: s for label, s in model.spec.class_scores.items() if label not in asked}
    return replace(model, spec=replace(model.spec, class_scores=own, masks=config.masks))


def thresholds(config: Config, spec: ModelSpec) -> Thresholds:
    """Those asked for, else the model's own."""
    return Thresholds(
        spec.score if config.score is None else config.score,
        spec.iou if config.iou is None else config.iou,
    )


def reported(config: Config, spec: ModelSpec) -> dict[str, Any]:
    """What the engine reports: ``score``, ``iou`` and ``most``, of which filters then choose.

    Where nothing is filtered, that is what the run wants.
    """
    score, iou = thresholds(config, spec)
    filters = all_filters(config)
    lowest = min(each.lowest(score) for each in filters)
    if config.blur_faces:  # they are hidden from a score on that nothing raises
        lowest = min(lowest, FACE_SCORE)
    most = config.max_detections if filters == [Filters()] * len(filters) else MOST
    return {"score": lowest, "iou": iou, "most": most}


def spec_computed(engine: str | None, spec: ModelSpec) -> ModelSpec:
    """What ``engine`` computes: the whole input where it never cuts it."""
    return spec.whole() if engine in WHOLE_INPUT else spec


def _cpu_network(engine: EngineKind, precision: Precision) -> tuple[OpenNetwork, str]:
    """What opens a network for an engine of the CPU, and what that is called.

    Raises ConfigError where it cannot compute in ``precision``, or is not installed.
    """
    family, _, device = engine.partition(":")
    more = {"openvino": "bf16", "openvino:GPU": "fp16", "openvino:NPU": "fp16"}.get(engine)
    if precision not in ("auto", "fp32", more) or (device == "NPU" and precision == "fp32"):
        raise ConfigError(
            f"precision {precision}: --engine {engine} computes as the model's file says; `models "
            "quantize` makes smaller variants, --engine openvino has bf16, openvino:GPU and "
            "openvino:NPU fp16, tensorrt fp16 and int8"
        )
    if family == "openvino":
        from ..inference.openvino import OpenVinoNetwork, load_openvino, need_bf16

        load_openvino()
        if precision == "bf16":
            need_bf16()  # proved later, with the engine
        hint = {"bf16": "bf16", "fp16": "f16"}.get(precision, "f32")
        called = "OpenVINO" if hint == "f32" else f"OpenVINO, {hint}"
        return partial(OpenVinoNetwork, device=device or "CPU", precision=hint), called
    from ..inference.onnxruntime import OrtNetwork

    return OrtNetwork, "ONNX Runtime"


def _cpu(config: Config, model: Model, policy: Policy, engine: EngineKind) -> BackendFactory:
    open_network, called = _cpu_network(engine, config.precision)
    if config.transfer != "auto":
        raise ConfigError(
            f"transfer {config.transfer}: there is nothing to transfer with --engine {engine}; "
            "it is a setting of GPU engines"
        )
    import cv2

    from ..inference.cpu import WORKERS, CpuBackend

    cv2.setNumThreads(1)  # the workers are the parallelism; cv2's own pool would fight them
    # A worker that comes back from inference waits at most so long for the interpreter; with
    # Python's 5 ms the slowest hundredth of frames pays that several times over.
    sys.setswitchinterval(SWITCH_S)
    workers = config.workers or min(WORKERS, config.slots or WORKERS)
    spare_slots = 1 if policy is Policy.LOSSLESS else 0
    if config.slots is not None and (spare_slots := config.slots - workers) < 0:
        raise ConfigError(f"slots is {config.slots}, which keeps {workers} workers idle")
    return lambda wake: CpuBackend(
        model.spec,
        model.weights,
        wake=wake,
        **reported(config, model.spec),
        workers=workers,
        threads=config.threads,
        spare_slots=spare_slots,
        batch=config.batch or 1,
        capacity=grid.pieces if (grid := slices_of(config)) else 1,
        open_network=open_network,
        engine=called,
        kind=engine,
    )


def _cuda(config: Config, model: Model, engine: EngineKind) -> BackendFactory:
    from ..cuda.backend import SLOTS, CudaBackend
    from ..cuda.engine_cache import QUANTISED, choose_precision
    from ..cuda.native.engine import NativeEngine

    def make_engine(context: GpuContext, spec: ModelSpec, weights: Path) -> GpuEngine:
        if engine == "cuda":
            half = config.precision != "fp32"
            if batch is None and pieces > 1:
                with suppress(ModelError):  # it may take one frame at a time: then so
                    return NativeEngine(context, spec, weights, half=half, batch=pieces)
            return NativeEngine(context, spec, weights, half=half, batch=batch or 1)
        if engine == "tensorrt":
            from ..cuda.tensorrt import TensorrtEngine

            how: dict[str, Any] = {"precision": config.precision, "batch": config.batch or 1}
            return TensorrtEngine(context, spec, weights, **how)
        from ..cuda.ort import OrtEngine

        return OrtEngine(context, spec, weights, engine=engine, precision=config.precision)

    grid, batch = slices_of(config), config.batch
    pieces = min(grid.pieces, PIECES_AT_ONCE) if grid else 1
    if config.precision == "bf16":
        raise ConfigError(
            f"precision bf16: --engine {engine} has none; it is for processors, with "
            "--engine openvino"
        )
    if engine == "cuda" and config.precision == "int8":
        choose_precision(engine, "int8", quantised=QUANTISED in model.weights.read_bytes())
    if engine.startswith("ort-") and config.batch is not None and config.batch > 1:
        raise ConfigError(
            f"batch {config.batch}: --engine {engine} takes one frame at a time; "
            "use --engine cuda or tensorrt, or leave --batch out"
        )
    spec = spec_computed(engine, model.spec)
    return lambda wake: CudaBackend(
        spec,
        model.weights,
        wake=wake,
        **reported(config, model.spec),
        make_engine=make_engine,
        kind=engine,
        slots=config.slots or SLOTS,
        transfer=config.transfer,
    )


def choose_model(config: Config) -> Model:
    """The model asked for, or the default; one log line says which."""
    if config.model is not None:
        return find_model(config.model)
    model = default_model()
    log.info("model %s (--model chooses another)", model.spec.name)
    return model
