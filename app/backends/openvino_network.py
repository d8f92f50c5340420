"""The engine openvino: OpenVINO in place of ONNX Runtime behind the CPU's slots.

In float32 unless bfloat16 is asked for, as the boxes are to be those of the other engines: left to
itself it would choose bfloat16 wherever a CPU has it. As many streams as workers, so that each
worker's frame has its own.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.backends.bf16 import prove_bf16
from app.backends.cpu_network import Array, BoundBatch, BoundNetwork, failed
from app.backends.openvino_library import load_openvino, openvino_core
from app.backends.ort import one_line
from app.backends.ort_io import NetworkIO, Shape, network_io
from app.errors import ConfigError, ModelError
from app.model_spec import ModelSpec


class OpenVinoNetwork:
    """A compiled network with ``workers`` streams of ``threads`` threads; one for each size."""

    def __init__(
        self, spec: ModelSpec, weights: Path, workers: int, threads: int, *, bf16: bool = False
    ) -> None:
        self._ov, self._weights = load_openvino(), weights
        self._core = openvino_core()
        if bf16:
            prove_bf16()
        self._options = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "NUM_STREAMS": workers,
            "INFERENCE_NUM_THREADS": workers * threads,
            "ENABLE_CPU_PINNING": False,  # decoding shares the cores
        }
        self._lock = threading.Lock()  # two workers may want the same new size at once
        whole = self._open_at(spec)
        self._shapes = whole.io.shapes
        # where the frames tell the size, that one is most often another: it served as a check
        self._graphs = {} if spec.input.fit else {spec.input.size_wh: whole}

    @property
    def shapes(self) -> Sequence[Shape]:
        """See CpuNetwork."""
        return self._shapes

    def bind(self, spec: ModelSpec) -> BoundNetwork:
        """See CpuNetwork."""
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
            graph.compiled = self._core.compile_model(model, "CPU", self._options)
        except Exception as fault:  # OpenVINO's own errors are RuntimeErrors of any kind
            raise _refused(self._weights, spec, fault) from fault
        graph.io = network_io(graph, spec)
        return graph

    def bind_batch(self, spec: ModelSpec, capacity: int) -> BoundBatch:
        """See CpuNetwork. The streams have the frames side by side already."""
        raise ConfigError("--engine openvino takes one frame at a time; leave --batch out")


class _OpenVinoBound:
    def __init__(self, openvino: Any, graph: _Graph, name: str) -> None:
        self._name = name
        self.shapes = graph.io.shapes
        self.tensor: NDArray[np.float32] = np.zeros(graph.io.shape, np.float32)
        self._request = graph.compiled.create_infer_request()
        self._request.set_input_tensor(openvino.Tensor(self.tensor, shared_memory=True))
        self._outputs: Sequence[Array] | None = None
        self._varies = graph.io.varies

    def run(self) -> Sequence[Array]:
        try:
            self._request.infer(share_outputs=True)
        except Exception as error:
            raise failed(self._name, error) from error
        if self._outputs is None or self._varies:
            self._outputs = [tensor.data for tensor in self._request.output_tensors]
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
