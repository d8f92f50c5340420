"""``models evaluate``: accuracy and speed of models on labelled photographs, side by side.

The matching and the curves are pycocotools', the reference; this file asks it per class, per size
and per part of a set, and turns its arrays into named figures.

Each photograph goes through all models in turn, as the application runs them (one thread), so their
times can be compared. The accuracy gate judges a variant against its parent, and a model on another
engine or in another precision against itself on the first one.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, cast

import cv2
import numpy as np

from ..config import PRECISIONS, Config, Precision
from ..core.detections import Detections
from ..core.errors import ConfigError, VerdictError
from ..core.frame import Frame
from ..core.interfaces import CPU_ENGINES, EngineKind
from ..core.package import COMMAND, pip_install
from ..models.manifest import Model
from ..models.store import find_model, make_default
from ..pipeline.handoff import Policy
from ..runtime.engines import backend_factory
from . import Destination, columns, figure, header
from .thresholds import Trust, trust

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """Of one class: 0..1, None where no labelled box of the kind exists.

    ``ap50``: average precision at IoU 0.5; ``ap``: mean over IoU 0.50:0.95; ``small``, ``medium``,
    ``large``: ap50 of boxes up to 32², up to 96² and above, in px²; ``recall50``: share of the
    boxes found at any score.
    """

    label: str
    boxes: int
    ap50: float | None
    ap: float | None
    small: float | None
    medium: float | None
    large: float | None
    recall50: float | None


def coco_accuracy(
    truth: Mapping[str, Any],
    found: Sequence[Mapping[str, Any]],
    *,
    images: Iterable[int] | None = None,
) -> dict[str, ClassAccuracy]:
    """By label: accuracy of ``found`` against ``truth``, on ``images`` (ids; None: all).

    ``truth`` is a COCO annotation file's content; ``iscrowd`` boxes are neither hits nor misses.
    ``found`` rows have image_id, category_id, bbox (xywh px) and score. Raises ConfigError when
    pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ConfigError(
            f"measuring accuracy needs pycocotools ({error}); {pip_install('models')}"
        ) from error
    # one category at a time keeps apart what shares a picture; pycocotools prints as it goes
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {**truth, "annotations": [dict(a) for a in truth["annotations"]]}
        reference.createIndex()
        ids = sorted(reference.getImgIds() if images is None else images)
        ours = reference.loadRes([dict(row) for row in found] or [_nothing(ids)])

        def curves(sizes: slice, overlaps: slice) -> COCOeval:
            run = COCOeval(reference, ours, "bbox")
            run.params.imgIds, run.params.maxDets = ids, run.params.maxDets[-1:]
            run.params.areaRng = run.params.areaRng[sizes]
            run.params.areaRngLbl = run.params.areaRngLbl[sizes]
            run.params.iouThrs = run.params.iouThrs[overlaps]
            run.evaluate()
            run.accumulate()
            return run

        # of single sizes nothing but AP50 is told: their other overlaps would be most of the work
        run, of_sizes = curves(slice(0, 1), slice(None)), curves(slice(1, None), slice(0, 1))
    wanted = set(ids)
    result = {}
    for k, category in enumerate(int(c) for c in run.params.catIds):
        label = str(reference.cats[category]["name"])
        count = sum(
            a["category_id"] == category and a["image_id"] in wanted and not a.get("iscrowd")
            for a in truth["annotations"]
        )
        precision = run.eval["precision"][:, :, k, 0, 0]  # (IoU, recall)
        at_half = of_sizes.eval["precision"][0, :, k, :, 0]  # (recall, size)
        shares = (precision[0], precision, *at_half.T, run.eval["recall"][:1, k, 0, 0])
        result[label] = ClassAccuracy(label, count, *map(_mean, shares))
    return result


