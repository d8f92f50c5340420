"""Parts and mirror images of a sample: boxes and cells stay with the pixels they describe."""

import numpy as np
import torch

from scripts.train.loss import Targets
from scripts.train.network import cell_centres
from scripts.train.window import Window


def sample(boxes=(), ignored=()):
    """Of 96 px; each pixel says where it is, each cell its centre, its box lies around itself."""
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    cells = cell_centres((96, 96))
    around = torch.cat([cells[:, :2] - 3, cells[:, :2] + 3], 1)
    target = Targets(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.arange(len(boxes)),
        torch.ones(len(boxes)),
        torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4),
        torch.zeros(len(ignored), dtype=torch.int64),
        torch.cat([cells[:, :1] / 96, around], 1),
        cells[:, :2],
    )
    return torch.stack([x, y, x]), target


def test_cells_move_with_the_pixels():
    pixels, target = sample()
    window = Window(96, 64, left=32, top=0, mirror=True)
    shown, told = window.of_pixels(pixels), window.of_targets(target)
    centres = cell_centres((64, 64))
    assert shown.shape == (3, 64, 64) and len(told.taught) == len(centres)
    # the pixel and the cell in the window's left corner are those in the sample's right one
    assert shown[0, 0].tolist() == list(range(95, 31, -1))
    assert torch.allclose(told.hints[:, 0], 96 - centres[:, 0])
    assert torch.allclose(told.hints[:, 1], centres[:, 1])
    assert torch.allclose(told.taught[:, 1:3], centres[:, :2] - 3)
    assert torch.allclose(told.taught[:, 3:], centres[:, :2] + 3)


def test_boxes_are_cut_and_what_is_hardly_seen_is_ignored():
    _, target = sample(
        boxes=[(40, 10, 60, 30), (0, 0, 40, 40), (0, 50, 31, 60), (20, 20, 60, 40)],
        ignored=[(70, 70, 90, 90), (0, 0, 9, 9)],
    )
    told = Window(96, 64, left=32, top=0).of_targets(target)
    assert told.boxes.tolist() == [[8, 10, 28, 30], [0, 20, 28, 40]]
    assert told.class_ids.tolist() == [0, 3]
    # the one at 70 is below the window, the box of which a fifth is left counts no more
    assert told.ignored.tolist() == [[0, 0, 8, 40]]
    assert told.ignored_ids.tolist() == [1]


def test_windows_are_drawn_on_the_coarsest_grid():
    rng = np.random.default_rng(1)
    drawn = {Window.draw(96, 64, rng) for _ in range(60)}
    assert {(w.left, w.top) for w in drawn} == {(x, y) for x in (0, 32) for y in (0, 32)}
    assert {w.mirror for w in drawn} == {True, False}
    whole = Window.draw(64, 64, rng)
    assert (whole.left, whole.top) == (0, 0)
