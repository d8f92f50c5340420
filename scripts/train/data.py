"""The pictures to learn from, with ground truth and teachers' labels.

A set is a folder in COCO format: ``images/``, ``train.json`` and ``val.json``, whose categories are
``face`` and classes of the network. An annotation may carry ``score`` (1 is ground truth), an image
``source`` (for sampling). ``iscrowd`` marks what is neither object nor background. Soft labels of
all classes come from teachers (teach.py), also for pictures in further folders, which have no
others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Boxes = Floats  # (N,4) xyxy

FACE = "face"
PERSON = "person"
LEAST_TAUGHT = 0.12  # a teacher's score from which its box is learned
SAME = 0.4  # IoU from which a teacher's box is one that the ground truth has
SURE_FACE = 0.6  # a face teacher's score from which its box counts


@dataclass(frozen=True, slots=True)
class Labels:
    """Of one picture, boxes xyxy px. ``boxes`` (n,4) with ``scores`` (n,C) of each class, 0..1;
    ``faces`` (m,4); ``ignored`` (k,4), neither object nor background of the class
    ``ignored_ids`` (k,), C meaning faces; ``settled``: classes of which every object is told."""

    boxes: Boxes
    scores: Floats
    faces: Boxes
    ignored: Boxes
    ignored_ids: NDArray[np.int64]
    settled: NDArray[np.int64]

    @staticmethod
    def join(parts: Sequence[Labels]) -> Labels:
        settled = reduce(np.intersect1d, (p.settled for p in parts))
        arrays = Labels.__slots__[:-1]
        joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in arrays}
        return Labels(**joined, settled=settled)


@dataclass(frozen=True, slots=True)
class Picture:
    """One photograph's file, its labels, and the name of the source that it is from."""

    file: Path
    labels: Labels
    source: str

    def pixels(self) -> Pixels:
        """(h,w,3) BGR; raises ValueError naming the file."""
        pixels = cv2.imread(str(self.file), cv2.IMREAD_COLOR)
        if pixels is None:
            raise ValueError(f"{self.file} cannot be read as a picture")
        return np.asarray(pixels, np.uint8)


