"""How does a trained network lie in a file, and come back?"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scripts.train.network import Detector, Shape, take_shapes

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Trained:
    """The averaged network, in evaluation mode, and what is known about it."""

    network: Detector
    shape: Shape
    labels: tuple[str, ...]
    input_px: int
    step: int
    steps: int


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all."""
    part = path.with_suffix(".part")
    torch.save({"format": FORMAT, **content}, part)
    part.replace(path)


def read(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """A checkpoint's content; raises ValueError when ``path`` is none of ours."""
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} cannot be read as a checkpoint: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is no checkpoint of this trainer (format {FORMAT})")
    return content


def load_trained(path: Path) -> Trained:
    """The network of a checkpoint, whole or pruned. Raises ValueError."""
    saved = read(path)
    said = saved["shape"]
    shape = Shape(tuple(said["widths"]), tuple(said["blocks"]), said["neck"])
    network = Detector(len(saved["labels"]), shape)
    take_shapes(network, saved["average"])
    return Trained(
        network.eval(),
        shape,
        tuple(saved["labels"]),
        int(saved["plan"]["input_px"]),
        int(saved["step"]),
        int(saved["steps"]),
    )