def lost_points(
    variant: Mapping[str, ClassAccuracy], parent: Mapping[str, ClassAccuracy]
) -> dict[str, float]:
    """By label: how many hundredths of AP50 ``variant`` is below ``parent``; negative: above."""
    return {
        label: 100 * (theirs.ap50 - mine.ap50)
        for label, theirs in parent.items()
        if theirs.ap50 is not None and (mine := variant.get(label)) and mine.ap50 is not None
    }


def _nothing(ids: Sequence[int]) -> dict[str, Any]:
    """A row that matches nothing: pycocotools does not take an empty list."""
    return {"image_id": ids[0], "category_id": -1, "bbox": [0, 0, 0, 0], "score": 0.0}


def _mean(values: np.ndarray) -> float | None:
    """Mean of a curve; -1 in it marks "no such box"."""
    kept = values[values > -1]
    return float(kept.mean()) if kept.size else None


def _file_name(name: object) -> str:
    """Raises ValueError for what is the name of no file."""
    if not isinstance(name, str) or not 0 < len(os.fsencode(name)) < 256 or "\0" in name:
        raise ValueError(f"file_name is {str(name)[:40]!r}")
    return name


@dataclass
class LabelledSet:
    """COCO annotations and where their pictures lie."""

    content: Mapping[str, Any]
    folder: Path
    parts: Mapping[str, Sequence[int]]  # image ids

    @classmethod
    def read(cls, path: Path, parts: Mapping[str, Sequence[str]]) -> LabelledSet:
        """Raises ConfigError naming what is wrong."""
        file = path / "val.json" if path.is_dir() else path
        try:
            content = json.loads(file.read_text("utf-8"))
            images = content["images"]
            _ = [(a["image_id"], a["category_id"], a["bbox"]) for a in content["annotations"]]
            _ = [(c["id"], c["name"]) for c in content["categories"]]
            ids = [(i["id"], _file_name(i["file_name"])) for i in images]
        except OSError as error:
            raise ConfigError(f"--data: cannot read {file}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(
                f"--data: {file} is no COCO annotation file with images, annotations and "
                f"categories: {error!r}"
            ) from error
        if not ids:
            raise ConfigError(f"--data: {file} lists no images")
        chosen: dict[str, list[int]] = {"all": [i for i, _ in ids]}
        for name, sources in parts.items():
            chosen[name] = [i["id"] for i in images if i.get("source") in sources]
            if not chosen[name]:
                raise ConfigError(f"--part {name}: no image of {file} is of {', '.join(sources)}")
        return cls(content, file.parent, chosen)

    @property
    def categories(self) -> dict[str, int]:
        """Category ids by label."""
        return {str(c["name"]): int(c["id"]) for c in self.content["categories"]}

    def frames(self) -> Iterator[tuple[int, Frame]]:
        """(image id, Frame), picture after picture."""
        for index, image in enumerate(self.content["images"]):
            name = image["file_name"]
            places = (self.folder / "images" / name, self.folder / name)
            path = next(filter(Path.is_file, places), None)
            pixels = None if path is None else cv2.imread(str(path), cv2.IMREAD_COLOR)
            if pixels is None:
                what = "is missing" if path is None else "is no picture"
                raise ConfigError(f"--data: {places[0]} {what}")
            yield image["id"], Frame(np.asarray(pixels, np.uint8), index, 0)


LEAST_SCORE = 0.01  # the curve needs the weak ones too
GATE_POINTS = 2.0  # AP50, in hundredths, that a variant may lose
PROGRESS_EVERY = 100

