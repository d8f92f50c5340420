"""Turn a checkpoint into a model that Kestrel runs: ONNX, manifest, and proof that they agree.

    python -m scripts.train.export CHECKPOINT --name NAME [--half] [--shelf FOLDER]

Batch, width and height are open. The one output, (B,2N,5+C+1), is of the family ``yolox``: N cells
of the parent's classes, then the same cells once more for faces, which are the last class. ONNX
Runtime must give what PyTorch gives, to 1e-4, or nothing is written.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from app.models.importer import install
from app.models.manifest import SHELF_DIR, InputSpec, ModelSpec, read_labels
from app.models.onnx_edit import to_half_weights
from scripts.train.augment import PAD
from scripts.train.checkpoint import load_network
from scripts.train.command import guarded, parser
from scripts.train.data import FACE
from scripts.train.network import STRIDES, Head, Network

OPSET = 17
TOLERANCE = 1e-4


class Exported(nn.Module):
    """(B,3,H,W) BGR 0..255 to (B,2N,5+C+1): raw boxes, objectness and classes 0..1.

    A cell's objects have no face; a cell's face has no other class, and its objectness is all of
    its score.
    """

    face_class: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        one = torch.zeros(1, 1, network.classes + 1)
        one[..., -1] = 1
        self.register_buffer("face_class", one)

    def forward(self, pixels: Tensor) -> Tensor:
        network = self.network
        features = network.features(network.early(pixels))
        heads = (cast(Head, head) for head in network.heads)
        levels = [_objects(head, x) for head, x in zip(heads, features, strict=True)]
        objects = torch.cat([level.flatten(2) for level in levels], 2).transpose(1, 2)
        faces = network.face_rows(features)
        face_class = self.face_class.expand(faces.shape[0], faces.shape[1], -1)
        faces = torch.cat((faces[..., :4], faces[..., 4:].sigmoid(), face_class), 2)
        return torch.cat((objects, faces), 1)


def _objects(head: Head, features: Tensor) -> Tensor:
    """(B,5+C+1,h,w); the last is 0, for no face."""
    classes, boxes = head.classes(features), head.boxes(features)
    there, classes = head.object_out(boxes).sigmoid(), head.class_out(classes).sigmoid()
    return torch.cat((head.box_out(boxes), there, classes, torch.zeros_like(there)), 1)


def write_onnx(network: Network, path: Path, *, half: bool = False) -> float:
    """Write the graph; returns its largest difference from PyTorch, ValueError above 1e-4.

    ``half``: weights are rounded to half precision and stored so; the arithmetic stays float32.
    """
    if half:
        network.half().float()
    module = Exported(network).eval()
    with warnings.catch_warnings():
        # the exporter that follows it writes opset 18 and newer only
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module,
            (torch.zeros(2, 3, 64, 96),),
            str(path),
            opset_version=OPSET,
            dynamo=False,
            input_names=["images"],
            output_names=["output"],
            dynamic_axes={
                "images": {0: "batch", 2: "height", 3: "width"},
                "output": {0: "batch", 1: "cells"},
            },
        )
    model = onnx.load(str(path))
    # the exporter leaves open what is known
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 5 + network.classes + 1
    onnx.save(model, str(path))
    if half:
        to_half_weights(path, path)
    shapes = ((1, 3, 320, 320), (1, 3, 192, 320), (2, 3, 64, 32))
    worst = max(_difference(module, path, shape) for shape in shapes)
    if worst > TOLERANCE:
        raise ValueError(f"ONNX Runtime and PyTorch differ by {worst:.2g}, above {TOLERANCE}")
    return worst


@torch.no_grad()
def _difference(module: Exported, path: Path, shape: tuple[int, ...]) -> float:
    """Largest difference, of boxes in strides."""
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {"images": pixels})[0]
    return float(np.abs(found - module(torch.from_numpy(pixels)).numpy()).max())


def main(arguments: list[str] | None = None) -> None:
    asked = parser("scripts.train.export", __doc__)
    add = asked.add_argument
    add("checkpoint", type=Path)
    add("--name", required=True, help="of the model on the shelf")
    add("--shelf", type=Path, default=SHELF_DIR, help="default: models/")
    add("--half", action="store_true", help="store weights in half precision: half the file")
    add("--input", type=int, default=320, help="side of the network's input, px")
    add("--score", type=float, default=0.35)
    add("--iou", type=float, default=0.6)
    add("--licence", default="")
    add("--provenance", default="YOLOX-Nano, taught faces by scripts/train")
    add("--description", default="")
    add("--force", action="store_true", help="replace a model of that name")
    a = asked.parse_args(arguments)
    if a.input < max(STRIDES) or a.input % max(STRIDES):
        raise ValueError(f"--input is {a.input}; write a multiple of {max(STRIDES)}")
    size = InputSpec((a.input, a.input), align="top-left", pad=PAD, fit=max(STRIDES))
    spec = ModelSpec(
        name=a.name,
        file=f"{a.name}.onnx",
        input=size,
        family="yolox",
        labels=(*read_labels(SHELF_DIR / "coco80.txt"), FACE),
        licence=a.licence,
        provenance=a.provenance,
        description=a.description,
        score=a.score,
        iou=a.iou,
        parameters={"strides": [*STRIDES, *STRIDES]},
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / spec.file
        worst = write_onnx(load_network(a.checkpoint), file, half=a.half)
        model = install(spec, file, shelf_dir=a.shelf, force=a.force)
    print(f"{model.manifest}: differs by {worst:.1e}")


if __name__ == "__main__":
    sys.exit(guarded(main))
