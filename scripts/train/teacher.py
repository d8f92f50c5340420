"""What does a larger, known network say of the very picture that is learned from?

Function matching (Beyer et al. 2021, "Knowledge distillation: a good teacher is patient and
consistent"): the teacher looks at the same augmented picture and gives a soft answer for every
cell, also where the labels are silent or unsure. A YOLOX network has the same cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from app.backends.ort import load_onnxruntime
from app.shelf import find_model
from scripts.train.data import Pixels
from scripts.train.network import STRIDES

LEAST_PX = 224  # on smaller pictures the teacher itself sees too little
UNKNOWN = -1.0  # the score of a class that the teacher was not taught


class Teacher:
    """Opened where it is first used, so that each process that makes samples has its own."""

    def __init__(self, name: str, labels: Sequence[str]) -> None:
        model = find_model(name)
        spec = model.spec
        common = [label for label in labels if label in spec.labels]
        if spec.family != "yolox" or tuple(spec.parameters.get("strides", STRIDES)) != STRIDES:
            raise ValueError(f"--teacher {name} is {spec.family}; only YOLOX has the same cells")
        if not common:
            raise ValueError(f"--teacher {name} knows none of {', '.join(labels)}")
        if spec.input.channels != "BGR" or spec.input.scale != 1 or any(spec.input.mean):
            raise ValueError(f"--teacher {name} wants other pixels than plain BGR")
        self.name = spec.name
        self._weights: Path = model.weights
        self._columns = [
            5 + spec.labels.index(label) if label in spec.labels else None for label in labels
        ]
        self._session: Any = None

    def __call__(self, pixels: Pixels) -> NDArray[np.float32]:
        """(H,W,3) BGR to (N,C+4): a score 0..1 for each class or UNKNOWN, and xyxy in pixels."""
        if self._session is None:
            self._session = _open(self._weights)
        tensor = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)
        rows = self._session.run(None, {self._session.get_inputs()[0].name: tensor})[0][0]
        cells, strides = _corners((pixels.shape[1], pixels.shape[0]))
        centre = (rows[:, :2] + cells) * strides
        half = np.exp(np.minimum(rows[:, 2:4], 6)) * strides / 2
        scores = [
            np.full(len(rows), UNKNOWN, np.float32) if c is None else rows[:, 4] * rows[:, c]
            for c in self._columns
        ]
        columns = [np.stack(scores, 1), centre - half, centre + half]
        return np.concatenate(columns, 1).astype(np.float32)


def _corners(wh: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row (N,2), and stride (N,1), of each cell."""
    cells, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: wh[1] // stride, : wh[0] // stride]
        cells.append(np.stack([x, y], -1).reshape(-1, 2))
        strides.append(np.full((x.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _open(weights: Path) -> Any:
    """A session that takes one picture of any size: exports have theirs written down."""
    model = onnx.load(str(weights))
    height, width = model.graph.input[0].type.tensor_type.shape.dim[2:4]
    height.dim_param, width.dim_param = "height", "width"
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[1].dim_param = "cells"
    del model.graph.value_info[:]
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
