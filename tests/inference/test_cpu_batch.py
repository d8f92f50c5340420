"""Batches on the CPU: the very boxes of single frames, whatever the sizes and the count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.core.errors import ModelError
from app.core.frame import Frame, bgr_pixels
from app.inference.cpu import CpuBackend
from app.models.store import default_model
from app.sources.uri import make_source


def some_frames() -> list[Frame]:
    """Of three sizes, some with people in them."""
    source = make_source("sample:", realtime=False)
    source.open()
    frames = []
    try:
        while len(frames) < 210:
            frame = source.read(1.0)
            if frame is not None:
                frames.append(Frame(bgr_pixels(frame).copy(), frame.index, 0))
    finally:
        source.close()
    whole = frames[190].pixels
    parts = [whole, whole[:, 120:520], frames[100].pixels[40:300], frames[207].pixels, whole[::2]]
    return [Frame(np.ascontiguousarray(part), i, 0) for i, part in enumerate(parts)]


def backend(**options: Any) -> CpuBackend:
    model = default_model()
    return CpuBackend(
        model.spec, model.weights, wake=lambda: None, score=0.3, iou=0.5, workers=1, **options
    )


def test_a_batch_finds_what_single_frames_find() -> None:
    frames = some_frames()
    with backend() as single:
        alone = []
        for frame in frames:
            single.slots[0].enqueue([frame])
            alone.append(single.slots[0].collect()[0][0])
    assert sum(len(found) for found in alone) >= 6
    with backend(batch=4) as batched:
        slot = batched.slots[0]
        assert slot.capacity == 4
        assert "4 frames" in batched.description
        for some in ([0, 1, 2, 3], [4], [3, 0], [2, 4, 1]):
            slot.enqueue([frames[i] for i in some])
            answers = slot.collect()
            assert len(answers) == len(some)
            for i, (found, stages) in zip(some, answers, strict=True):
                np.testing.assert_allclose(found.xyxy, alone[i].xyxy, atol=0.02)
                np.testing.assert_allclose(found.scores, alone[i].scores, atol=1e-4)
                assert found.class_ids.tolist() == alone[i].class_ids.tolist()
                assert set(stages) == {"preprocess", "network", "postprocess"}


def test_thresholds_change_for_whole_batches() -> None:
    frame = some_frames()[0]
    with backend(batch=2) as batched:
        slot = batched.slots[0]
        batched.tune(score=0.99, iou=0.5)
        slot.enqueue([frame, frame])
        assert [len(found) for found, _ in slot.collect()] == [0, 0]


def test_a_network_for_single_frames_is_refused_with_the_cure(tiny_model: Path) -> None:
    from app.models.store import find_model

    model = find_model(str(tiny_model))
    with (
        pytest.raises(ModelError, match="one frame at a time; leave --batch out"),
        CpuBackend(
            *(model.spec, model.weights), wake=lambda: None, score=0.5, iou=0.5, batch=2
        ) as made,
    ):
        made.slots[0].collect()


def test_more_frames_than_there_is_room_for_is_a_fault_of_ours() -> None:
    with backend(batch=2) as batched, pytest.raises(AssertionError, match="more frames"):
        batched.slots[0].enqueue([Frame(np.zeros((8, 8, 3), np.uint8), 0, 0)] * 3)
