"""A published network in PyTorch: the same pixels give the same values."""

import numpy as np
import pytest
import torch

from app.models.onnx_session import open_session
from scripts.train.from_onnx import from_onnx
from scripts.train.network import cells, decode
from tests.conftest import ROOT
from tests.shelf_kit import asset


def test_it_gives_what_the_file_gives():
    path = asset("yolox_nano_416")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 416, 416)).astype(np.float32)
    wanted = open_session(path).run(None, {"images": pixels})[0]
    network = from_onnx(path).eval()
    with torch.no_grad():
        objects, faces = network(torch.from_numpy(pixels))
    found = torch.cat([objects[..., :4], objects[..., 4:].sigmoid()], -1).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    torch.testing.assert_close(faces, objects[..., :5])  # nobody has taught them yet


def test_other_networks_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"kestrel\.onnx is no YOLOX-Nano"):
        from_onnx(ROOT / "models" / "kestrel.onnx")
    with pytest.raises(ValueError, match=r"no\.onnx cannot be read"):
        from_onnx(tmp_path / "no.onnx")


def test_cells_are_level_after_level_row_by_row():
    grid = cells((64, 32))
    assert grid.shape == (32 + 8 + 2, 3)
    assert grid[[0, 1, 4, 32, 34, 40]].tolist() == [
        [0, 0, 8], [1, 0, 8], [0, 1, 8], [0, 0, 16], [0, 1, 16], [0, 0, 32]
    ]  # fmt: skip


def test_boxes_are_told_in_strides_from_their_cell():
    grid = torch.tensor([[2.0, 1.0, 16.0]])
    raw = torch.tensor([[0.5, 0.25, np.log(2.0), np.log(0.5)]])
    assert decode(raw, grid).tolist() == [[40 - 16, 20 - 4, 40 + 16, 20 + 4]]
