"""Matching of boxes: each has exactly one partner, and what is too far is told."""

from __future__ import annotations

import pytest

from scripts.bench_peers.boxes import Tolerance, compare
from scripts.bench_peers.contract import Box

STRICT = Tolerance(score=1e-3, corner_px=0.5)
A = Box(0, 0.9, 10, 20, 110, 220)
B = Box(1, 0.8, 300, 40, 340, 90)


def verdict(ours, theirs, tolerance=STRICT):
    return compare(ours, theirs, tolerance, threshold=0.35)


def test_the_same_boxes_in_another_order_are_the_same():
    found = verdict([[A, B], []], [[B, A], []])
    assert (found.same, found.compared, found.alone, found.frames) == (True, 4, 0, 2)
    assert found.worst_px == found.worst_score == 0


@pytest.mark.parametrize(
    "other",
    [
        A._replace(class_id=1),
        A._replace(score=0.902),
        A._replace(x0=10.6),
        A._replace(y1=219.4),
    ],
)
def test_what_is_too_far_away_differs_on_both_sides(other):
    found = verdict([[A, B]], [[other, B]])
    assert (found.same, found.alone) == (False, 2)
    assert "frame 0, only in the first" in found.example


def test_differences_within_the_tolerance_are_told():
    found = verdict([[A]], [[A._replace(score=0.9004, x1=110.25)]])
    assert found.same and found.worst_px == 0.25 and found.worst_score == pytest.approx(4e-4)


def test_one_box_is_no_partner_for_two():
    found = verdict([[A, A]], [[A]])
    assert (found.same, found.alone, found.compared) == (False, 1, 3)


def test_a_box_takes_its_nearest_so_that_none_is_left_over():
    left, right = A._replace(x0=9.8), A._replace(x0=10.2)
    assert verdict([[left, right]], [[right, left]]).worst_px == 0


def test_a_lonely_box_at_the_threshold_is_borderline_and_not_one_above_it():
    at, above = A._replace(score=0.3505), A._replace(score=0.36)
    found = verdict([[B, at]], [[B]])
    assert (found.same, found.borderline) == (True, 1)
    assert not verdict([[B, above]], [[B]]).same


def test_other_frames_are_never_the_same():
    found = verdict([[A], []], [[A]])
    assert not found.same and found.example == "2 frames against 1"


def test_nothing_to_compare_proves_nothing():
    assert not verdict([[], []], [[], []]).same


def test_peers_that_see_other_pixels_may_overlap_and_a_few_may_be_alone():
    near = Tolerance(score=0.1, corner_px=2, iou=0.5, share=0.02)
    shifted = A._replace(x0=20, x1=120)
    many, same = [[A]] * 60, [[shifted]] * 59
    assert verdict(many, [*same, [A, B]], near).same
    assert not verdict(many, [*same[2:], [], [B], [B]], near).same
    assert not verdict([[A]], [[A._replace(x0=100, x1=200)]], near).same
