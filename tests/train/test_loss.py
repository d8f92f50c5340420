"""Assignment and loss, on cases whose answer is known."""

import pytest
import torch

from scripts.train.loss import (
    Targets,
    assign,
    face_loss,
    giou,
    object_loss,
    pairwise_iou,
    parent_loss,
)
from scripts.train.network import cells, decode

GRID = cells((64, 64))
FACE_ID = 2


def targets(boxes=(), scores=None, faces=(), ignored=(), ignored_ids=(), settled=(0, 1)):
    return Targets(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores or [[1.0, 0.0]] * len(boxes)).reshape(-1, 2),
        torch.tensor(faces, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(ignored_ids, dtype=torch.int64),
        torch.tensor(settled, dtype=torch.int64),
    )


def raw_for(box, *, logit=-8.0, width=7):
    """Raw values with which every cell says ``box``, and nothing is there."""
    x0, y0, x1, y1 = box
    column, row, stride = GRID.T
    centre = torch.stack([(x0 + x1) / 2 / stride - column, (y0 + y1) / 2 / stride - row], 1)
    size = torch.stack([(x1 - x0) / stride, (y1 - y0) / stride], 1).log()
    return torch.cat([centre, size, torch.full((len(GRID), width - 4), logit)], 1)


def claimed_by(boxes, raw):
    return assign(decode(raw[:, :4], GRID), torch.full((len(GRID), len(boxes)), 0.5), GRID,
                  torch.tensor(boxes))  # fmt: skip


BOX = [8.0, 8, 40, 40]
NOTHING = raw_for(BOX)[None]


def test_iou_and_giou_of_known_pairs():
    a = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10]])
    b = torch.tensor([[0.0, 0, 10, 5], [20, 0, 30, 10]])
    assert pairwise_iou(a[:1], b).tolist() == [[0.5, 0.0]]
    assert giou(a, b).tolist() == pytest.approx([0.5, -1 / 3])


def test_each_box_gets_cells_near_it_and_no_cell_answers_twice():
    boxes = [[4.0, 4, 28, 60], [34, 6, 62, 62]]
    cell, row = claimed_by(boxes, raw_for(boxes[0]))
    assert set(row.tolist()) == {0, 1}
    assert len(set(cell.tolist())) == len(cell)
    for c, r in zip(cell.tolist(), row.tolist(), strict=True):
        x0, y0, x1, y1 = boxes[r]
        x, y, stride = GRID[c].tolist()
        assert abs((x + 0.5) * stride - (x0 + x1) / 2) < 2.5 * stride
        assert abs((y + 0.5) * stride - (y0 + y1) / 2) < 2.5 * stride


def test_a_box_too_small_to_hold_a_centre_still_gets_a_cell():
    cell, _ = claimed_by([[8.5, 8.5, 11, 11]], raw_for([0, 0, 20, 20]))
    assert len(cell) >= 1


def test_the_right_answer_costs_far_less_than_a_wrong_one():
    cell, _ = claimed_by([BOX], NOTHING[0])
    right = NOTHING.clone()
    right[0, cell, 4:6] = 8.0
    good, _, claimed = object_loss(right, GRID, [targets([BOX])], NOTHING)
    bad, _, _ = object_loss(raw_for([30, 30, 62, 62])[None], GRID, [targets([BOX])], NOTHING)
    assert good < 0.05
    assert bad > 1
    assert claimed[0].nonzero()[:, 0].tolist() == sorted(cell.tolist())


def test_a_label_of_the_teachers_asks_for_the_score_that_they_give():
    cell, _ = claimed_by([BOX], NOTHING[0])

    def loss(logit):
        raw = NOTHING.clone()
        raw[0, cell, 4], raw[0, cell, 5] = logit, logit
        return float(object_loss(raw, GRID, [targets([BOX], [[0.5, 0.0]])], NOTHING)[0])

    assert loss(0.0) < min(loss(-3.0), loss(3.0))


def test_cells_without_label_are_as_the_parent_has_them_unless_the_labels_tell_the_class():
    raw, parent = NOTHING.clone(), NOTHING.clone()
    raw[0, 5, 4] = parent[0, 5, 4] = 6.0
    parent[0, 5, 6] = 6.0  # an object of class 1
    agreed, _, _ = object_loss(raw, GRID, [targets(settled=[0])], parent)
    denied, _, _ = object_loss(raw, GRID, [targets(settled=[1])], parent)
    assert agreed < 0.1
    assert denied > 0.5


def test_in_an_ignored_region_an_object_of_its_class_costs_nothing():
    raw = NOTHING.clone()
    raw[0, 5, 4:6] = 6.0
    whole = [[0.0, 0, 64, 64]]
    plain, _, _ = object_loss(raw, GRID, [targets()], NOTHING)
    same, _, _ = object_loss(raw, GRID, [targets(ignored=whole, ignored_ids=[0])], NOTHING)
    other, _, _ = object_loss(raw, GRID, [targets(ignored=whole, ignored_ids=[1])], NOTHING)
    assert plain > 0.5
    assert same < 0.1
    assert other == pytest.approx(plain.item())


def test_faces_are_learned_and_ignored_alike():
    raw = raw_for(BOX, width=5)[None]
    cell, _ = claimed_by([BOX], raw[0])
    right = raw.clone()
    right[0, cell, 4] = 8.0
    good, _ = face_loss(right, GRID, [targets(faces=[BOX])], face_id=FACE_ID)
    bad, _ = face_loss(raw, GRID, [targets(faces=[BOX])], face_id=FACE_ID)
    false, _ = face_loss(right, GRID, [targets()], face_id=FACE_ID)
    region = targets(ignored=[[0.0, 0, 64, 64]], ignored_ids=[FACE_ID])
    let_be, _ = face_loss(right, GRID, [region], face_id=FACE_ID)
    assert good < 0.05
    assert bad > 0.5
    assert false > 0.5
    assert let_be < 0.05


def test_the_parent_is_followed_where_it_sees_what_no_label_claims():
    parent = NOTHING.clone()
    parent[0, 5, 4] = parent[0, 5, 6] = 6.0
    free = torch.zeros(1, len(GRID), dtype=torch.bool)
    claimed = free.clone()
    claimed[0, 5] = True
    assert parent_loss(parent, parent, free) < 0.05
    assert parent_loss(NOTHING, parent, free) > 0.5
    assert parent_loss(NOTHING, parent, claimed) == 0


def test_without_any_label_there_is_a_gradient_and_no_fault():
    raw = torch.zeros(1, len(GRID), 7, requires_grad=True)
    loss, _, _ = object_loss(raw, GRID, [targets()], NOTHING)
    loss.backward()
    assert raw.grad[..., 4].abs().sum() > 0
