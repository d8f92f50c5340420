"""The engine tensorrt: TensorRT by its own bindings, on the slots' streams and device memory.

An ONNX file is built into a plan for this GPU, which takes minutes and is kept. The slot's kernel
writes the input where TensorRT reads it, and TensorRT writes where the kernel that finds boxes
reads; all of that is one CUDA graph. Plans that were built elsewhere (.engine) run as they are.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import Precision
from ..core.errors import ConfigError, DeviceError, ModelError
from ..models.engine_file import is_engine, read_engine
from ..models.manifest import ModelSpec
from ..models.onnx_session import Shape, network_io, open_session
from .context import GpuContext, lost
from .engine_cache import QUANTISED, EngineCache, choose_precision, engine_key
from .tensorrt_build import RECIPE, build_plan, load_tensorrt, messages_of

log = logging.getLogger(__name__)

PLAN_FILE = "engine.plan"  # its sha256, then the plan: TensorRT never sees a damaged one
DIGEST_BYTES = 32


def plan_cache(
    spec: ModelSpec,
    weights: Path,
    precision: Precision,
    *,
    device: str,
    capability: tuple[int, int],
    driver: int,
    frames: int = 1,
) -> EngineCache:
    """Where the plan is kept; its key is all that a plan depends on.

    ``driver``: the CUDA version that the driver runs. TensorRT has a build for each major version
    of CUDA under one version number, and the driver says which it is.
    """
    content = weights.read_bytes()
    key = engine_key(
        content,
        spec,
        device=device,
        capability=capability,
        precision=choose_precision("tensorrt", precision, quantised=QUANTISED in content),
        frames=frames,
        tensorrt=str(load_tensorrt().__version__),
        cuda=driver // 1000,
        recipe=RECIPE,
    )
    return EngineCache(spec.name, key)


class TensorrtEngine:
    """A model for one frame and for ``batch`` frames; made and used where the context is current.

    What is left of the batch where fewer frames come is computed, and looked at by nobody.
    """

    captured = True

    def __init__(
        self,
        context: GpuContext,
        spec: ModelSpec,
        weights: Path,
        *,
        precision: Precision = "auto",
        batch: int = 1,
    ) -> None:
        self._trt = load_tensorrt()
        self._context, self._spec, self._weights = context, spec, weights
        self._precision, self.batch = precision, batch
        self._logger, self._messages = messages_of(self._trt)
        self._runtime = self._trt.Runtime(self._logger)
        self._names: Sequence[str] = ()  # of the outputs, in graph order; () as the plan has them
        if is_engine(weights):
            self._engines, computes = self._imported(), "as it was built"
        else:
            io = network_io(open_session(weights, optimise=False), spec)
            self._names = [name for name, _ in io.outputs]
            quantised = QUANTISED in weights.read_bytes()
            computes = choose_precision("tensorrt", precision, quantised=quantised)
            self._engines = {n: self._kept(n, computes) for n in sorted({1, batch})}
        together = f", {batch} frames at once" if batch > 1 else ""
        self.description = f"tensorrt (TensorRT {self._trt.__version__}, {computes}{together})"

    def _imported(self) -> dict[int, Any]:
        if self._precision != "auto" or self.batch > 1:
            raise ConfigError(
                f"{self._weights} computes as it was built: leave --precision and --batch out"
            )
        engine = self._loaded(read_engine(self._weights).plan)
        if engine is None:
            raise ModelError(
                f"{self._weights} does not load: {self._messages.first()} An engine runs only "
                f"with the TensorRT and the kind of GPU it was built with, here "
                f"{self._trt.__version__} and {self._context.name}: build it here, from its ONNX "
                "file, with --model FILE.onnx --engine tensorrt"
            )
        return {1: engine}

    def _kept(self, frames: int, precision: Precision) -> Any:
        """The engine for so many frames, from the cache or built into it."""
        context = self._context
        cache = plan_cache(
            *(self._spec, self._weights, self._precision),
            device=context.name,
            capability=context.capability,
            driver=int(context.driver.get_driver_version()),
            frames=frames,
        )
        try:
            if cache.built:
                data = (cache.folder / PLAN_FILE).read_bytes()
                digest, plan = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
                whole = hashlib.sha256(plan).digest() == digest
                if whole and (engine := self._loaded(plan)) is not None:
                    return engine
                why = self._messages.first() if whole else "its content has changed"
                log.warning("the engine in %s is built anew: %s", cache.folder, why)
                cache.forget()
        except OSError as fault:
            log.warning("the engine in %s is built anew: %s", cache.folder, fault.strerror)
            cache.forget()
        with cache.building() as part:
            plan = build_plan(
                *(self._trt, self._spec, self._weights),
                precision=precision,
                frames=frames,
                device=context.name,
            )
            (part / PLAN_FILE).write_bytes(hashlib.sha256(plan).digest() + plan)
        cache.close()
        engine = self._loaded(plan)
        if engine is None:
            raise DeviceError(f"TensorRT does not load what it built: {self._messages.first()}")
        return engine

    def _loaded(self, plan: bytes) -> Any:
        self._messages.forget()
        return self._runtime.deserialize_cuda_engine(plan)

    def network(self, stream: Any) -> TensorrtNetwork:
        """See GpuEngine."""
        return TensorrtNetwork(
            *(self._context, self._trt, self._engines, self._names),
            spec=self._spec,
            stream=stream,
        )

    def at(self, spec: ModelSpec) -> TensorrtEngine:
        """See GpuEngine. To TensorRT another input size is another engine."""
        how: dict[str, Any] = {"precision": self._precision, "batch": self.batch}
        return TensorrtEngine(self._context, spec, self._weights, **how)

    def close(self) -> None:
        """See GpuEngine."""
        self._engines.clear()
        self._runtime = None


class TensorrtNetwork:
    """One slot's memory, in which its runs take turns, and a run for each number of frames."""

    def __init__(
        self,
        context: GpuContext,
        trt: Any,
        engines: dict[int, Any],
        names: Sequence[str],
        *,
        spec: ModelSpec,
        stream: Any,
    ) -> None:
        self._memory: list[Any] = []
        self._runs: list[TensorrtRun] = []
        try:
            scratch = self._alloc(context, max(e.device_memory_size_v2 for e in engines.values()))
            for frames, engine in engines.items():
                run = TensorrtRun(context, trt, engine, names, spec=spec, frames=frames)
                self._runs.append(run)
                run.place(scratch, [self._alloc(context, n) for n in run.tensor_bytes])
                # what the first run prepares could not be captured
                context.driver.memset_d8(run.input, 0, run.tensor_bytes[0])
                run.enqueue(stream)
                stream.synchronize()
        except BaseException:  # nobody else knows of it yet
            self.close()
            raise
        self.input_half = self._runs[0].input_half

    def _alloc(self, context: GpuContext, nbytes: int) -> int:
        self._memory.append(context.driver.mem_alloc(max(nbytes, 1)))
        return int(self._memory[-1])

    def run_for(self, frames: int) -> TensorrtRun:
        """The smallest that has room for so many."""
        return next(run for run in self._runs if run.frames >= frames)

    def close(self) -> None:
        """Free everything; nothing may be pending."""
        for run in self._runs:
            run.close()
        for memory in self._memory:
            memory.free()
        self._memory.clear()


