"""Bring a published YOLOX-Nano, an ONNX file, into PyTorch: the start of a transfer.

Its convolutions are taken in the order in which the file lists them; batch norm must be folded, as
exports have it. The same pixels give the same values to 1e-4 (tests/train/test_from_onnx.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from scripts.train.network import FaceTower, Head, Network


def from_onnx(path: Path) -> Network:
    """The file's network, its classes as they are, with face towers that start as its boxes.

    Raises ValueError when the file cannot be read or is no YOLOX-Nano.
    """
    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:  # the library's errors have no common root
        raise ValueError(f"{path} cannot be read as an ONNX file: {error}") from error
    values = {tensor.name: tensor for tensor in graph.initializer}
    filters = [_filter(node, values) for node in graph.node if node.op_type == "Conv"]
    network = Network(_classes(filters))
    layers = [
        module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and not name.startswith("faces.")
    ]
    if len(layers) != len(filters):
        raise _no_nano(path, f"{len(filters)} convolutions with constant weights and biases")
    for layer, (weight, bias) in zip(layers, filters, strict=True):
        if layer is network.stem[0] and weight.shape[1:] == (12, 3, 3):
            weight = _without_focus(weight)
        if layer.weight.shape != weight.shape:
            raise _no_nano(path, f"a convolution {tuple(weight.shape)}")
        layer.load_state_dict({"weight": weight, "bias": bias})
    for head, tower in zip(network.heads, network.faces, strict=True):
        cast(FaceTower, tower).start_from(cast(Head, head))
    return network


def _filter(node: Any, values: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Weights and biases of a convolution; empty ones where they are no constants."""
    found = [values[name] for name in node.input[1:3] if name in values]
    if len(found) < 2:
        return torch.zeros(0), torch.zeros(0)
    weight, bias = (numpy_helper.to_array(tensor).astype(np.float32) for tensor in found)
    return torch.from_numpy(weight), torch.from_numpy(bias)


def _classes(filters: list[tuple[Tensor, Tensor]]) -> int:
    """How many; of the last head the convolution to the classes is followed by six for the box."""
    return max(1, len(filters[-7][1])) if len(filters) >= 7 else 1


def _without_focus(weight: Tensor) -> Tensor:
    """(O,12,3,3) over 2×2 pixels in channels to (O,3,6,6) over pixels; see Network.stem."""
    pixels = torch.zeros(len(weight), 3, 6, 6)
    for part, (row, column) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
        pixels[:, :, row::2, column::2] = weight[:, 3 * part : 3 * part + 3]
    return pixels


def _no_nano(path: Path, seen: str) -> ValueError:
    return ValueError(f"{path} is no YOLOX-Nano with batch norm folded: it has {seen}")
