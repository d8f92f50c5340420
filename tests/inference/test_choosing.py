"""Thresholds of single classes, and NMS across classes."""

from __future__ import annotations

import numpy as np
import pytest

from app.config import Config
from app.core.detections import Detections
from app.core.errors import ModelError
from app.core.letterbox import place
from app.inference.postprocess import Limits, Postprocessor
from app.models.manifest import (
    InputSpec,
    Model,
    ModelSpec,
    format_manifest,
    parse_manifest,
    parse_toml,
)
from app.runtime.engines import choosing, reported

LABELS = ("person", "car", "truck")
ROWS = (  # corners, score, class
    (10, 10, 50, 50, 0.9, 1),
    (11, 10, 51, 50, 0.8, 2),
    (60, 60, 90, 90, 0.45, 0),
    (10, 60, 40, 90, 0.25, 1),
)


def spec(**more) -> ModelSpec:
    parameters = {"columns": ["xyxy score class"]}
    return ModelSpec("made", "a.onnx", InputSpec((100, 100)), "rows", LABELS,
                     parameters=parameters, **more)  # fmt: skip


def found(model: ModelSpec, score: float = 0.4) -> Detections:
    rows = np.array(ROWS, np.float32)[None]
    post = Postprocessor(model, [rows.shape], Limits(score, 0.5))
    return post([rows], place((100, 100), (100, 100)))


def test_without_a_choice_overlapping_boxes_of_two_classes_stay() -> None:
    assert found(spec()).class_ids.tolist() == [1, 2, 0]


def test_across_classes_the_strongest_of_overlapping_boxes_stays() -> None:
    assert found(spec(agnostic=True)).class_ids.tolist() == [1, 0]


def test_a_class_has_a_threshold_of_its_own_above_or_below_the_others() -> None:
    scores = found(spec(class_scores={"car": 0.2, "person": 0.5})).scores
    assert scores.tolist() == pytest.approx([0.9, 0.8, 0.25])


def test_a_manifest_keeps_the_choices() -> None:
    model = spec(agnostic=True, class_scores={"car": 0.25})
    written = parse_toml(format_manifest(model))
    assert parse_manifest(written, name="made", where="made.toml") == model
    written["thresholds"]["class_scores"] = {"dog": 0.5}
    with pytest.raises(ModelError, match=r"class_scores.*'dog'"):
        parse_manifest(written, name="made", where="made.toml")


def test_thresholds_of_a_run_stand_over_those_of_the_model(tmp_path) -> None:
    model = Model(spec(class_scores={"car": 0.25, "person": 0.3}), tmp_path, None)
    config = Config(class_scores=("car=0.2,truck=0.9",))
    assert choosing(config, model).spec.class_scores == {"person": 0.3}
    assert choosing(Config(), model) == model
    assert reported(config, model.spec)["score"] == 0.2, "of which the filters then choose"
    assert reported(Config(score=0.6), model.spec) == {"score": 0.6, "iou": 0.45, "most": 500}
