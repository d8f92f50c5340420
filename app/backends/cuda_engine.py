"""What must an engine do on the slots' device memory, and how do our own kernels do it?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from app.gpu.context import GpuContext
from app.gpu.network.engine import Network, Weights
from app.gpu.network.graph import read_static_graph
from app.gpu.network.lower import lower
from app.model_spec import ModelSpec


class SlotNetwork(Protocol):
    """One slot's network: device addresses of its tensors, and its work on a stream.

    The outputs are float32; so is the input, unless ``input_half``.
    """

    input: int
    input_half: bool

    @property
    def outputs(self) -> Sequence[tuple[int, tuple[int, ...]]]:
        """Address and shape of each; address 0 where the size varies from frame to frame."""

    def enqueue(self, stream: Any) -> None:
        """Put the network on the stream."""

    def varying(self) -> Sequence[NDArray[Any]]:
        """All outputs on the host, where ``outputs`` has no addresses."""

    def close(self) -> None:
        """Free everything; nothing may be pending."""


class Engine(Protocol):
    """What the slots' networks share. ``captured``: their work may become a CUDA graph."""

    captured: bool
    description: str

    def network(self, stream: Any) -> SlotNetwork:
        """The network of the slot with this stream."""

    def close(self) -> None:
        """Free everything; after the networks."""


class NativeEngine:
    """Our own kernels.

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
    ) -> None:
        program = lower(read_static_graph(weights, spec.input.size_wh))
        self.description = f"cuda (native, {'half precision' if half else 'float32'})"
        self._context = context
        self._weights = Weights(context, program, half=half, tune=tune)

    def network(self, stream: Any) -> Network:
        """See Engine."""
        return Network(self._context, self._weights)

    def close(self) -> None:
        """See Engine."""
        self._weights.close()
