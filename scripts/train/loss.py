"""The assignment of boxes to cells, and the losses: of labels, of faces, and against the parent.

Assignment: each box takes the cells that are cheapest for it (class, overlap, size of the cell), as
many as its best overlaps add up to (SimOTA, Ge et al. 2021, section 2.1). Loss of the objects:
YOLOX's (cross entropy of objectness, and of classes against overlap × label) with GIoU (Rezatofighi
et al. 2019); of the faces: quality focal loss (Li et al. 2020) and GIoU. The parent's answers for
every cell that no label claims keep what it knows (dense distillation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy, smooth_l1_loss

from scripts.train.data import Labels
from scripts.train.network import decode

CANDIDATES = 10
NEAR = 2.5  # strides from a box's centre in which a cell may answer for it
BOX_WEIGHT, FACE_BOX_WEIGHT = 4.0, 2.0
LEAST_COUNT = 8.0  # of labels in a batch, to divide by: a batch of empty pictures must not shout
WITHIN = 0.6  # of a predicted box inside an ignored one: it is let be
KNOWN = 0.05  # the parent's objectness from which its classes and box are worth keeping


@dataclass(frozen=True, slots=True)
class Targets:
    """One sample's labels (data.py) as tensors."""

    boxes: Tensor
    scores: Tensor
    faces: Tensor
    ignored: Tensor
    ignored_ids: Tensor
    settled: Tensor

    @staticmethod
    def of(labels: Labels) -> Targets:
        arrays = (getattr(labels, name) for name in Targets.__slots__)
        return Targets(*(torch.from_numpy(array) for array in arrays))


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """(N,4), (G,4) xyxy to areas (N,G)."""
    # x and y apart: reducing over an axis of two costs several times as much
    wide = torch.minimum(a[:, 2:3], b[:, 2]) - torch.maximum(a[:, 0:1], b[:, 0])
    high = torch.minimum(a[:, 3:4], b[:, 3]) - torch.maximum(a[:, 1:2], b[:, 1])
    return wide.clamp(min=0) * high.clamp(min=0)


def area(boxes: Tensor) -> Tensor:
    """(N,4) xyxy to (N,)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """(N,4), (G,4) xyxy to (N,G)."""
    inter = intersection(a, b)
    return inter / (area(a)[:, None] + area(b) - inter).clamp(min=1e-6)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU of pairs: (N,4), (N,4) xyxy to (N,)."""
    inter, union = _paired(a, b)
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    hull_area = (hull[:, 0] * hull[:, 1]).clamp(min=1e-6)
    return inter / union - (hull_area - union) / hull_area


