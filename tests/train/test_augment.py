"""Samples: the labels must follow the pixels, whatever is done to them."""

from dataclasses import replace

import numpy as np
import pytest

from scripts.train.augment import GENTLE, PAD, CutOut, Recipe, sample
from scripts.train.cut_outs import find_cut_outs
from scripts.train.data import Labels, Picture

PLAIN = Recipe(
    mosaic=0, zoom=(1, 1), aspect=0, paste=0, blend=0, hue=0, saturation=0, value=0, gray=0
)
PLAIN = replace(PLAIN, blur=0, noise=0)


def labels(*boxes, ids=None, ignored=None):
    n = len(boxes)
    return Labels(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(ids or [0] * n, np.int64),
        np.ones(n, np.float32),
        np.array(ignored or [False] * n),
    )


def picture(x0=20, y0=30, x1=60, y1=90, width=160, height=120):
    """Black with a white rectangle, labelled."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[y0:y1, x0:x1] = 255
    return Picture(pixels, labels((x0, y0, x1, y1)), "")


def white_extent(pixels):
    rows, columns = np.nonzero(pixels.min(axis=2) > 180)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize("seed", range(30))
def test_boxes_follow_zoom_aspect_mirror_and_place(seed):
    recipe = replace(PLAIN, zoom=(0.5, 1.4), aspect=0.2)
    rng = np.random.default_rng(seed)
    pixels, found = sample([picture()], 0, size=128, rng=rng, recipe=recipe)
    kept = found.select(~found.ignored)
    assert pixels.shape == (128, 128, 3)
    for box in kept.boxes:
        assert np.abs(box - white_extent(pixels)).max() <= 2.0


@pytest.mark.parametrize("seed", range(10))
def test_mosaic_keeps_each_pictures_boxes_in_its_quarter(seed):
    rng = np.random.default_rng(seed)
    recipe = replace(PLAIN, mosaic=1.0, zoom=(0.6, 1.2))
    pixels, found = sample([picture()] * 3, 0, size=192, rng=rng, recipe=recipe)
    assert (found.boxes >= 0).all()
    assert (found.boxes <= 192).all()
    for x0, y0, x1, y1 in found.select(~found.ignored).boxes.round().astype(int):
        inner = pixels[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2]
        assert inner.size == 0 or (inner > 180).mean() > 0.95


def test_the_same_seed_gives_the_same_sample_and_another_another():
    pictures = [picture(), picture(40, 10, 90, 70)]
    draw = [
        sample(pictures, 0, size=96, rng=np.random.default_rng(s), recipe=Recipe())[0]
        for s in (1, 1, 2)
    ]
    assert (draw[0] == draw[1]).all()
    assert (draw[0] != draw[2]).any()


def test_padding_is_exactly_the_letterboxs_gray_whatever_the_colours():
    strong = replace(GENTLE, zoom=(0.4, 0.4), gray=1, noise=1, blur=1)
    pixels, _ = sample([picture()], 0, size=128, rng=np.random.default_rng(0), recipe=strong)
    assert (pixels == PAD).all(axis=2).mean() > 0.6


def test_what_is_barely_seen_or_tiny_is_ignored_not_learned():
    whole = picture(0, 0, 160, 120)
    seen = ignored = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        _, found = sample([whole], 0, size=64, rng=rng, recipe=replace(PLAIN, zoom=(3, 3)))
        ignored += int(found.ignored.sum())
        seen += len(found.boxes)
    assert seen == ignored == 40
    _, found = sample(
        [picture(10, 10, 13, 13)], 0, size=64, rng=np.random.default_rng(0), recipe=PLAIN
    )
    assert found.ignored.all()


def test_a_pasted_person_is_labelled_and_hides_what_it_covers():
    behind = Picture(np.zeros((64, 64, 3), np.uint8), labels((30, 30, 34, 34)), "")
    person = CutOut(
        np.full((100, 100, 3), 255, np.uint8),
        np.full((100, 100), 255, np.uint8),
        labels((0, 0, 100, 100), (30, 10, 60, 40), ids=[0, 1]),
    )
    added = hidden = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        pixels, found = sample(
            [behind], 0, size=64, rng=rng, recipe=replace(PLAIN, paste=1), cut_outs=[person]
        )
        added += len(found.boxes) - 1
        covered = (pixels[30:34, 30:34] > 200).all()
        hidden += bool(covered)
        assert not covered or found.ignored[0]
    assert added >= 60
    assert hidden


def test_grabcut_finds_the_outline_inside_a_box():
    pixels = np.random.default_rng(0).integers(0, 60, (240, 200, 3), dtype=np.uint8)
    yy, xx = np.mgrid[:240, :200]
    ellipse = ((xx - 100) / 40) ** 2 + ((yy - 120) / 90) ** 2 < 1
    pixels[ellipse] = (40, 90, 220)
    good = Picture(pixels, labels((60, 30, 140, 210)), "")
    cut_off = Picture(pixels, labels((0, 30, 140, 210)), "")
    (found,) = find_cut_outs([cut_off, good], class_id=0, most=5, seed=0)
    inside = ellipse[30:210, 60:140]
    assert found.labels.boxes.tolist() == [[0, 0, 80, 180]]
    assert ((found.mask > 127) == inside).mean() > 0.97
    assert find_cut_outs([good], class_id=1, most=5, seed=0) == []
