"""Which cell answers for which box, and how wrong is it?

Assignment: each box takes the cells that are cheapest for it (classification, overlap, nearness to
its centre), as many as its best overlaps add up to (SimOTA, Ge et al. 2021; the cost is RTMDet's,
Lyu et al. 2022, section 3.3). Loss: quality focal loss (Li et al. 2020) on overlap × the teacher's
score, and GIoU (Rezatofighi et al. 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from scripts.train.network import decode_boxes

CANDIDATES = 13
BOX_WEIGHT = 2.0
TAUGHT = 0.1  # a teacher's score from which its box is worth learning


@dataclass(frozen=True, slots=True)
class Targets:
    """One sample's boxes (G,4) xyxy px, class_ids (G,), weights (G,) 0..1; ignored (I,4), (I,).

    ``taught`` (N,C+4): a teacher's scores (below 0: it does not know that class) and box for each
    cell; (0,0) without one. ``hints`` (N,F): its features, int8 (hints.py says how); or (0,0).
    """

    boxes: Tensor
    class_ids: Tensor
    weights: Tensor
    ignored: Tensor
    ignored_ids: Tensor
    taught: Tensor
    hints: Tensor

    def to(self, device: torch.device) -> Targets:
        return Targets(
            *(getattr(self, name).to(device, non_blocking=True) for name in self.__slots__)
        )


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """(N,4), (G,4) xyxy to (N,G)."""
    # x and y apart: reducing over an axis of two costs several times as much
    wide = torch.minimum(a[:, 2:3], b[:, 2]) - torch.maximum(a[:, 0:1], b[:, 0])
    high = torch.minimum(a[:, 3:4], b[:, 3]) - torch.maximum(a[:, 1:2], b[:, 1])
    inter = wide.clamp(min=0) * high.clamp(min=0)
    area_a = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    area_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    return inter / (area_a[:, None] + area_b - inter).clamp(min=1e-6)


def giou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(N,4), (N,4) xyxy to IoU (N,) and generalised IoU (N,)."""
    size = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    inter = size[:, 0] * size[:, 1]
    area = sum((x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (a, b)) - inter
    hull = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    hull_area = (hull[:, 0] * hull[:, 1]).clamp(min=1e-6)
    iou = inter / area.clamp(min=1e-6)
    return iou, iou - (hull_area - area) / hull_area


@torch.no_grad()
def assign(cells: Tensor, boxes: Tensor, logits: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """The cells that answer for a box, and which: two (P,) index tensors."""
    gt = targets.boxes
    dx, dy = _from_middle(cells, gt)
    inside = (dx < (gt[:, 2] - gt[:, 0]) / 2) & (dy < (gt[:, 3] - gt[:, 1]) / 2)
    # a box between the centres of all cells takes the nearest ones
    inside |= ~inside.any(0) & (torch.maximum(dx, dy) <= cells[:, 2:])
    valid = inside.any(1).nonzero()[:, 0]
    iou = pairwise_iou(boxes[valid], gt)
    picked = logits[valid][:, targets.class_ids]
    soft = iou * targets.weights
    class_cost = cross_entropy(picked, soft, reduction="none") * (soft - picked.sigmoid()) ** 2
    distance = torch.hypot(dx[valid], dy[valid]) / cells[valid, 2:]
    cost = class_cost - 3 * (iou + 1e-7).log() + torch.pow(10.0, (distance - 3).clamp(max=6))
    cost = cost + 1e6 * ~inside[valid]
    top = iou.topk(min(CANDIDATES, len(valid)), dim=0).values
    wanted = top.sum(0).int().clamp(min=1)
    most = min(CANDIDATES, len(valid))
    cheapest = cost.topk(most, dim=0, largest=False).indices
    within = torch.arange(most, device=cost.device)[:, None] < wanted
    taken = torch.zeros_like(cost, dtype=torch.bool).scatter_(0, cheapest, within) & (cost < 1e6)
    best = torch.where(taken, cost, torch.inf).min(1)
    kept = best.values.isfinite().nonzero()[:, 0]
    return valid[kept], best.indices[kept]


def _from_middle(cells: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """|dx|, |dy| (N,G) px from each cell's centre to each box's."""
    dx = cells[:, 0:1] - (boxes[:, 0] + boxes[:, 2]) / 2
    dy = cells[:, 1:2] - (boxes[:, 1] + boxes[:, 3]) / 2
    return dx.abs(), dy.abs()


def detection_loss(
    raw: Tensor, cells: Tensor, targets: Sequence[Targets]
) -> tuple[Tensor, dict[str, float]]:
    """Loss of (B,N,4+C) raw values, and its parts and the positives a picture for the log."""
    raw = raw.float()
    logits = raw[..., 4:]
    boxes = decode_boxes(raw[..., :4], cells)
    quality = torch.zeros_like(logits)
    counted = torch.ones_like(logits)
    predicted, wanted, weights = [], [], []
    for i, target in enumerate(targets):
        if len(target.ignored):
            counted[i] = ~_within(cells, target, logits.shape[2])
        free = torch.ones(len(cells), dtype=torch.bool, device=raw.device)
        if len(target.boxes):
            cell, row = assign(cells, boxes[i].detach(), logits[i].detach(), target)
            predicted.append(boxes[i, cell])
            wanted.append(target.boxes[row])
            weights.append(target.weights[row])
            with torch.no_grad():
                iou, _ = giou(boxes[i, cell], target.boxes[row])
                quality[i, cell, target.class_ids[row]] = iou * target.weights[row]
                counted[i, cell] = 1.0
            free[cell] = False
        if len(target.taught):
            # where the labels are silent or unsure, the teacher speaks
            scores, taught_boxes = target.taught[:, :-4], target.taught[:, -4:]
            quality[i] = torch.maximum(quality[i], scores)
            counted[i] = torch.where(scores >= 0, 1.0, counted[i])
            best = scores.amax(1)
            cell = (free & (best > TAUGHT)).nonzero()[:, 0]
            predicted.append(boxes[i, cell])
            wanted.append(taught_boxes[cell])
            weights.append(best[cell])
    focus = (quality - logits.sigmoid()).abs() ** 2
    norm = quality.sum().clamp(min=1.0)
    class_loss = (cross_entropy(logits, quality, reduction="none") * focus * counted).sum() / norm
    box_loss = raw.new_zeros(())
    positives = 0
    if predicted:
        iou, generalised = giou(torch.cat(predicted), torch.cat(wanted))
        weight = (iou.detach() * torch.cat(weights)).clamp(min=0.05)
        box_loss = ((1 - generalised) * weight).sum() / weight.sum()
        positives = len(iou)
    loss = class_loss + BOX_WEIGHT * box_loss
    parts = {"class": class_loss.item(), "box": box_loss.item(), "cells": positives / len(targets)}
    return loss, parts


def _within(cells: Tensor, target: Targets, classes: int) -> Tensor:
    """(N,C): cells whose centre lies in an ignored box of that class."""
    box = target.ignored
    dx, dy = _from_middle(cells, box)
    inside = (dx < (box[:, 2] - box[:, 0]) / 2) & (dy < (box[:, 3] - box[:, 1]) / 2)
    within = torch.zeros(len(cells), classes, dtype=torch.bool, device=cells.device)
    for class_id in range(classes):
        within[:, class_id] = inside[:, target.ignored_ids == class_id].any(1)
    return within