@torch.no_grad()
def assign(predicted: Tensor, scores: Tensor, grid: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The cells that answer for a box, and for which: two (P,) index tensors.

    ``predicted`` (N,4) xyxy, ``scores`` (N,G) of each box's class, ``grid`` of network.cells,
    ``boxes`` (G,4) xyxy.
    """
    stride = grid[:, 2:]
    centres = (grid[:, :2] + 0.5) * stride
    away = (centres[:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2).abs().amax(-1)
    near = away < NEAR * stride
    inside = (centres[:, None] > boxes[:, :2]).all(-1) & (centres[:, None] < boxes[:, 2:]).all(-1)
    overlap = pairwise_iou(predicted, boxes)
    level = (area(boxes).clamp(min=1).sqrt() / (5 * stride)).log2().abs()
    cost = -0.5 * scores.clamp(min=1e-4).log() - 3 * overlap.clamp(min=1e-2).log() + 0.5 * level
    cost = cost + 100.0 * ~inside + 1e5 * ~near
    most = min(CANDIDATES, len(grid))
    wanted = (overlap * near).topk(most, 0).values.sum(0).int().clamp(min=1)
    cheapest = cost.topk(most, 0, largest=False).indices
    within = torch.arange(most, device=cost.device)[:, None] < wanted
    taken = torch.zeros_like(cost, dtype=torch.bool).scatter_(0, cheapest, within) & (cost < 1e4)
    best = torch.where(taken, cost, torch.inf).min(1)
    kept = best.values.isfinite().nonzero()[:, 0]
    return kept, best.indices[kept]


def object_loss(
    raw: Tensor, grid: Tensor, targets: Sequence[Targets], parent: Tensor
) -> tuple[Tensor, dict[str, float], Tensor]:
    """Of (B,N,5+C) raw values: loss, its parts for the log, and the claimed cells (B,N).

    ``parent``: its raw values. A cell that no label claims is to be as much of an object as it is
    to the parent, and none where the parent sees a class that the labels tell exhaustively.
    """
    boxes = decode(raw[..., :4], grid)
    seen = boxes.detach()
    there = parent[..., 4].sigmoid()
    counted = torch.ones_like(there)
    claimed = torch.zeros_like(there, dtype=torch.bool)
    classes = raw[..., 5:].detach().sigmoid()
    strength = classes * raw[..., 4:5].detach().sigmoid()
    generalised, class_loss, weights = [], [], []
    for i, target in enumerate(targets):
        of_objects = target.ignored_ids < classes.shape[2]
        ids = target.ignored_ids[of_objects]
        there[i][torch.isin(parent[i, :, 5:].argmax(1), target.settled)] = 0
        within = _within(seen[i], target.ignored[of_objects])
        counted[i][(within & (classes[i][:, ids] > 0.2)).any(1)] = 0
        if not len(target.boxes):
            continue
        best = target.scores.argmax(1)
        cell, row = assign(seen[i], strength[i][:, best], grid, target.boxes)
        weight = target.scores[row].amax(1)
        there[i, cell], counted[i, cell], claimed[i, cell] = weight, 1.0, True
        overlap = _paired_iou(seen[i, cell], target.boxes[row])
        wanted = target.scores[row] * overlap[:, None]
        loss = cross_entropy(raw[i, cell, 5:], wanted, reduction="none").sum(1)
        class_loss.append(loss)
        generalised.append(giou(boxes[i, cell], target.boxes[row]))
        weights.append(weight)
    object_part = cross_entropy(raw[..., 4], there, counted, reduction="sum")
    weight = torch.cat([raw.new_zeros(0), *weights])
    count = weight.sum().clamp(min=LEAST_COUNT)
    class_part = (torch.cat([raw.new_zeros(0), *class_loss]) * weight).sum() / count
    box_part = ((1 - torch.cat([raw.new_zeros(0), *generalised])) * weight).sum() / count
    object_part = object_part / count
    parts = {"object": object_part, "class": class_part, "box": box_part}
    total = object_part + class_part + BOX_WEIGHT * box_part
    return total, {name: float(part.detach()) for name, part in parts.items()}, claimed


def face_loss(
    raw: Tensor, grid: Tensor, targets: Sequence[Targets], *, face_id: int
) -> tuple[Tensor, dict[str, float]]:
    """Of (B,N,5) raw values of the face towers: loss and its parts for the log."""
    boxes = decode(raw[..., :4], grid)
    seen, scores = boxes.detach(), raw[..., 4].detach().sigmoid()
    quality, counted = torch.zeros_like(scores), torch.ones_like(scores)
    generalised = []
    for i, target in enumerate(targets):
        counted[i][_within(seen[i], target.ignored[target.ignored_ids == face_id]).any(1)] = 0
        if not len(target.faces):
            continue
        each = scores[i][:, None].expand(-1, len(target.faces))
        cell, row = assign(seen[i], each, grid, target.faces)
        quality[i, cell] = _paired_iou(seen[i, cell], target.faces[row]).clamp(min=0.05)
        counted[i, cell] = 1.0
        generalised.append(giou(boxes[i, cell], target.faces[row]))
    focus = 2 * (scores - quality).abs() ** 1.5
    focus = torch.where(quality > 0, focus.clamp(min=0.3), focus) * counted
    found = torch.cat([raw.new_zeros(0), *generalised])
    count = max(2 * LEAST_COUNT, len(found))
    score_part = (cross_entropy(raw[..., 4], quality, reduction="none") * focus).sum() / count
    box_part = (1 - found).sum() / count
    parts = {"face": float(score_part.detach()), "face box": float(box_part.detach())}
    return score_part + FACE_BOX_WEIGHT * box_part, parts


def parent_loss(raw: Tensor, parent: Tensor, claimed: Tensor) -> Tensor:
    """How far classes and boxes are from the parent's where it sees something no label claims.

    ``raw`` and ``parent`` (B,N,5+C) raw values, ``claimed`` (B,N).
    """
    there = parent[..., 4].sigmoid()
    known = (there > KNOWN) & ~claimed
    raw, parent, weight = raw[known], parent[known], there[known][:, None]
    classes = cross_entropy(raw[:, 5:], parent[:, 5:].sigmoid(), weight, reduction="sum")
    box = smooth_l1_loss(raw[:, :4], parent[:, :4], reduction="none", beta=0.2)
    return (classes + 2 * (box * weight).sum()) / weight.sum().clamp(min=LEAST_COUNT)


def _within(predicted: Tensor, ignored: Tensor) -> Tensor:
    """(N,K): predicted boxes that lie mostly in an ignored one."""
    return intersection(predicted, ignored) / area(predicted)[:, None].clamp(min=1e-6) > WITHIN


def _paired_iou(a: Tensor, b: Tensor) -> Tensor:
    inter, union = _paired(a, b)
    return inter / union


def _paired(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Areas (N,) of intersection and union of pairs."""
    size = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    inter = size[:, 0] * size[:, 1]
    return inter, (area(a) + area(b) - inter).clamp(min=1e-6)
