"""Ids over time: determinism, bounds, gaps, drops and classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from app.analytics.analytics import AnalyticsOptions
from app.analytics.tracker import CameraMotion, Tracker, assign
from app.config import TrackOptions
from app.core.errors import ConfigError
from app.core.frame import Frame
from scripts.measure_tracking_cost import RATE, crowd, growth, has_grown, spurious

from .kit import Box, person, run

PLAIN = AnalyticsOptions()
SURE, PERSON = np.array([0.9], np.float32), np.zeros(1, np.int32)


def walk(seconds: float = 4, rate: float = 30, speed: float = 200) -> list[tuple[float, list[Box]]]:
    return [(i / rate, [person(100 + speed * i / rate, 600)]) for i in range(int(seconds * rate))]


def track_all(tracker: Tracker, frames: int, boxes: np.ndarray, scores: np.ndarray) -> list[bytes]:
    classes = np.zeros(len(scores), np.int32)
    return [
        tracker.update(boxes, scores, classes, time_ns=i * 33_333_333).tobytes()
        for i in range(frames)
    ]


def test_one_walker_is_one_track_at_any_rate() -> None:
    for rate in (30, 15, 5):
        told = run(PLAIN, walk(rate=rate))
        assert [e.track_id for e in told.of("appear")] == [1]
        assert {i for ids in told.ids for i in ids} == {-1, 1}


@given(seed=st.integers(0, 10_000), share=st.floats(0.1, 0.5))
@settings(deadline=None, max_examples=12)
def test_dropped_frames_do_not_change_the_number_of_tracks(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    frames = [frame for frame in walk(speed=150) if rng.random() >= share]
    told = run(PLAIN, frames)
    assert len(told.of("appear")) == len(told.of("gone")) == 1


def test_who_stands_still_is_not_lost_while_nothing_moves() -> None:
    boxes, none = np.array([[100, 100, 180, 300]], np.float32), np.zeros((0, 4), np.float32)
    for still_s, kept in ((0, False), (4, True)):
        tracker = Tracker()
        for i in range(4):
            seen = tracker.update(boxes, SURE, PERSON, time_ns=i * 33_333_333)
        missed_ns, seen_ns = 4_000_000_000, 8_000_000_000
        still_ns = round(still_s * 1e9)
        tracker.update(none, SURE[:0], PERSON[:0], time_ns=missed_ns, still_ns=still_ns)
        again = tracker.update(boxes, SURE, PERSON, time_ns=seen_ns, still_ns=still_ns)
        assert (again.tolist() == seen.tolist() == [1]) is kept


def test_who_was_sought_in_vain_while_things_moved_is_not_kept_by_stillness() -> None:
    boxes, none = np.array([[100, 100, 180, 300]], np.float32), np.zeros((0, 4), np.float32)
    tracker = Tracker()
    for i in range(10):
        there = (boxes, SURE, PERSON) if i < 4 else (none, SURE[:0], PERSON[:0])
        tracker.update(*there, time_ns=i * 100_000_000)
    tracker.update(none, SURE[:0], PERSON[:0], time_ns=3_000_000_000, still_ns=2_000_000_000)
    assert [track.track_id for track in tracker.ended] == [1]


def test_two_that_cross_keep_their_ids() -> None:
    frames = [
        (i / 30, [person(200 + 6 * i, 600, height=220), person(1000 - 6 * i, 560, height=200)])
        for i in range(120)
    ]
    analytics = run(PLAIN, frames)
    first, last = analytics.ids[10], analytics.ids[-1]
    assert sorted(first) == sorted(last) == [1, 2]
    # boxes of equal score stay in the order in which they were made
    assert first == last


def test_a_walker_behind_a_pillar_keeps_its_id() -> None:
    frames = [(t, [] if 1.5 < t < 2.5 else boxes) for t, boxes in walk(speed=180)]
    assert len(run(PLAIN, frames).of("appear")) == 1


def test_who_comes_later_and_is_far_smaller_is_somebody_else() -> None:
    near = [(i / 20, [person(640, 700, height=700)]) for i in range(60)]
    far = [(4.5 + i / 20, [person(700, 500, height=120)]) for i in range(40)]
    assert [e.track_id for e in run(PLAIN, near + far).of("appear")] == [1, 2]


def test_ids_are_never_used_again() -> None:
    frames = [(t + 10 * k, boxes) for k in range(4) for t, boxes in walk(seconds=1)]
    ids = [e.track_id for e in run(PLAIN, frames).of("appear")]
    assert ids == [1, 2, 3, 4]
    again = [*walk(seconds=2), *walk(seconds=2)]  # a clip that starts again
    told = run(PLAIN, again)
    assert [e.track_id for e in told.of("appear")] == [1, 2]
    assert told.analytics.tracker.counts["times_back"] == 1
    assert [e.type for e in told.events] == ["appear", "gone", "appear", "gone", "ended"]


def test_the_class_is_voted() -> None:
    frames = [
        (i / 30, [person(400, 600, kind=int(i % 4 == 3))]) for i in range(60)
    ]  # a car every fourth time
    told = run(PLAIN, frames)
    assert [e.label for e in told.of("appear", "gone")] == ["person", "person"]
    assert {i for ids in told.ids[5:] for i in ids} == {1}


def test_a_class_can_change_for_good() -> None:
    frames = [(i / 30, [person(400, 600, kind=int(i > 30))]) for i in range(120)]
    told = run(PLAIN, frames)
    assert [e.label for e in told.of("appear", "gone")] == ["person", "car"]


def test_weak_boxes_go_on_with_a_track_and_start_none() -> None:
    weak = [(i / 30, [person(400, 600, score=0.3)]) for i in range(60)]
    assert not run(PLAIN, weak).of("appear")
    then = [(i / 30, [person(400, 600, score=0.85 if i < 10 else 0.2)]) for i in range(60)]
    assert run(PLAIN, then).ids[-1] == [1]


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.floats(-50, 1300, width=32),
                st.floats(-50, 800, width=32),
                st.floats(-20, 300, width=32),
                st.floats(-20, 300, width=32),
                st.floats(0, 1, width=32),
                st.integers(0, 3),
                st.integers(0, 400),
            ),
            max_size=12,
        ),
        max_size=12,
    )
)
@settings(deadline=None, max_examples=60)
def test_any_boxes_give_valid_and_the_same_ids(frames: list[list[tuple[float, ...]]]) -> None:
    def ids() -> list[bytes]:
        tracker, now, out = Tracker(), 0, []
        for rows in frames:
            array = np.array(rows, np.float32).reshape(-1, 7)
            now += int(array[:, 6].sum()) * 1_000_000
            corners = np.concatenate((array[:, :2], array[:, :2] + array[:, 2:4]), 1)
            found = tracker.update(corners, array[:, 4], array[:, 5].astype(np.int32), time_ns=now)
            assert found.shape == (len(rows),) and found.dtype == np.int64
            known = found[found >= 0].tolist()
            assert len(set(known)) == len(known), "one id for two boxes of a frame"
            assert 0 not in known
            out.append(found.tobytes())
        return out

    assert ids() == ids()


def test_boxes_that_are_not_finite_or_empty_are_ignored() -> None:
    tracker = Tracker()
    boxes = np.array(
        [[0, 0, np.nan, 9], [0, 0, np.inf, 9], [5, 5, 5, 9], [9, 9, 5, 5], [100, 100, 150, 250]],
        np.float32,
    )
    scores = np.array([0.9, 0.9, 0.9, 0.9, 0.9], np.float32)
    for i in range(3):
        ids = tracker.update(boxes, scores, np.zeros(5, np.int32), time_ns=i * 33_000_000)
    assert ids.tolist() == [-1, -1, -1, -1, 1]


def test_ten_thousand_boxes_stay_within_the_bounds() -> None:
    rng = np.random.default_rng(0)
    tracker = Tracker()
    for i in range(40):
        low = rng.uniform(0, 1200, (10_000, 2))
        boxes = np.concatenate((low, low + rng.uniform(5, 80, (10_000, 2))), 1).astype(np.float32)
        scores = rng.uniform(0, 1, 10_000).astype(np.float32)
        classes = np.zeros(10_000, np.int32)
        ids = tracker.update(boxes, scores, classes, time_ns=i * 33_333_333)
        assert np.count_nonzero(ids >= 0) <= 256
        assert len(tracker) <= 256
    assert tracker.counts["boxes_over"] > 0 and tracker.counts["tracks_over"] > 0


def test_an_appearance_cost_decides_between_equal_boxes() -> None:
    """Two that are hidden, and change places: only their looks tell."""
    swapped = False

    def looks(serials: np.ndarray, found: np.ndarray) -> np.ndarray:
        same = serials[:, None] == (1 - found if swapped else found)
        return np.where(same, 0, 0.5).astype(np.float32)

    tracker = Tracker(appearance=looks)
    boxes = np.array([[100, 100, 180, 300], [130, 100, 210, 300]], np.float32)
    scores, classes = np.array([0.9, 0.9], np.float32), np.zeros(2, np.int32)
    before = track_all(tracker, 5, boxes, scores)[-1]
    swapped = True
    after = tracker.update(boxes, scores, classes, time_ns=170_000_000)
    assert np.frombuffer(before, np.int64).tolist() == [1, 2]
    assert after.tolist() == [2, 1]


def test_camera_motion_carries_tracks_along() -> None:
    tracker = Tracker()
    boxes = np.array([[400, 300, 440, 400]], np.float32)
    scores = np.array([0.9], np.float32)
    track_all(tracker, 5, boxes, scores)
    motion = np.array([[1.0, 0, 300], [0, 1, -100]])
    moved = boxes + np.array([300, -100, 300, -100], np.float32)
    ids = tracker.update(moved, scores, np.zeros(1, np.int32), time_ns=170_000_000, motion=motion)
    assert ids.tolist() == [1]


@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 7))
@settings(deadline=None, max_examples=60)
def test_assignments_are_as_cheap_as_the_best_of_all(seed: int, rows: int, columns: int) -> None:
    """Leaving a row and a column free costs as much as a pair at the limit."""
    from itertools import permutations

    rng = np.random.default_rng(seed)
    cost = rng.uniform(0, 1, (rows, columns)).astype(np.float32)
    limit = 0.6
    r, c = assign(cost, limit)
    assert len(set(r.tolist())) == len(r) == len(set(c.tolist()))
    assert (cost[r, c] < limit).all()
    wide = np.full((rows, columns + rows), limit)
    wide[:, :columns] = np.minimum(cost, limit)
    if columns + rows <= 8:
        best = min(
            sum(wide[i, j] for i, j in enumerate(p))
            for p in permutations(range(columns + rows), rows)
        )
        assert cost[r, c].sum() + limit * (rows - len(r)) == pytest.approx(best, abs=1e-5)


def test_options_that_cannot_be_meant_are_refused() -> None:
    values: tuple[dict[str, Any], ...] = (
        {"high_score": 1.5},
        {"low_score": 0.6, "high_score": 0.5},
        {"most_tracks": 0},
        {"lost_s": float("nan")},
    )
    for options in values:
        with pytest.raises(ConfigError, match=r"\[track\]"):
            TrackOptions(**options)


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


FRAMES = 30 * RATE


def test_objects_that_come_and_go_leave_nothing_behind() -> None:
    told = growth(crowd(FRAMES, 8, visits=True), frames=FRAMES, marks=3)
    assert told["ids"] >= 2 * 8, "every visit is another track"
    assert told["most_tracks"] < 40
    assert not has_grown(told["held_kb"]), told["held_kb"]


def test_a_flood_of_spurious_boxes_stays_within_the_bounds() -> None:
    frames = RATE // 2
    told = growth(spurious(frames, 10_000), frames=frames, marks=3)
    options = TrackOptions()
    assert told["most_tracks"] <= options.most_tracks
    assert told["counts"]["boxes_over"] >= frames * (10_000 - options.most_boxes) * 0.5
    assert told["counts"]["tracks_over"] > 0
    assert not has_grown(told["held_kb"]), told["held_kb"]
