"""Small ONNX graphs, manifests and the real models, for the tests of the shelf."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    shelf: Path,
    name: str,
    content: bytes | None = None,
    *,
    url: str = "",
    default: bool = False,
    git_blob: str = "",
) -> Path:
    """A manifest for ``content``, whose weights are not there. None: no sha256 is given."""
    sha256 = hashlib.sha256(content).hexdigest() if content is not None else ""
    manifest = shelf / f"{name}.toml"
    manifest.write_text(
        f'file = "{name}.onnx"\nsha256 = "{sha256}"\ngit_blob = "{git_blob}"\nurl = "{url}"\n'
        'labels = ["person"]\n'
        f"default = {str(default).lower()}\n"
        '[input]\nsize = [64, 64]\n[decoder]\nfamily = "yolox"\n'
    )
    return manifest


def save_form(
    path: Path,
    outputs: Mapping[str, NDArray[Any]],
    *,
    size: int,
    shape: tuple[int | str, ...] | None = None,
    kind: str = "float32",
    batch: int = 1,
    others: Mapping[str, tuple[str, list[int]]] | None = None,
    loose: bool = False,
    mean_at: tuple[int, int] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """A graph with an input of any form that gives ``outputs``.

    ``others``: second inputs by name. ``loose``: constants are listed as inputs. ``mean_at``: to
    this place of the first output 1e-4 × the mean of the input is added.
    """
    types = {name: getattr(TensorProto, name.upper()) for name in ("float16", "uint8", "int64")}
    types["float32"] = TensorProto.FLOAT
    told = helper.make_tensor_value_info
    inputs = [told("images", types[kind], shape or (1, 3, size, size))]
    inputs += [told(name, types[k], dims) for name, (k, dims) in (others or {}).items()]
    nodes = [
        helper.make_node("Cast", ["images"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["as_float"], ["mean"], keepdims=0),
    ]
    constants, infos = [], []
    for i, (name, array) in enumerate(outputs.items()):
        array = np.concatenate([array] * batch) if batch > 1 else array
        mask = np.zeros_like(array, np.float32)
        if mean_at is not None and i == 0:
            mask[:, mean_at[0], mean_at[1]] = 1e-4
        constants += [
            numpy_helper.from_array(array, f"{name}_constant"),
            numpy_helper.from_array(mask, f"{name}_mask"),
        ]
        dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
        nodes += [
            helper.make_node("Mul", ["mean", f"{name}_mask"], [f"{name}_part"]),
            helper.make_node("Cast", [f"{name}_part"], [f"{name}_cast"], to=dtype),
            helper.make_node("Add", [f"{name}_constant", f"{name}_cast"], [name]),
        ]
        infos.append(told(name, dtype, array.shape))
    if loose:
        inputs += [told(c.name, c.data_type, list(c.dims)) for c in constants]
    graph = helper.make_graph(nodes, "test", inputs, infos, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, str(path))
    return path
