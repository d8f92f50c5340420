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

from app.models.onnx_session import load_onnxruntime
from app.models.store import find_model
from scripts.train.data import Pixels
from scripts.train.hints import STEP
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

    def hint_width(self) -> int:
        """Features per cell. The session is closed again: it must not be inherited by a fork."""
        _, hints = self(np.zeros((64, 64, 3), np.uint8))
        self._session = None
        return int(hints.shape[1])

    def __call__(self, pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """What it says of (H,W,3) BGR, cell by cell, and the features that it says it from.

        (N,C+4): a score 0..1 for each class or UNKNOWN, and xyxy in pixels. (N,F): hints.
        """
        if self._session is None:
            self._session = _open(self._weights)
        tensor = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)
        outputs = self._session.run(None, {self._session.get_inputs()[0].name: tensor})
        rows = outputs[0][0]
        features = np.concatenate([maps[0].reshape(maps.shape[1], -1) for maps in outputs[1:]], 1)
        cells, strides = _corners((pixels.shape[1], pixels.shape[0]))
        centre = (rows[:, :2] + cells) * strides
        half = np.exp(np.minimum(rows[:, 2:4], 6)) * strides / 2
        scores = [
            np.full(len(rows), UNKNOWN, np.float32) if c is None else rows[:, 4] * rows[:, c]
            for c in self._columns
        ]
        columns = [np.stack(scores, 1), centre - half, centre + half]
        hints = (features.T / STEP).round().clip(-128, 127).astype(np.int8)
        return np.concatenate(columns, 1).astype(np.float32), hints


def _corners(wh: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row (N,2), and stride (N,1), of each cell."""
    cells, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: wh[1] // stride, : wh[0] // stride]
        cells.append(np.stack([x, y], -1).reshape(-1, 2))
        strides.append(np.full((x.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _features(graph: onnx.GraphProto) -> list[str]:
    """Of each level, the last tensor on which both its class and its box scores depend."""
    maker = {name: node for node in graph.node for name in node.output}

    def line(weight: str) -> list[str]:
        """The tensors from a prediction's convolution upwards, along the first inputs."""
        found = [node for node in graph.node if weight in node.input]
        names = [found[0].input[0]] if found else []
        while names and names[-1] in maker:
            names.append(maker[names[-1]].input[0])
        return names

    shared = []
    for level in range(len(STRIDES)):
        classes, boxes = (line(f"head.{kind}_preds.{level}.weight") for kind in ("cls", "reg"))
        both = [name for name in classes if name in boxes]
        if not both:
            raise ValueError("the teacher's graph does not name its layers as YOLOX exports do")
        shared.append(both[0])
    return shared


def _open(weights: Path) -> Any:
    """A session that takes one picture of any size (exports have theirs written down)

    and gives, after its own output, the features from which each level's answers come.
    """
    model = onnx.load(str(weights))
    height, width = model.graph.input[0].type.tensor_type.shape.dim[2:4]
    height.dim_param, width.dim_param = "height", "width"
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[1].dim_param = "cells"
    del model.graph.value_info[:]
    for name in _features(model.graph):
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
