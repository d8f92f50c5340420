"""Small ONNX graphs, manifests and the real models, for the tests of the shelf."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).parents[1]
ASSETS = Path(os.environ.get("KESTREL_ASSETS", ROOT.parent / "shared" / "assets")) / "models"
REAL = {
    "yolox_nano_416": ("yolox", 80),
    "nanodet_m_320": ("nanodet", 80),
    "light_person_192": ("yolox", 1),
    "fastestdet_352": ("fastestdet", 80),
    "yunet_n_320_320": ("yunet", 1),
    "yunet_n_dynamic": ("yunet", 1),
    "ultraface_rfb_320": ("ultraface", 1),
}
CELLS = 84  # of a 64x64 input at strides 8, 16 and 32: 64 + 16 + 4

Array = NDArray[np.float32]


def asset(name: str) -> Path:
    path = ASSETS / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"{path} is absent; set KESTREL_ASSETS to the folder that has models/")
    return path


def rows(n: int, classes: int, *, box: float = 20.0, score: float = 0.1, obj: bool = True) -> Array:
    """(n, 4 + [1] + classes): what a decoder gets, evenly filled."""
    boxes = np.full((n, 4), box, np.float32)
    return np.hstack([boxes, np.full((n, classes + obj), score, np.float32)])


def save_graph(
    path: Path,
    outputs: Mapping[str, Array],
    *,
    shape: tuple[int | str, ...] = (1, 3, 64, 64),
    dtype: int = TensorProto.FLOAT,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """A graph that gives ``outputs`` whatever it sees."""
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
        for name, value in outputs.items()
    ]
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape)
        for name, value in outputs.items()
    ]
    images = helper.make_tensor_value_info("images", dtype, shape)
    graph = helper.make_graph(nodes, "test", [images], infos)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, str(path))
    return path


def put_on_shelf(
    shelf: Path, name: str, content: bytes | None = None, *, url: str = "", default: bool = False
) -> Path:
    """A manifest for ``content``, whose weights are not there. None: no sha256 is given."""
    sha256 = hashlib.sha256(content).hexdigest() if content is not None else ""
    manifest = shelf / f"{name}.toml"
    manifest.write_text(
        f'file = "{name}.onnx"\nsha256 = "{sha256}"\nurl = "{url}"\nlabels = ["person"]\n'
        f"default = {str(default).lower()}\n"
        '[input]\nsize = [64, 64]\n[decoder]\nfamily = "yolox"\n'
    )
    return manifest
