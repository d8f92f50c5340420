"""From detections to tracks: one ``track_id`` for each object over time.

Association in two stages by score (Zhang et al., ByteTrack, ECCV 2022), re-update along the
observed way after a gap (Cao et al., OC-SORT, CVPR 2023), and a Kalman filter whose time step is
the time of capture, so that dropped frames and uneven rates are a longer step and no error. Boxes
are compared by an intersection over union whose boxes are widened by what the filter does not
know (after Yang et al., C-BIoU, WACV 2023): after a long step a track looks further.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import lap
import numpy as np
from numpy.typing import NDArray

from ..config import TrackOptions
from ..core.frame import PLANAR, Frame, bgr_pixels, planes
from . import kalman
from .kalman import Floats, Noise

Ints = NDArray[np.int64]
AppearanceCost = Callable[[Ints, Ints], NDArray[np.float32]]
"""(T,) serial numbers of tracks and (D,) indices of detections to (T, D) costs, 0 alike to 1."""

# rows of the floating-point state after those of the filter
OBSERVED, FIRST, FIGURES = range(kalman.ROWS, kalman.ROWS + 3)
BEST, EVIDENCE, VOTE = range(3)  # columns of FIGURES: best score, sum of scores, vote for the class
# rows of the integer state
SERIAL, TRACK_ID, CLASS, FIRST_NS, LAST_NS, MISSED, MISSED_MOVING = range(7)

NOISE = Noise()
STILL_SHARE = 0.9  # of a time in which nothing moved in which nothing is lost either …
SURELY_LOST = 3  # … but what was sought so often in a row while something moved
MOST_STEPS = 6  # virtual observations of a re-update
MOST_VOTES = 10.0  # for a class, in scores
MOST_GROWTH = 8.0  # of a box's area since it was last seen; beyond it is another object
_NONE = np.zeros(0, np.int64)
_HALF = np.float32(0.5)


class Track(NamedTuple):
    """What is known of a confirmed track; ``box`` is the last observed xyxy in pixels."""

    track_id: int
    class_id: int  # by the vote of its observations
    first_ns: int
    last_ns: int
    score: float  # the best
    box: tuple[float, float, float, float]
    first_box: tuple[float, float, float, float]


class Tracker:
    """Tracks the objects of one source; deterministic, bounded, used from one thread.

    ``started`` and ``ended`` are the tracks that the last ``update`` confirmed and gave up, and
    ``class_ids`` (N,) the voted class of each of its detections. ``counts`` says how often a bound
    was reached: boxes over ``most_boxes``, new tracks over ``most_tracks``, times that ran back.
    """

    def __init__(
        self,
        options: TrackOptions | None = None,
        *,
        appearance: AppearanceCost | None = None,
        last_track_id: int = 0,
    ) -> None:
        self._options = options or TrackOptions()
        self._appearance = appearance
        self._f = np.zeros((kalman.ROWS + 3, 0, 4))
        self._i = np.zeros((7, 0), np.int64)
        self._least_ns = min(self._options.lost_s, self._options.unconfirmed_s) * 1e9
        self._serial, self._track_id = 0, last_track_id
        self._now_ns: int | None = None
        self.started: list[Track] = []
        self.ended: list[Track] = []
        self.class_ids: NDArray[Any] = np.zeros(0, np.int32)
        self._rows = _NONE  # (N,) of the tracks of the last detections; -1: none
        self.counts = {"boxes_over": 0, "tracks_over": 0, "times_back": 0}

    @property
    def last_track_id(self) -> int:
        return self._track_id

    def __len__(self) -> int:
        """Tracks that are held, with the unconfirmed and the lost ones."""
        return self._i.shape[1]

    def update(
        self,
        xyxy: NDArray[Any],
        scores: NDArray[Any],
        class_ids: NDArray[Any],
        *,
        time_ns: int,
        still_ns: int = 0,
        motion: Floats | None = None,
    ) -> Ints:
        """(N,) track ids of the N detections of a frame captured at ``time_ns``; -1: none (yet).

        xyxy (N, 4) in source pixels, scores (N,), class_ids (N,), in any order. For ``still_ns``
        before it nothing moved: what was there is there still, seen or not. ``motion`` (2, 3)
        maps pixels of the frame before to those of this one where the camera moved. A time before
        the last one (a recording that starts again) ends all tracks.
        """
        self.started, self.ended = [], []
        if self._now_ns is not None and time_ns < self._now_ns:
            self.counts["times_back"] += 1
            self._drop(np.ones(len(self), bool))
        self._now_ns = time_ns
        if motion is not None:
            self._move(motion)
        if still_ns:
            stays = self._i[MISSED_MOVING] < SURELY_LOST
            self._i[LAST_NS] += np.where(stays, round(still_ns * STILL_SHARE), 0)
        age_ns = time_ns - self._i[LAST_NS]
        if np.count_nonzero(age_ns > self._least_ns):
            age_ns = age_ns[self._expire(age_ns)]
        ids = np.full(len(scores), -1, np.int64)
        self.class_ids = class_ids.copy()
        self._rows = ids.copy()
        used, boxes = self._usable(xyxy, scores)
        self._i[MISSED] += 1
        if not still_ns:
            self._i[MISSED_MOVING] += 1
        if not len(used):
            return ids
        if len(used) < len(scores):
            scores, class_ids = scores[used], class_ids[used]
        score, classes = scores.astype(np.float64), class_ids
        columns = _NONE
        if len(self):
            dt_s = (age_ns * 1e-9).repeat(4).reshape(-1, 4)  # quicker than to broadcast (T, 1)
            ahead = kalman.predict(self._f[: kalman.ROWS], dt_s, NOISE)
            rows, columns = self._associate(ahead, boxes, score, classes=classes, used=used)
            if len(rows):
                seen = (boxes[columns], score[columns], classes[columns])
                self._observe(rows, *seen, ahead=ahead, dt_s=dt_s, time_ns=time_ns)
                where = used[columns]
                ids[where] = self._i[TRACK_ID, rows]
                self._rows[where] = rows
                self.class_ids[where] = self._i[CLASS, rows]
        if len(columns) < len(used):
            self._start(boxes, score, classes, matched=columns, time_ns=time_ns)
        return ids

    def end(self) -> list[Track]:
        """Give up all tracks; the confirmed ones are returned. Ids go on where they were."""
        self.started, self.ended = [], []
        self._drop(np.ones(len(self), bool))
        return self.ended

    def tracks(self) -> list[Track]:
        return self._described(np.flatnonzero(self._i[TRACK_ID] > 0))

    def find(self, track_id: int) -> Track | None:
        rows = np.flatnonzero(self._i[TRACK_ID] == track_id) if track_id > 0 else _NONE
        return self._described(rows)[0] if len(rows) else None

    def first_boxes(self, detections: Ints) -> Floats:
        """(D, 4) xyxy of the first observations of the tracks of these detections of the last
        frame, which must be tracked."""
        boxes = self._f[FIRST, self._rows[detections]]
        half = boxes[:, 2:] / 2
        return np.concatenate((boxes[:, :2] - half, boxes[:, :2] + half), axis=1)

    def _usable(self, xyxy: NDArray[Any], scores: NDArray[Any]) -> tuple[Ints, Floats]:
        """Indices of the boxes to be tracked, and those boxes as (D, 4) centre and size."""
        options = self._options
        boxes = np.empty(xyxy.shape)
        np.subtract(xyxy[:, 2:], xyxy[:, :2], out=boxes[:, 2:])
        np.multiply(boxes[:, 2:], 0.5, out=boxes[:, :2])
        boxes[:, :2] += xyxy[:, :2]
        width, height = boxes[:, 2], boxes[:, 3]
        good = (scores >= options.low_score) & (width > 0) & (height > 0)
        good &= (width < np.inf) & (height < np.inf)  # with an edge that is not finite it is not
        used = good.nonzero()[0]
        if len(used) > options.most_boxes:
            self.counts["boxes_over"] += len(used) - options.most_boxes
            best = np.argsort(-scores[used], kind="stable")[: options.most_boxes]
            used = used[np.sort(best)]
        return used, boxes[used] if len(used) < len(boxes) else boxes

    def _associate(
        self, ahead: Floats, boxes: Floats, score: Floats, *, classes: Ints, used: Ints
    ) -> tuple[Ints, Ints]:
        """Rows of tracks and columns of boxes that belong together."""
        options = self._options
        at = ahead[kalman.POSITION]
        # widened by at most the box's own size: what is nowhere is not everywhere
        variance = np.minimum(ahead[kalman.VAR, :, :1], at[:, 2:3] * at[:, 3:4])
        cost = widened_iou(at, boxes, np.sqrt(np.maximum(variance, 0)) * options.reach)
        np.subtract(1, cost, out=cost)
        growth = boxes[:, 2] * boxes[:, 3] / (at[:, 2:3] * at[:, 3:4])
        cost[(growth > MOST_GROWTH) | (growth * MOST_GROWTH < 1)] = 2.0
        other_class = self._i[CLASS, :, None] != classes
        if np.count_nonzero(other_class):
            cost[other_class] += options.class_cost
        if self._appearance:
            cost += self._appearance(self._i[SERIAL], used)
        confirmed, high = self._i[TRACK_ID] > 0, score >= options.high_score
        if np.count_nonzero(confirmed) == len(confirmed) and np.count_nonzero(high) == len(high):
            found = assign(cost, options.high_cost)
        else:
            found = _NONE, _NONE
            for rows, columns, limit in (
                (confirmed, high, options.high_cost),
                (confirmed.copy(), ~high, options.low_cost),
                (~confirmed, high, options.unconfirmed_cost),
            ):
                rows[found[0]], columns[found[1]] = False, False
                r, c = rows.nonzero()[0], columns.nonzero()[0]
                if len(r) and len(c):
                    more = assign(cost[r[:, None], c], limit)
                    found = (
                        np.concatenate((found[0], r[more[0]])),
                        np.concatenate((found[1], c[more[1]])),
                    )
        order = found[0].argsort()
        return found[0][order], found[1][order]

    def _observe(
        self,
        rows: Ints,
        boxes: Floats,
        score: Floats,
        classes: Ints,
        *,
        ahead: Floats,
        dt_s: Floats,
        time_ns: int,
    ) -> None:
        """Tell the tracks in ``rows`` what was seen of them, and confirm those that are sure."""
        whole = len(rows) == len(self)
        if whole:
            f, i, state = self._f, self._i, ahead
        else:
            f, i, state = self._f[:, rows], self._i[:, rows], ahead[:, rows]
        kalman.correct(state, boxes, NOISE)
        back = (i[MISSED] > 1).nonzero()[0]
        if len(back):
            state[:, back] = kalman.re_update(
                f[: kalman.ROWS, back],
                f[OBSERVED, back],
                boxes[back],
                dt_s[rows[back]],
                steps=int(min(i[MISSED, back].max(), MOST_STEPS)),
                noise=NOISE,
            )
        f[: kalman.ROWS] = state
        f[OBSERVED] = boxes
        best, evidence, votes = f[FIGURES, :, :3].T
        np.maximum(best, score, out=best)
        evidence += score
        # majority vote in constant memory (Boyer and Moore), limited so that a class can change
        for_it = i[CLASS] == classes
        if np.count_nonzero(for_it) == len(for_it):
            votes += score
        else:
            votes += np.where(for_it, score, -score)
            np.copyto(i[CLASS], classes, where=votes < 0)
            np.abs(votes, out=votes)
        np.minimum(votes, MOST_VOTES, out=votes)
        i[LAST_NS], i[MISSED], i[MISSED_MOVING] = time_ns, 0, 0
        new = ((i[TRACK_ID] < 0) & (evidence >= self._options.confirm_score)).nonzero()[0]
        if len(new):
            i[TRACK_ID, new] = np.arange(self._track_id + 1, self._track_id + 1 + len(new))
            self._track_id += len(new)
        if not whole:
            self._f[:, rows], self._i[:, rows] = f, i
        if len(new):
            self.started = self._described(rows[new])

    def _start(
        self, boxes: Floats, score: Floats, classes: Ints, *, matched: Ints, time_ns: int
    ) -> None:
        """Unconfirmed tracks for the boxes that belong to none."""
        options = self._options
        free = score >= options.start_score
        free[matched] = False
        if free.any() and len(matched):
            new = free.nonzero()[0]
            doubled = widened_iou(boxes[new], boxes[matched]) > options.doubled_iou
            doubled &= classes[new][:, None] == classes[matched]
            free[new[doubled.any(1)]] = False
        new = free.nonzero()[0]
        places = options.most_tracks - len(self)
        if len(new) > places:
            self.counts["tracks_over"] += len(new) - places
            new = np.sort(new[np.argsort(-score[new], kind="stable")[:places]])
        if not len(new):
            return
        f = np.zeros((self._f.shape[0], len(new), 4))
        f[: kalman.ROWS] = kalman.start(boxes[new], NOISE)
        f[OBSERVED] = f[FIRST] = boxes[new]
        f[FIGURES, :, :3] = score[new][:, None]
        i = np.zeros((7, len(new)), np.int64)
        i[SERIAL] = np.arange(self._serial, self._serial + len(new))
        i[TRACK_ID], i[CLASS], i[FIRST_NS], i[LAST_NS] = -1, classes[new], time_ns, time_ns
        self._serial += len(new)
        self._f = np.concatenate((self._f, f), axis=1)
        self._i = np.concatenate((self._i, i), axis=1)

    def _expire(self, age_ns: Ints) -> NDArray[np.bool_]:
        """Drop what has not been seen for too long; True for those that stay."""
        options = self._options
        sure = self._i[TRACK_ID] > 0
        old = age_ns > np.where(sure, options.lost_s, options.unconfirmed_s) * 1e9
        self._drop(old)
        return ~old

    def _drop(self, old: NDArray[np.bool_]) -> None:
        self.ended += self._described((old & (self._i[TRACK_ID] > 0)).nonzero()[0])
        self._f, self._i = self._f[:, ~old], self._i[:, ~old]

    def _described(self, rows: Ints) -> list[Track]:
        found = []
        for row in rows.tolist():
            _, track_id, class_id, first_ns, last_ns, *_ = self._i[:, row].tolist()
            score = float(self._f[FIGURES, row, BEST])
            box, first = _corners(self._f[OBSERVED, row]), _corners(self._f[FIRST, row])
            found.append(Track(track_id, class_id, first_ns, last_ns, score, box, first))
        return found

    def _move(self, motion: Floats) -> None:
        turn, shift = motion[:, :2], motion[:, 2]
        for row in (kalman.POSITION, OBSERVED, FIRST):
            self._f[row, :, :2] = self._f[row, :, :2] @ turn.T + shift
            self._f[row, :, 2:] *= np.sqrt(abs(np.linalg.det(turn)))
        self._f[kalman.VELOCITY, :, :2] = self._f[kalman.VELOCITY, :, :2] @ turn.T


def widened_iou(a: Floats, b: Floats, margin: Floats | float = 0.0) -> NDArray[np.float32]:
    """(A, B) intersection over union of boxes (cx, cy, w, h), all widened by ``margin`` (A, 1)."""
    a, b = a.astype(np.float32), b.astype(np.float32)
    wide = margin if isinstance(margin, float) else (margin + margin).astype(np.float32)
    a_half, b_half = a[:, 2:] * _HALF, b[:, 2:] * _HALF
    a_low, a_high = (a[:, :2] - a_half).T[:, :, None], (a[:, :2] + a_half).T[:, :, None]
    b_low, b_high = (b[:, :2] - b_half).T, (b[:, :2] + b_half).T
    shared: NDArray[np.float32] = np.minimum(a_high[0], b_high[0])
    shared -= np.maximum(a_low[0], b_low[0])
    shared += wide  # a margin that both boxes have adds twice to what they share
    down = np.minimum(a_high[1], b_high[1])
    down -= np.maximum(a_low[1], b_low[1])
    down += wide
    np.maximum(shared, 0, out=shared)
    np.maximum(down, 0, out=down)
    shared *= down
    bw, bh, a_wide = b[:, 2], b[:, 3], a[:, 2:] + wide
    both = np.multiply(wide, bw + bh, out=down)  # both widened areas, less what is shared
    both += bw * bh
    both += a_wide[:, :1] * a_wide[:, 1:] + wide * wide
    both -= shared
    np.divide(shared, both, out=shared)
    return shared


def assign(cost: NDArray[np.float32], limit: float) -> tuple[Ints, Ints]:
    """Rows and columns of the cheapest assignment; pairs that cost more than ``limit`` stay free.

    A pair that is the only possible one of its row and its column needs no solver.
    """
    rows, columns = (cost < limit).nonzero()
    row_has, column_has = np.bincount(rows), np.bincount(columns)
    shared = row_has[rows] + column_has[columns] > 2
    if not np.count_nonzero(shared):
        return rows, columns
    row_has[:] = column_has[:] = 0
    row_has[rows[shared]] = column_has[columns[shared]] = 1
    r, c = row_has.nonzero()[0], column_has.nonzero()[0]
    _, chosen, _ = lap.lapjv(cost[r[:, None], c], extend_cost=True, cost_limit=limit)
    taken, alone = chosen >= 0, ~shared
    return (
        np.concatenate((rows[alone], r[taken])),
        np.concatenate((columns[alone], c[chosen[taken]])),
    )


def _corners(box: Floats) -> tuple[float, float, float, float]:
    x, y, w, h = box.tolist()
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


LONGER_SIDE_PX = 320
MOST_CORNERS = 200
LEAST_CORNERS = 12  # that move alike; with fewer nothing is said


class CameraMotion:
    """Estimates the motion between the frames it is given, for ``Tracker.update``. Costs some
    milliseconds a frame, so it is meant for cameras that move ([track] camera_motion).
    Deterministic.
    """

    def __init__(self) -> None:
        self._before: NDArray[np.uint8] | None = None

    def estimate(self, frame: Frame) -> NDArray[np.float64] | None:
        """(2, 3) from pixels of the frame before to pixels of this one.

        None where the picture shows too little, for the first frame, and where the size has
        changed.
        """
        import cv2

        pixels = planes(frame)[0] if frame.format in PLANAR else bgr_pixels(frame)
        scale = min(1.0, LONGER_SIDE_PX / max(pixels.shape[:2]))
        small: Any = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if small.ndim == 3:
            small = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
        before, self._before = self._before, small
        if before is None or before.shape != small.shape:
            return None
        corners = cv2.goodFeaturesToTrack(before, MOST_CORNERS, 0.01, 5)
        if corners is None or len(corners) < LEAST_CORNERS:
            return None
        nothing: Any = None
        moved, found, _ = cv2.calcOpticalFlowPyrLK(before, small, corners, nothing)
        good = found.ravel() == 1
        if np.count_nonzero(good) < LEAST_CORNERS:
            return None
        cv2.setRNGSeed(0)  # RANSAC draws at random
        matrix, inliers = cv2.estimateAffinePartial2D(corners[good], moved[good])
        if matrix is None or np.count_nonzero(inliers) < LEAST_CORNERS:
            return None
        motion = np.asarray(matrix, np.float64)
        motion[:, 2] /= scale
        return motion
