"""Which detections of a source are passed on: thresholds of classes, classes, sizes, their number.

One place for all engines, policies and sources, after the engine and before objects are followed.
Where nothing is filtered a result passes as it is.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .detections import Detections, Result
from .errors import ConfigError

log = logging.getLogger(__name__)

MOST = 1000  # detections of a frame: the highest limit
# what hides a detection, and how that is told after a number
REASONS = {
    "class_scores": "below the score of their class",
    "classes": "of other classes",
    "min_box": "too small",
    "max_box": "too large",
    "max_detections": "beyond the most",
    "window": "not ticked",
}
_SIDE = r"(\d+(?:\.\d+)?)(%?)"
Sides = tuple[
    tuple[float, bool], tuple[float, bool]
]  # width and height: number, is it a percentage


def hidden_text(hidden: Mapping[str, int]) -> str:
    """The badge: how many detections of a frame are hidden, and why; "" where none is."""
    return (
        "Hidden: " + ", ".join(f"{n} {REASONS[why]}" for why, n in hidden.items()) if hidden else ""
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Filters:
    """What is asked for. Labels are those of the model; empty texts and tuples filter nothing.

    ``score``: lowest of all classes, None for the engine's; ``class_scores`` take its place.
    ``min_box``, ``max_box``: "24" (both sides, pixels), "24x48" (width, height), "5%" or "2%x10%"
    (of the frame's). ``agnostic_nms``: of overlapping boxes the strongest stays, whatever their
    classes.
    """

    score: float | None = None
    class_scores: Mapping[str, float] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    min_box: str = ""
    max_box: str = ""
    max_detections: int = 500
    agnostic_nms: bool = False

    def changed(self, table: Mapping[str, Any], where: str = "filters: ") -> Filters:
        """With the keys of ``table`` in place of its own; raises ConfigError naming the key.

        Lists of names, and of LABEL=SCORE, may also be one text with commas.
        """
        for key in table:
            if key not in _READ:
                near = difflib.get_close_matches(key, _READ, 1)
                cure = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(_READ)}"
                raise ConfigError(f"{where}unknown key {key!r}; {cure}")
        try:
            made = replace(self, **{key: _READ[key](value) for key, value in table.items()})
            low, high = parse_box(made.min_box), parse_box(made.max_box)
        except ConfigError as fault:
            raise ConfigError(f"{where}{fault}") from fault
        for (least, part), (most, of) in zip(low or (), high or (), strict=False):
            if part == of and least > most:
                raise ConfigError(f"{where}min_box {made.min_box} is above max_box {made.max_box}")
        return made

    def check(self, labels: Sequence[str], model: str) -> Filters:
        """Itself; raises ConfigError for a name that the model does not have."""
        for key, names in (("class_scores", self.class_scores), ("classes", self.classes)):
            for name in names:
                if name not in labels:
                    near = difflib.get_close_matches(name, labels, n=3) or labels[:8]
                    raise ConfigError(
                        f"{key}: {name!r} is no class of {model}; some of them: {', '.join(near)}"
                    )
        return self

    def table(self) -> dict[str, Any]:
        """All but ``score``, as ``changed`` takes it."""
        scores = ",".join(f"{label}={score:g}" for label, score in self.class_scores.items())
        made = {
            each.name: getattr(self, each.name) for each in fields(self) if each.name != "score"
        }
        return made | {"class_scores": scores, "classes": ",".join(self.classes)}

    def lowest(self, score: float) -> float:
        """What the engine must report, where ``score`` is the threshold of what has none here."""
        return min((score if self.score is None else self.score, *self.class_scores.values()))


class BaseThresholds(NamedTuple):
    """Of the engine: score and NMS overlap of what no filter says otherwise, and what it reports.

    ``lowest`` is below ``score`` where a class or another source asks for less.
    """

    score: float
    iou: float
    lowest: float


class DetectionFilter:
    """Applies ``filters``, which any thread may replace, to the results of one source.

    Called on the pipeline thread.
    """

    def __init__(self, filters: Filters | None = None) -> None:
        self.filters = filters or Filters()
        self.labels: Sequence[str] = ()
        self.base = BaseThresholds(0.0, 1.0, 0.0)
        self._made_of: tuple[Filters, Sequence[str], BaseThresholds] | None = None
        self._told = False

    def __call__(self, result: Result) -> Result:
        """The same, or with fewer detections and how many of them are hidden for which reason."""
        made_of = (self.filters, self.labels, self.base)
        if made_of != self._made_of:
            self._make(*made_of)
            self._made_of = made_of
        found = result.detections
        if not self._steps and len(found) <= self._most:
            return result
        hidden: dict[str, int] = {}
        for reason, choose in self._steps:
            kept = choose(found, result.frame.wh_px)
            if not kept.all():
                gone = ~kept
                if reason == "class_scores":  # the engine reports weaker ones than were asked for
                    gone &= found.scores >= self.base.score
                if count := int(np.count_nonzero(gone)):
                    hidden[reason] = count
                found = found[kept]
        if len(found) > self._most:
            self._tell(len(found))
            hidden["max_detections"] = len(found) - self._most
            found = found[: self._most]
        if found is result.detections:
            return result
        hidden.pop("agnostic_nms", None)  # the same object again
        return replace(result, detections=found, hidden=hidden)

    def _make(self, filters: Filters, labels: Sequence[str], base: BaseThresholds) -> None:
        self._most, self._steps = filters.max_detections, list[tuple[str, _Choose]]()
        add = self._steps.append
        own = base.score if filters.score is None else filters.score
        if labels and (strange := {*filters.classes, *filters.class_scores} - set(labels)):
            log.warning("filters name %s, which the model does not have", ", ".join(strange))
        if labels and (filters.class_scores or own > base.lowest):
            least = np.array([filters.class_scores.get(each, own) for each in labels], np.float32)
            add(("class_scores", lambda d, wh: d.scores >= least.take(d.class_ids, mode="clip")))
        if filters.agnostic_nms:
            add(("agnostic_nms", lambda d, wh: strongest(d.xyxy, base.iou)))
        if labels and filters.classes:
            wanted = np.array([label in filters.classes for label in labels])
            add(("classes", lambda d, wh: wanted.take(d.class_ids, mode="clip")))
        for reason, sign in (("min_box", 1), ("max_box", -1)):
            if size := parse_box(getattr(filters, reason)):
                add((reason, partial(_fits, size=size, sign=sign)))

    def _tell(self, count: int) -> None:
        if not self._told:
            self._told = True
            log.warning(
                "a frame has %d boxes, of which the %d strongest are kept: max_detections is %d; "
                "raise it (--max-detections), or raise the score",
                *(count, self._most, self._most),
            )


_Choose = Callable[[Detections, tuple[int, int]], NDArray[np.bool_]]  # (N,) those that stay


def _fits(
    found: Detections, wh_px: tuple[int, int], *, size: Sides, sign: int
) -> NDArray[np.bool_]:
    limit = [n * side / 100 if part else n for (n, part), side in zip(size, wh_px, strict=True)]
    beyond = sign * (found.xyxy[:, 2:] - found.xyxy[:, :2] - limit)
    fits: NDArray[np.bool_] = np.logical_and.reduce(beyond >= 0, axis=1)
    return fits


def overlap(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) intersection over union of a box (4,) with each of (N, 4)."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    inner = np.maximum(sides, 0).prod(axis=1)
    areas = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    shares: NDArray[np.float32] = inner / np.maximum(areas - inner, 1e-9)
    return shares


def box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes xyxy; 0 where both are empty."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inner = max(w, 0.0) * max(h, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner
    return inner / union if union > 0 else 0.0


def strongest(xyxy: NDArray[np.float32], iou: float) -> NDArray[np.bool_]:
    """(N,) of boxes by falling score those that no kept one overlaps by more than ``iou``."""
    kept = np.ones(len(xyxy), bool)
    for i in range(len(xyxy) - 1):
        if kept[i]:
            kept[i + 1 :] &= overlap(xyxy[i], xyxy[i + 1 :]) <= iou
    return kept


def split_score(value: object) -> tuple[float | None, tuple[str, ...]]:
    """``0.4``, ``person=0.5,car=0.3`` or both: the plain number, and the others as texts."""
    if not isinstance(value, str):
        return value, ()  # type: ignore[return-value]
    plain, pairs = None, []
    for text in filter(None, map(str.strip, value.split(","))):
        if "=" in text:
            pairs.append(text)
        elif plain is not None:
            raise ConfigError(f"score is {value!r}; write one plain number at most")
        else:
            plain = _number(text, f"score is {value!r}: {text!r}")
    return plain, tuple(pairs)


def parse_box(text: str) -> Sides | None:
    """See ``Filters``; None for ""."""
    if not text:
        return None
    match = re.fullmatch(f"{_SIDE}(?:[x×]{_SIDE})?", text.replace(" ", ""))
    if match is None:
        raise ConfigError(
            f"{text!r} is no size of a box (min_box, max_box): write 24, 24x48, 5% or 2%x10%"
        )
    width = float(match[1]), bool(match[2])
    return width, (width if match[3] is None else (float(match[3]), bool(match[4])))


def _number(value: object, what: str) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = -1.0
    if not 0.001 <= number <= 1:
        raise ConfigError(f"{what} is no number from 0.001 to 1, such as 0.5 or person=0.5")
    return number


def _score(value: object) -> float | None:
    return None if value is None else _number(value, f"score: {value!r}")


def _scores(value: object) -> dict[str, float]:
    scores = {}
    for text in _names(value, "class_scores"):
        label, _, number = text.rpartition("=")
        scores[label.strip()] = _number(number, f"class_scores: {text!r}")
    return scores


def _names(value: object, key: str = "classes") -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(each, str) for each in texts):
        raise ConfigError(f"{key} is {value!r}; write names with commas, or a list of them")
    return tuple(filter(None, (part.strip() for text in texts for part in text.split(","))))


def _box(value: object) -> str:
    text = f"{value:g}" if type(value) in (int, float) else value
    if value is None or text == "":
        return ""
    if not isinstance(text, str):
        raise ConfigError(f"{value!r} is no size of a box; write a text such as 24x48")
    parse_box(text)
    return text.replace(" ", "")


def _most(value: object) -> int:
    if type(value) is not int or not 1 <= value <= MOST:
        raise ConfigError(f"max_detections is {value!r}; write a whole number from 1 to {MOST}")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"agnostic_nms is {value!r}; write true or false")
    return value


_READ: dict[str, Callable[[object], Any]] = {
    "score": _score,
    "class_scores": _scores,
    "classes": _names,
    "min_box": _box,
    "max_box": _box,
    "max_detections": _most,
    "agnostic_nms": _flag,
}
