"""Real networks on real clips: what the clip shows is found, and an independent decode agrees."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from app.core.detections import Detections
from app.core.frame import Frame
from app.inference.cpu import CpuBackend
from app.models.onnx_session import open_session
from app.models.store import locate
from app.sources.base import load_cv2
from tests import reference

MODELS = (
    "yolox_nano_416",
    "nanodet_m_320",
    "light_person_192",
    "fastestdet_352",
    "yunet_n_320_320",
    "yunet_n_dynamic",
    "ultraface_rfb_320",
)
CLIPS = (
    "intel_asl_bird",
    "sam2_dog",
    "intel_gif_face-demographics-walking-and-pause",
    "intel_gif_head-pose-face-detection-female-and-male",
)
AGREEMENT_FRAMES = 6  # of each clip, spread over it


@pytest.fixture(scope="module")
def frames(assets: Path, asset_manifest: dict[str, Any]) -> dict[str, list[Any]]:
    """The frames of each clip that its manifest's figures were counted on."""
    clips = {clip["name"]: clip for clip in asset_manifest["clips"]}
    return {
        name: _every(assets / clips[name]["file"], clips[name]["facts"]["sample_step"])
        for name in CLIPS
    }


def _every(path: Path, step: int) -> list[Any]:
    capture, frames, index = load_cv2().VideoCapture(str(path)), [], 0
    while True:
        ok, frame = capture.read()
        if not ok:
            return frames
        if index % step == 0:
            frames.append(frame)
        index += 1


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_finds_what_the_clips_show_and_agrees_with_a_plain_decode(
    name: str, frames: dict[str, list[Any]], asset_manifest: dict[str, Any], assets: Path
) -> None:
    weights = assets / "models" / f"{name}.onnx"
    model = locate(name)
    facts = {clip["name"]: clip["facts"]["per_model"][name] for clip in asset_manifest["clips"]}
    plain = open_session(weights)
    with CpuBackend(
        model.spec, weights, wake=lambda: None, score=model.spec.score, iou=model.spec.iou
    ) as backend:
        for clip, pictures in frames.items():
            counts: Counter[str] = Counter()
            spread = range(0, len(pictures), max(1, len(pictures) // AGREEMENT_FRAMES))
            for i, picture in enumerate(pictures):
                found = _detect(backend, picture)
                counts.update(model.spec.labels[c] for c in found.class_ids)
                if i in spread:
                    expected = reference.detect(
                        name, plain, picture, model.spec.score, model.spec.iou
                    )
                    _assert_same(
                        found, expected, model.spec.score, f"{name} on {clip}, picture {i}"
                    )
            for label in ("person", "face", "dog"):
                known = facts[clip]["per_class_mean"].get(label)
                if known is not None:
                    assert counts[label] / len(pictures) == pytest.approx(known, abs=0.12), (
                        f"{name} finds {label} on {clip}"
                    )


def _detect(backend: CpuBackend, picture: Any) -> Detections:
    slot = backend.slots[0]
    slot.enqueue([Frame(picture, 0, 0)])
    return slot.collect()[0][0]


def _assert_same(
    found: Detections, expected: list[reference.Box], threshold: float, where: str
) -> None:
    """Each box has its partner; one within 0.01 of the threshold may be on one side only."""
    ours = [
        reference.Box(int(c), float(s), tuple(map(float, box)))
        for c, s, box in zip(found.class_ids, found.scores, found.xyxy, strict=True)
    ]
    for mine, theirs in ((ours, expected), (expected, ours)):
        for box in mine:
            partner = max(
                (b for b in theirs if b.label_id == box.label_id),
                key=lambda b: reference.overlap(b.xyxy, box.xyxy),
                default=None,
            )
            if partner is None or reference.overlap(partner.xyxy, box.xyxy) < 0.95:
                assert box.score < threshold + 0.01, f"{where}: no partner for {box}"
                continue
            assert abs(partner.score - box.score) < 0.01, f"{where}: {box} and {partner}"
    if found.keypoints is not None:
        for points, box in zip(found.keypoints, expected, strict=False):
            assert abs(points - box.keypoints).max() < 1.5, where
