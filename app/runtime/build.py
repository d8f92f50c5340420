"""Source, model and engine that a configuration asks for, or the best there is."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import __version__
from ..config import Config, Engine, Precision, parse_sources
from ..core.errors import ConfigError, DeviceError, KestrelError, ModelError, SourceEnded
from ..core.frame import Frame
from ..core.interfaces import BackendFactory, FrameSource
from ..models.manifest import Model, ModelSpec
from ..models.store import default_model, find_model, list_models, locate
from ..ops.machine import device
from ..pipeline.degrade import DegradationPolicy, Network, Thermal, parse_ladder
from ..pipeline.handoff import Policy
from ..sources.base import first_camera
from ..sources.reconnect import Endurance
from ..sources.uri import SourceOptions, make_source

if TYPE_CHECKING:
    from ..cuda.context import Gpu, GpuContext
    from ..cuda.native.engine import Engine as GpuEngine
    from ..inference.auto import Choice
    from ..inference.onnxruntime import OpenNetwork

log = logging.getLogger(__name__)


# a driver makes one of these: desktop and server, Jetson, Jetson (newer), WSL
GPU_NODES = ("/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvgpu", "/dev/dxg")
ENGINES_TRIED: tuple[Engine, ...] = ("ort-tensorrt", "cuda", "ort-cuda", "openvino", "cpu")
ON_CPU: tuple[Engine, ...] = ("openvino", "cpu")
PROVED_FRAMES = 8  # of the bundled clip, on which an engine must find the CPU's boxes
SWITCH_S = 0.0005


def backend_factory(config: Config, model: Model, policy: Policy) -> BackendFactory:
    """The engine asked for. Raises ConfigError where it cannot compute in ``config.precision``."""
    if config.engine == "auto":
        return _auto(config, model, policy)
    if config.engine in ("cuda", "ort-cuda", "ort-tensorrt"):
        return _cuda(config, model)
    return _cpu(config, model, policy)


def _auto(config: Config, model: Model, policy: Policy) -> BackendFactory:
    from ..inference.openvino import openvino_version

    if (reason := without_gpu()) and openvino_version() is None:
        log.info("engine auto: cpu, as %s", reason)
        return _cpu(replace(config, engine="cpu"), model, policy)
    from ..inference.auto import fastest

    return lambda wake: fastest(lambda: choose_from(config, model, policy, no_gpu=reason), wake)


def without_gpu() -> str | None:
    """Why there is nothing but the CPU, without looking further; None: there may be more."""
    if not any(Path(node).exists() for node in GPU_NODES):
        return "there is no NVIDIA GPU"
    if importlib.util.find_spec("pycuda") is None:
        return "PyCUDA is missing for the GPU that is there (scripts/setup on a CUDA toolkit)"
    return None


def choose_from(
    config: Config, model: Model, policy: Policy, *, no_gpu: str | None = None
) -> Choice:
    """The engines worth a measurement; the CPU is the last, and always one.

    ``no_gpu``: why none is looked for.
    """
    from ..cuda.context import find_gpu
    from ..cuda.kernels import kernels_digest
    from ..inference.auto import Choice
    from ..inference.openvino import openvino_version

    engines: dict[str, BackendFactory] = {}
    skipped: dict[str, str] = {}
    gpu = None
    if no_gpu is None:
        from ..cuda.context import find_gpu

        try:
            gpu = find_gpu()
        except DeviceError as fault:
            skipped["GPU"] = str(fault)
    for engine in ENGINES_TRIED if gpu else ON_CPU:
        if engine == "openvino" and openvino_version() is None:
            continue  # an offer of its own, and no fault where it is not taken up
        try:
            if reason := _not_worth(engine, config, model, gpu):
                skipped[engine] = reason
            else:
                chosen = replace(config, engine=engine)
                engines[engine] = backend_factory(chosen, model, policy)
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
        ],
    }
    return Choice(engines, skipped, key, known_frames, {"openvino": "cpu"})


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


def _not_worth(engine: str, config: Config, model: Model, gpu: Gpu | None) -> str | None:
    """Why an engine that is asked for by name only is not measured."""
    if engine in (*ON_CPU, "cuda") or gpu is None:
        return None
    from ..cuda.ort import tensorrt_cache
    from ..inference.ort_providers import missing_provider

    if (reason := missing_provider(engine)) or engine == "ort-cuda":
        return reason
    name, capability, _ = gpu
    cache = tensorrt_cache(
        model.spec, model.weights, config.precision, device=name, capability=capability
    )
    return None if cache.built else "its engine takes minutes to build; ask for it once by name"


def _thresholds(config: Config, model: Model) -> tuple[float, float]:
    """Score and IoU."""
    spec = model.spec
    score = spec.score if config.score is None else config.score
    return score, spec.iou if config.iou is None else config.iou


def cpu_network(engine: str, precision: Precision = "auto") -> tuple[OpenNetwork, str]:
    """What opens a network for an engine of the CPU, and what that is called.

    Raises ConfigError where it cannot compute in ``precision``, or is not installed.
    """
    if precision not in ("auto", "fp32") and (engine, precision) != ("openvino", "bf16"):
        raise ConfigError(
            f"precision {precision}: --engine {engine} computes as the model's file says; `models "
            "quantize` makes smaller variants, --engine openvino has bf16, ort-tensorrt fp16 and "
            "int8"
        )
    if engine == "openvino":
        from ..inference.openvino import OpenVinoNetwork, load_openvino, need_bf16

        load_openvino()
        bf16 = precision == "bf16"
        if bf16:
            need_bf16()  # proved later, with the engine
        called = "OpenVINO, bf16" if bf16 else "OpenVINO"
        return partial(OpenVinoNetwork, bf16=bf16), called
    from ..inference.onnxruntime import OrtNetwork

    return OrtNetwork, "ONNX Runtime"


def _cpu(config: Config, model: Model, policy: Policy) -> BackendFactory:
    open_network, called = cpu_network(config.engine, config.precision)
    if config.transfer != "auto":
        raise ConfigError(
            f"transfer {config.transfer}: there is nothing to transfer with --engine "
            f"{config.engine}; it is a setting of GPU engines"
        )
    import cv2

    from ..inference.cpu import WORKERS, CpuBackend

    cv2.setNumThreads(1)  # the workers are the parallelism; cv2's own pool would fight them
    # A worker that comes back from inference waits at most so long for the interpreter; with
    # Python's 5 ms the slowest hundredth of frames pays that several times over.
    sys.setswitchinterval(SWITCH_S)
    score, iou = _thresholds(config, model)
    workers = config.workers or min(WORKERS, config.slots or WORKERS)
    spare_slots = 1 if policy is Policy.LOSSLESS else 0
    if config.slots is not None and (spare_slots := config.slots - workers) < 0:
        raise ConfigError(f"slots is {config.slots}, which keeps {workers} workers idle")
    return lambda wake: CpuBackend(
        model.spec,
        model.weights,
        wake=wake,
        score=score,
        iou=iou,
        workers=workers,
        threads=config.threads,
        spare_slots=spare_slots,
        batch=config.batch or 1,
        open_network=open_network,
        engine=called,
    )


def as_computed(engine: str, spec: ModelSpec) -> ModelSpec:
    """With the whole input where the engine never cuts it: another size is another network to
    ONNX Runtime on a GPU, which TensorRT builds for minutes. ``engine``: name or description."""
    return spec.whole() if engine.startswith("ort-") else spec


def _cuda(config: Config, model: Model) -> BackendFactory:
    from ..cuda.backend import SLOTS, CudaBackend
    from ..cuda.native.engine import NativeEngine

    def make_engine(context: GpuContext, spec: ModelSpec, weights: Path) -> GpuEngine:
        if config.engine == "cuda":
            half = config.precision != "fp32"
            return NativeEngine(context, spec, weights, half=half, batch=config.batch or 1)
        from ..cuda.ort import OrtEngine

        return OrtEngine(context, spec, weights, engine=config.engine, precision=config.precision)

    if config.precision == "bf16":
        raise ConfigError(
            f"precision bf16: --engine {config.engine} has none; it is for processors, with "
            "--engine openvino"
        )
    if config.engine == "cuda" and config.precision == "int8":
        raise ConfigError(
            "precision int8: --engine cuda computes in half precision or float32; "
            "use --engine ort-tensorrt"
        )
    if config.engine != "cuda" and config.batch is not None and config.batch > 1:
        raise ConfigError(
            f"batch {config.batch}: --engine {config.engine} takes one frame at a time; "
            "use --engine cuda, or leave --batch out"
        )
    score, iou = _thresholds(config, model)
    spec = as_computed(config.engine, model.spec)
    return lambda wake: CudaBackend(
        spec,
        model.weights,
        wake=wake,
        score=score,
        iou=iou,
        make_engine=make_engine,
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


def choose_source(config: Config) -> str:
    """The URI asked for, or the first camera, or the bundled clip; one log line says which."""
    if config.source is not None:
        return config.source
    camera = first_camera()
    if camera is not None:
        log.info("source %s, the first camera (--source chooses another)", camera)
        return camera
    log.info("source sample:, the bundled clip, as there is no camera (--source chooses another)")
    return "sample:"


def source_options(config: Config) -> SourceOptions:
    """What the configuration says of all sources."""
    return SourceOptions(
        open_timeout_s=config.open_timeout_s,
        read_timeout_s=config.read_timeout_s,
        raw=config.engine in ("cuda", "ort-cuda", "ort-tensorrt"),
        rtsp_transport=config.rtsp_transport,
    )


class NamedInput(NamedTuple):
    """A source, not opened yet, and its name among others."""

    name: str
    source: FrameSource


def make_inputs(config: Config, policy: Policy) -> list[NamedInput]:
    """All sources, at least one. Of several, one that is not there yet is waited for."""
    if not config.sources:
        return [NamedInput("", make_input(config, policy))]
    patient = replace(config, wait=config.wait or config.reconnect)
    return [
        NamedInput(each.name, make_input(replace(patient, source=each.uri, sources=()), policy))
        for each in parse_sources(config.sources)
    ]


def make_input(config: Config, policy: Policy) -> FrameSource:
    """The source, not opened yet; a live one comes back, unless the configuration forbids it."""
    return make_source(
        choose_source(config),
        realtime=policy is Policy.LATEST or config.realtime,
        isolate=config.isolate,
        options=source_options(config),
        endurance=endurance_of(config) if policy is Policy.LATEST else None,
    )


def endurance_of(config: Config) -> Endurance | None:
    """How long a live source may be silent, frozen or away; None: its first fault is its end."""
    if not config.reconnect:
        return None
    return Endurance(
        open_s=config.open_timeout_s + 2,  # its own time-out comes first, and says more
        stall_s=min(2.0, config.read_timeout_s / 2),
        silent_s=config.read_timeout_s,
        freeze_s=config.freeze_s or None,
        retry_s=config.retry_s,
        wait=config.wait,
    )


Size = tuple[int, int]
MakeLadder = Callable[[Callable[[str], None]], DegradationPolicy]


def with_ladder(
    config: Config, model: Model, policy: Policy
) -> tuple[BackendFactory, MakeLadder | None]:
    """The engine, with a network for each step of the ladder, and what makes the ladder.

    Raises ConfigError or ModelError for a step that could never be taken. What only this moment
    forbids (weights that cannot be fetched, a GPU that is full) is left out later, with a warning.
    """
    own = backend_factory(config, model, policy)
    if not config.ladder or config.max_age_ms is None or policy is not Policy.LATEST:
        return own, None
    steps = parse_ladder(config.ladder)
    make = partial(DegradationPolicy, steps, budget_ms=config.max_age_ms, hot=Thermal())
    networks = _networks(config)
    if not networks:
        return own, lambda on_step: make(on_step=on_step)
    from ..inference.degraded import LadderBackend, Rung, Rungs, matching_classes

    rungs = Rungs()
    others = {}
    for network in networks:
        labels = _located(config, model, network).spec.labels
        class_ids, _ = matching_classes(labels, model.spec.labels)
        others[network] = Rung(partial(_build, config, model, network, policy), class_ids)
    return (
        lambda wake: LadderBackend(own, others, rungs, wake),
        lambda on_step: make(on_step=on_step, use=rungs.use, missing=rungs.missing),
    )


def check_ladder(config: Config, model: Model) -> None:
    """For ``--check``: also whether the networks run at the sizes asked for. Fetches nothing."""
    from ..models.onnx_edit import at_input_size

    for network in _networks(config):
        located = _located(config, model, network)
        size_wh = network.size_wh
        if size_wh is None or not located.weights.is_file():
            continue
        try:
            at_input_size(located.spec, located.weights, size_wh)
        except ModelError as fault:
            able = ", ".join(_able(size_wh)) or "none"
            raise ModelError(
                f"ladder, {network.name!r}: {fault}. Of the models here these do: {able}"
            ) from fault


def _networks(config: Config) -> list[Network]:
    """Those besides the run's own, in the ladder's order."""
    found = dict.fromkeys(step.network for step in parse_ladder(config.ladder))
    return [network for network in found if network != Network()]


def _located(config: Config, model: Model, network: Network) -> Model:
    """Its model, not fetched; raises ConfigError where it cannot stand in for the run's own."""
    from ..inference.degraded import matching_classes

    located = model if network.model is None else locate(network.model)
    _, lacking = matching_classes(located.spec.labels, model.spec.labels)
    if lacking:
        raise ConfigError(
            f"ladder, {network.name!r}: {located.spec.name} does not know "
            f"{', '.join(lacking[:5])}{' …' * (len(lacking) > 5)}, which {model.spec.name} finds; "
            "choose a model with the same labels or more"
        )
    own_wh = located.spec.input.size_wh
    if network.size_wh is not None and prod(network.size_wh) >= prod(own_wh):
        raise ConfigError(
            f"ladder, {network.name!r}: spares nothing, as the input of {located.spec.name} is "
            "{}x{}".format(*own_wh)
        )
    if network.size_wh is not None and located.spec.input.fit:
        _refuse_a_longer_side(config, network, own_wh)
    return located


