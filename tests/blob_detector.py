"""A real, tiny network that finds white squares, and labelled pictures of them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, CELL, BOX = 64, 8, 16
CELLS = SIDE // CELL
MANIFEST = (
    'file = "{name}.onnx"\nlabels = ["square"]\n{more}'
    "[input]\nsize = [64, 64]\nscale = 0.00392156862745098\n"
    '[decoder]\nfamily = "yolov8"\n[thresholds]\nscore = 0.5\niou = 0.3\n'
)


def save_blob_detector(
    folder: Path, name: str = "blob", *, gain: float = 24.0, frames: int | str = 1, **more: str
) -> Path:
    """NAME.onnx and NAME.toml of family yolov8: (1, 5, 64), a box of 16 px around each bright cell.
    ``frames``: the first axis, as 1 or as a name for any number.

    Mean brightness of a cell (one convolution, widened to 32 channels so that there is something
    to quantise), back to one channel, sigmoid. ``gain`` 0 blinds it.
    """
    wide = np.full((32, 3, CELL, CELL), 1 / (3 * CELL * CELL), np.float32)
    narrow = np.full((1, 32, 1, 1), gain / 32, np.float32)
    y, x = np.mgrid[:CELLS, :CELLS] * CELL + CELL / 2
    boxes = np.stack([x, y, np.full_like(x, BOX), np.full_like(x, BOX)]).reshape(1, 4, -1)
    constants = {
        "wide": wide,
        "wide_bias": np.zeros(32, np.float32),
        "narrow": narrow,
        "narrow_bias": np.array([-0.85 * gain - 1e-3], np.float32),
        "boxes": boxes.astype(np.float32),
        "flat": np.array([0, 1, CELLS * CELLS], np.int64),  # 0: as many as come
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["images", "wide", "wide_bias"], ["a"], "first", strides=[CELL, CELL]),
        node("Relu", ["a"], ["b"], "relu"),
        node("Conv", ["b", "narrow", "narrow_bias"], ["c"], "last"),
        node("Sigmoid", ["c"], ["d"], "sigmoid"),
        node("Reshape", ["d", "flat"], ["e"], "reshape"),
    ]
    each = "boxes"
    if frames != 1:  # the same boxes for each frame
        constants["nothing"] = np.zeros(1, np.float32)
        nodes.append(node("Mul", ["e", "nothing"], ["zeros"], "zeros"))
        nodes.append(node("Add", ["boxes", "zeros"], ["each"], "each"))
        each = "each"
    nodes.append(node("Concat", [each, "e"], ["out"], "concat", axis=1))
    graph = helper.make_graph(
        nodes,
        "blob",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, (frames, 3, SIDE, SIDE))],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, (frames, 5, CELLS * CELLS))],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(folder / f"{name}.onnx"))
    lines = "".join(f'{key} = "{value}"\n' for key, value in more.items())
    (folder / f"{name}.toml").write_text(MANIFEST.format(name=name, more=lines))
    return folder / f"{name}.onnx"


def save_labelled_set(folder: Path, count: int = 8) -> Path:
    """``folder/val.json`` and images/: noise with one or two white squares, sources "a" and "b"."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(5)
    images, annotations = [], []
    for i in range(count):
        picture = rng.integers(0, 90, (SIDE, SIDE, 3), dtype=np.uint8)
        for column, row in [(2, int(rng.integers(1, 7)))] + [(6, 3)] * (i % 2):
            x, y = column * CELL + CELL // 2 - BOX // 2, row * CELL + CELL // 2 - BOX // 2
            picture[y : y + BOX, x : x + BOX] = 255
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i,
                    "category_id": 7,
                    "bbox": [x, y, BOX, BOX],
                    "area": BOX * BOX,
                    "iscrowd": 0,
                }
            )
        cv2.imwrite(str(folder / "images" / f"{i}.png"), picture)
        images.append(
            {"id": i, "file_name": f"{i}.png", "width": SIDE, "height": SIDE, "source": "ab"[i % 2]}
        )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 7, "name": "square"}],
    }
    (folder / "val.json").write_text(json.dumps(content))
    return folder
