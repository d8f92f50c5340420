"""Which backend runs a model: the engine asked for."""

from __future__ import annotations

import sys
from pathlib import Path

from app.config import Config
from app.errors import ConfigError
from app.handoff import Policy
from app.interfaces import BackendFactory
from app.model_spec import ModelSpec
from app.shelf import Model

SWITCH_S = 0.0005


def backend_factory(config: Config, model: Model, policy: Policy) -> BackendFactory:
    """The engine asked for. Raises ConfigError where it cannot compute in ``config.precision``."""
    if config.engine in ("cuda", "ort-cuda", "ort-tensorrt"):
        return _cuda(config, model)
    return _cpu(config, model, policy)


def _thresholds(config: Config, model: Model) -> tuple[float, float]:
    """Score and IoU."""
    spec = model.spec
    score = spec.score if config.score is None else config.score
    return score, spec.iou if config.iou is None else config.iou


def _cpu(config: Config, model: Model, policy: Policy) -> BackendFactory:
    _only_float32(config)
    import cv2

    from app.backends.cpu import WORKERS, CpuBackend

    cv2.setNumThreads(1)  # the workers are the parallelism; cv2's own pool would fight them
    # A worker that comes back from inference waits at most so long for the interpreter; with
    # Python's 5 ms the slowest hundredth of frames pays that several times over.
    sys.setswitchinterval(SWITCH_S)
    score, iou = _thresholds(config, model)
    return lambda wake: CpuBackend(
        model.spec,
        model.weights,
        wake=wake,
        score=score,
        iou=iou,
        workers=config.workers or WORKERS,
        threads=config.threads,
        spare_slots=1 if policy is Policy.LOSSLESS else 0,
    )


def _cuda(config: Config, model: Model) -> BackendFactory:
    from app.backends.cuda import CudaBackend
    from app.backends.cuda_engine import Engine, NativeEngine
    from app.gpu.context import GpuContext

    def make_engine(context: GpuContext, spec: ModelSpec, weights: Path) -> Engine:
        if config.engine == "cuda":
            return NativeEngine(context, spec, weights, half=config.precision != "fp32")
        from app.backends.ort_gpu import OrtEngine

        return OrtEngine(context, spec, weights, engine=config.engine, precision=config.precision)

    if config.engine == "cuda" and config.precision == "int8":
        raise ConfigError(
            "precision int8: --engine cuda computes in half precision or float32; "
            "use --engine ort-tensorrt"
        )
    score, iou = _thresholds(config, model)
    return lambda wake: CudaBackend(
        model.spec, model.weights, wake=wake, score=score, iou=iou, make_engine=make_engine
    )


def _only_float32(config: Config) -> None:
    if config.precision not in ("auto", "fp32"):
        raise ConfigError(
            f"precision {config.precision}: --engine {config.engine} computes as the model's file "
            "says; `models quantize` makes smaller variants, or use --engine ort-tensorrt"
        )
