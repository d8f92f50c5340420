"""The golden comparison: agrees within its tolerances, and says what differs first."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.core.detections import Detections, Result
from app.core.errors import ConfigError, VerdictError
from app.core.frame import Frame, SourceInfo
from app.core.masks import ObjectMask
from app.sinks.golden import GoldenSink
from app.sinks.json_lines import ResultEncoder

BOX = [10.0, 10.0, 50.0, 90.0]


def line(index: int, *found: tuple[str, float, list[float]]) -> str:
    detections = [{"label": la, "class_id": 0, "score": s, "box": b} for la, s, b in found]
    return json.dumps({"frame": index, "detections": detections})


def result(index: int, *found: tuple[int, float, list[float]]) -> Result:
    boxes = np.array([b for _, _, b in found], np.float32).reshape(-1, 4)
    scores = np.array([s for _, s, _ in found], np.float32)
    ids = np.array([c for c, _, _ in found], np.int32)
    return Result(Frame(np.zeros((1, 1, 3), np.uint8), index, 0), Detections(boxes, scores, ids), 0)


def check(
    tmp_path: Path,
    golden: list[str],
    results: list[Result],
    *,
    stopped: bool = False,
    **options: Any,
) -> str:
    path = tmp_path / "golden.jsonl"
    path.write_text("\n".join(golden))
    sink = GoldenSink(str(path), threshold=0.35, **options)
    sink.open(SourceInfo("x", False), ("person", "dog"))
    for each in results:
        sink.emit(each)
    sink.close()
    return sink.check(stopped)


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


def test_each_detection_needs_a_partner_of_its_own(tmp_path: Path) -> None:
    five = [(0, 0.8, BOX)] * 5
    with pytest.raises(VerdictError, match=r"frame 0: person 0.80 .* is new"):
        check(tmp_path, [line(0, ("person", 0.8, BOX))], [result(0, *five)])
    with pytest.raises(VerdictError, match=r"frame 0: person 0.80 .* is missing"):
        check(tmp_path, [line(0, *[("person", 0.8, BOX)] * 5)], [result(0, (0, 0.8, BOX))])
    check(tmp_path, [line(0, *[("person", 0.8, BOX)] * 5)], [result(0, *five)])


def test_neighbours_find_the_partner_that_fits_best(tmp_path: Path) -> None:
    beside = [v + 1 for v in BOX]
    golden = line(0, ("person", 0.8, BOX), ("person", 0.79, beside))
    check(tmp_path, [golden], [result(0, (0, 0.8, beside), (0, 0.79, BOX))])


@pytest.mark.parametrize(("off_px", "differs"), [(4.0, False), (6.0, True)])  # 5 % of 89 px: 4.5
def test_keypoints_agree_within_their_tolerance(
    tmp_path: Path, off_px: float, differs: bool
) -> None:
    found = {"label": "person", "score": 0.8, "box": BOX, "keypoints": [[20, 20], [40, 30]]}
    golden = json.dumps({"frame": 0, "detections": [found]})
    plain = result(0, (0, 0.8, BOX))
    points = np.array([[[20, 20], [40 + off_px, 30]]], np.float32)
    d = plain.detections
    ours = Result(plain.frame, Detections(d.xyxy, d.scores, d.class_ids, points), 0)
    check(tmp_path, [golden], [plain])  # only one of them has any
    if differs:
        with pytest.raises(VerdictError, match=r"frame 0: person .* has other keypoints"):
            check(tmp_path, [golden], [ours])
    else:
        check(tmp_path, [golden], [ours])


@pytest.mark.parametrize(("moved_px", "differs"), [(2, False), (12, True)])
def test_masks_and_corners_agree_within_their_tolerance(
    tmp_path: Path, moved_px: int, differs: bool
) -> None:
    """What a run wrote is compared with another: a mask by its run lengths, a polygon by points."""
    plain = result(0, (0, 0.8, BOX)).detections
    frame = Frame(np.zeros((120, 100, 3), np.uint8), 0, 0)

    def ours(dx: int, *, turned: bool) -> Result:
        corners = np.array([[[20 + dx, 20], [60, 20], [60, 60], [20, 60]]], np.float32)
        masks = np.empty(1, object)
        masks[0] = ObjectMask(20 + dx, 20, 40, 60, np.ones((2, 2), np.float32), (0, 0, 0, 0))
        found = replace(plain, polygons=corners) if turned else replace(plain, masks=masks)
        return Result(frame, found, 0)

    for turned, named in ((True, "corners"), (False, "mask")):
        encode = ResultEncoder()
        encode.open(SourceInfo("x", False), ("person", "dog"))
        golden = [encode(ours(0, turned=turned))]
        check(tmp_path, golden, [ours(0, turned=turned)])
        if differs:
            with pytest.raises(VerdictError, match=named):
                check(tmp_path, golden, [ours(moved_px, turned=turned)])
        else:
            check(tmp_path, golden, [ours(moved_px, turned=turned)])


@pytest.mark.parametrize("whole", [True, False])
def test_nothing_compared_is_no_agreement(tmp_path: Path, whole: bool) -> None:
    with pytest.raises(VerdictError, match="nothing was compared"):
        check(tmp_path, [line(0)], [], whole=whole)


def test_a_run_that_was_stopped_has_no_verdict_unless_something_differs(tmp_path: Path) -> None:
    golden = [line(0), line(1), line(2)]
    told = check(tmp_path, golden, [result(0), result(1)], stopped=True)
    assert told == "stopped after 2 frames: no verdict, none of them differs"
    with pytest.raises(VerdictError, match=r"1 of 3 frames differ .*frame 1: person") as caught:
        check(tmp_path, golden, [result(0), result(1, (0, 0.8, BOX))], stopped=True)
    assert "did not come" not in str(caught.value)