Way = tuple[EngineKind, Precision]  # engine and precision
CPU: Way = "cpu", "auto"
Report = dict[str, dict[str, ClassAccuracy]]  # by part of the set, by label


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("models", metavar="NAME_OR_PATH", nargs="+")
    add("--data", type=Path, required=True, metavar="FOLDER_OR_JSON",
        help="COCO annotations, or a folder with val.json; pictures in images/ beside")  # fmt: skip
    add("--part", type=_part, action="append", default=[], metavar="NAME=SOURCE,SOURCE",
        help="report these sources apart (`source` of the annotation file's images)")  # fmt: skip
    add("--on", type=_way, nargs="+", default=[CPU], metavar="ENGINE[:PRECISION]",
        help="every model on each of these engines of the processor: cpu, openvino, "
             "openvino:bf16; the others are judged against the first (default: cpu)")  # fmt: skip
    add("--slices", nargs="+", default=[], metavar="CxR",
        help="every model also with frames in parts: 2x2, auto; and what it gains")  # fmt: skip
    add("--slice-overlap", type=float, default=0.2, metavar="SHARE")
    add("--json", metavar="FILE", help="all figures, for machines")
    add("--make-default", action="store_true",
        help="the (one) model becomes the default, if it passes the gate")  # fmt: skip


def run_evaluate(args: argparse.Namespace) -> int:
    """Measure, print, judge. VerdictError (exit code 6) when a variant lost too much."""
    if args.make_default and len(args.models) > 1:
        raise ConfigError("--make-default goes with one model")
    if args.make_default and args.on != [CPU]:
        raise ConfigError("--make-default goes without --on: the gate is that of --engine cpu")
    destination = Destination(args.json)
    truth = LabelledSet.read(args.data, dict(args.part))
    models = _with_parents(args.models, args.shelf_dir)
    candidates = [
        Candidate(model, engine, precision, (engine, precision) == args.on[0], slices)
        for model in models
        for engine, precision in args.on
        for slices in (None, *args.slices)
    ]
    for candidate in candidates:
        if not set(candidate.model.spec.labels) & set(truth.categories):
            raise ConfigError(
                f"{candidate.model.spec.name} finds {', '.join(candidate.model.spec.labels[:5])}, "
                f"the set labels {', '.join(truth.categories)}: there is nothing to compare"
            )
    measure(candidates, truth, slice_overlap=args.slice_overlap)
    for candidate in candidates:
        candidate.judge(truth)
    faults = _gate(candidates)
    destination.give(_document(candidates, args, faults), _tables(candidates))
    if faults:
        raise VerdictError("accuracy gate: " + "; ".join(faults))
    if args.make_default:
        named = candidates[0].model
        make_default(named, shelf_dir=args.shelf_dir)
        print(f"{named.spec.name} is the default now")
    return 0


@dataclass
class Candidate:
    """One model on one engine, and what was measured of it. ``main``: on the first engine."""

    model: Model
    engine: EngineKind = "cpu"
    precision: Precision = "auto"
    main: bool = True
    slices: str | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    network_ms: list[float] = field(default_factory=list)
    frame_ms: list[float] = field(default_factory=list)
    report: Report = field(default_factory=dict)
    trust: dict[str, dict[str, Trust]] = field(default_factory=dict)  # as the report

    @property
    def name(self) -> str:
        """The model's, and the engine's where there are several."""
        name = self.model.spec.name
        name += "" if self.main else f" on {_told(self.engine, self.precision)}"
        return name if self.slices is None else f"{name}, {self.slices}"

    def add(self, image_id: int, found: Detections, categories: Mapping[str, int]) -> None:
        """Keep detections of classes that the set labels, as COCO's rows."""
        labels = self.model.spec.labels
        for (x0, y0, x1, y1), score, class_id in zip(
            found.xyxy.tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True
        ):
            if (category := categories.get(labels[class_id])) is not None:
                row = {"image_id": image_id, "category_id": category, "score": score}
                self.rows.append(row | {"bbox": [x0, y0, x1 - x0, y1 - y0]})

    def judge(self, truth: LabelledSet) -> None:
        """Fill the report: for every part, the classes that the model knows."""
        known = set(self.model.spec.labels)
        for part, ids in truth.parts.items():
            found = coco_accuracy(truth.content, self.rows, images=ids)
            self.report[part] = {k: v for k, v in found.items() if k in known}
            self.trust[part] = trust(
                truth.content,
                self.rows,
                labels=self.model.spec.labels,
                threshold=self.model.spec.score,
                images=ids,
            )


