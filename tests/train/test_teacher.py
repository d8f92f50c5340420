"""What a teacher says and shows: the real network's own answers, and its features as hints."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from scripts.train.hints import Hints
from scripts.train.loss import Targets
from scripts.train.network import STRIDES, Detector, Shape
from scripts.train.teacher import UNKNOWN, Teacher
from tests.shelf_kit import asset

SMALL = Shape((8, 8, 16, 16, 16), (1, 1, 1, 1), 16)


def test_it_says_what_the_network_says_cell_by_cell():
    weights = asset("yolox_nano_416")
    teacher = Teacher(str(weights), ("person", "unheard of"))
    pixels = np.random.default_rng(3).integers(0, 256, (416, 416, 3), np.uint8)
    taught, hints = teacher(pixels)
    session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
    plain = pixels.transpose(2, 0, 1)[None].astype(np.float32)
    rows = session.run(None, {session.get_inputs()[0].name: plain})[0][0]
    assert taught.shape == (52 * 52 + 26 * 26 + 13 * 13, 2 + 4)
    assert np.allclose(taught[:, 0], rows[:, 4] * rows[:, 5], atol=1e-4)
    assert (taught[:, 1] == UNKNOWN).all()
    cell = 52 * 52 + 26 * 3 + 7  # the second level's row 3, column 7
    x, y, w, h = rows[cell, :4]
    centre, half = (np.array([7 + x, 3 + y]) * 16, np.exp([w, h]) * 8)
    assert np.allclose(taught[cell, 2:], [*(centre - half), *(centre + half)], rtol=1e-3, atol=0.05)
    assert hints.shape == (len(taught), 64) and hints.dtype == np.int8
    assert teacher.hint_width() == 64


def test_it_looks_at_pictures_of_any_size_of_the_grid():
    teacher = Teacher(str(asset("yolox_nano_416")), ("person",))
    taught, hints = teacher(np.zeros((64, 96, 3), np.uint8))
    assert len(taught) == len(hints) == 8 * 12 + 4 * 6 + 2 * 3


def test_another_family_or_other_classes_are_refused():
    with pytest.raises(ValueError, match="only YOLOX has the same cells"):
        Teacher(str(asset("fastestdet_352")), ("person",))
    with pytest.raises(ValueError, match="knows none of unicorn"):
        Teacher(str(asset("yolox_nano_416")), ("unicorn",))


def test_a_hint_costs_nothing_when_the_features_say_the_same():
    torch.manual_seed(1)
    network = Detector(1, SMALL).eval()
    hints = Hints(network, 16)
    features = network.features(torch.randn(2, 3, 64, 64))
    flat = torch.cat([f.flatten(2) for f in features], 2).transpose(1, 2).detach()  # (B,N,16)
    stored = (flat * 20).round().clamp(-128, 127).to(torch.int8)
    none, ids = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    target = [Targets(none, ids, ids, none, ids, none, rows) for rows in stored]
    before = hints(features, target).item()
    counts = [(64 // stride) ** 2 for stride in STRIDES]
    with torch.no_grad():
        for layer, rows in zip(hints.layers, stored.float().split(counts, 1), strict=True):
            assert isinstance(layer, nn.Conv2d) and layer.bias is not None
            spread, mean = torch.std_mean(rows, (0, 1))
            layer.weight.copy_(torch.diag(20 / (spread + 1))[:, :, None, None])
            layer.bias.copy_(-mean / (spread + 1))
    after = hints(features, target).item()
    assert before > 0.5
    assert after < 0.05
    hints(features, target).backward()
    assert network.stem[0][0].weight.grad.abs().sum() > 0
