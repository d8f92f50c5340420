"""Filters: what is hidden, in which order, and that figures of it are true."""

from __future__ import annotations

import numpy as np
import pytest

from app.core.detections import Detections, Result
from app.core.errors import ConfigError
from app.core.filters import BaseThresholds, DetectionFilter, Filters, hidden_text, split_score
from app.core.frame import Frame

LABELS = ("person", "car", "truck")
FRAME = Frame(np.zeros((100, 200, 3), np.uint8), 0, 0)
ROWS = (  # corners, score, class: falling scores
    (10, 10, 50, 50, 0.9, 1),
    (11, 10, 51, 50, 0.8, 2),
    (60, 60, 90, 90, 0.45, 0),
    (100, 60, 110, 90, 0.25, 0),
)


def result(rows=ROWS, **more) -> Result:
    table = np.array(rows, np.float32).reshape(-1, 6)
    found = Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int32), **more)
    return Result(FRAME, found, 0)


def passed(table: dict, given: Result | None = None, *, score=0.4, lowest=None) -> Result:
    made = DetectionFilter(Filters().changed(table).check(LABELS, "made"))
    made.labels = LABELS
    made.base = BaseThresholds(score, 0.5, score if lowest is None else lowest)
    return made(result() if given is None else given)


def test_what_nothing_hides_is_the_very_result() -> None:
    given = result()
    assert passed({}, given) is given
    assert passed({"classes": "person,car,truck", "min_box": 5, "max_box": "99%"}, given) is given


@pytest.mark.parametrize(
    ("table", "left", "hidden"),
    [
        ({"classes": "car"}, [0], {"classes": 3}),
        ({"classes": ["car", "truck"]}, [0, 1], {"classes": 2}),
        ({"min_box": "20"}, [0, 1, 2], {"min_box": 1}),
        ({"min_box": "35x35"}, [0, 1], {"min_box": 2}),
        ({"min_box": "10%"}, [0, 1, 2], {"min_box": 1}),  # 20 x 10 pixels
        ({"min_box": "1%x35%"}, [0, 1], {"min_box": 2}),
        ({"max_box": "30"}, [2, 3], {"max_box": 2}),
        ({"max_detections": 3}, [0, 1, 2], {"max_detections": 1}),
        ({"agnostic_nms": True}, [0, 2, 3], {}),
        ({"class_scores": "person=0.5"}, [0, 1], {"class_scores": 1}),
        ({"classes": "person", "max_detections": 1}, [2], {"classes": 2, "max_detections": 1}),
        ({"class_scores": "car=0.95", "agnostic_nms": True}, [1, 2], {"class_scores": 1}),
        ({"classes": "truck", "agnostic_nms": True}, [], {"classes": 3}),  # it is a car
    ],
)
def test_what_is_left_and_what_is_counted(table: dict, left: list[int], hidden: dict) -> None:
    weak = table.get("class_scores") is not None
    found = passed(table, lowest=0.2 if weak else None)
    assert found.detections.scores.tolist() == [np.float32(ROWS[i][4]) for i in left]
    assert found.hidden == hidden
    assert bool(hidden_text(found.hidden)) == bool(hidden)


def test_a_class_may_have_a_lower_threshold_than_the_rest() -> None:
    filters = Filters().changed({"class_scores": "person=0.2"})
    assert filters.lowest(0.4) == 0.2
    cars = [(0, 0, 9, 9, 0.3, 1), (20, 20, 30, 30, 0.3, 0), (50, 50, 60, 60, 0.1, 0)]
    found = passed({"class_scores": "person=0.2"}, result(cars), lowest=0.05)
    assert found.detections.class_ids.tolist() == [0]
    assert found.hidden == {}, "what is below the run's threshold would not be there anyway"


def test_a_source_without_a_threshold_of_its_own_keeps_that_of_the_run() -> None:
    found = passed({}, lowest=0.2)  # another source asked for less
    assert len(found.detections) == 3
    assert len(passed({"score": 0.85}).detections) == 1


def test_all_fields_of_a_detection_pass() -> None:
    points = np.arange(16, dtype=np.float32).reshape(4, 2, 2)
    found = passed({"classes": "person"}, result(keypoints=points)).detections
    assert found.keypoints is not None and np.array_equal(found.keypoints, points[2:])


def test_filters_and_labels_may_change_between_two_results() -> None:
    made = DetectionFilter(Filters(classes=("car",)))
    made.labels = LABELS
    assert len(made(result()).detections) == 1
    made.filters = Filters(classes=("person",))
    assert len(made(result()).detections) == 2
    made.labels = ("car", "person")
    assert made(result()).detections.class_ids.tolist() == [1, 2]  # 2 has no name


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"clases": "person"}, "did you mean 'classes'"),
        ({"classes": 3}, "classes"),
        ({"class_scores": "person"}, "class_scores"),
        ({"class_scores": "person=2"}, "class_scores"),
        ({"class_scores": "person=nan"}, "class_scores"),
        ({"min_box": "big"}, "24x48"),
        ({"min_box": -3}, "24x48"),
        ({"max_box": True}, "24x48"),
        ({"min_box": "50", "max_box": "20"}, "min_box 50 is above max_box 20"),
        ({"max_detections": 0}, "max_detections"),
        ({"max_detections": 1.5}, "max_detections"),
        ({"agnostic_nms": "yes"}, "agnostic_nms"),
        ({"score": 7}, "score"),
    ],
)
def test_bad_input_is_refused_with_the_key(table: dict, told: str) -> None:
    with pytest.raises(ConfigError, match="somewhere") as fault:
        Filters().changed(table, "somewhere")
    assert told in str(fault.value)


@pytest.mark.parametrize("key", ["classes", "class_scores"])
def test_an_unknown_class_is_told_with_the_nearest(key: str) -> None:
    value = "persn" if key == "classes" else "persn=0.5"
    with pytest.raises(ConfigError, match=r"persn.*person"):
        Filters().changed({key: value}).check(LABELS, "made")


def test_a_table_reads_back_as_it_was_written() -> None:
    table = {"class_scores": "person=0.5,car=0.3", "classes": "person", "min_box": "2%x10"}
    made = Filters().changed(table)
    assert made.table() == {**Filters().table(), **table}
    assert Filters().changed(made.table()) == made


def test_one_option_takes_a_number_and_those_of_classes() -> None:
    assert split_score("0.4") == (0.4, ())
    assert split_score("person=0.5, car=0.3") == (None, ("person=0.5", "car=0.3"))
    assert split_score("0.4,person=0.5") == (0.4, ("person=0.5",))
    for wrong in ("high", "0.4,0.5", "2"):
        with pytest.raises(ConfigError, match="score"):
            split_score(wrong)
