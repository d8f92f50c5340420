"""Assignment and loss, on cases whose answer is known."""

import pytest
import torch

from scripts.train.loss import Targets, assign, detection_loss, giou, pairwise_iou
from scripts.train.network import cell_centres, decode_boxes

CELLS = cell_centres((64, 64))


def targets(boxes, ids=None, weights=None, ignored=(), ignored_ids=None):
    n = len(boxes)
    return Targets(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(ids if ids is not None else [0] * n, dtype=torch.int64),
        torch.tensor(weights if weights is not None else [1.0] * n),
        torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(ignored_ids or [0] * len(ignored), dtype=torch.int64),
        torch.zeros(0, 0),
        torch.zeros(0, 0),
    )


def raw_for(box, classes=2, logit=-6.0):
    """Raw values with which every cell says ``box``."""
    x0, y0, x1, y1 = box
    cx, cy, stride = CELLS.T
    reach = torch.stack([cx - x0, cy - y0, x1 - cx, y1 - cy], 1) / stride[:, None]
    return torch.cat([reach.clamp(min=1e-3).log(), torch.full((len(CELLS), classes), logit)], 1)


def test_cells_are_level_after_level_row_by_row():
    assert CELLS.shape == (64 + 16 + 4, 3)
    assert CELLS[[0, 1, 8, 64, 80]].tolist() == [
        [4, 4, 8], [12, 4, 8], [4, 12, 8], [8, 8, 16], [16, 16, 32]
    ]  # fmt: skip


def test_decoding_is_the_inverse_of_the_distances():
    box = torch.tensor([10.0, 5.0, 40.0, 60.0])
    inside = (CELLS[:, 0] > 10) & (CELLS[:, 0] < 40) & (CELLS[:, 1] > 5) & (CELLS[:, 1] < 60)
    boxes = decode_boxes(raw_for(box.tolist())[:, :4], CELLS)[inside]
    assert torch.allclose(boxes, box.expand_as(boxes), atol=1e-3)


def test_iou_and_giou_of_known_pairs():
    a = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10]])
    b = torch.tensor([[0.0, 0, 10, 5], [20, 0, 30, 10]])
    assert pairwise_iou(a[:1], b).tolist() == [[0.5, 0.0]]
    iou, generalised = giou(a, b)
    assert iou.tolist() == [0.5, 0.0]
    assert generalised.tolist() == pytest.approx([0.5, -1 / 3])


def test_each_box_gets_cells_inside_it_and_no_cell_answers_twice():
    boxes = [[4.0, 4, 28, 60], [34, 6, 62, 62]]
    raw = raw_for(boxes[0])
    predicted = decode_boxes(raw[:, :4], CELLS)
    cell, row = assign(CELLS, predicted, raw[:, 4:], targets(boxes))
    assert set(row.tolist()) == {0, 1}
    assert len(set(cell.tolist())) == len(cell)
    for c, r in zip(cell.tolist(), row.tolist(), strict=True):
        x0, y0, x1, y1 = boxes[r]
        assert x0 < CELLS[c, 0] < x1
        assert y0 < CELLS[c, 1] < y1


def test_a_box_too_small_to_hold_a_centre_still_gets_a_cell():
    raw = raw_for([0, 0, 20, 20])
    cell, _ = assign(
        CELLS, decode_boxes(raw[:, :4], CELLS), raw[:, 4:], targets([[8.5, 8.5, 11, 11]])
    )
    assert len(cell) >= 1


def test_the_right_answer_costs_far_less_than_a_wrong_one():
    box = [8.0, 8, 40, 40]
    target = targets([box])
    raw = raw_for(box)
    cell, _ = assign(CELLS, decode_boxes(raw[:, :4], CELLS), raw[:, 4:], target)
    right = raw.clone()
    right[cell, 4] = 6.0
    good, parts = detection_loss(right[None], CELLS, [target])
    bad, _ = detection_loss(raw_for([30, 30, 62, 62])[None], CELLS, [target])
    assert good < 0.05
    assert bad > 1
    assert parts["cells"] == len(cell)


def test_a_false_object_costs_except_in_an_ignored_region_of_its_class():
    raw = raw_for([8, 8, 40, 40])
    at = int(((CELLS[:, :2] - 20).abs().sum(1) + CELLS[:, 2]).argmin())
    raw[at, 4] = 6.0
    whole = [[0.0, 0, 64, 64]]
    plain, _ = detection_loss(raw[None], CELLS, [targets([])])
    same, _ = detection_loss(raw[None], CELLS, [targets([], ignored=whole)])
    other, _ = detection_loss(raw[None], CELLS, [targets([], ignored=whole, ignored_ids=[1])])
    assert plain > 3
    assert same < 0.01
    assert other == pytest.approx(plain.item(), abs=0.01)


def test_an_unsure_teacher_asks_for_a_lower_score():
    box = [8.0, 8, 40, 40]
    raw = raw_for(box)

    def best_logit(weight):
        target = targets([box], weights=[weight])
        logits = torch.linspace(-4, 6, 41)
        cell, _ = assign(CELLS, decode_boxes(raw[:, :4], CELLS), raw[:, 4:], target)
        losses = []
        for logit in logits:
            tried = raw.clone()
            tried[cell, 4] = logit
            losses.append(detection_loss(tried[None], CELLS, [target])[0])
        return float(torch.sigmoid(logits[int(torch.stack(losses).argmin())]))

    assert best_logit(1.0) > 0.9
    assert best_logit(0.5) == pytest.approx(0.5, abs=0.1)


def test_without_any_box_there_is_a_gradient_and_no_fault():
    raw = torch.zeros(1, len(CELLS), 6, requires_grad=True)
    loss, _ = detection_loss(raw, CELLS, [targets([])])
    loss.backward()
    assert raw.grad is not None
    assert raw.grad[..., 4:].abs().sum() > 0
