"""OpenVINO in place of ONNX Runtime behind the CPU's slots, with bfloat16 where it is right.

Not to be taken for granted: on some processors OpenVINO's products in bfloat16 are garbage while
those in float32 are sound (openvinotoolkit/openvino#38256), and no error is told. So, before any
model is trusted to it, some layers such as detectors consist of are computed both ways.

In float32 unless bfloat16 is asked for, as the boxes are to be those of the other engines: left to
itself it would choose bfloat16 wherever a CPU has it. As many streams as workers, so that each
worker's frame has its own.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, DeviceError, ModelError, exhausted
from ..core.package import pip_install
from ..models.cache import cache_dir
from ..models.manifest import ModelSpec
from ..models.onnx_session import NetworkIO, Shape, network_io, one_line
from .onnxruntime import Array, BoundNetwork, failed

CURE = f"{pip_install('openvino')}, or use --engine cpu"
_TELEMETRY = "openvino_telemetry"
_loading = threading.RLock()  # two engines may be built at once


def openvino_version() -> str | None:
    """What is installed, without importing it; None: nothing is."""
    if PathFinder.find_spec("openvino") is None:
        return None
    try:
        return version("openvino")
    except PackageNotFoundError:  # a system's own build
        return "unknown"


def load_openvino() -> Any:
    """The module ``openvino``; the one place that imports it. Raises ConfigError with the cure.

    On import it tells its maker so, by a package that it works without: while it is imported that
    package is hidden. A camera's host must not talk to third parties unasked.
    """
    if openvino_version() is None and "openvino" not in sys.modules:
        raise ConfigError(f"OpenVINO is missing: {CURE}")
    with _loading:
        seen = sys.modules.get(_TELEMETRY)
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment] # an import of it fails
        try:
            import openvino
        except ImportError as fault:
            if none_left := exhausted(fault):
                raise none_left from fault
            raise ConfigError(f"OpenVINO does not load ({one_line(fault)}): {CURE}") from fault
        finally:
            del sys.modules[_TELEMETRY]
            if seen is not None:
                sys.modules[_TELEMETRY] = seen
        return openvino


def openvino_core() -> Any:
    """The one Core of the process, which stays.

    The first use of a Core gives its thread a stack for signals. When two Cores go, or one on
    another thread, memory that is gone stays registered, and the next signal kills the process.
    """
    with _loading:
        return _core()


@cache
def _core() -> Any:
    return load_openvino().Core()


def one_thread(network: Any, precision: str) -> Any:
    """``network`` compiled for one thread, in "f32" or "bf16"; OpenVINO's errors as they are."""
    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
    }
    return openvino_core().compile_model(network, "CPU", options)


CHANNELS, SIDE = 32, 24
LEAST_COSINE = 0.99  # 8 bits of mantissa give 0.9999; what was reported as garbage has 0.3 to 0.65
_CURE = "leave --precision out; a model in 8 bits may be as quick"


def need_bf16() -> None:
    """Raises ConfigError where OpenVINO knows no instructions for bfloat16 on this processor."""
    if "BF16" not in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ConfigError(
            "precision bf16: this processor has no instructions for bfloat16 (AVX512_BF16, AMX); "
            f"{_CURE}"
        )


@cache  # a success; an error is raised each time
def prove_bf16() -> None:
    """Raises ConfigError where there is no bfloat16, or more than rounding sets it off float32.

    Takes some 0.1 s, once.
    """
    need_bf16()
    try:
        model = _layers(load_openvino())
        exact, rounded = (_outputs(model, precision) for precision in ("f32", "bf16"))
    except RuntimeError as fault:  # the root of OpenVINO's own
        raise ConfigError(
            f"precision bf16: OpenVINO fails on this processor ({one_line(fault)}); {_CURE}"
        ) from fault
    for name, one, other in zip(("convolutions", "products"), exact, rounded, strict=True):
        cosine = float(np.sum(one * other) / (np.linalg.norm(one) * np.linalg.norm(other)))
        if not cosine >= LEAST_COSINE:  # or NaN
            raise ConfigError(
                f"precision bf16: OpenVINO's {name} in bfloat16 are wrong on this processor "
                f"(cosine {cosine:.2f} to float32); {_CURE}"
            )


def _layers(ov: Any) -> Any:
    """A model of two outputs: 3×3, 1×1 and depthwise convolutions, and a product of matrices."""
    op, rng = ov.opset13, np.random.default_rng(0)

    def weights(*shape: int) -> Any:
        return op.constant(rng.standard_normal(shape, np.float32) / shape[-1])

    def convolve(x: Any, kernel: Any, pad: int, layer: Any = op.convolution) -> Any:
        return op.relu(layer(x, kernel, [1, 1], [pad, pad], [pad, pad], [1, 1]))

    image = op.parameter([1, CHANNELS, SIDE, SIDE], np.float32)
    x = convolve(image, weights(2 * CHANNELS, CHANNELS, 3, 3), 1)
    x = convolve(x, weights(CHANNELS, 2 * CHANNELS, 1, 1), 0)
    x = convolve(x, weights(CHANNELS, 1, 1, 3, 3), 1, op.group_convolution)
    rows = op.reshape(image, op.constant(np.array([CHANNELS, SIDE * SIDE])), False)
    product = op.matmul(rows, weights(SIDE * SIDE, 2 * CHANNELS), False, False)
    return ov.Model([x, product], [image], "layers")


def _outputs(model: Any, precision: str) -> list[NDArray[np.float32]]:
    compiled = one_thread(model, precision)
    image = np.random.default_rng(1).random((1, CHANNELS, SIDE, SIDE), np.float32)
    answer = compiled.create_infer_request().infer([image])
    return [np.array(answer[port], np.float32) for port in compiled.outputs]


