"""ONNX Runtime behind the slots of the CPU: a network bound once, run frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ModelError
from ..models.manifest import ModelSpec
from ..models.onnx_session import NetworkIO, Shape, network_io, one_line, open_session

Array = NDArray[Any]


class BoundNetwork(Protocol):
    """One slot's inputs and outputs for one input shape; one thread at a time."""

    @property
    def shapes(self) -> Sequence[Shape]:
        """Of the outputs for one frame, in graph order."""

    @property
    def tensor(self) -> NDArray[np.float32]:
        """(count, 3, H, W): filled by preprocessing, read by ``run``; always the same memory."""

    def run(self, count: int) -> Sequence[Sequence[Array]]:
        """The outputs of each of the first ``count`` frames, in graph order.

        Valid until the next run. Raises ModelError.
        """


class CpuNetwork(Protocol):
    """A network that is loaded once; its slots may run side by side."""

    @property
    def shapes(self) -> Sequence[Shape]:
        """Of its outputs, in graph order, for one frame and the whole input."""

    def bind(self, spec: ModelSpec, count: int) -> BoundNetwork:
        """For a slot of ``count`` frames that need the input of ``spec`` (ModelSpec.for_frame).

        On the slot's worker; raises ModelError where the network does not run at that size, or
        takes fewer frames at once.
        """


# spec, weights, frames side by side, threads of each
OpenNetwork = Callable[[ModelSpec, Path, int, int], CpuNetwork]


class OrtNetwork:
    """ONNX Runtime: one session, on the threads of whoever runs it, for all sizes of input."""

    def __init__(self, spec: ModelSpec, weights: Path, workers: int, threads: int) -> None:
        self._session = open_session(weights, threads=threads)
        self._whole = network_io(self._session, spec)
        self._ios = {spec.input.size_wh: self._whole}  # of sizes that were asked for already

    @property
    def shapes(self) -> Sequence[Shape]:
        return self._whole.shapes

    def bind(self, spec: ModelSpec, count: int) -> BoundNetwork:
        io = self._io_at(spec)
        fixed = isinstance(io.dims[0], int)
        if count > 1 and (fixed or io.varies or any(shape[0] != 1 for shape in io.shapes)):
            raise ModelError(
                f"model {spec.name}: its network takes one frame at a time; leave --batch out, or "
                "export it with a dynamic first axis"
            )
        return _OrtBound(self._session, io, spec.name, count)

    def _io_at(self, spec: ModelSpec) -> NetworkIO:
        size = spec.input.size_wh
        if size not in self._ios:
            self._ios[size] = network_io(self._session, spec)
        return self._ios[size]


class _OrtBound:
    def __init__(self, session: Any, io: NetworkIO, name: str, count: int) -> None:
        self._session, self._name, self._varies = session, name, io.varies
        self.shapes = io.shapes
        self.tensor = np.zeros((count, *io.shape[1:]), np.float32)
        arrays: list[Array] = []
        if not io.varies:  # else the number of boxes may differ from frame to frame
            shapes = [shape if count == 1 else (count, *shape[1:]) for shape in io.shapes]
            arrays = [np.empty(shape, np.float32) for shape in shapes]
        self._outputs: list[list[Array]] = [arrays]
        if count > 1:
            self._outputs = [[array[i : i + 1] for array in arrays] for i in range(count)]
        self._bindings = []  # of the first 1, 2 … frames
        for some in range(1, count + 1):
            binding = session.io_binding()
            _bind_array(binding.bind_input, io.input, self.tensor[:some])
            for i, (output, _) in enumerate(io.outputs):
                if io.varies:
                    binding.bind_output(output, "cpu")
                else:
                    array = arrays[i] if count == 1 else arrays[i][:some]
                    _bind_array(binding.bind_output, output, array)
            self._bindings.append(binding)

    def run(self, count: int) -> Sequence[Sequence[Array]]:
        binding = self._bindings[count - 1]
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's own errors have no common root
            raise failed(self._name, error) from error
        return [binding.copy_outputs_to_cpu()] if self._varies else self._outputs


def failed(name: str, error: Exception) -> ModelError:
    """The error for a network that fails while it runs."""
    return ModelError(f"model {name}: inference failed: {one_line(error)}")


def _bind_array(bind: Callable[..., None], name: str, array: Array) -> None:
    bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
