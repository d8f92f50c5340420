"""From detections to tracks: one ``track_id`` for each object over time.

Association in two stages by score (Zhang et al., ByteTrack, ECCV 2022), re-update along the
observed way after a gap (Cao et al., OC-SORT, CVPR 2023), and a Kalman filter whose time step is
the time of capture, so that dropped frames and uneven rates are a longer step and no error. Boxes
are compared by an intersection over union whose boxes are widened by what the filter does not
know (after Yang et al., C-BIoU, WACV 2023): after a long step a track looks further.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import lap
import numpy as np
from numpy.typing import NDArray

from . import kalman
from .kalman import Floats, Noise

Ints = NDArray[np.int64]
AppearanceCost = Callable[[Ints, Ints], Floats]
"""(T,) serial numbers of tracks and (D,) indices of detections to (T, D) costs, 0 alike to 1."""

# rows of the floating-point state after those of the filter
OBSERVED, FIRST, FIGURES = range(kalman.ROWS, kalman.ROWS + 3)
BEST, EVIDENCE, VOTE = range(3)  # columns of FIGURES: best score, sum of scores, vote for the class
# rows of the integer state
SERIAL, TRACK_ID, CLASS, FIRST_NS, LAST_NS, MISSED = range(6)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackOptions:
    """How boxes become tracks. Costs are 1 − IoU plus what is added for another class."""

    high_score: float = 0.4  # associated first, and with every track
    low_score: float = 0.1  # associated second; below: ignored
    start_score: float = 0.5  # of a box that may start a track
    confirm_score: float = 1.5  # sum of the scores of a track that gets an id
    lost_s: float = 2.0  # a confirmed track that is not seen for longer is gone
    unconfirmed_s: float = 0.5  # an unconfirmed one
    high_cost: float = 0.9
    low_cost: float = 0.6
    unconfirmed_cost: float = 0.8
    class_cost: float = 0.4  # between a track of one class and a box of another
    doubled_iou: float = 0.7  # a box that overlaps a tracked one of its class so much starts none
    reach: float = 1.0  # by how many deviations of the prediction both boxes are widened
    most_tracks: int = 256
    most_boxes: int = 256  # a frame, by score
    noise: Noise = field(default_factory=Noise)


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
        self, options: TrackOptions | None = None, *, appearance: AppearanceCost | None = None
    ) -> None:
        self._options = options or TrackOptions()
        self._appearance = appearance
        self._f = np.zeros((kalman.ROWS + 3, 0, 4))
        self._i = np.zeros((6, 0), np.int64)
        self._serial = self._track_id = 0
        self._now_ns: int | None = None
        self.started: list[Track] = []
        self.ended: list[Track] = []
        self.class_ids: NDArray[Any] = np.zeros(0, np.int32)
        self.counts = {"boxes_over": 0, "tracks_over": 0, "times_back": 0}

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
        motion: Floats | None = None,
    ) -> Ints:
        """(N,) track ids of the N detections of a frame captured at ``time_ns``; -1: none (yet).

        xyxy (N, 4) in source pixels, scores (N,), class_ids (N,), in any order. ``motion`` (2, 3)
        maps pixels of the frame before to those of this one where the camera moved. A time before
        the last one (a recording that starts again) ends all tracks.
        """
        options = self._options
        self.started, self.ended = [], []
        if self._now_ns is not None and time_ns < self._now_ns:
            self.counts["times_back"] += 1
            self._drop(np.ones(len(self), bool))
        self._now_ns = time_ns
        if motion is not None:
            self._move(motion)
        self._expire(time_ns)
        ids = np.full(len(scores), -1, np.int64)
        self.class_ids = class_ids.copy()
        used, boxes = self._usable(xyxy, scores)
        score = scores[used].astype(np.float64)
        classes = class_ids[used].astype(np.int64)
        self._i[MISSED] += 1
        rows, columns = self._associate(boxes, score, classes, used=used, time_ns=time_ns)
        self._observe(rows, boxes[columns], score[columns], classes[columns], time_ns=time_ns)
        if len(rows):
            ids[used[columns]] = self._i[TRACK_ID, rows]
            self.class_ids[used[columns]] = self._i[CLASS, rows]
        if len(columns) < len(used):
            self._start(boxes, score, classes, matched=columns, time_ns=time_ns)
        return ids

    def end(self) -> list[Track]:
        """Give up all tracks; the confirmed ones are returned. Ids go on where they were."""
        self.started, self.ended = [], []
        self._drop(np.ones(len(self), bool))
        return self.ended

    def tracks(self) -> list[Track]:
        """The confirmed tracks that are held, seen in the last frame or lost."""
        return self._described(np.flatnonzero(self._i[TRACK_ID] > 0))

    def _usable(self, xyxy: NDArray[Any], scores: NDArray[Any]) -> tuple[Ints, Floats]:
        """Indices of the boxes to be tracked, and those boxes as (D, 4) centre and size."""
        options = self._options
        corners = xyxy.astype(np.float64)
        boxes = np.empty_like(corners)
        np.subtract(corners[:, 2:], corners[:, :2], out=boxes[:, 2:])
        np.add(corners[:, :2], boxes[:, 2:] * 0.5, out=boxes[:, :2])
        good = (scores >= options.low_score) & (boxes[:, 2:] > 0).all(1)
        good &= np.isfinite(boxes).all(1)
        used = good.nonzero()[0]
        if len(used) > options.most_boxes:
            self.counts["boxes_over"] += len(used) - options.most_boxes
            best = np.argsort(-scores[used], kind="stable")[: options.most_boxes]
            used = used[np.sort(best)]
        return used, boxes[used] if len(used) < len(boxes) else boxes

    def _associate(
        self, boxes: Floats, score: Floats, classes: Ints, *, used: Ints, time_ns: int
    ) -> tuple[Ints, Ints]:
        """Rows of tracks and columns of boxes that belong together."""
        options = self._options
        if not len(self) or not len(boxes):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        dt_s = (time_ns - self._i[LAST_NS])[:, None] * 1e-9
        ahead = kalman.predict(self._f[: kalman.ROWS], dt_s, options.noise)
        at = ahead[kalman.POSITION]
        # widened by at most the box's own size: what is nowhere is not everywhere
        variance = np.minimum(ahead[kalman.VAR, :, :1], at[:, 2:3] * at[:, 3:4])
        cost = 1 - widened_iou(at, boxes, np.sqrt(np.maximum(variance, 0)) * options.reach)
        cost += (self._i[CLASS][:, None] != classes) * options.class_cost
        if self._appearance:
            cost += self._appearance(self._i[SERIAL], used)
        confirmed, high = self._i[TRACK_ID] > 0, score >= options.high_score
        free_rows, free_columns = np.ones(len(self), bool), np.ones(len(boxes), bool)
        pairs = []

        def stage(rows: NDArray[np.bool_], columns: NDArray[np.bool_], limit: float) -> None:
            r, c = rows.nonzero()[0], columns.nonzero()[0]
            if not len(r) or not len(c):
                return
            whole = len(r) == len(free_rows) and len(c) == len(free_columns)
            found_r, found_c = assign(cost if whole else cost[np.ix_(r, c)], limit)
            pairs.append((r[found_r], c[found_c]))
            free_rows[pairs[-1][0]] = False
            free_columns[pairs[-1][1]] = False

        stage(confirmed, high, options.high_cost)
        if free_rows.any() and free_columns.any():
            stage(confirmed & free_rows, free_columns & ~high, options.low_cost)
            stage(~confirmed, high & free_columns, options.unconfirmed_cost)
        if not pairs:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        return np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])

    def _observe(
        self, rows: Ints, boxes: Floats, score: Floats, classes: Ints, *, time_ns: int
    ) -> None:
        """Tell the tracks in ``rows`` what was seen of them, and confirm those that are sure."""
        if not len(rows):
            return
        noise = self._options.noise
        f, i = self._f[:, rows], self._i[:, rows]
        dt_s = (time_ns - i[LAST_NS])[:, None] * 1e-9
        state = kalman.predict(f[: kalman.ROWS], dt_s, noise)
        kalman.correct(state, boxes, noise)
        back = (i[MISSED] > 1).nonzero()[0]
        if len(back):
            steps = int(min(i[MISSED, back].max(), 6))
            state[:, back] = kalman.re_update(
                f[: kalman.ROWS, back],
                f[OBSERVED, back],
                boxes[back],
                dt_s[back],
                steps=steps,
                noise=noise,
            )
        f[: kalman.ROWS] = state
        f[OBSERVED] = boxes
        figures = f[FIGURES]
        np.maximum(figures[:, BEST], score, out=figures[:, BEST])
        figures[:, EVIDENCE] += score
        # majority vote in constant memory (Boyer and Moore), limited so that a class can change
        same = i[CLASS] == classes
        vote = figures[:, VOTE] + np.where(same, score, -score)
        i[CLASS] = np.where(vote < 0, classes, i[CLASS])
        figures[:, VOTE] = np.minimum(np.abs(vote), 10.0)
        i[LAST_NS], i[MISSED] = time_ns, 0
        sure = (i[TRACK_ID] < 0) & (figures[:, EVIDENCE] >= self._options.confirm_score)
        new = sure.nonzero()[0]
        if len(new):
            new = new[np.argsort(i[SERIAL, new])]
            i[TRACK_ID, new] = np.arange(self._track_id + 1, self._track_id + 1 + len(new))
            self._track_id += len(new)
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
            doubled = widened_iou(boxes[new], boxes[matched], None) > options.doubled_iou
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
        f[: kalman.ROWS] = kalman.start(boxes[new], options.noise)
        f[OBSERVED] = f[FIRST] = boxes[new]
        f[FIGURES, :, :3] = score[new][:, None]
        i = np.empty((6, len(new)), np.int64)
        i[SERIAL] = np.arange(self._serial, self._serial + len(new))
        i[TRACK_ID], i[CLASS], i[FIRST_NS], i[LAST_NS], i[MISSED] = -1, classes[new], time_ns, time_ns, 0
        self._serial += len(new)
        self._f = np.concatenate((self._f, f), axis=1)
        self._i = np.concatenate((self._i, i), axis=1)

    def _expire(self, time_ns: int) -> None:
        if len(self):
            options = self._options
            limit_s = np.where(self._i[TRACK_ID] > 0, options.lost_s, options.unconfirmed_s)
            old = time_ns - self._i[LAST_NS] > limit_s * 1e9
            if old.any():
                self._drop(old)

    def _drop(self, old: NDArray[np.bool_]) -> None:
        """Forget these tracks; the confirmed ones are ``ended``."""
        self.ended += self._described((old & (self._i[TRACK_ID] > 0)).nonzero()[0])
        self._f, self._i = self._f[:, ~old], self._i[:, ~old]

    def _described(self, rows: Ints) -> list[Track]:
        found = []
        for row in rows.tolist():
            _, track_id, class_id, first_ns, last_ns, _ = self._i[:, row].tolist()
            score = float(self._f[FIGURES, row, BEST])
            box, first = _corners(self._f[OBSERVED, row]), _corners(self._f[FIRST, row])
            found.append(Track(track_id, class_id, first_ns, last_ns, score, box, first))
        return found

    def _move(self, motion: Floats) -> None:
        """Take all states into the picture of a camera that has moved."""
        turn, shift = motion[:, :2], motion[:, 2]
        for row in (kalman.POSITION, OBSERVED, FIRST):
            self._f[row, :, :2] = self._f[row, :, :2] @ turn.T + shift
            self._f[row, :, 2:] *= np.sqrt(abs(np.linalg.det(turn)))
        self._f[kalman.VELOCITY, :, :2] = self._f[kalman.VELOCITY, :, :2] @ turn.T


def widened_iou(a: Floats, b: Floats, margin: Floats | None) -> Floats:
    """(A, B) intersection over union of boxes (cx, cy, w, h), all widened by ``margin`` (A, 1)."""
    wide = 0.0 if margin is None else 2 * margin
    aw, ah = a[:, 2:3] + wide, a[:, 3:4] + wide
    bw, bh = b[:, 2] + wide, b[:, 3] + wide
    across = (aw + bw) * 0.5 - np.abs(a[:, 0:1] - b[:, 0])
    down = (ah + bh) * 0.5 - np.abs(a[:, 1:2] - b[:, 1])
    across = np.minimum(np.maximum(across, 0), np.minimum(aw, bw))
    down = np.minimum(np.maximum(down, 0), np.minimum(ah, bh))
    shared = across * down
    return shared / (aw * ah + bw * bh - shared)


def assign(cost: Floats, limit: float) -> tuple[Ints, Ints]:
    """Rows and columns of the cheapest assignment; pairs that cost more than ``limit`` stay free.

    A pair that is the only possible one of its row and its column needs no solver.
    """
    rows, columns = (cost < limit).nonzero()
    shared = np.bincount(rows, minlength=1)[rows] + np.bincount(columns, minlength=1)[columns] > 2
    if not shared.any():
        return rows, columns
    r, c = np.unique(rows[shared]), np.unique(columns[shared])
    _, chosen, _ = lap.lapjv(cost[np.ix_(r, c)], extend_cost=True, cost_limit=limit)
    taken = chosen >= 0
    alone = ~shared
    return np.append(rows[alone], r[taken]), np.append(columns[alone], c[chosen[taken]])


def _corners(box: Floats) -> tuple[float, float, float, float]:
    x, y, w, h = box.tolist()
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2