def need_device(device: str) -> None:
    """Raises DeviceError where OpenVINO finds no "GPU" or "NPU" of Intel here."""
    there = openvino_core().available_devices
    if not any(each.partition(".")[0] == device for each in there):
        raise DeviceError(
            f"OpenVINO finds no {device} here, but {', '.join(there) or 'nothing'}: install the "
            f"driver of Intel's {device} (https://docs.openvino.ai, Install), or use --engine "
            "openvino or cpu"
        )


def _cache() -> dict[str, Any]:
    """Where compiled networks are kept, which OpenVINO names by model, options and version."""
    folder = cache_dir("openvino")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # it only takes longer
        return {}
    return {"CACHE_DIR": str(folder)} if os.access(folder, os.W_OK) else {}


class OpenVinoNetwork:
    """A compiled network; one for each size. On the CPU ``workers`` streams of ``threads`` threads.

    ``precision``: "f32", "f16" or "bf16"; an NPU has its own, half precision.
    """

    def __init__(
        self,
        spec: ModelSpec,
        weights: Path,
        workers: int,
        threads: int,
        *,
        device: str = "CPU",
        precision: str = "f32",
    ) -> None:
        self._ov, self._weights, self._device = load_openvino(), weights, device
        self._core = openvino_core()
        if precision == "bf16":
            prove_bf16()
        self._options = _cache()
        if device == "CPU":
            self._options |= {
                "NUM_STREAMS": workers,
                "INFERENCE_NUM_THREADS": workers * threads,
                "ENABLE_CPU_PINNING": False,  # decoding shares the cores
            }
        else:
            need_device(device)
            self._options["PERFORMANCE_HINT"] = "LATENCY"
        if device != "NPU":
            self._options["INFERENCE_PRECISION_HINT"] = precision
        self._lock = threading.Lock()  # two workers may want the same new size at once
        whole = self._open_at(spec)
        self._shapes = whole.io.shapes
        # where the frames tell the size, that one is most often another: it served as a check
        self._graphs = {} if spec.input.fit else {spec.input.size_wh: whole}

    @property
    def shapes(self) -> Sequence[Shape]:
        return self._shapes

    def bind(self, spec: ModelSpec, count: int) -> BoundNetwork:
        """See CpuNetwork. One frame at a time: the streams have the frames side by side already."""
        if count > 1:
            raise ConfigError("--engine openvino takes one frame at a time; leave --batch out")
        size_wh = spec.input.size_wh
        with self._lock:
            if size_wh not in self._graphs:
                self._graphs[size_wh] = self._open_at(spec)
        return _OpenVinoBound(self._ov, self._graphs[size_wh], spec.name)

    def _open_at(self, spec: ModelSpec) -> _Graph:
        width, height = spec.input.size_wh
        try:
            model = self._core.read_model(str(self._weights))
            graph = _Graph(model)
            if len(graph.inputs) == 1:
                model.reshape([1, 3, height, width])
            graph.compiled = self._core.compile_model(model, self._device, self._options)
        except Exception as fault:  # OpenVINO's own errors are RuntimeErrors of any kind
            raise _refused(self._weights, spec, fault) from fault
        graph.io = network_io(graph, spec)
        return graph


class _OpenVinoBound:
    def __init__(self, openvino: Any, graph: _Graph, name: str) -> None:
        self._name = name
        self.shapes = graph.io.shapes
        self.tensor: NDArray[np.float32] = np.zeros(graph.io.shape, np.float32)
        self._request = graph.compiled.create_infer_request()
        self._request.set_input_tensor(openvino.Tensor(self.tensor, shared_memory=True))
        self._outputs: Sequence[Sequence[Array]] = ()
        self._varies = graph.io.varies

    def run(self, count: int) -> Sequence[Sequence[Array]]:
        try:
            self._request.infer(share_outputs=True)
        except Exception as error:
            raise failed(self._name, error) from error
        if self._varies or not self._outputs:
            self._outputs = [[tensor.data for tensor in self._request.output_tensors]]
        return self._outputs


class _Graph:
    """A graph as ONNX Runtime's session tells of it, so that both are examined alike.

    Its inputs as the file has them, its outputs for the size that it was given.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.inputs = [_told(port) for port in model.inputs]
        self.compiled: Any = None
        self.io: NetworkIO

    def get_inputs(self) -> list[SimpleNamespace]:
        return self.inputs

    def get_outputs(self) -> list[SimpleNamespace]:
        return [_told(port) for port in self._model.outputs]

    def run(self, _: None, feed: Mapping[str, Array]) -> list[Array]:
        answer = self.compiled.create_infer_request().infer(dict(feed))
        return [np.array(answer[port]) for port in self.compiled.outputs]


def _told(port: Any) -> SimpleNamespace:
    kinds = {"f32": "tensor(float)", "f16": "tensor(float16)"}
    kind = port.get_element_type().get_type_name()
    shape = port.get_partial_shape()
    sizes = [] if shape.rank.is_dynamic else list(shape)
    return SimpleNamespace(
        name=port.any_name if port.names else "",
        type=kinds.get(kind, f"tensor({kind})"),
        shape=[None if size.is_dynamic else size.get_length() for size in sizes],
    )


def _refused(weights: Path, spec: ModelSpec, fault: Exception) -> ModelError:
    cure = ", or remove `input.fit` from its manifest" if spec.input.fit else ""
    at = "{}x{}".format(*spec.input.size_wh)
    return ModelError(
        f"OpenVINO cannot take {weights} at an input of {at}: {one_line(fault)}. Use --engine cpu, "
        f"or export it anew{cure}"
    )
