"""Several views of a picture become one set of soft labels."""

import numpy as np

from scripts.train.teach import fuse, winners

A, B = [10.0, 10, 50, 50], [60.0, 10, 90, 50]


def found(boxes, scores):
    return np.array(boxes, np.float32), np.array(scores, np.float32)


def test_of_one_view_the_strongest_box_of_a_class_stays():
    near = [12.0, 10, 52, 50]
    boxes, scores = winners(*found([near, A, A, B], [[0.5, 0], [0.8, 0], [0, 0.6], [0.01, 0]]))
    assert boxes.tolist() == [A, A]
    np.testing.assert_allclose(scores, [[0.8, 0], [0, 0.6]])


def test_views_that_agree_make_one_box_and_one_view_alone_weighs_little():
    near = [14.0, 10, 54, 50]
    boxes, scores = fuse([found([A, B], [[0.9, 0], [0.6, 0]]), found([near], [[0.3, 0.1]])])
    np.testing.assert_allclose(boxes, [[11, 10, 51, 50], B])
    np.testing.assert_allclose(scores, [[0.6, 0.05], [0.3, 0]], atol=1e-6)


def test_boxes_of_one_view_or_of_other_classes_are_not_joined():
    boxes, _ = fuse([found([A, A], [[0.9, 0], [0.8, 0]]), found([A], [[0, 0.9]])])
    assert len(boxes) == 3


def test_views_that_see_nothing_give_nothing():
    boxes, _ = fuse([found(np.zeros((0, 4)), np.zeros((0, 2)))] * 2)
    assert len(boxes) == 0
