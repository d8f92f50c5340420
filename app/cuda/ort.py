"""The engines ort-cuda and ort-tensorrt: ONNX Runtime on the slots' own streams and memory.

Our kernel writes the input tensor, ONNX Runtime reads it where it lies and writes device memory
that the next kernel reads: no copy between. A session has one stream, so every slot has a session.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import Precision
from ..core.errors import DeviceError
from ..models.manifest import ModelSpec
from ..models.onnx_session import (
    NetworkIO,
    Shape,
    load_onnxruntime,
    network_io,
    one_line,
    open_session,
    quiet_options,
)
from .context import GpuContext, lost
from .engine_cache import QUANTISED, EngineCache, choose_precision, engine_key, telling
from .ort_providers import (
    CUDA,
    PROVIDERS,
    TENSORRT,
    _severity,
    load_libraries,
    missing_provider,
    older_driver,
    tensorrt_version,
    unloadable,
)

log = logging.getLogger(__name__)

FLOAT_BYTES = 4
_FAILURE = re.compile(r"(CUDA failure \d+: [^;]+)")
_ERROR = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : (.+)")


class OrtEngine:
    """A model for one of the engines of PROVIDERS; made and used where the context is current."""

    batch = 1  # a session for each number of frames would need the weights as often
    captured = False  # ONNX Runtime allocates and waits in between: no CUDA graph of ours

    def __init__(
        self,
        context: GpuContext,
        spec: ModelSpec,
        weights: Path,
        *,
        engine: str,
        precision: Precision = "auto",
    ) -> None:
        if fault := missing_provider(engine):
            raise DeviceError(fault)
        self._context, self._spec, self._weights, self._engine = context, spec, weights, engine
        self._io = network_io(open_session(weights, optimise=False), spec)
        quantised = QUANTISED in weights.read_bytes()
        self._precision = choose_precision(engine, precision, quantised=quantised)
        load_libraries(engine)
        self._extras = extras_of(self._io, self._precision)
        self._cache = None
        if engine == "ort-tensorrt":
            self._cache = tensorrt_cache(
                spec, weights, precision, device=context.name, capability=context.capability
            )
        version = load_onnxruntime().__version__
        computes = "" if self._precision == "auto" else f", {self._precision}"
        self.description = f"{engine} (ONNX Runtime {version}{computes})"

    def network(self, stream: Any) -> OrtSlotNetwork:
        """A session on ``stream`` with its device memory, run once."""
        if self._cache is None:
            return self._open(stream)
        if self._cache.built:
            try:
                return self._open(stream, self._cache.folder)
            except DeviceError as fault:
                if "deserialize" not in str(fault).lower():
                    raise
                log.warning("the TensorRT engine in %s is damaged", self._cache.folder)
                self._cache.forget()
        with self._cache.building() as part, telling(self._spec.name, self._context.name):
            return self._open(stream, part)

    def at(self, spec: ModelSpec) -> OrtEngine:
        """See GpuEngine. With sessions of its own, as if it were another network."""
        how: dict[str, Any] = {"engine": self._engine, "precision": self._precision}
        return OrtEngine(self._context, spec, self._weights, **how)

    def _open(self, stream: Any, engine_cache: Path | None = None) -> OrtSlotNetwork:
        providers = session_providers(
            self._engine,
            stream=int(stream.handle),
            device=self._context.index,
            precision=self._precision,
            network=self._io,
            engine_cache=engine_cache,
            extras=self._extras,
        )
        options, name = session_options(self._io), PROVIDERS[self._engine].name
        make = load_onnxruntime().InferenceSession
        try:
            # with its own fallback it would print, and go on with the CPU
            session = make(str(self._weights), options, providers=providers, enable_fallback=0)
        except Exception as fault:  # ONNX Runtime's own errors have no common root
            for extra in self._extras:
                if EXTRAS[extra].lower() in str(fault).lower():
                    log.info("%s goes without %s: %s", self._engine, extra, one_line(fault))
                    self._extras = [each for each in self._extras if each != extra]
                    return self._open(stream, engine_cache)
            why = unloadable(name) if "Please install" in str(fault) else _cured(fault)
            raise DeviceError(f"{self._engine} does not start: {why}") from fault
        if session.get_providers()[0] != name:  # it warns, and takes the next one
            raise DeviceError(f"{self._engine} does not start: {unloadable(name)}")
        session.disable_fallback()
        memory = PROVIDERS[self._engine].memory
        return OrtSlotNetwork(self._context, session, self._io, stream, memory=memory)

    def close(self) -> None:
        """Nothing on the device is shared between the slots."""
        if self._cache is not None:
            self._cache.close()


class OrtSlotNetwork:
    """One slot's session and tensors: ``input`` and ``outputs`` are device addresses.

    Outputs whose sizes vary have address 0; ``varying`` gives them.
    """

    frames = 1
    input_half = False

    def __init__(
        self, context: GpuContext, session: Any, io: NetworkIO, stream: Any, *, memory: str
    ) -> None:
        self._name, self._session = context.name, session
        alloc = context.driver.mem_alloc
        self._memory = [alloc(prod(io.shape) * FLOAT_BYTES)]
        self.input = int(self._memory[0])
        self.outputs: list[tuple[int, Shape]] = []
        self._binding = session.io_binding()
        place = (memory, context.index if memory == "cuda" else 0, np.float32)
        self._binding.bind_input(io.input, *place, io.shape, self.input)
        for name, shape in io.outputs:
            if io.varies:  # only ONNX Runtime knows how much there is; it copies it to the host
                self._binding.bind_output(name, "cpu")
                self.outputs.append((0, shape))
                continue
            self._memory.append(alloc(prod(shape) * FLOAT_BYTES))
            address = int(self._memory[-1])
            self._binding.bind_output(name, *place, shape, address)
            self.outputs.append((address, shape))
        self._run_options = load_onnxruntime().RunOptions()
        if not io.varies:  # the host goes on at once; the stream keeps the order
            self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        # the first run allocates and searches for the fastest kernels, the second may be captured
        context.driver.memcpy_htod(self.input, np.zeros(io.shape, np.float32))
        for _ in range(2):
            self.enqueue(stream)
            stream.synchronize()

    def run_for(self, frames: int) -> OrtSlotNetwork:
        """See SlotNetwork."""
        return self

    def enqueue(self, stream: Any) -> None:
        """Put the network on the session's stream, which ``stream`` must be."""
        try:
            self._session.run_with_iobinding(self._binding, self._run_options)
        except Exception as fault:
            raise lost(self._name, RuntimeError(one_line(fault))) from fault

    def varying(self) -> Sequence[NDArray[Any]]:
        """The outputs of the last run on the host, in graph order."""
        arrays: list[NDArray[Any]] = self._binding.copy_outputs_to_cpu()
        return arrays

    def close(self) -> None:
        """Free everything; nothing may be pending."""
        del self._binding, self._session
        for memory in self._memory:
            memory.free()
        self._memory.clear()


