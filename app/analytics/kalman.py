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

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROWS = 5  # of the state: position, velocity, variance, covariance, variance of the velocity
POSITION, VELOCITY, VAR, COV, VEL_VAR = range(ROWS)
MIN_AREA_PX2 = 1.0  # smaller boxes are filtered as if they had this area


class Noise(NamedTuple):
    """Deviations as parts of the box's size, and how long a velocity lasts."""

    observed: float = 0.045  # of an observed position, in sizes
    start_velocity: float = 1.4  # of the unknown velocity of a new track, in sizes a second
    acceleration: float = 1.0  # square root of the spectral density q, in sizes / s^1.5
    shape: float = 0.3  # of width and height, as a part of what the centre does
    fade_s: float = 4.0  # a velocity that nothing confirms falls to 1/e in this time


def start(boxes: Floats, noise: Noise) -> Floats:
    """(5, T, 4) states at rest for T boxes (T, 4) that were observed once."""
    area = _area(boxes)
    state = np.zeros((ROWS, *boxes.shape))
    state[POSITION] = boxes
    state[VAR] = area * noise.observed**2
    state[VEL_VAR] = area * _squares(noise.start_velocity, noise)
    return state


def predict(state: Floats, dt_s: Floats, noise: Noise) -> Floats:
    """The states (5, T, 4) after ``dt_s`` (T, 4) seconds in which nothing was observed."""
    position, velocity, var, cov, vel_var = state
    ahead = np.empty_like(state)
    fade = np.exp(dt_s * (-1 / noise.fade_s))
    np.multiply(velocity, (1 - fade) * noise.fade_s, out=ahead[POSITION])
    ahead[POSITION] += position
    np.multiply(velocity, fade, out=ahead[VELOCITY])
    # with g = velocity's variance · dt and n = q · dt: var + dt·(2·cov + g + n·dt/3), …
    n = (_area(position) * dt_s) * _squares(noise.acceleration, noise)
    g = vel_var * dt_s
    np.add(vel_var, n, out=ahead[VEL_VAR])
    n *= dt_s
    g += cov
    ahead[COV] = n * 0.5
    ahead[COV] += g
    g += cov
    n *= 1 / 3
    g += n
    g *= dt_s
    np.add(var, g, out=ahead[VAR])
    return ahead


def correct(state: Floats, boxes: Floats, noise: Noise) -> None:
    """Correct the predicted states (5, T, 4) in place with the observed boxes (T, 4)."""
    position, velocity, var, cov, vel_var = state
    gain = 1 / (var + _area(boxes) * noise.observed**2)
    off = (boxes - position) * gain
    position += var * off
    velocity += cov * off
    vel_var -= cov * cov * gain
    left = 1 - var * gain
    var *= left
    cov *= left


def re_update(
    state: Floats, before: Floats, boxes: Floats, dt_s: Floats, *, steps: int, noise: Noise
) -> Floats:
    """States at ``boxes`` after a gap, as if the way there had been observed (OC-SORT's ORU).

    ``state`` is that of the last observation ``before`` (T, 4), ``dt_s`` (T, 4) the gap. ``steps``
    virtual observations on the straight line between the two replace what the filter would have
    drifted to (Cao et al., Observation-Centric SORT, CVPR 2023, section 4.1).
    """
    part = dt_s / steps
    for step in range(1, steps + 1):
        state = predict(state, part, noise)
        correct(state, before + (boxes - before) * (step / steps), noise)
    return state


def _area(boxes: Floats) -> Floats:
    """(T, 1) areas in square pixels."""
    return np.maximum(boxes[:, 2:3] * boxes[:, 3:4], MIN_AREA_PX2)


@cache
def _squares(deviation: float, noise: Noise) -> Floats:
    shape = deviation * noise.shape
    return np.square((deviation, deviation, shape, shape))
