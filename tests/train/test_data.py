"""Reading a COCO-format set, and joining it with what teachers say."""

import json

import cv2
import numpy as np
import pytest

from scripts.train.data import Labels, read_pictures

NAMES = ("person", "dog")


def change(folder, **keys):
    path = folder / "train.json"
    content = json.loads(path.read_text())
    content["annotations"][0].update(keys)
    path.write_text(json.dumps(content))


def read(folder, taught=None, **more):
    return read_pictures(folder, NAMES, taught=taught or {}, **more)


def says(name, boxes, scores, faces=()):
    return {
        f"{name}/boxes": np.array(boxes, np.float32),
        f"{name}/scores": np.array(scores, np.float16),
        f"{name}/faces": np.array(faces, np.float32).reshape(-1, 5),
    }


def test_boxes_faces_and_sources_are_read(square_set):
    found = read(square_set)
    assert len(found) == 16
    picture = found[1]
    pixels = picture.pixels()
    assert (pixels.shape, picture.source) == ((96, 128, 3), "b")
    labels = picture.labels
    x0, y0, x1, y1 = labels.faces[0].astype(int)
    assert (pixels[y0:y1, x0:x1] == 0).all()
    x0, y0, x1, y1 = labels.boxes[0].astype(int)
    assert (pixels[[y0, y0, y1 - 1, y1 - 1], [x0, x1 - 1, x0, x1 - 1]] == 255).all()
    assert labels.scores.tolist() == [[1, 0]]
    assert labels.settled.tolist() == [0]


def test_crowds_are_ignored_and_boxes_without_area_left_out(square_set):
    change(square_set, iscrowd=1)
    labels = read(square_set)[0].labels
    assert (len(labels.boxes), labels.ignored_ids.tolist()) == (0, [0])
    change(square_set, iscrowd=0, bbox=[5, 5, 0, 9])
    assert read(square_set)[0].labels.boxes.shape == (0, 4)


def test_teachers_add_what_the_ground_truth_does_not_tell(square_set):
    given = read(square_set)[0].labels.boxes[0]
    far = [0.0, 0.0, 4.0, 4.0]
    taught = says(
        "train0.png", [given, given, far, far], [[0.9, 0], [0, 0.25], [0.36, 0], [0, 0.1]]
    )
    labels = read(square_set, taught)[0].labels
    # the person is known; a dog in the same place is news, and a person elsewhere; 0.1 is nothing
    np.testing.assert_allclose(labels.boxes, [given, given, far], atol=1e-3)
    np.testing.assert_allclose(labels.scores, [[1, 0], [0, 0.6], [0.72, 0]], atol=1e-3)


def test_faces_count_on_people_only(square_set, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    cv2.imwrite(str(other / "x.png"), np.zeros((50, 50, 3), np.uint8))
    person, dog = [0.0, 0, 20, 50], [25.0, 0, 50, 50]
    faces = [[5, 5, 15, 15, 0.9], [30, 5, 45, 15, 0.9], [5, 20, 15, 30, 0.4]]
    taught = says("x.png", [person, dog], [[0.8, 0], [0, 0.8]], faces)
    *_, picture = read(square_set, taught, unlabelled=[other])
    assert picture.source == "other"
    assert picture.labels.faces.tolist() == [[5, 5, 15, 15]]
    assert picture.labels.ignored.tolist() == [[5, 20, 15, 30]]
    assert picture.labels.ignored_ids.tolist() == [2]
    assert picture.labels.settled.tolist() == []


def test_of_joined_labels_a_class_is_settled_where_it_is_in_all(square_set):
    labels = read(square_set)[0].labels
    unsettled = read(square_set)[1].labels
    joined = Labels.join([labels, unsettled])
    assert (len(joined.boxes), len(joined.faces), joined.settled.tolist()) == (2, 2, [0])


def test_faults_name_the_file(square_set, tmp_path):
    with pytest.raises(ValueError, match=r"train\.json is not there"):
        read(tmp_path)
    (square_set / "images" / "train2.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"train2\.png cannot be read"):
        read(square_set)[2].pixels()
    with pytest.raises(ValueError, match=r"labels person; no class is that"):
        read_pictures(square_set, ("cat",), taught={})
    (square_set / "train.json").write_text('{"images": 3}')
    with pytest.raises(ValueError, match="is not a COCO annotation file"):
        read(square_set)
