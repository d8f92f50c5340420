"""Comparison of a replay with the JSON lines of a golden run."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..core.detections import Result, label_of
from ..core.errors import ConfigError, VerdictError
from ..core.filters import box_iou
from ..core.frame import SourceInfo
from ..core.interfaces import Sink
from ..core.masks import ObjectMask, runs_overlap, unpack_runs

IOU, SCORE = 0.9, 0.05  # what engines, precisions and library versions may differ by
KEYPOINT_PX, KEYPOINT_SHARE = 3.0, 0.05  # the larger; the share is of the box's diagonal
MASK_IOU = 0.85  # their edges are finer than boxes
SHOWN = 3

Box = tuple[float, float, float, float]


class GoldenBox(NamedTuple):
    """One detection, as JSON lines hold it."""

    label: str
    score: float
    box: Box
    keypoints: tuple[tuple[float, float], ...] | None = None
    polygon: tuple[tuple[float, float], ...] | None = None
    runs: Sequence[int] | None = None  # of the mask

    def __str__(self) -> str:
        return f"{self.label} {self.score:.2f} at [{', '.join(f'{v:.0f}' for v in self.box)}]"


class GoldenSink(Sink):
    """Compares each result with the line of the same frame in a file of JSON lines.

    A detection needs a partner of its own, of its label, with IoU ≥ 0.9 and score within 0.05;
    their keypoints and the corners of turned boxes, where both have some, lie within 3 px or 5 % of
    the box's diagonal; their masks, where both have run lengths, have IoU ≥ 0.85. A detection whose
    score is less than 0.05 above ``threshold`` may come and go.
    """

    def __init__(self, path: str, *, threshold: float, whole: bool = True) -> None:
        self._path = path
        self._golden = _read(Path(path))
        self._weak = threshold + SCORE
        self._whole = whole  # every golden frame must come
        self._labels: Sequence[str] = ()
        self._seen: set[int] = set()
        self._faults: dict[int, str] = {}

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self._labels = labels

    def emit(self, result: Result) -> None:
        index, found = result.frame.index, result.detections
        self._seen.add(index)
        if index not in self._golden:
            self._faults[index] = "is not in the golden file"
            return
        none: Any = [None] * len(found)
        keypoints, polygons, masks = (
            none if each is None else each
            for each in (found.keypoints, found.polygons, found.masks)
        )
        ours = [
            GoldenBox(
                label_of(self._labels, int(found.class_ids[i])),
                float(found.scores[i]),
                _box(found.xyxy[i]),
                _points(keypoints[i]),
                _points(polygons[i]),
                _runs(masks[i], result.frame.wh_px),
            )
            for i in range(len(found))
        ]
        pairs, missing, new = _match(self._golden[index], ours)
        faults = [f"{one} is missing" for one in missing if one.score >= self._weak]
        faults += [f"{one} is new" for one in new if one.score >= self._weak]
        for one, other in pairs:
            if not _near(one, other):
                faults.append(f"{one} has other keypoints")
            if not _near(one, other, "polygon"):
                faults.append(f"{one} has other corners")
            if not _alike(one.runs, other.runs):
                faults.append(f"{one} has another mask")
        if faults:
            self._faults[index] = faults[0]

    def check(self, stopped: bool = False) -> str:
        """One line if all is well; raises VerdictError with the first differences.

        ``stopped``: the run was ended early. Frames that did not come are no difference then, but
        without any difference there is no verdict either, and the line says so.
        """
        if stopped and not self._faults:
            return f"stopped after {len(self._seen)} frames: no verdict, none of them differs"
        if not self._seen:
            raise VerdictError(
                f"nothing was compared with {self._path}: no frame came; check the source"
            )
        if self._whole and not stopped:
            for index in self._golden.keys() - self._seen:
                self._faults[index] = "did not come"
        if not self._faults:
            return f"as expected: {len(self._seen)} frames agree with {self._path}"
        first = [f"frame {i}: {self._faults[i]}" for i in sorted(self._faults)[:SHOWN]]
        raise VerdictError(
            f"{len(self._faults)} of {len(self._seen | self._golden.keys())} frames differ from "
            f"{self._path}: {'; '.join(first)}. If the new result is right, write a new golden "
            "file with --json"
        )


def _match(
    golden: list[GoldenBox], ours: list[GoldenBox]
) -> tuple[list[tuple[GoldenBox, GoldenBox]], list[GoldenBox], list[GoldenBox]]:
    """(pairs of golden and ours, golden without a partner, ours without one).

    The surest of ours chooses first, and takes the golden one that it overlaps most.
    """
    left, pairs, new = list(golden), [], []
    for one in sorted(ours, key=lambda found: -found.score):
        fits = [i for i, other in enumerate(left) if _same(other, one)]
        if not fits:
            new.append(one)
            continue
        best = max(fits, key=lambda i: (_near(left[i], one), box_iou(left[i].box, one.box)))
        pairs.append((left.pop(best), one))
    return pairs, left, new


def _near(a: GoldenBox, b: GoldenBox, name: str = "keypoints") -> bool:
    """Whether the keypoints, or other points, agree; they do where one has none."""
    ours, theirs = getattr(a, name), getattr(b, name)
    if ours is None or theirs is None:
        return True
    diagonal_px = math.dist(a.box[:2], a.box[2:])
    limit_px = max(KEYPOINT_PX, KEYPOINT_SHARE * diagonal_px)
    return len(ours) == len(theirs) and all(
        math.dist(p, q) <= limit_px for p, q in zip(ours, theirs, strict=True)
    )


def _alike(one: Sequence[int] | None, other: Sequence[int] | None) -> bool:
    """Whether the masks agree; they do where one is not there or is written as outlines."""
    return one is None or other is None or runs_overlap(one, other) >= MASK_IOU


def _runs(mask: ObjectMask | None, wh_px: tuple[int, int]) -> list[int] | None:
    return None if mask is None else mask.runs(wh_px).tolist()


def _same(a: GoldenBox, b: GoldenBox) -> bool:
    return a.label == b.label and abs(a.score - b.score) <= SCORE and box_iou(a.box, b.box) >= IOU


def _read(path: Path) -> dict[int, list[GoldenBox]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read --expect {path}: {error}") from error
    golden: dict[int, list[GoldenBox]] = {}
    for number, text in enumerate(lines, start=1):
        try:
            line: Any = json.loads(text)
            golden[int(line["frame"])] = [
                GoldenBox(
                    str(d["label"]),
                    float(d["score"]),
                    _box(d["box"]),
                    *(_points(d.get("keypoints")), _points(d.get("polygon")), _counts(d)),
                )
                for d in line["detections"]
            ]
        except (
            *(ValueError, KeyError, TypeError, AttributeError),
            *(OverflowError, RecursionError),  # numbers and nesting without end
        ) as error:
            raise ConfigError(
                f"--expect {path}, line {number} is not a line that --json writes ({error!r})"
            ) from error
    if not golden:
        raise ConfigError(f"--expect {path} is empty; write it with replay CLIP --json {path}")
    return golden


def _box(values: Any) -> Box:
    x0, y0, x1, y1 = (float(v) for v in values)
    return x0, y0, x1, y1


def _counts(detection: Any) -> list[int] | None:
    mask = detection.get("segmentation")
    return unpack_runs(mask["counts"]) if isinstance(mask, dict) else None


def _points(values: Any) -> tuple[tuple[float, float], ...] | None:
    return None if values is None else tuple((float(x), float(y)) for x, y in values)
