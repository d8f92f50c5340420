"""Compares the boxes of two peers: every one must have exactly one partner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.core.filters import box_iou
from scripts.bench_peers.contract import Box

Frames = Sequence[Sequence[Box]]


@dataclass(frozen=True)
class Tolerance:
    """How far a score and each corner's coordinates, in source pixels, may lie apart.

    For peers that see other pixels, boxes may instead overlap by ``iou``, and a ``share`` of all
    may be without a partner: near a threshold, or where NMS kept the other of two.
    """

    score: float
    corner_px: float
    iou: float = 1.0
    share: float = 0.0

    def same(self, a: Box, b: Box) -> bool:
        return (
            a.class_id == b.class_id
            and abs(a.score - b.score) <= self.score
            and (_apart(a, b) <= self.corner_px or box_iou(a[2:], b[2:]) >= self.iou)
        )


@dataclass(frozen=True)
class Verdict:
    """``compared`` boxes of both sides; ``alone``: those without a partner.

    ``borderline`` ones have none either, but their score lies so near the threshold that the
    tolerance allows it. ``worst_px``: the largest distance of a pair's corner coordinates.
    ``same``: no more differ than the tolerance allows, and there was one to compare.
    """

    frames: int
    compared: int
    alone: int
    borderline: int
    worst_score: float
    worst_px: float
    same: bool
    example: str = ""


def compare(ours: Frames, theirs: Frames, tolerance: Tolerance, *, threshold: float) -> Verdict:
    """Pair the boxes of each frame. Another number of frames is never the same."""
    compared = alone = borderline = 0
    worst_score = worst_px = 0.0
    example = ""
    for index in range(max(len(ours), len(theirs))):
        left, right = (list(side[index]) if index < len(side) else [] for side in (ours, theirs))
        compared += len(left) + len(right)
        lonely = []
        for box in left:
            partner = _nearest(box, right, tolerance)
            if partner is None:
                lonely.append(("only in the first", box))
                continue
            right.remove(partner)
            worst_score = max(worst_score, abs(box.score - partner.score))
            worst_px = max(worst_px, _apart(box, partner))
        lonely += [("only in the second", box) for box in right]
        for side, box in lonely:
            if box.score - threshold <= tolerance.score:
                borderline += 1
                continue
            alone += 1
            example = example or f"frame {index}, {side}: {box}"
    same = compared > 0 and alone <= tolerance.share * compared
    if len(ours) != len(theirs):
        same, example = False, f"{len(ours)} frames against {len(theirs)}"
    frames = max(len(ours), len(theirs))
    return Verdict(frames, compared, alone, borderline, worst_score, worst_px, same, example)


def _nearest(box: Box, others: Sequence[Box], tolerance: Tolerance) -> Box | None:
    fitting = [other for other in others if tolerance.same(box, other)]
    return min(fitting, key=lambda other: _apart(box, other), default=None)


def _apart(a: Box, b: Box) -> float:
    return max(abs(p - q) for p, q in zip(a[2:], b[2:], strict=True))
