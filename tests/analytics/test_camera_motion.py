"""The motion of a textured picture that is moved by a known way."""

from __future__ import annotations

import numpy as np

from app.analytics.tracker import CameraMotion
from app.core.frame import Frame


def texture() -> np.ndarray:
    import cv2

    noise = np.random.default_rng(0).integers(0, 256, (90, 120), np.uint8)
    return np.asarray(cv2.resize(noise, (1200, 900), interpolation=cv2.INTER_CUBIC), np.uint8)


def shown(pixels: np.ndarray) -> Frame:
    return Frame(np.ascontiguousarray(pixels), 0, 0, format="gray8")


def test_a_shift_is_found_in_source_pixels_and_the_same_each_time() -> None:
    wide = texture()
    answers = []
    for _ in range(2):
        camera = CameraMotion()
        assert camera.estimate(shown(wide[100:740, 100:1060])) is None
        motion = camera.estimate(shown(wide[90:730, 112:1072]))
        assert motion is not None
        answers.append(motion)
    assert np.allclose(answers[0][:, :2], np.eye(2), atol=0.02)
    assert np.allclose(answers[0][:, 2], (-12, 10), atol=2)
    assert answers[0].tobytes() == answers[1].tobytes()


def test_nothing_is_said_of_a_blank_picture_or_another_size() -> None:
    camera = CameraMotion()
    blank = np.zeros((480, 640), np.uint8)
    assert camera.estimate(shown(blank)) is None
    assert camera.estimate(shown(blank)) is None
    assert camera.estimate(shown(texture())) is None
