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
    """One slot's inputs and outputs; one thread at a time."""

    @property
    def shapes(self) -> Sequence[Shape]:
        """Of the outputs, in graph order."""

    @property
    def tensor(self) -> NDArray[np.float32]:
        """(1, 3, H, W): filled by preprocessing, read by ``run``; always the same memory."""

    def run(self) -> Sequence[Array]:
        """The outputs in graph order, valid until the next run. Raises ModelError."""


class BoundBatch(Protocol):
    """As BoundNetwork, for several frames at once."""

    @property
    def shapes(self) -> Sequence[Shape]:
        """Of the outputs for one frame, in graph order."""

    @property
    def tensor(self) -> NDArray[np.float32]:
        """(capacity, 3, H, W)."""

    def run(self, count: int) -> Sequence[Array]:
        """The outputs for the first ``count`` frames, each with ``capacity`` as first axis."""


class CpuNetwork(Protocol):
    """A network that is loaded once; its slots may run side by side."""

    @property
    def shapes(self) -> Sequence[Shape]:
        """Of its outputs, in graph order, for the whole input."""

    def bind(self, spec: ModelSpec) -> BoundNetwork:
        """For a slot whose frames need the input of ``spec`` (see ModelSpec.for_frame).

        On the slot's worker; raises ModelError where the network does not run at that size.
        """

    def bind_batch(self, spec: ModelSpec, capacity: int) -> BoundBatch:
        """As ``bind``, for a slot that takes several frames; raises ModelError where none can."""


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
        """See CpuNetwork."""
        return self._whole.shapes

    def bind(self, spec: ModelSpec) -> BoundNetwork:
        """See CpuNetwork."""
        return _OrtBound(self._session, self._io_at(spec), spec.name)

    def bind_batch(self, spec: ModelSpec, capacity: int) -> BoundBatch:
        """See CpuNetwork."""
        io = self._io_at(spec)
        fixed = isinstance(io.dims[0], int)
        if fixed or io.varies or any(shape[0] != 1 for shape in io.shapes):
            raise one_at_a_time(spec.name)
        return _OrtBatch(self._session, io, spec.name, capacity)

    def _io_at(self, spec: ModelSpec) -> NetworkIO:
        size = spec.input.size_wh
        if size not in self._ios:
            self._ios[size] = network_io(self._session, spec)
        return self._ios[size]


class _OrtBound:
    def __init__(self, session: Any, io: NetworkIO, name: str) -> None:
        self._session, self._name = session, name
        self.shapes = io.shapes
        self.tensor = np.zeros(io.shape, np.float32)
        self._binding, self._outputs = _bind(session, self.tensor, io)

    def run(self) -> Sequence[Array]:
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # ONNX Runtime's own errors have no common root
            raise failed(self._name, error) from error
        if self._outputs is not None:
            return self._outputs
        arrays: list[Array] = self._binding.copy_outputs_to_cpu()
        return arrays


class _OrtBatch:
    def __init__(self, session: Any, io: NetworkIO, name: str, capacity: int) -> None:
        self._session, self._name = session, name
        self.shapes = io.shapes
        self.tensor = np.zeros((capacity, *io.shape[1:]), np.float32)
        self._outputs: list[Array] = [
            np.empty((capacity, *shape[1:]), np.float32) for _, shape in io.outputs
        ]
        self._bindings = [self._bind(io, count) for count in range(1, capacity + 1)]

    def _bind(self, io: NetworkIO, count: int) -> Any:
        """The first ``count`` places of our memory."""
        binding = self._session.io_binding()
        _bind_array(binding.bind_input, io.input, self.tensor[:count])
        for (name, _), output in zip(io.outputs, self._outputs, strict=True):
            _bind_array(binding.bind_output, name, output[:count])
        return binding

    def run(self, count: int) -> Sequence[Array]:
        try:
            self._session.run_with_iobinding(self._bindings[count - 1])
        except Exception as error:  # ONNX Runtime's own errors have no common root
            raise failed(self._name, error) from error
        return self._outputs


def one_at_a_time(name: str) -> ModelError:
    """The error for a network that cannot take several frames."""
    return ModelError(
        f"model {name}: its network takes one frame at a time; leave --batch out, or export it "
        "with a dynamic first axis"
    )


def failed(name: str, error: Exception) -> ModelError:
    """The error for a network that fails while it runs."""
    return ModelError(f"model {name}: inference failed: {one_line(error)}")


def _bind(
    session: Any, tensor: NDArray[np.float32], io: NetworkIO
) -> tuple[Any, list[Array] | None]:
    """Bind the session to ``tensor`` and, where all shapes are fixed, to outputs of ours."""
    binding = session.io_binding()
    _bind_array(binding.bind_input, io.input, tensor)
    if io.varies:
        for name, _ in io.outputs:  # the number of boxes may differ from frame to frame
            binding.bind_output(name, "cpu")
        return binding, None
    arrays: list[Array] = [np.empty(shape, np.float32) for _, shape in io.outputs]
    for (name, _), array in zip(io.outputs, arrays, strict=True):
        _bind_array(binding.bind_output, name, array)
    return binding, arrays


def _bind_array(bind: Callable[..., None], name: str, array: Array) -> None:
    bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
