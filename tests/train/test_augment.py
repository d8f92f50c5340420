"""Samples: the labels must follow the pixels, whatever is done to them."""

import cv2
import numpy as np
import pytest

from scripts.train import augment
from scripts.train.augment import sample
from scripts.train.data import Labels, Picture


@pytest.fixture
def picture(tmp_path):
    """Black with a white rectangle, labelled an object, a face and something to ignore."""
    pixels = np.zeros((120, 160, 3), np.uint8)
    pixels[30:90, 20:60] = 255
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    box = np.array([[20, 30, 60, 90]], np.float32)
    labels = Labels(box, np.ones((1, 2), np.float32), box, box, np.array([0]), np.array([0]))
    return Picture(tmp_path / "a.png", labels, "")


def make(picture, seed, size_hw=(96, 128)):
    rng = np.random.default_rng(seed)
    return sample([picture], [0, 0, 0, 0], size_hw=size_hw, rng=rng)


def extent(pixels):
    rows, columns = np.nonzero(pixels.min(axis=2) > pixels.max() * 0.6)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize("seed", range(20))
def test_boxes_follow_zoom_aspect_mirror_and_place(picture, seed, monkeypatch):
    monkeypatch.setattr(augment, "MOSAIC", 0)
    monkeypatch.setattr(augment, "LIGHT", 0)
    pixels, found = make(picture, seed)
    assert pixels.shape == (96, 128, 3)
    for box in found.boxes:
        assert np.abs(box - extent(pixels)).max() <= 2.5
    np.testing.assert_array_equal(found.boxes, found.faces)


@pytest.mark.parametrize("seed", range(10))
def test_a_mosaic_keeps_each_pictures_boxes_in_its_quarter(picture, seed, monkeypatch):
    monkeypatch.setattr(augment, "MOSAIC", 1)
    monkeypatch.setattr(augment, "LIGHT", 0)
    pixels, found = make(picture, seed, (192, 192))
    assert (found.boxes >= 0).all()
    assert (found.boxes <= 192).all()
    for x0, y0, x1, y1 in found.boxes.round().astype(int):
        inner = pixels[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2]
        assert inner.size == 0 or (inner > 180).mean() > 0.9


def test_what_is_hardly_seen_any_more_is_ignored(picture, monkeypatch):
    monkeypatch.setattr(augment, "MOSAIC", 0)
    monkeypatch.setattr(augment, "ZOOM", (3, 6))
    lost = 0
    for seed in range(40):
        _, found = make(picture, seed)
        lost += len(found.ignored_ids) > 1
        for ids in found.ignored_ids[1:]:
            assert ids in (0, 2)  # of the object's class, and 2 for a face
        assert len(found.boxes) + (found.ignored_ids == 0).sum() <= 2
    assert lost


def test_the_seed_decides_all(picture):
    for seed in range(5):
        (a, of_a), (b, of_b) = make(picture, seed), make(picture, seed)
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(of_a.boxes, of_b.boxes)
    assert len({make(picture, seed)[0].tobytes() for seed in range(5)}) == 5
