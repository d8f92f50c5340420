"""Reading a COCO-format set."""

import json

import numpy as np
import pytest

from scripts.train.data import read_set


def change(folder, **keys):
    path = folder / "train.json"
    content = json.loads(path.read_text())
    content["annotations"][0].update(keys)
    path.write_text(json.dumps(content))


def test_pictures_boxes_and_sources_are_read(square_set):
    found = read_set(square_set, "train")
    assert found.class_names == ("square",)
    assert len(found.pictures) == 16
    picture = found.pictures[1]
    assert (picture.pixels.shape, picture.source) == ((96, 128, 3), "b")
    x0, y0, x1, y1 = picture.labels.boxes[0].astype(int)
    assert (picture.pixels[y0:y1, x0:x1] == 255).all()
    assert picture.labels.class_ids.tolist() == [0]
    assert picture.labels.weights.tolist() == [1.0]


def test_a_teachers_score_is_a_weight_and_crowds_are_ignored(square_set):
    change(square_set, score=0.45, iscrowd=1)
    labels = read_set(square_set, "train").pictures[0].labels
    assert labels.weights[0] == pytest.approx(0.5)
    assert labels.ignored.tolist() == [True]


def test_a_sure_teacher_counts_like_ground_truth(square_set):
    change(square_set, score=0.93)
    assert read_set(square_set, "train").pictures[0].labels.weights[0] == 1.0


def test_boxes_without_area_are_left_out(square_set):
    change(square_set, bbox=[5, 5, 0, 9])
    assert read_set(square_set, "train").pictures[0].labels.boxes.shape == (0, 4)


def test_a_limit_reads_only_so_many(square_set):
    assert len(read_set(square_set, "train", limit=3).pictures) == 3


def test_faults_name_the_file(square_set, tmp_path):
    with pytest.raises(ValueError, match=r"train\.json is not there"):
        read_set(tmp_path, "train")
    (square_set / "images" / "train2.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"train2\.png, named by .*, cannot be read"):
        read_set(square_set, "train")
    (square_set / "train.json").write_text('{"images": 3}')
    with pytest.raises(ValueError, match="is not a COCO annotation file"):
        read_set(square_set, "train")


def test_pixels_are_bgr(square_set):
    import cv2

    blue = np.zeros((96, 128, 3), np.uint8)
    blue[..., 0] = 200
    cv2.imwrite(str(square_set / "images" / "train0.png"), blue)
    assert read_set(square_set, "train").pictures[0].pixels[0, 0].tolist() == [200, 0, 0]