def read_annotations(path: Path) -> dict[str, Any]:
    """A COCO annotation file; raises ValueError naming it."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        _ = [(c["id"], c["name"]) for c in content["categories"]]
        _ = [(i["id"], i["file_name"]) for i in content["images"]]
        _ = [(a["image_id"], a["category_id"], a["bbox"]) for a in content["annotations"]]
    except FileNotFoundError:
        raise ValueError(
            f"{path} is not there; --data wants a folder with train.json and val.json"
        ) from None
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a COCO annotation file: {error!r}") from error
    return content


def read_pictures(
    folder: Path,
    labels: Sequence[str],
    *,
    taught: Mapping[str, NDArray[Any]],
    unlabelled: Sequence[Path] = (),
) -> list[Picture]:
    """The pictures of ``folder/train.json``, then all of the folders ``unlabelled``.

    ``labels``: names of the network's classes. ``taught``: arrays by ``FILE/boxes``,
    ``FILE/scores`` and ``FILE/faces``, as teach.py writes them. Raises ValueError.
    """
    content = read_annotations(folder / "train.json")
    names = {c["id"]: c["name"] for c in content["categories"]}
    known = (*labels, FACE)
    if strange := sorted(set(names.values()) - set(known)):
        raise ValueError(f"{folder / 'train.json'} labels {', '.join(strange)}; no class is that")
    class_ids = {key: known.index(name) for key, name in names.items()}
    by_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    pictures = []
    for image in content["images"]:
        given = _given(by_image[image["id"]], class_ids, len(labels))
        boxes, scores, _ = _of(taught, image["file_name"], len(labels))
        file, source = folder / "images" / image["file_name"], str(image.get("source", ""))
        pictures.append(Picture(file, _with_taught(given, boxes, scores), source))
    for other in unlabelled:
        for file in sorted(p for p in other.iterdir() if p.suffix in (".jpg", ".png")):
            boxes, scores, faces = _of(taught, file.name, len(labels))
            none = _given([], {}, len(labels))
            found = _with_faces(
                _with_taught(none, boxes, scores), faces, person=labels.index(PERSON)
            )
            pictures.append(Picture(file, found, other.name))
    return pictures


def _given(
    annotations: Sequence[Mapping[str, Any]], class_ids: Mapping[int, int], classes: int
) -> Labels:
    rows = [a for a in annotations if a["bbox"][2] > 0 and a["bbox"][3] > 0]
    xywh = np.array([a["bbox"] for a in rows], np.float32).reshape(-1, 4)
    boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
    ids = np.array([class_ids[a["category_id"]] for a in rows], np.int64)
    crowd = np.array([bool(a.get("iscrowd", 0)) for a in rows], np.bool_)
    objects = ~crowd & (ids < classes)
    scores = np.zeros((int(objects.sum()), classes), np.float32)
    scores[np.arange(len(scores)), ids[objects]] = 1
    settled = np.array([i for i in class_ids.values() if i < classes], np.int64)
    faces = boxes[~crowd & (ids == classes)]
    return Labels(boxes[objects], scores, faces, boxes[crowd], ids[crowd], settled)


def _of(
    taught: Mapping[str, NDArray[Any]], name: str, classes: int
) -> tuple[Boxes, Floats, Floats]:
    """Boxes, scores of all classes, and faces (m,5) with a score each."""
    empty = np.zeros((0, 4)), np.zeros((0, classes)), np.zeros((0, 5))
    boxes, scores, faces = (
        np.asarray(taught.get(f"{name}/{key}", none), np.float32)
        for key, none in zip(("boxes", "scores", "faces"), empty, strict=True)
    )
    return boxes, scores, faces


def _with_taught(given: Labels, boxes: Boxes, scores: Floats) -> Labels:
    """With those boxes of the teachers that the ground truth says nothing about.

    What they find is there with 1.2·√score at most 1: their mean is low where one of them alone
    sees something, which then mostly is something.
    """
    if not len(boxes):
        return given
    best, ids = scores.max(1), scores.argmax(1)
    kept = best > LEAST_TAUGHT
    labelled = np.concatenate([given.boxes, given.ignored])
    labelled_ids = np.concatenate([given.scores.argmax(1), given.ignored_ids])
    same = (pairwise_iou(boxes, labelled) >= SAME) & (ids[:, None] == labelled_ids)
    kept &= ~same.any(1)
    there = np.minimum(1, 1.2 * np.sqrt(best))
    soft = scores / np.maximum(best, 1e-6)[:, None] * there[:, None]
    return replace(
        given,
        boxes=np.concatenate([given.boxes, boxes[kept]]),
        scores=np.concatenate([given.scores, soft[kept]]),
    )


def _with_faces(labels: Labels, faces: Floats, *, person: int) -> Labels:
    """With a face teacher's boxes (m,5), which takes animals and dolls for people: a face counts
    only on a person; sure ones elsewhere are background, unsure ones are ignored."""
    people = labels.boxes[(labels.scores.argmax(1) == person) & (labels.scores.max(1) > 0.5)]
    centre = (faces[:, :2] + faces[:, 2:4]) / 2
    on = ((centre[:, None] > people[:, :2]) & (centre[:, None] < people[:, 2:])).all(-1).any(1)
    sure = on & (faces[:, 4] >= SURE_FACE)
    unsure = on & ~sure
    face_id = labels.scores.shape[1]
    return replace(
        labels,
        faces=np.concatenate([labels.faces, faces[sure, :4]]),
        ignored=np.concatenate([labels.ignored, faces[unsure, :4]]),
        ignored_ids=np.concatenate([labels.ignored_ids, np.full(int(unsure.sum()), face_id)]),
    )


def area(boxes: Boxes) -> NDArray[np.float32]:
    """(N,4) to (N,); 0 for a box turned inside out."""
    size = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    product: NDArray[np.float32] = size[:, 0] * size[:, 1]
    return product


def pairwise_iou(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """(N,4), (G,4) to (N,G)."""
    low = np.maximum(a[:, None, :2], b[:, :2])
    high = np.minimum(a[:, None, 2:], b[:, 2:])
    inter = np.clip(high - low, 0, None).prod(-1)
    found: NDArray[np.float32] = inter / np.maximum(area(a)[:, None] + area(b) - inter, 1e-6)
    return found