Options = dict[str, str]
# of the CUDA provider, and what ONNX Runtime's message has where it does not take it: a build with
# an old cuDNN has no NHWC, and a network that is not on the GPU as a whole no graph
EXTRAS = {"prefer_nhwc": "nhwc", "enable_cuda_graph": "graph"}
ASYNCHRONOUS_GRAPHS = (1, 28)  # older ones wait for the end of each replay, whatever they are told


def extras_of(network: NetworkIO, precision: Precision) -> list[str]:
    """What the CUDA provider is asked for besides, as this ONNX Runtime has it.

    NHWC is what tensor cores want, so not in float32. TensorRT's provider has graphs, too, but
    always waits for them, and the other slot's copy with it.
    """
    release = tuple(map(int, load_onnxruntime().__version__.split(".")[:2]))
    nhwc = ["prefer_nhwc"] if precision != "fp32" else []
    graphs = not network.varies and release >= ASYNCHRONOUS_GRAPHS
    return [*nhwc, *(["enable_cuda_graph"] if graphs else [])]


def session_providers(
    engine: str,
    *,
    stream: int,
    device: int,
    precision: Precision,
    network: NetworkIO,
    engine_cache: Path | None = None,
    extras: Sequence[str] = (),
) -> list[tuple[str, Options]]:
    """Providers and options for InferenceSession, best first; the CPU's comes by itself.

    ``stream``: address of the CUDA stream that all work goes on. ``extras``: see extras_of.
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
        return [(CUDA.name, cuda | dict.fromkeys(extras, "1"))]
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
    nhwc = dict.fromkeys({"prefer_nhwc"} & set(extras), "1")
    return [(TENSORRT.name, tensorrt), (CUDA.name, cuda | nhwc)]


def session_options(network: NetworkIO) -> Any:
    """For a session on the GPU: quiet, and with every size of the input written down."""
    options = quiet_options()
    options.log_severity_level = _severity()
    for name, size in network.open_dims.items():
        options.add_free_dimension_override_by_name(name, size)
    return options


def tensorrt_cache(
    spec: ModelSpec,
    weights: Path,
    precision: Precision,
    *,
    device: str,
    capability: tuple[int, int],
) -> EngineCache:
    """Where the engine is kept; its key is all that a TensorRT engine depends on."""
    content = weights.read_bytes()
    key = engine_key(
        content,
        spec,
        device=device,
        capability=capability,
        precision=choose_precision("ort-tensorrt", precision, quantised=QUANTISED in content),
        tensorrt=tensorrt_version(),
        onnxruntime=load_onnxruntime().__version__,
    )
    return EngineCache(spec.name, key)


def _cured(fault: Exception) -> str:
    """ONNX Runtime's message without the names of its functions, and the cure if one is known."""
    text = " ".join(str(fault).split())
    if found := _FAILURE.search(text) or _ERROR.search(text):
        text = found[1].strip()
    if "insufficient" in text:  # CUDA driver version is insufficient for CUDA runtime version
        return f"{text}; {older_driver()}"
    cure = "KESTREL_LOG=DEBUG says more, --engine cuda does without"
    if "out of memory" in text or "Failed to allocate" in text:
        cure = "end what else uses the GPU's memory, or choose a smaller model"
    return f"{one_line(RuntimeError(text))}; {cure}"
