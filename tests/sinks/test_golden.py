"""The golden comparison: agrees within its tolerances, and says what differs first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.detections import Detections, Result
from app.errors import ConfigError, VerdictError
from app.frame import Frame, SourceInfo
from app.sinks.golden import GoldenSink

BOX = [10.0, 10.0, 50.0, 90.0]


def line(index: int, *found: tuple[str, float, list[float]]) -> str:
    detections = [{"label": la, "class_id": 0, "score": s, "box": b} for la, s, b in found]
    return json.dumps({"frame": index, "detections": detections})


def result(index: int, *found: tuple[int, float, list[float]]) -> Result:
    boxes = np.array([b for _, _, b in found], np.float32).reshape(-1, 4)
    scores = np.array([s for _, s, _ in found], np.float32)
    ids = np.array([c for c, _, _ in found], np.int32)
    return Result(Frame(np.zeros((1, 1, 3), np.uint8), index, 0), Detections(boxes, scores, ids), 0)


def check(tmp_path: Path, golden: list[str], results: list[Result], **options: Any) -> str:
    path = tmp_path / "golden.jsonl"
    path.write_text("\n".join(golden))
    sink = GoldenSink(str(path), threshold=0.35, **options)
    sink.open(SourceInfo("x", False), ("person", "dog"))
    for each in results:
        sink.emit(each)
    sink.close()
    return sink.check()


def test_agrees_within_its_tolerances(tmp_path: Path) -> None:
    golden = [line(0, ("person", 0.8, BOX)), line(1)]
    shifted = [v + 0.5 for v in BOX]
    assert "2 frames agree" in check(tmp_path, golden, [result(0, (0, 0.77, shifted)), result(1)])


@pytest.mark.parametrize(
    ("found", "named"),
    [
        ((), "frame 0: person 0.80 at [10, 10, 50, 90] is missing"),
        (((1, 0.8, BOX),), "is missing"),
        (((0, 0.7, BOX),), "is missing"),
        (((0, 0.8, [v + 10 for v in BOX]),), "is missing"),
        (((0, 0.8, BOX), (1, 0.7, BOX)), "dog 0.70 at [10, 10, 50, 90] is new"),
    ],
    ids=["nothing", "label", "score", "place", "one more"],
)
def test_what_differs_is_named(tmp_path: Path, found: Any, named: str) -> None:
    with pytest.raises(VerdictError) as caught:
        check(tmp_path, [line(0, ("person", 0.8, BOX))], [result(0, *found)])
    assert named in str(caught.value)


def test_a_weak_detection_may_come_and_go(tmp_path: Path) -> None:
    check(
        tmp_path, [line(0, ("person", 0.37, BOX)), line(1)], [result(0), result(1, (1, 0.38, BOX))]
    )


def test_frames_must_all_come_unless_the_run_was_cut_short(tmp_path: Path) -> None:
    golden = [line(0), line(1), line(2)]
    with pytest.raises(VerdictError, match="frame 2: did not come"):
        check(tmp_path, golden, [result(0), result(1)])
    check(tmp_path, golden, [result(0), result(1)], whole=False)
    with pytest.raises(VerdictError, match="not in the golden file"):
        check(tmp_path, golden, [result(i) for i in range(4)])


@pytest.mark.parametrize(
    "text", ["", "no json", '{"frame": 1}', "[1]", '{"frame": 0, "detections": [3]}']
)
def test_a_file_that_is_no_golden_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="--expect"):
        check(tmp_path, [text], [])
