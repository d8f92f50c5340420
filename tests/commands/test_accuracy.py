"""Average precision: pycocotools' figures, by name."""

import sys

import pytest

from app.commands.evaluate import coco_accuracy, lost_points
from app.core.errors import ConfigError


def box(image, category, x, y, w, h, **more):
    row = {"image_id": image, "category_id": category, "bbox": [x, y, w, h]}
    return row | {"area": w * h, "iscrowd": 0} | more


def truth(*annotations, images=2):
    return {
        "images": [{"id": i, "width": 400, "height": 300} for i in range(images)],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "face"}],
        "annotations": [{"id": i + 1, **a} for i, a in enumerate(annotations)],
    }


LABELS = truth(
    box(0, 1, 10, 10, 20, 20), box(0, 1, 100, 50, 120, 200), box(1, 1, 5, 5, 50, 60),
    box(1, 2, 20, 20, 40, 40),
)  # fmt: skip


def found(*rows):
    return [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": s}
        for a, s in rows
    ]


def test_every_box_found_exactly_is_one_in_every_figure():
    rows = found(*((a, 0.9) for a in LABELS["annotations"]))
    person = coco_accuracy(LABELS, rows)["person"]
    assert (person.boxes, person.label) == (3, "person")
    figures = (person.ap50, person.ap, person.small, person.medium, person.large, person.recall50)
    assert figures == pytest.approx((1.0,) * 6)


def test_nothing_found_is_zero_and_a_size_without_boxes_is_none():
    face = coco_accuracy(LABELS, [])["face"]
    assert (face.ap50, face.recall50, face.medium) == (0.0, 0.0, 0.0)
    assert face.small is None
    assert face.large is None


def test_a_loose_box_counts_at_half_overlap_only():
    rows = found((box(1, 2, 20, 20, 40, 62), 0.9))  # IoU 40/62 = 0.645
    face = coco_accuracy(LABELS, rows)["face"]
    assert face.ap50 == pytest.approx(1.0)
    assert face.ap == pytest.approx(0.3)  # right at 0.50, 0.55, 0.60 of ten thresholds


def test_classes_do_not_mix():
    rows = found((box(1, 1, 20, 20, 40, 40), 0.9))
    assert coco_accuracy(LABELS, rows)["face"].ap50 == 0.0


def test_a_stronger_false_box_halves_precision():
    rows = found((box(0, 2, 200, 200, 40, 40), 0.95), (box(1, 2, 20, 20, 40, 40), 0.9))
    assert coco_accuracy(LABELS, rows)["face"].ap50 == pytest.approx(0.5)


def test_a_box_in_an_ignored_region_is_neither_hit_nor_miss():
    labels = truth(box(1, 2, 20, 20, 40, 40), box(0, 2, 100, 100, 150, 150, iscrowd=1))
    rows = found((box(0, 2, 120, 120, 40, 40), 0.95), (box(1, 2, 20, 20, 40, 40), 0.9))
    face = coco_accuracy(labels, rows)["face"]
    assert (face.ap50, face.boxes) == (pytest.approx(1.0), 1)


def test_only_the_images_asked_for_count():
    rows = found((LABELS["annotations"][2], 0.9))
    assert coco_accuracy(LABELS, rows, images=[1])["person"].ap50 == pytest.approx(1.0)
    assert coco_accuracy(LABELS, rows, images=[0])["person"].ap50 == 0.0


def test_the_labels_given_are_left_as_they_were():
    before = [dict(a) for a in LABELS["annotations"]]
    coco_accuracy(LABELS, [])
    assert LABELS["annotations"] == before


def test_lost_points_are_hundredths_and_skip_what_is_not_measured():
    rows = found(*((a, 0.9) for a in LABELS["annotations"]))
    parent, variant = coco_accuracy(LABELS, rows), coco_accuracy(LABELS, rows[:3])
    assert lost_points(variant, parent) == pytest.approx({"person": 0.0, "face": 100.0})
    assert lost_points({}, parent) == {}


def test_without_pycocotools_the_cure_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(ConfigError, match=r"pip install -r requirements-models\.txt"):
        coco_accuracy(LABELS, [])
