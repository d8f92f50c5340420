"""Thresholds, on found boxes whose fate is known."""

import numpy as np
import pytest

from app.commands.thresholds import Matches, match

A, B, CROWD = [0.0, 0, 10, 10], [20.0, 0, 30, 10], [50.0, 0, 90, 40]


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def test_each_box_is_found_once_and_crowds_count_for_nothing():
    found = boxes(A, [1, 0, 11, 10], [60, 5, 70, 15], [200, 0, 210, 10], B)
    scores = np.array([0.5, 0.9, 0.8, 0.7, 0.6], np.float32)
    counted, right = match(found, scores, boxes(A, B), boxes(CROWD))
    np.testing.assert_allclose(counted, [0.9, 0.7, 0.6, 0.5])
    assert right.tolist() == [True, False, True, False]


def test_nothing_to_find_and_nothing_found():
    counted, right = match(boxes(), np.zeros(0, np.float32), boxes(), boxes())
    assert len(counted) == len(right) == 0
    assert match(boxes(A), np.ones(1, np.float32), boxes(), boxes())[1].tolist() == [False]


def test_the_best_threshold_leaves_out_what_is_mostly_wrong():
    scores = np.array([0.9, 0.8, 0.6, 0.3, 0.3, 0.3], np.float32)
    right = np.array([True, True, True, False, False, False])
    matches = Matches(scores, right, 4)
    assert 0.3 < matches.best() <= 0.6
    assert matches.at(0.5) == pytest.approx((6 / 7, 1.0, 0.75))
    assert matches.at(0.1) == pytest.approx((0.6, 0.5, 0.75))
