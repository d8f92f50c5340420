"""What must an engine do on the slots' device memory, and how do our own kernels do it?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from app.backends.ort import open_session
from app.backends.ort_io import network_io
from app.gpu.context import GpuContext
from app.gpu.network.engine import Network, Weights
from app.gpu.network.graph import read_static_graph
from app.gpu.network.lower import lower
from app.model_spec import ModelSpec


class NetworkRun(Protocol):
    """The network over ``frames`` frames: addresses of its tensors, and its work on a stream."""

    frames: int
    input: int

    @property
    def outputs(self) -> Sequence[tuple[int, tuple[int, ...]]]:
        """Address and shape of each; address 0 where the size varies from frame to frame."""

    def enqueue(self, stream: Any) -> None:
        """Put the network on the stream."""

    def varying(self) -> Sequence[NDArray[Any]]:
        """All outputs on the host, where ``outputs`` has no addresses."""


class SlotNetwork(Protocol):
    """One slot's network. Outputs are float32; so is the input, unless ``input_half``."""

    input_half: bool

    def run_for(self, frames: int) -> NetworkRun:
        """The run with room for so many frames that costs least; its tensors may lie where
        those of another run lie."""

    def close(self) -> None:
        """Free everything; nothing may be pending."""


class Engine(Protocol):
    """What the slots' networks share. ``captured``: their work may become a CUDA graph.

    ``batch``: the most frames that go through a network at once.
    """

    batch: int
    captured: bool
    description: str

    def network(self, stream: Any) -> SlotNetwork:
        """The network of the slot with this stream."""

    def at(self, spec: ModelSpec) -> Engine:
        """The same weights for the input of ``spec``, where the network takes any size."""

    def close(self) -> None:
        """Free everything; after the networks."""


class NativeEngine:
    """Our own kernels, for 1 to ``batch`` frames at once.

    ``half``: convolve with the tensor cores, in half precision. ``tune``: measure which tile suits
    each convolution, once per device.
    """

    captured = True

    def __init__(
        self,
        context: GpuContext,
        spec: ModelSpec,
        weights: Path,
        *,
        half: bool = True,
        tune: bool = True,
        batch: int = 1,
        content: bytes | None = None,
    ) -> None:
        """``content``: that of the file ``weights``, where it has been read already."""
        if spec.input.fit and content is None:
            network_io(open_session(weights, optimise=False), spec)  # refuses files of one size
            content = weights.read_bytes()
        programs = [
            lower(read_static_graph(weights, spec.input.size_wh, frames=n, content=content))
            for n in runs_for(batch)
        ]
        together = f", {batch} frames at once" if batch > 1 else ""
        self.description = f"cuda (native, {'half precision' if half else 'float32'}{together})"
        self.batch = batch
        self._context, self._file, self._content = context, weights, content
        self._how: dict[str, Any] = {"half": half, "tune": tune, "batch": batch}
        self._weights = Weights(context, programs, half=half, tune=tune)

    def network(self, stream: Any) -> Network:
        """See Engine."""
        return Network(self._context, self._weights)

    def at(self, spec: ModelSpec) -> NativeEngine:
        """See Engine. From what was read at the start: the file may have been replaced since."""
        return NativeEngine(self._context, spec, self._file, content=self._content, **self._how)

    def close(self) -> None:
        """See Engine."""
        self._weights.close()


def runs_for(batch: int) -> list[int]:
    """For how many frames there is a run: 1, 2, 4 … and ``batch``.

    Fewer frames than a run has room for leave its last places as they were: computed, and looked
    at by nobody, at the price of less than as many frames again.
    """
    return [*(n for n in (1 << i for i in range(batch.bit_length())) if n < batch), batch]