class TensorrtRun:
    """An execution context: ``input`` and ``outputs`` are device addresses.

    Outputs that are not float32, or whose family decodes on the host, have address 0; ``varying``
    gives them. Raises ModelError where the engine is none for the model or for this program.
    """

    def __init__(
        self,
        context: GpuContext,
        trt: Any,
        engine: Any,
        names: Sequence[str],
        *,
        spec: ModelSpec,
        frames: int,
    ) -> None:
        self.frames, self._context, self._engine = frames, context, engine
        self._messages = messages_of(trt)[1]
        found = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        inputs = [n for n in found if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        outputs = [name for name in found if name not in inputs]
        if set(names) == set(outputs):  # TensorRT may have them in another order than the file
            outputs = list(names)
        width, height = spec.input.size_wh
        shape = (frames, 3, height, width)
        told = [(name, tuple(engine.get_tensor_shape(name))) for name in inputs]
        try:
            types = {name: np.dtype(trt.nptype(engine.get_tensor_dtype(name))) for name in found}
        except TypeError as fault:  # bfloat16 and types of less than 8 bits
            raise ModelError(
                f"model {spec.name}: its engine has a tensor of a type that NumPy does not have: "
                "build it with inputs and outputs in float32"
            ) from fault
        if len(inputs) != 1 or types[inputs[0]] not in (np.float32, np.float16):
            raise ModelError(f"model {spec.name}: its engine takes {told}, not one float tensor")
        self._execution = engine.create_execution_context(
            trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        if not self._execution.set_input_shape(inputs[0], shape):
            raise ModelError(
                f"model {spec.name}: its engine takes {list(told[0][1])}, but its manifest says "
                f"{list(shape)}; correct `input.size` (width, height) in the manifest"
            )
        self._tensors = [inputs[0], *outputs]
        shapes: list[Shape] = [tuple(self._execution.get_tensor_shape(n)) for n in self._tensors]
        linear = all(engine.get_tensor_format(n) == trt.TensorFormat.LINEAR for n in self._tensors)
        if not linear or any(size < 0 for each in shapes for size in each):
            raise ModelError(
                f"model {spec.name}: its engine has outputs whose size depends on the picture, or "
                "tensors in a layout of their own: export it without NMS, or use --engine ort-cuda"
            )
        self._types = [types[name] for name in self._tensors]
        self._shapes = shapes
        self.tensor_bytes = [
            prod(each) * kind.itemsize for each, kind in zip(shapes, self._types, strict=True)
        ]
        self._on_host = spec.detector.varies or any(t != np.float32 for t in self._types[1:])
        self.input_half = bool(self._types[0] == np.float16)
        self.input = 0
        self._addresses: Sequence[int] = ()
        self.outputs: list[tuple[int, Shape]] = []

    def place(self, scratch: int, addresses: Sequence[int]) -> None:
        """Where its tensors lie, input first, and the layers' own memory."""
        self._execution.set_device_memory(scratch, self._engine.device_memory_size_v2)
        for name, address in zip(self._tensors, addresses, strict=True):
            self._execution.set_tensor_address(name, address)
        self.input, self._addresses = addresses[0], addresses[1:]
        self.outputs = [
            (0 if self._on_host else address, shape)
            for address, shape in zip(self._addresses, self._shapes[1:], strict=True)
        ]

    def enqueue(self, stream: Any) -> None:
        """See NetworkRun."""
        if not self._execution.execute_async_v3(int(stream.handle)):
            raise lost(self._context.name, RuntimeError(self._messages.first()))

    def varying(self) -> list[NDArray[Any]]:
        """See NetworkRun."""
        arrays = []
        for address, shape, kind in zip(
            self._addresses, self._shapes[1:], self._types[1:], strict=True
        ):
            array = np.empty(shape, kind)
            self._context.driver.memcpy_dtoh(array, address)
            arrays.append(array.astype(np.float32) if kind == np.float16 else array)
        return arrays

    def close(self) -> None:
        """Let go of TensorRT's objects."""
        self._execution = self._engine = None
