"""From a checkpoint to a model that the application runs."""

import numpy as np
import onnx
import pytest
import torch

from app.core.errors import ConfigError
from app.core.frame import Frame
from app.inference.cpu import CpuBackend
from app.models.onnx_session import open_session
from app.models.store import find_model
from scripts.train import export
from scripts.train.checkpoint import load_network, write
from scripts.train.export import Exported
from scripts.train.network import Network, cells, decode


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    network = Network(80)
    with torch.no_grad():  # pixels are large; keep activations in a usual range, and outputs varied
        network.stem[0].weight.div_(100)
        for parameter in network.parameters():
            if parameter.ndim == 4:
                parameter.mul_(1.6)
    path = tmp_path_factory.mktemp("trained") / "trained.pt"
    write(path, {"average": network.state_dict()})
    return path


def exported(checkpoint, tmp_path, *more):
    shelf = tmp_path / "shelf"
    export.main([str(checkpoint), "--name", "own", "--shelf", str(shelf), "--input", "64", *more])
    return find_model("own", shelf_dir=shelf)


@pytest.fixture(scope="module")
def plain(checkpoint, tmp_path_factory):
    return exported(checkpoint, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def halved(checkpoint, tmp_path_factory):
    return exported(checkpoint, tmp_path_factory.mktemp("halved"), "--half")


def test_the_graph_is_what_engines_want(plain):
    model = onnx.load(str(plain.weights))
    (opset,) = [o.version for o in model.opset_import]
    assert opset <= 17
    (images,), (output,) = model.graph.input, model.graph.output
    dims = images.type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", 3, "height", "width"]
    dims = output.type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", "cells", 5 + 80 + 1]


@pytest.mark.parametrize("half", [False, True])
def test_any_batch_and_size_gives_what_pytorch_gives(checkpoint, plain, halved, half):
    session = open_session((halved if half else plain).weights)
    network = load_network(checkpoint)
    if half:
        network.half().float()
    for shape in ((1, 3, 64, 64), (3, 3, 32, 96)):
        pixels = torch.randint(0, 256, shape).float()
        with torch.no_grad():
            wanted = Exported(network)(pixels).numpy()
        (found,) = session.run(None, {"images": pixels.numpy()})
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_objects_have_no_face_and_faces_nothing_else(plain):
    session = open_session(plain.weights)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 64, 64)).astype(np.float32)
    rows = session.run(None, {"images": pixels})[0][0]
    objects, faces = rows[:84], rows[84:]
    assert (objects[:, -1] == 0).all()
    assert (faces[:, 5:-1] == 0).all()
    assert (faces[:, -1] == 1).all()


def test_half_weights_halve_the_file(plain, halved):
    assert halved.weights.stat().st_size < 0.6 * plain.weights.stat().st_size


def test_the_application_finds_what_the_network_says(checkpoint, plain):
    """A picture through the application: the boxes of both kinds that the network itself gives."""
    model = plain
    assert model.spec.labels[80] == "face"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    backend = CpuBackend(
        model.spec, model.weights, wake=lambda: None, score=0.0, iou=1.0, workers=1
    )
    with backend as running:
        slot = running.slots[0]
        slot.enqueue([Frame(pixels, 0, 0)])
        ((found, _),) = slot.collect()
    tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float()
    with torch.no_grad():
        objects, faces = load_network(checkpoint)(tensor)
    grid = cells((64, 64))
    for rows, scores, class_ids in (
        (objects, objects[0, :, 5:].sigmoid().amax(1) * objects[0, :, 4].sigmoid(), range(80)),
        (faces, faces[0, :, 4].sigmoid(), [80]),
    ):
        best = int(scores.argmax())
        wanted = decode(rows[0, best, :4], grid[best : best + 1])[0].clamp(0, 64).numpy()
        of_kind = np.isin(found.class_ids, class_ids)
        assert found.scores[of_kind][0] == pytest.approx(float(scores[best]), abs=1e-4)
        np.testing.assert_allclose(found.xyxy[of_kind][0], wanted, atol=1e-2)


def test_a_graph_that_disagrees_is_not_written(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_difference", lambda *_: 1e-3)
    with pytest.raises(ValueError, match=r"differ by 0\.001"):
        exported(checkpoint, tmp_path)
    assert not (tmp_path / "shelf").exists()


def test_faults_name_their_cure(checkpoint, tmp_path):
    manifest = tmp_path / "shelf" / "own.toml"
    manifest.parent.mkdir()
    manifest.touch()
    with pytest.raises(ConfigError, match="--force"):
        exported(checkpoint, tmp_path)
    with pytest.raises(ValueError, match="multiple of 32"):
        exported(checkpoint, tmp_path, "--input", "100")
