"""Checkpoints of a run, and networks made of them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scripts.train.network import Network

FORMAT = 2


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all."""
    part = path.with_suffix(".part")
    torch.save({"format": FORMAT, **content}, part)
    part.replace(path)


def read(path: Path) -> dict[str, Any]:
    """A checkpoint's content; raises ValueError when ``path`` is none of ours."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} cannot be read as a checkpoint: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is no checkpoint of this trainer (format {FORMAT})")
    return content


def load_network(path: Path) -> Network:
    """The averaged network of a checkpoint, in evaluation mode. Raises ValueError."""
    return network_of(read(path)["average"])


def network_of(state: Mapping[str, Tensor]) -> Network:
    """The network that has these weights, in evaluation mode."""
    network = Network(len(state["heads.0.class_out.bias"]))
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            fit(layer, state[f"{name}.weight"], state[f"{name}.bias"])
    return network.eval()


def fit(layer: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    """Give ``layer`` these weights, and the size and channels that they are for."""
    depthwise = layer.groups > 1
    layer.out_channels = len(bias)
    layer.in_channels = len(bias) if depthwise else weight.shape[1]
    layer.groups = len(bias) if depthwise else 1
    layer.kernel_size = weight.shape[2], weight.shape[3]
    layer.weight, layer.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
