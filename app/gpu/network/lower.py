"""How does a graph become a program of steps? Reshape, transpose, slice and split are views only.

What the engine lacks is an error that names the node and another engine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.errors import ModelError
from app.gpu.network.arithmetic import ARITHMETIC
from app.gpu.network.builder import Builder
from app.gpu.network.fuse import fuse_activations, write_in_place
from app.gpu.network.graph import Graph
from app.gpu.network.layout import LAYOUT
from app.gpu.network.steps import Step, View

MOST_ELEMENTS = 2**31 - 1  # of a tensor: kernels count in int
NODES = {**ARITHMETIC, **LAYOUT}


@dataclass(frozen=True, slots=True)
class Program:
    """Steps in order; ``buffers``: sizes in elements; ``constants``: contents of some buffers.

    ``half``: the buffers in half precision (precision.py); the others are float32.
    """

    steps: tuple[Step, ...]
    buffers: tuple[int, ...]
    constants: dict[int, NDArray[np.float32]]
    input: View
    outputs: tuple[View, ...]
    half: frozenset[int] = frozenset()

    def itemsize(self, buffer: int) -> int:
        """Bytes of an element."""
        return 2 if buffer in self.half else 4


def lower(graph: Graph) -> Program:
    """Raises ModelError naming a node that the engine cannot do."""
    builder = Builder(graph)
    for node in graph.nodes:
        if node.op not in NODES:
            raise builder.unable(node, "has no kernel")
        made = NODES[node.op](builder, node)
        builder.note(node, made if isinstance(made, list) else [made])
    if max(builder.buffers) > MOST_ELEMENTS:
        raise ModelError("a tensor has more than 2³¹ elements: use a smaller --batch")
    outputs = [builder.dense(builder.of(name)) for name in graph.outputs]
    kept = {view.buffer for view in outputs}
    steps = write_in_place(fuse_activations(builder.steps, kept), kept)
    return Program(
        tuple(steps),
        tuple(builder.buffers),
        builder.constants,
        builder.views[graph.input],
        tuple(outputs),
    )