def _refuse_a_longer_side(config: Config, network: Network, own_wh: Size) -> None:
    """Of an input that is cut to its frames the longer side decides, not the product of both."""
    above_wh = own_wh
    for each in _networks(config):
        if each == network:
            break
        if each.model == network.model and each.size_wh is not None:
            above_wh = each.size_wh
    if any(side > above for side, above in zip(network.size_wh or (), above_wh, strict=True)):
        raise ConfigError(
            f"ladder, {network.name!r}: may cost more than "
            "{}x{} above it, as only what a frame needs is computed; ".format(*above_wh)
            + "no side may be longer than there"
        )


def _build(config: Config, model: Model, network: Network, policy: Policy) -> BackendFactory:
    """On the pipeline thread; may fetch weights. A score that was asked for is every model's."""
    found = model if network.model is None else find_model(network.model)
    if network.size_wh is not None:
        from ..models.onnx_edit import at_input_size

        spec, weights = at_input_size(found.spec, found.weights, network.size_wh)
        found = Model(spec, weights, None)
    return backend_factory(config, found, policy)


def _able(size_wh: tuple[int, int]) -> list[str]:
    """The shelf's models, of those whose weights are here, that take this input size."""
    from ..models.onnx_edit import at_input_size

    able = []
    for model in list_models():
        if model.weights.is_file() and prod(model.spec.input.size_wh) > prod(size_wh):
            try:
                at_input_size(model.spec, model.weights, size_wh)
            except ModelError:
                continue
            able.append(model.spec.name)
    return able
