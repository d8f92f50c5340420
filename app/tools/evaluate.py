"""`models evaluate`: how accurate and how fast are models on labelled photographs, side by side?

Each photograph goes through all models in turn, as the application runs them (one thread), so their
times can be compared. The accuracy gate judges a variant against its parent, and a model on another
engine or in another precision against itself on the first one.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any, cast

from app.accuracy import ClassAccuracy, coco_accuracy, lost_points
from app.backends.cpu import CpuBackend
from app.config import PRECISIONS, Precision
from app.detections import Detections
from app.errors import ConfigError, VerdictError
from app.shelf import Model, find_model, make_default
from app.tools.engines import ON_CPU, cpu_network
from app.tools.labelled import LabelledSet
from app.tools.machine import device

log = logging.getLogger(__name__)

LEAST_SCORE = 0.01  # the curve needs the weak ones too
GATE_POINTS = 2.0  # AP50, in hundredths, that a variant may lose
PROGRESS_EVERY = 100

Way = tuple[str, Precision]  # engine and precision
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
    add("--json", type=Path, metavar="FILE", help="all figures, for machines")
    add("--make-default", action="store_true",
        help="the (one) model becomes the default, if it passes the gate")  # fmt: skip


def run_evaluate(args: argparse.Namespace) -> int:
    """Measure, print, judge. VerdictError (exit code 6) when a variant lost too much."""
    if args.make_default and len(args.models) > 1:
        raise ConfigError("--make-default goes with one model")
    if args.make_default and args.on != [CPU]:
        raise ConfigError("--make-default goes without --on: the gate is that of --engine cpu")
    if args.json is not None and not args.json.absolute().parent.is_dir():
        raise ConfigError(f"--json {args.json}: the folder does not exist; make it first")
    truth = LabelledSet.read(args.data, dict(args.part))
    models = _with_parents(args.models, args.shelf_dir)
    candidates = [
        Candidate(model, engine, precision, (engine, precision) == args.on[0])
        for model in models
        for engine, precision in args.on
    ]
    for candidate in candidates:
        if not set(candidate.model.spec.labels) & set(truth.categories):
            raise ConfigError(
                f"{candidate.model.spec.name} finds {', '.join(candidate.model.spec.labels[:5])}, "
                f"the set labels {', '.join(truth.categories)}: there is nothing to compare"
            )
    measure(candidates, truth)
    for candidate in candidates:
        candidate.judge(truth)
    _print(candidates)
    faults = _gate(candidates)
    if args.json is not None:
        args.json.write_text(json.dumps(_document(candidates, args, faults), indent=1) + "\n")
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
    engine: str = "cpu"
    precision: Precision = "auto"
    main: bool = True
    rows: list[dict[str, Any]] = field(default_factory=list)
    network_ms: list[float] = field(default_factory=list)
    frame_ms: list[float] = field(default_factory=list)
    report: Report = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model's, and the engine's where there are several."""
        name = self.model.spec.name
        return name if self.main else f"{name} on {_told(self.engine, self.precision)}"

    def add(self, image_id: int, found: Detections, categories: Mapping[str, int]) -> None:
        """Keep detections of classes that the set labels, as COCO's rows."""
        labels = self.model.spec.labels
        for (x0, y0, x1, y1), score, class_id in zip(
            found.xyxy.tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True
        ):
            category = categories.get(labels[class_id])
            if category is not None:
                self.rows.append(
                    {
                        "image_id": image_id,
                        "category_id": category,
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "score": score,
                    }
                )

    def judge(self, truth: LabelledSet) -> None:
        """Fill the report: for every part, the classes that the model knows."""
        known = set(self.model.spec.labels)
        for part, ids in truth.parts.items():
            found = coco_accuracy(truth.content, self.rows, images=ids)
            self.report[part] = {k: v for k, v in found.items() if k in known}


