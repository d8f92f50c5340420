"""Sliced inference on the simulated device: the CPU's boxes, as a batch and one by one."""

from __future__ import annotations

import numpy as np
import pytest

from app.config import Config
from app.core.frame import Frame
from app.models.store import locate
from app.pipeline.handoff import Policy
from app.runtime.engines import backend_factory
from tests.blob_detector import save_blob_detector
from tests.cuda.test_batch import as_given

pytestmark = pytest.mark.gpu


def squares() -> list[Frame]:
    """Bright squares that are too small for the whole frame, of two sizes and formats."""
    rng, frames = np.random.default_rng(5), []
    for index in range(3):
        pixels = np.full((256, 320, 3), 40, np.uint8)
        for _ in range(4):
            x, y = rng.integers(0, 270), rng.integers(0, 206)
            pixels[y : y + 46, x : x + 46] = 255
        frames.append(Frame(pixels, index, 0))
    return [*frames, as_given(frames[0], "nv12"), as_given(frames[1], "yuyv")]


def found(model, shown, **more):
    config, answers = Config(score=0.3, **more), []
    with backend_factory(config, model, Policy.LOSSLESS)(lambda: None) as backend:
        for turn, frame in enumerate(shown):
            slot = backend.slots[turn % len(backend.slots)]
            slot.enqueue([frame])
            answers.append(slot.collect()[0][0])
    return answers


@pytest.mark.parametrize("batch", [None, 2, 1])
def test_a_gpu_finds_what_the_cpu_finds(device, tmp_path, batch):
    model = locate(str(save_blob_detector(tmp_path, frames="frames")))
    shown = squares()
    expected = found(model, shown, engine="cpu", slices="2x2")
    assert sum(map(len, expected)) > sum(map(len, found(model, shown, engine="cpu")))
    how = {"engine": "cuda", "precision": "fp32", "transfer": "pinned"}
    for ours, theirs in zip(
        found(model, shown, slices="2x2", batch=batch, **how), expected, strict=True
    ):
        assert len(ours) == len(theirs)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=0.02)
        assert {tuple(b.round()) for b in ours.xyxy} == {tuple(b.round()) for b in theirs.xyxy}


def test_a_network_for_one_frame_does_the_pieces_one_after_the_other(device, tmp_path):
    model = locate(str(save_blob_detector(tmp_path)))
    shown = squares()[:2]
    expected = found(model, shown, engine="cpu", slices="2x2")
    how = {"engine": "cuda", "precision": "fp32", "transfer": "pinned"}
    ours = found(model, shown, slices="2x2", **how)
    assert [len(each) for each in ours] == [len(each) for each in expected]
