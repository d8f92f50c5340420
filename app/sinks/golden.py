"""Comparison of a replay with the JSON lines of a golden run."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..core.detections import Result, label_of
from ..core.errors import ConfigError, VerdictError
from ..core.frame import SourceInfo

IOU, SCORE = 0.9, 0.05  # what engines, precisions and library versions may differ by
KEYPOINT_PX, KEYPOINT_SHARE = 3.0, 0.05  # the larger; the share is of the box's diagonal
SHOWN = 3

Box = tuple[float, float, float, float]


class GoldenBox(NamedTuple):
    """One detection, as JSON lines hold it."""

    label: str
    score: float
    box: Box
    keypoints: tuple[tuple[float, float], ...] | None = None

    def __str__(self) -> str:
        return f"{self.label} {self.score:.2f} at [{', '.join(f'{v:.0f}' for v in self.box)}]"


class GoldenSink:
    """Compares each result with the line of the same frame in a file of JSON lines.

    A detection needs a partner of its own, of its label, with IoU ≥ 0.9 and score within 0.05;
    their keypoints, where both have some, lie within 3 px or 5 % of the box's diagonal. A detection
    whose score is less than 0.05 above ``threshold`` may come and go.
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
        """Take the labels."""
        self._labels = labels

    def emit(self, result: Result) -> None:
        """Compare one frame."""
        index, found = result.frame.index, result.detections
        self._seen.add(index)
        if index not in self._golden:
            self._faults[index] = "is not in the golden file"
            return
        points = [None] * len(found.scores) if found.keypoints is None else found.keypoints
        ours = [
            GoldenBox(label_of(self._labels, int(c)), float(s), _box(box), _points(k))
            for c, s, box, k in zip(found.class_ids, found.scores, found.xyxy, points, strict=True)
        ]
        pairs, missing, new = _match(self._golden[index], ours)
        faults = [f"{one} is missing" for one in missing if one.score >= self._weak]
        faults += [f"{one} is new" for one in new if one.score >= self._weak]
        faults += [f"{one} has other keypoints" for one, other in pairs if not _near(one, other)]
        if faults:
            self._faults[index] = faults[0]

    def close(self) -> None:
        """Nothing to close; the verdict is asked for."""

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
        best = max(fits, key=lambda i: (_near(left[i], one), _iou(left[i].box, one.box)))
        pairs.append((left.pop(best), one))
    return pairs, left, new


def _near(a: GoldenBox, b: GoldenBox) -> bool:
    """Whether the keypoints agree; they do where one has none."""
    if a.keypoints is None or b.keypoints is None:
        return True
    diagonal_px = math.dist(a.box[:2], a.box[2:])
    limit_px = max(KEYPOINT_PX, KEYPOINT_SHARE * diagonal_px)
    return len(a.keypoints) == len(b.keypoints) and all(
        math.dist(p, q) <= limit_px for p, q in zip(a.keypoints, b.keypoints, strict=True)
    )


def _same(a: GoldenBox, b: GoldenBox) -> bool:
    return a.label == b.label and abs(a.score - b.score) <= SCORE and _iou(a.box, b.box) >= IOU


def _iou(a: Box, b: Box) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inner = max(w, 0.0) * max(h, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner
    return inner / union if union > 0 else 0.0


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
                    str(d["label"]), float(d["score"]), _box(d["box"]), _points(d.get("keypoints"))
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


def _points(values: Any) -> tuple[tuple[float, float], ...] | None:
    return None if values is None else tuple((float(x), float(y)) for x, y in values)
