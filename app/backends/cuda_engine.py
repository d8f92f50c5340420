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
    """One slot's network: device addresses of its tensors (float32), and its work on a stream."""

    input: int

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
    """Our own kernels."""

    captured = True
    description = "cuda (native, float32)"

    def __init__(self, context: GpuContext, spec: ModelSpec, weights: Path) -> None:
        program = lower(read_static_graph(weights, spec.input.size_wh))
        self._context, self._weights = context, Weights(context, program)

    def network(self, stream: Any) -> Network:
        """See Engine."""
        return Network(self._context, self._weights)

    def close(self) -> None:
        """See Engine."""
        self._weights.close()
