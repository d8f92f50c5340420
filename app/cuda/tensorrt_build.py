"""TensorRT's own bindings: found and loaded, and an ONNX file built into a plan for this GPU.

Networks are strongly typed, which TensorRT 10 can and 11 always does: a tensor has the type that
the ONNX file gives it. So half precision is a matter of the file (`to_half_network`), and 8 bits
come from its QuantizeLinear and DequantizeLinear nodes.
"""

from __future__ import annotations

import importlib.util
import logging
import tempfile
import threading
from collections import deque
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..config import Precision
from ..core.building import Unwanted, build_here
from ..core.errors import DeviceError, ModelError
from ..core.text import foreign
from ..models.manifest import ModelSpec
from ..models.onnx_edit import to_half_network, with_input
from ..models.onnx_session import one_line
from .engine_cache import telling

log = logging.getLogger(__name__)

OLDEST = (10, 1)  # strongly typed networks, progress monitors, device memory of the caller
RECIPE = 1  # of what is done with the file before it is built: another one makes other engines
CURE = (
    "pip install tensorrt-cu13 (tensorrt-cu12 with a driver for CUDA 12; on a Jetson: sudo apt "
    "install python3-libnvinfer, then scripts/setup), or use --engine cuda"
)


def missing_tensorrt() -> str | None:
    """Why TensorRT's bindings cannot be used, without loading them; None if they are there."""
    if importlib.util.find_spec("tensorrt") is None:
        return f"TensorRT's Python bindings are missing: {CURE}"
    return None


def load_tensorrt() -> Any:
    """The module ``tensorrt``; raises DeviceError with the cure."""
    if missing := missing_tensorrt():
        raise DeviceError(missing)
    try:
        import tensorrt
    except (ImportError, OSError) as fault:
        raise DeviceError(f"TensorRT does not load ({foreign(fault)}): {CURE}") from fault
    version = str(tensorrt.__version__)
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        raise DeviceError(
            f"TensorRT {version} is too old, {'.'.join(map(str, OLDEST))} or newer is needed "
            "(JetPack 6.1 has it): use --engine cuda, or ort-tensorrt"
        )
    return tensorrt


class BuilderLog:
    """What TensorRT says while it is asked for something; it reports faults in no other way."""

    def __init__(self) -> None:
        self._errors: deque[str] = deque(maxlen=8)

    def note(self, text: str, *, is_error: bool) -> None:
        """On any thread."""
        log.debug("TensorRT: %s", text)
        if is_error:
            self._errors.append(text)

    def forget(self) -> None:
        """What is said from now on is about something else."""
        self._errors.clear()

    def first(self) -> str:
        """The first fault; those after it come of it."""
        text = self._errors[0] if self._errors else "TensorRT gives no reason"
        return one_line(RuntimeError(text))


@cache
def messages_of(trt: Any) -> tuple[Any, BuilderLog]:
    """TensorRT's logger, of which a process must have one only, and what it hears."""
    messages = BuilderLog()

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if severity != trt.ILogger.VERBOSE:
                messages.note(msg, is_error=severity <= trt.ILogger.ERROR)

    return Logger(), messages


@dataclass(slots=True)
class Phase:
    """Of a build: so many of its steps are done; ``parent`` is the phase that it is a step of."""

    parent: str | None
    steps: int
    done: int = 0


class BuildProgress:
    """How much of a build is done, from what a progress monitor hears; any thread."""

    def __init__(self) -> None:
        self._phases: dict[str, Phase] = {}
        self._lock = threading.Lock()
        self.share = 0.0  # of the whole; it never falls

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins."""
        with self._lock:
            self._phases[name] = Phase(parent, max(steps, 1))

    def step(self, name: str, step: int) -> None:
        """Number ``step`` of a phase, from 0, is done."""
        with self._lock:
            if name in self._phases:
                self._phases[name].done = step + 1
            roots = [self._of(root) for root, phase in self._phases.items() if not phase.parent]
            self.share = max(self.share, *roots, 0.0)

    def finish(self, name: str) -> None:
        """A phase is over, perhaps before its last step."""
        with self._lock:
            self._phases.pop(name, None)

    def _of(self, name: str) -> float:
        phase = self._phases[name]
        inner = [self._of(child) for child, it in self._phases.items() if it.parent == name]
        return min(1.0, (phase.done + max(inner, default=0.0)) / phase.steps)

    def __str__(self) -> str:
        return f"{self.share:.0%}, " if self.share else ""


def _monitor(trt: Any, progress: BuildProgress) -> Any:
    """Tells TensorRT after each step whether to go on; ``fault`` is what spoke against it.

    Nothing is raised: the bindings print what a monitor raises, and go on.
    """
    build = build_here()

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.fault: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                progress.step(phase_name, step)
                if not build.is_wanted():
                    self.fault = self.fault or Unwanted("the build was given up")
            except BaseException as fault:  # Ctrl-C arrives wherever Python is at that moment
                self.fault = self.fault or fault
            return self.fault is None

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    return Monitor()


def build_plan(
    trt: Any, spec: ModelSpec, weights: Path, *, precision: Precision, frames: int, device: str
) -> bytes:
    """The plan of the ONNX file ``weights`` for ``frames`` frames on the GPU that is current.

    Raises ModelError where TensorRT does not take the file, DeviceError where it cannot build it,
    Unwanted where the run no longer wants it.
    """
    logger, messages = messages_of(trt)
    width, height = spec.input.size_wh
    shape = (frames, 3, height, width)
    progress = BuildProgress()
    messages.forget()
    with tempfile.TemporaryDirectory() as folder:
        ready = with_input(weights, shape, Path(folder))
        if precision == "fp16":
            half = Path(folder) / "half.onnx"
            to_half_network(ready, half)
            ready = half
        builder = trt.Builder(logger)
        flag = trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        network = builder.create_network(1 << int(flag))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse_from_file(str(ready)):
            errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
            why = one_line(RuntimeError(errors[0])) if errors else messages.first()
            cure = "use --engine cuda or ort-cuda"
            if precision == "int8":
                cure = f"TensorRT takes what `models quantize --for gpu` makes; else {cure}"
            elif frames > 1:
                cure = "its file may be of one frame only: leave --batch out"
            raise ModelError(f"TensorRT does not take the file of {spec.name}: {why}; {cure}")
        config = builder.create_builder_config()
        config.progress_monitor = monitor = _monitor(trt, progress)
        if precision == "fp32":
            config.clear_flag(trt.BuilderFlag.TF32)
        tensor = network.get_input(0)
        if -1 in tuple(tensor.shape):
            profile = builder.create_optimization_profile()
            profile.set_shape(tensor.name, shape, shape, shape)
            config.add_optimization_profile(profile)
        with telling(spec.name, device, progress.__str__):
            plan = builder.build_serialized_network(network, config)
            if monitor.fault is not None:
                raise monitor.fault
            if plan is None:
                why = messages.first()
                cure = "use --engine cuda or ort-cuda"
                if "memory" in why.lower():
                    cure = "end what else uses the GPU's memory, or choose a smaller model"
                raise DeviceError(f"TensorRT cannot build {spec.name}: {why}; {cure}")
        return bytes(memoryview(plan))