def measure(
    candidates: Sequence[Candidate], truth: LabelledSet, *, slice_overlap: float = 0.2
) -> None:
    """Run every picture through every model."""
    categories = truth.categories
    total = len(truth.content["images"])
    with ExitStack() as stack:
        slots = []
        for each in candidates:
            config = Config(engine=each.engine, precision=each.precision, score=LEAST_SCORE)
            config = replace(config, workers=1, threads=1, slices=each.slices)
            config = replace(config, slice_overlap=slice_overlap)
            backend = backend_factory(config, each.model, Policy.LATEST)(lambda: None)
            slots.append(stack.enter_context(backend).slots[0])
        for done, (image_id, frame) in enumerate(truth.frames(), start=1):
            for candidate, slot in zip(candidates, slots, strict=True):
                slot.enqueue([frame])
                ((found, stages),) = slot.collect()
                candidate.add(image_id, found, categories)
                if stages:  # a GPU times some of the frames
                    candidate.network_ms.append(stages["network"] / 1e6)
                    candidate.frame_ms.append(sum(stages.values()) / 1e6)
            if done % PROGRESS_EVERY == 0:
                log.info("%d of %d pictures", done, total)


def _with_parents(names: Sequence[str], shelf_dir: Path) -> list[Model]:
    """The models named and, after them, parents that were not."""
    models = [find_model(name, shelf_dir=shelf_dir) for name in names]
    there = {m.spec.name for m in models}
    for model in list(models):
        parent = model.spec.parent
        if parent and parent not in there:
            there.add(parent)
            home = model.manifest.parent if model.manifest else shelf_dir
            models.append(find_model(parent, shelf_dir=home))
    return models


def _gate(candidates: Sequence[Candidate]) -> list[str]:
    """One sentence for each class and part in which a variant lost too much."""
    by_name = {c.name: c for c in candidates}
    faults = []
    for candidate in candidates:
        spec = candidate.model.spec
        against = spec.parent if candidate.main else spec.name
        if against is None or candidate.slices is not None:
            continue
        for part, labels in candidate.report.items():
            for label, points in lost_points(labels, by_name[against].report[part]).items():
                if points > GATE_POINTS:
                    faults.append(
                        f"{candidate.name} loses {points:.1f} AP50 points of {label} ({part}) "
                        f"against {against}; at most {GATE_POINTS:g} are allowed"
                    )
    return faults


def mean_ap50(labels: Mapping[str, ClassAccuracy]) -> float | None:
    """Over the classes that have labelled boxes."""
    known = [a.ap50 for a in labels.values() if a.ap50 is not None]
    return float(np.mean(known)) if known else None


def _trust_table(candidates: Sequence[Candidate]) -> list[str]:
    head = ("MODEL", "PART", "CLASS", "BEST AT", "F1", "OWN", "F1", "PRECISION", "RECALL")
    rows = []
    for candidate in candidates:
        own = f"{candidate.model.spec.score:.2f}"
        for part, labels in candidate.trust.items():
            for label, t in labels.items():
                false = "-" if t.false_share is None else f"{t.false_share:.1%} of {t.without}"
                figures = (f"{t.best_threshold:.2f}", f"{t.best[0]:.3f}", own)
                more = (*(f"{v:.3f}" for v in t.own), f"{t.calibration_error:.3f}", false)
                rows.append((candidate.name, part, label, *figures, *more))
    return columns((*head, "CALIBRATION ERROR", "FALSE IN"), rows)


