"""Constant-velocity Kalman filter of many boxes at once, with the time step in seconds.

A box is (centre x, centre y, width, height) in pixels. Its four values are filtered independently,
each with a position and a velocity, so that a covariance is three numbers (variance of the
position, covariance, variance of the velocity) and no matrix is inverted. A filter is five rows of
an array ``(5, T, 4)``; the T tracks are the middle axis.

The model is white-noise acceleration in continuous time (Bar-Shalom, Estimation with Applications
to Tracking and Navigation, 6.2.2): Q = q · [[dt³/3, dt²/2], [dt²/2, dt]]. Hence the state is kept
as it was at the last observation, and a prediction over any gap is one step. All deviations are
proportional to the box's size, the square root of its area.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROWS = 5  # of the state: position, velocity, variance, covariance, variance of the velocity
POSITION, VELOCITY, VAR, COV, VEL_VAR = range(ROWS)
MIN_SIZE_PX = 1.0  # smaller boxes are filtered as if they had this size


class Noise(NamedTuple):
    """Deviations as parts of the box's size, and how long a velocity lasts."""

    observed: float = 0.05  # of an observed position, in sizes
    start_velocity: float = 1.5  # of the unknown velocity of a new track, in sizes a second
    acceleration: float = 1.5  # square root of the spectral density q, in sizes / s^1.5
    shape: float = 0.3  # how much less width and height accelerate than the centre
    fade_s: float = 1.5  # a velocity that nothing confirms falls to 1/e in this time


def start(boxes: Floats, noise: Noise) -> Floats:
    """(5, T, 4) states at rest for T boxes (T, 4) that were observed once."""
    size = _size(boxes)
    state = np.zeros((ROWS, *boxes.shape))
    state[POSITION] = boxes
    state[VAR] = (noise.observed * size) ** 2
    state[VEL_VAR] = (noise.start_velocity * size * _shape(noise)) ** 2
    return state


def predict(state: Floats, dt_s: Floats, noise: Noise) -> Floats:
    """The states (5, T, 4) after ``dt_s`` (T, 1) seconds in which nothing was observed."""
    q = (noise.acceleration * _size(state[POSITION]) * _shape(noise)) ** 2
    ahead = np.empty_like(state)
    fade = np.exp(dt_s * (-1 / noise.fade_s))
    np.multiply(state[VELOCITY], (1 - fade) * noise.fade_s, out=ahead[POSITION])
    ahead[POSITION] += state[POSITION]
    np.multiply(state[VELOCITY], fade, out=ahead[VELOCITY])
    q_dt = q * dt_s
    c_dt = state[VEL_VAR] * dt_s
    ahead[VAR] = state[VAR] + dt_s * (2 * state[COV] + c_dt + q_dt * dt_s * (1 / 3))
    ahead[COV] = state[COV] + c_dt + q_dt * dt_s * 0.5
    ahead[VEL_VAR] = state[VEL_VAR] + q_dt
    return ahead


def correct(state: Floats, boxes: Floats, noise: Noise) -> None:
    """Correct the predicted states (5, T, 4) in place with the observed boxes (T, 4)."""
    var, cov = state[VAR], state[COV]
    gain = 1 / (var + (noise.observed * _size(boxes)) ** 2)
    off = (boxes - state[POSITION]) * gain
    state[POSITION] += var * off
    state[VELOCITY] += cov * off
    left = 1 - var * gain
    state[VEL_VAR] -= cov * cov * gain
    state[VAR] *= left
    state[COV] *= left


def re_update(
    state: Floats, before: Floats, boxes: Floats, dt_s: Floats, *, steps: int, noise: Noise
) -> Floats:
    """States at ``boxes`` after a gap, as if the way there had been observed (OC-SORT's ORU).

    ``state`` is that of the last observation ``before`` (T, 4), ``dt_s`` (T, 1) the gap. ``steps``
    virtual observations on the straight line between the two replace what the filter would have
    drifted to (Cao et al., Observation-Centric SORT, CVPR 2023, section 4.1).
    """
    part = dt_s / steps
    for step in range(1, steps + 1):
        state = predict(state, part, noise)
        correct(state, before + (boxes - before) * (step / steps), noise)
    return state


def _size(boxes: Floats) -> Floats:
    """(T, 1) square roots of the areas in pixels."""
    return np.sqrt(np.maximum(boxes[:, 2:3] * boxes[:, 3:4], MIN_SIZE_PX**2))


def _shape(noise: Noise) -> Floats:
    return np.array((1.0, 1.0, noise.shape, noise.shape))