def measure(candidates: Sequence[Candidate], truth: LabelledSet) -> None:
    """Run every picture through every model."""
    categories = truth.categories
    total = len(truth.content["images"])
    with ExitStack() as stack:
        slots = [
            stack.enter_context(
                CpuBackend(
                    c.model.spec,
                    c.model.weights,
                    wake=lambda: None,
                    score=LEAST_SCORE,
                    iou=c.model.spec.iou,
                    workers=1,
                    threads=1,
                    open_network=cpu_network(c.engine, c.precision)[0],
                )
            ).slots[0]
            for c in candidates
        ]
        for done, (image_id, frame) in enumerate(truth.frames(), start=1):
            for candidate, slot in zip(candidates, slots, strict=True):
                slot.enqueue(frame)
                found, stages = slot.collect()
                candidate.add(image_id, found, categories)
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
        if against is None:
            continue
        for part, labels in candidate.report.items():
            for label, points in lost_points(labels, by_name[against].report[part]).items():
                if points > GATE_POINTS:
                    faults.append(
                        f"{candidate.name} loses {points:.1f} AP50 points of {label} ({part}) "
                        f"against {against}; at most {GATE_POINTS:g} are allowed"
                    )
    return faults


def _print(candidates: Sequence[Candidate]) -> None:
    header = ("MODEL", "PART", "CLASS", "BOXES", "AP50", "AP", "SMALL", "MEDIUM", "LARGE", "RECALL")
    table: list[tuple[str, ...]] = [header]
    for candidate in candidates:
        for part, labels in candidate.report.items():
            for label, a in labels.items():
                figures = (a.ap50, a.ap, a.small, a.medium, a.large, a.recall50)
                table.append((candidate.name, part, label, str(a.boxes), *map(_figure, figures)))
    _table(table)
    print()
    first = candidates[0]
    timing: list[tuple[str, ...]] = [
        ("MODEL", "MB", "NETWORK MS", "FRAME MS", f"TIMES {first.name}")
    ]
    for c in candidates:
        timing.append(
            (
                c.name,
                f"{c.model.weights.stat().st_size / 1e6:.2f}",
                f"{median(c.network_ms):.2f}",
                f"{median(c.frame_ms):.2f}",
                f"{median(c.network_ms) / median(first.network_ms):.2f}",
            )
        )
    _table(timing)
    print("medians on one CPU thread; a frame is preprocessing, network and postprocessing")


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _document(
    candidates: Sequence[Candidate], args: argparse.Namespace, faults: Sequence[str]
) -> dict[str, Any]:
    return {
        "kind": "kestrel model evaluation",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": device(),
        "command": f"python -m app models evaluate {' '.join(args.models)} --on "
        + " ".join(_told(*way) for way in args.on),
        "gate": {"points": GATE_POINTS, "faults": list(faults)},
        "models": [
            {
                "name": c.model.spec.name,
                "engine": c.engine,
                "precision": c.precision,
                "parent": c.model.spec.parent,
                "sha256": c.model.spec.sha256,
                "bytes": c.model.weights.stat().st_size,
                "network_ms_p50": round(median(c.network_ms), 3),
                "frame_ms_p50": round(median(c.frame_ms), 3),
                "parts": {
                    part: {label: a.as_dict() for label, a in labels.items()}
                    for part, labels in c.report.items()
                },
            }
            for c in candidates
        ],
    }


def _way(text: str) -> Way:
    engine, _, precision = text.partition(":")
    if engine not in ON_CPU or (precision or "auto") not in PRECISIONS:
        raise argparse.ArgumentTypeError(f"{text!r}: write cpu, openvino or openvino:bf16")
    return engine, cast(Precision, precision or "auto")


def _told(engine: str, precision: str) -> str:
    return engine if precision == "auto" else f"{engine}:{precision}"


def _part(text: str) -> tuple[str, list[str]]:
    name, _, sources = text.partition("=")
    if not name or not sources:
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=SOURCE,SOURCE")
    return name, sources.split(",")