def _tables(candidates: Sequence[Candidate]) -> str:
    head = ("MODEL", "PART", "CLASS", "BOXES", "AP50", "AP", "SMALL", "MEDIUM", "LARGE", "RECALL")
    rows = []
    for candidate in candidates:
        for part, labels in candidate.report.items():
            for label, a in labels.items():
                _, boxes, *shares = asdict(a).values()
                told = (figure(share, ".3f") for share in shares)
                rows.append((candidate.name, part, label, str(boxes), *told))
            if len(labels) > 1:
                mean = f"mean of {sum(a.ap50 is not None for a in labels.values())}"
                nothing = ("-",) * (len(head) - 5)
                rows.append(
                    (candidate.name, part, mean, "-", figure(mean_ap50(labels), ".3f"), *nothing)
                )
    gains = [line for sliced in candidates if sliced.slices for line in _gains(sliced, candidates)]
    first = candidates[0]
    timing = [
        (
            c.name,
            f"{c.model.weights.stat().st_size / 1e6:.2f}",
            f"{median(c.network_ms):.2f}",
            f"{median(c.frame_ms):.2f}",
            f"{median(c.network_ms) / median(first.network_ms):.2f}",
        )
        for c in candidates
    ]
    timed = ("MODEL", "MB", "NETWORK MS", "FRAME MS", f"TIMES {first.name}")
    remark = "medians on one CPU thread; a frame is preprocessing, network and postprocessing"
    told_of = "of pictures without such a thing, at the model's own threshold"
    trusted = [*_trust_table(candidates), f"FALSE IN: {told_of}"]
    blocks = [*columns(head, rows), "", *trusted, "", *columns(timed, timing), remark]
    return "\n".join([*blocks, *([""] if gains else []), *gains])


def _gains(sliced: Candidate, candidates: Sequence[Candidate]) -> Iterator[str]:
    """What slices change for small boxes (area below 32² px), and what they cost."""
    plain = next(
        each
        for each in candidates
        if each.slices is None
        and (each.model, each.engine, each.precision)
        == (sliced.model, sliced.engine, sliced.precision)
    )
    times = median(sliced.frame_ms) / median(plain.frame_ms)
    for part, labels in sliced.report.items():
        for label, with_ in labels.items():
            without = plain.report[part][label]
            if with_.small is not None and without.small is not None:
                yield (
                    f"{sliced.name}: small {label} ({part}) {without.small:.3f} -> "
                    f"{with_.small:.3f} AP50, {times:.1f} times the time of a picture"
                )


def _document(
    candidates: Sequence[Candidate], args: argparse.Namespace, faults: Sequence[str]
) -> dict[str, Any]:
    return {
        **(made := header("kestrel model evaluation")),
        "date": made["time"],
        "command": f"{COMMAND} models evaluate {' '.join(args.models)} --on "
        + " ".join(_told(*way) for way in args.on)
        + " ".join([" --slices"] * bool(args.slices) + args.slices),
        "gate": {"points": GATE_POINTS, "faults": list(faults)},
        "models": [
            {
                "name": c.model.spec.name,
                "engine": c.engine,
                "precision": c.precision,
                "slices": c.slices,
                "parent": c.model.spec.parent,
                "sha256": c.model.spec.sha256,
                "bytes": c.model.weights.stat().st_size,
                "network_ms_p50": round(median(c.network_ms), 3),
                "frame_ms_p50": round(median(c.frame_ms), 3),
                "parts": {
                    part: {label: asdict(a) for label, a in labels.items()}
                    for part, labels in c.report.items()
                },
                "mean_ap50": {part: mean_ap50(labels) for part, labels in c.report.items()},
                "trust": {
                    part: {label: t.plain() for label, t in labels.items()}
                    for part, labels in c.trust.items()
                },
            }
            for c in candidates
        ],
    }


def _way(text: str) -> Way:
    engine, _, precision = text.partition(":")
    if engine not in CPU_ENGINES or (precision or "auto") not in PRECISIONS:
        raise argparse.ArgumentTypeError(f"{text!r}: write cpu, openvino or openvino:bf16")
    return engine, cast(Precision, precision or "auto")


def _told(engine: str, precision: str) -> str:
    return engine if precision == "auto" else f"{engine}:{precision}"


def _part(text: str) -> tuple[str, list[str]]:
    name, _, sources = text.partition("=")
    if not name or not sources:
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=SOURCE,SOURCE")
    return name, sources.split(",")
