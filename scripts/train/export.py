"""Turn a checkpoint into a model that Kestrel runs: ONNX, manifest, and proof that they agree.

    python -m scripts.train.export CHECKPOINT --name NAME [--parent NAME] [--shelf FOLDER]

Batch norm is in the convolutions, and width and height of the input are open. The one output,
(B,4+C,N), is of the family ``yolov8``: centre and size in input pixels and class scores. ONNX
Runtime must give what PyTorch gives, to 1e-4 of a score and 1e-4 of the input's side, or nothing is
written.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.models.importer import install
from app.models.manifest import SHELF_DIR, InputSpec, ModelSpec
from app.models.onnx_edit import to_half_weights
from scripts.train.checkpoint import Trained, load_trained
from scripts.train.command import guarded
from scripts.train.network import LOG_REACH, MEAN, STD, STRIDES, Detector, cell_centres, fold
from scripts.train.open_input import open_input

OPSET = 17
TOLERANCE = 1e-4


class Exported(nn.Module):
    """(B,3,H,W) normalised to (B,4+C,N): cx, cy, w, h in input px, then scores 0..1."""

    centres: Tensor
    strides: Tensor

    def __init__(self, network: Detector, input_wh: tuple[int, int]) -> None:
        super().__init__()
        self.network, self.input_wh = network, input_wh
        cells = cell_centres(input_wh)
        self.register_buffer("centres", cells[:, :2].T[None].contiguous())
        self.register_buffer("strides", cells[None, None, :, 2].contiguous())

    def forward(self, x: Tensor) -> Tensor:
        raw = torch.cat([level.flatten(2) for level in self.network.levels(x)], 2)
        reach = raw[:, :4].clamp(max=LOG_REACH).exp() * self.strides
        near, far = reach[:, :2], reach[:, 2:]
        centre = self.centres + (far - near) / 2
        return torch.cat([centre, near + far, raw[:, 4:].sigmoid()], 1)


def write_onnx(trained: Trained, path: Path, *, half: bool = False) -> float:
    """Write the graph; returns its largest difference from PyTorch, ValueError above 1e-4.

    ``half``: weights are rounded to half precision and stored so; the arithmetic stays float32.
    """
    size = trained.input_px
    fold(trained.network)
    if half:
        trained.network.half().float()
    module = Exported(trained.network, (size, size)).eval()
    example = torch.randn(1, 3, size, size)
    with warnings.catch_warnings():
        # the exporter that follows it writes opset 18 and newer only
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module,
            (example,),
            str(path),
            opset_version=OPSET,
            dynamo=False,
            input_names=["images"],
            output_names=["detections"],
            dynamic_axes={"images": {0: "batch"}, "detections": {0: "batch"}},
        )
    model = onnx.load(str(path))
    # the exporter leaves open what is known
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 4 + len(trained.labels)
    open_input(model)
    onnx.save(model, str(path))
    if half:
        to_half_weights(path, path)
    cut = Exported(trained.network, (size, max(STRIDES))).eval()
    worst = max(_difference(*way) for way in ((module, path, 1), (module, path, 3), (cut, path, 1)))
    if worst > TOLERANCE:
        raise ValueError(f"ONNX Runtime and PyTorch differ by {worst:.2g}, above {TOLERANCE}")
    return worst


@torch.no_grad()
def _difference(module: Exported, path: Path, batch: int) -> float:
    """Largest difference: of scores, and of boxes as shares of the input's width."""
    width, height = module.input_wh
    pixels = np.random.default_rng(batch).integers(0, 256, (batch, 3, height, width))
    tensor = ((pixels - MEAN) / STD).astype(np.float32)
    wanted = module(torch.from_numpy(tensor)).numpy()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: NDArray[Any] = session.run(None, {"images": tensor})[0]
    scale = np.ones((1, wanted.shape[1], 1), np.float32)
    scale[:, :4] = 1 / width
    return float((np.abs(found - wanted) * scale).max())


def manifest(trained: Trained, a: argparse.Namespace) -> ModelSpec:
    """What the application has to know about the network."""
    return ModelSpec(
        name=a.name,
        file=f"{a.name}.onnx",
        input=InputSpec(
            size_wh=(trained.input_px, trained.input_px),
            channels="BGR",
            scale=1 / STD,
            mean=(MEAN / STD,) * 3,
            resize="letterbox",
            align="center",
            pad=round(MEAN),
            fit=max(STRIDES),
        ),
        family="yolov8",
        labels=trained.labels,
        licence=a.licence,
        provenance=a.provenance,
        description=a.description,
        score=a.score,
        iou=a.iou,
        parent=a.parent,
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.train.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("checkpoint", type=Path)
    add("--name", required=True, help="of the model on the shelf")
    add("--shelf", type=Path, default=SHELF_DIR, help="default: models/")
    add("--parent", help="the model that it was pruned from")
    add("--half", action="store_true", help="store weights in half precision: half the file")
    add("--score", type=float, default=0.35)
    add("--iou", type=float, default=0.55)
    add("--licence", default="")
    add("--provenance", default="trained by scripts/train")
    add("--description", default="")
    add("--force", action="store_true", help="replace a model of that name")
    a = parser.parse_args(arguments)
    trained = load_trained(a.checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{a.name}.onnx"
        worst = write_onnx(trained, file, half=a.half)
        model = install(manifest(trained, a), file, shelf_dir=a.shelf, force=a.force)
    print(f"{model.manifest}: step {trained.step} of {trained.steps}; differs by {worst:.1e}")


if __name__ == "__main__":
    sys.exit(guarded(main))
