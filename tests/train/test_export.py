"""From a checkpoint, whole or pruned, to a model that the application runs."""

from dataclasses import asdict

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
from scripts.train.checkpoint import load_trained, write
from scripts.train.data import read_set
from scripts.train.export import Exported
from scripts.train.network import Detector, Shape, cell_centres, decode_boxes, fold, normalise
from scripts.train.open_input import open_input
from scripts.train.plan import Plan
from scripts.train.prune import cost, loss_over, prune
from scripts.train.prune import main as prune_main
from scripts.train.samples import Samples

SHAPE = Shape((16, 32, 64, 96, 96), (1, 1, 1, 1), 48)


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    network = Detector(1, SHAPE)
    network.train()
    with torch.no_grad():  # batch norms that have seen something, outputs that vary
        for _ in range(20):
            network(torch.randn(4, 3, 64, 64) * 1.2)
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.weight.uniform_(0.3, 1.5)
        for layer in network.out:
            layer.weight *= 20
            layer.bias[4:] += 3
    path = tmp_path / "trained.pt"
    content = {
        "shape": asdict(SHAPE),
        "plan": asdict(Plan(epochs=1, input_px=64)),
        "labels": ("square",),
        "step": 1,
        "steps": 1,
        "average": network.state_dict(),
        "network": network.state_dict(),
    }
    write(path, content)
    return path


def exported(checkpoint, tmp_path, *more):
    shelf = tmp_path / "shelf"
    export.main([str(checkpoint), "--name", "own", "--shelf", str(shelf), *more])
    return find_model("own", shelf_dir=shelf)


def test_the_graph_is_what_engines_want(checkpoint, tmp_path):
    model = onnx.load(str(exported(checkpoint, tmp_path).weights))
    (opset,) = [o.version for o in model.opset_import]
    assert opset <= 17
    (images,) = model.graph.input
    (detections,) = model.graph.output
    dims = images.type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", 3, "height", "width"]
    dims = detections.type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", 4 + 1, "cells"]
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


def test_any_batch_gives_what_pytorch_gives(checkpoint, tmp_path):
    session = open_session(exported(checkpoint, tmp_path).weights)
    network = load_trained(checkpoint).network
    pixels = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        raw = network(normalise(pixels))
        corners = decode_boxes(raw[..., :4], cell_centres((64, 64))).numpy()
    (found,) = session.run(None, {"images": normalise(pixels).contiguous().numpy()})
    found = found.transpose(0, 2, 1)
    assert np.abs(found[..., 4] - raw[..., 4].sigmoid().numpy()).max() < 1e-4
    low, high = found[..., :2] - found[..., 2:4] / 2, found[..., :2] + found[..., 2:4] / 2
    assert np.abs(np.concatenate([low, high], -1) - corners).max() < 64 * 1e-4


@pytest.mark.parametrize("half", [False, True])
def test_any_size_gives_what_a_graph_for_that_size_gives(checkpoint, tmp_path, half):
    session = open_session(exported(checkpoint, tmp_path, *["--half"] * half).weights)
    trained = load_trained(checkpoint)
    fold(trained.network)
    if half:
        trained.network.half().float()
    for width, height in ((64, 32), (32, 96), (160, 64)):
        pixels = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
        with torch.no_grad():
            wanted = Exported(trained.network, (width, height))(normalise(pixels)).numpy()
        (found,) = session.run(None, {"images": normalise(pixels).contiguous().numpy()})
        np.testing.assert_allclose(found, wanted, atol=0.02, rtol=1e-3)


def test_a_graph_is_opened_once(checkpoint, tmp_path):
    model = onnx.load(str(exported(checkpoint, tmp_path).weights))
    with pytest.raises(ValueError, match="open already"):
        open_input(model)


def test_half_weights_halve_the_file_and_nothing_else(checkpoint, tmp_path):
    whole = exported(checkpoint, tmp_path)
    size, spec = whole.weights.stat().st_size, whole.spec
    half = exported(checkpoint, tmp_path, "--half", "--force")
    assert half.weights.stat().st_size < 0.6 * size
    assert half.spec.input == spec.input and spec.input.fit == 32
    types = {
        i.data_type for i in onnx.load(str(half.weights)).graph.initializer if len(i.dims) == 4
    }
    assert types == {onnx.TensorProto.FLOAT16}


def test_the_application_prepares_pixels_as_training_did(checkpoint, tmp_path):
    """A picture through the application: the boxes that the network itself gives."""
    model = exported(checkpoint, tmp_path, "--score", "0.3", "--iou", "0.5")
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    backend = CpuBackend(
        model.spec, model.weights, wake=lambda: None, score=0.0, iou=1.0, workers=1
    )
    with backend as running:
        slot = running.slots[0]
        slot.enqueue([Frame(pixels, 0, 0)])
        ((found, _),) = slot.collect()
    with torch.no_grad():
        raw = load_trained(checkpoint).network(
            normalise(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None])
        )
    best = float(raw[0, :, 4].sigmoid().max())
    assert found.scores[0] == pytest.approx(best, abs=1e-4)


def test_a_graph_that_disagrees_is_not_written(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_difference", lambda *a, **k: 1e-3)
    with pytest.raises(ValueError, match=r"differ by 0\.001"):
        exported(checkpoint, tmp_path)
    assert not (tmp_path / "shelf").exists()


def test_an_existing_model_is_not_replaced_unasked(checkpoint, tmp_path):
    exported(checkpoint, tmp_path)
    with pytest.raises(ConfigError, match="--force"):
        exported(checkpoint, tmp_path)


@pytest.mark.parametrize("folded", [False, True], ids=["batch norm", "folded"])
def test_pruning_takes_whole_channels_until_the_share_is_reached(checkpoint, square_set, folded):
    network = load_trained(checkpoint).network
    if folded:
        fold(network)
    example = torch.zeros(1, 3, 64, 64)
    before = cost(network, example)
    loss = loss_over(Samples(read_set(square_set, "train")), size=64, batches=1)
    share = prune(network, input_px=64, keep=0.9, loss=loss)
    assert 0.7 < share <= 0.9
    assert cost(network, example) == pytest.approx(share * before)
    assert network(example).shape == (1, 84, 5)
    widths = {m.out_channels for m in network.modules() if isinstance(m, torch.nn.Conv2d)} - {5}
    assert all(width % 16 == 0 for width in widths)


@pytest.mark.parametrize("keep", [0.0, 1.0, 7.0])
def test_a_share_that_is_none_is_refused(checkpoint, keep):
    with pytest.raises(ValueError, match="between 0 and 1"):
        prune(
            load_trained(checkpoint).network, input_px=64, keep=keep, loss=lambda _: torch.zeros(())
        )


@pytest.mark.slow
def test_pruned_taught_again_resumed_and_exported(checkpoint, square_set, tmp_path, capsys):
    out = tmp_path / "pruned"
    words = [checkpoint, "--data", square_set, "--out", out, "--epochs", 1, "--batch", 8]
    words = [str(w) for w in [*words, "--cut-outs", 0, "--workers", 0, "--keep", 0.93]]
    prune_main(words)
    assert "of the cost is left" in capsys.readouterr().out
    prune_main([*words, "--resume"])
    model = exported(out / "last.pt", tmp_path, "--parent", "whole")
    assert model.spec.parent == "whole"
    whole = sum(p.numel() for p in load_trained(checkpoint).network.parameters())
    narrow = sum(p.numel() for p in load_trained(out / "last.pt").network.parameters())
    assert narrow < 0.97 * whole
