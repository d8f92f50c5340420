"""`models list|info|fetch|add|quantize|evaluate`: the shelf, and how does more get there?"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from app.errors import ConfigError, ModelError
from app.letterbox import Align, Resize
from app.model_spec import FAMILIES, MAX_SIDE_PX, ModelSpec
from app.shelf import SHELF_DIR, Model, draft_spec, fetch_weights, install, list_models, locate
from app.shelf.fetch import sha256_fault
from app.shelf.manifest import read_labels
from app.tools import evaluate, quantize


def register(models: argparse.ArgumentParser, *, shelf_dir: Path = SHELF_DIR) -> None:
    """Add the sub-commands of `models`; each sets ``func``, a callable(args) -> exit code."""
    commands = models.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, func: Any, text: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        parser.set_defaults(func=func, shelf_dir=shelf_dir)
        return parser

    command("list", run_list, "what is on the shelf")
    info = command("info", run_info, "one model: manifest, graph, state of its weights")
    info.add_argument("model", metavar="NAME_OR_PATH")
    fetch = command("fetch", run_fetch, "download weights, resumed and verified")
    fetch.add_argument("models", metavar="NAME_OR_PATH", nargs="*")
    fetch.add_argument("--all", action="store_true", help="every model of the shelf")
    _add_arguments(command("add", run_add, "put an ONNX file on the shelf, with a manifest"))
    text = "make a smaller variant of a model: 8 bits, half precision"
    quantize.add_arguments(command("quantize", quantize.run_quantize, text))
    text = "accuracy and CPU time on labelled photographs, and the verdict on variants"
    evaluate.add_arguments(command("evaluate", evaluate.run_evaluate, text))


def run_list(args: argparse.Namespace) -> int:
    """Print the shelf as a table; `*` marks the default."""
    rows = [("NAME", "FAMILY", "INPUT", "CLASSES", "WEIGHTS", "LICENCE")]
    for model in list_models(shelf_dir=args.shelf_dir):
        spec = model.spec
        rows.append(
            (
                spec.name + (" *" if spec.default else ""),
                spec.family,
                _wh(spec),
                _brief(spec),
                "here" if model.weights.is_file() else "missing",
                spec.licence or "-",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
    return 0


def run_info(args: argparse.Namespace) -> int:
    """Print one model. Exit code 4 if its weights are there and wrong."""
    model = locate(args.model, shelf_dir=args.shelf_dir)
    spec, frame = model.spec, model.spec.input
    here = model.weights.is_file()
    wrong = sha256_fault(spec, model.weights) if here else None
    state = f"missing: `python -m app models fetch {model.ref}`"
    if here:
        good = "sha256 is right" if spec.sha256 else "no sha256 to compare with"
        state = f"{model.weights.stat().st_size / 1e6:.1f} MB, {wrong or good}"
    norm = "" if not any(frame.mean) and {*frame.std} == {1.0} else _norm(spec)
    placed = f"{frame.resize}, {frame.align}, pad {frame.pad}"
    lines = {
        "name": spec.name + (" (the default)" if spec.default else ""),
        "about": spec.description,
        "manifest": model.manifest or "none: recognised from the graph",
        "weights": f"{model.weights}: {state}",
        "sha256": spec.sha256,
        "url": spec.url,
        "licence": spec.licence,
        "provenance": spec.provenance,
        "parent": spec.parent,
        "input": f"{_wh(spec)} {frame.channels}, pixel * {frame.scale:.6g}{norm}",
        "resize": placed if frame.resize == "letterbox" else frame.resize,
        "decoder": " ".join([spec.family, *(f"{k}={v}" for k, v in spec.parameters.items())]),
        "labels": f"{len(spec.labels)}: {', '.join(spec.labels)}",
        "thresholds": f"score {spec.score}, iou {spec.iou}",
        "accuracy": ", ".join(f"{k} {v}" for k, v in spec.accuracy.items()),
    }
    for key, value in lines.items():
        if value:
            print(f"{key:<11} {value}")
    if here and not wrong:
        _print_graph(model)
    return ModelError.exit_code if wrong else 0


def run_fetch(args: argparse.Namespace) -> int:
    """Fetch the models named; one that fails does not keep the others from being fetched."""
    if args.all == bool(args.models):
        raise ConfigError("say which models to fetch, by name or path, or --all")
    models = [locate(name, shelf_dir=args.shelf_dir) for name in args.models]
    faults = []
    for model in models or list_models(shelf_dir=args.shelf_dir):
        if model.manifest is None:
            raise ConfigError(f"{model.weights} has no manifest: there is nothing to fetch")
        try:
            fetch_weights(model)
        except ModelError as fault:
            faults.append(f"{model.spec.name}: {fault}")
        else:
            print(f"{model.spec.name}: {model.weights} is here and right")
    for line in faults[:-1]:
        print(line, file=sys.stderr)
    if faults:
        raise ModelError(faults[-1])
    return 0


def run_add(args: argparse.Namespace) -> int:
    """Write the manifest that the graph and the options describe, and copy the weights."""
    spec = draft_spec(args.file, family=args.family, labels=args.labels, size_wh=args.size)

    def given(*names: str) -> dict[str, Any]:
        return {k: v for k in names if (v := getattr(args, k)) is not None}

    spec = replace(
        spec,
        name=args.name or args.file.stem,
        input=replace(spec.input, **given("channels", "scale", "mean", "std", *_PLACING)),
        **given("score", "iou", "licence", "provenance", "description"),
    )
    model = install(spec, args.file, shelf_dir=args.shelf_dir, force=args.force)
    print(f"{spec.name}: {spec.family} at {_wh(spec)}; {_brief(spec)}")
    print(f"wrote {model.manifest} and {model.weights}; run it with `--model {model.ref}`")
    return 0


_PLACING = ("resize", "align", "pad")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", metavar="FILE", type=Path, help="the ONNX file; it is copied")
    add("--family", choices=FAMILIES, help="checked against the graph; default: recognised from it")
    add("--labels", type=_labels, metavar="FILE_OR_CSV", help="one label a line, or a,b,c")
    add("--name", help="default: the file's name")
    add("--size", type=_size, metavar="WxH", help="for a graph that takes any size")
    norm = parser.add_argument_group(
        "input", "tensor = (pixel * scale - mean) / std; the defaults are the family's custom"
    )
    norm.add_argument("--channels", choices=("BGR", "RGB"))
    norm.add_argument("--scale", type=_finite, metavar="X")
    norm.add_argument("--mean", type=_triple, metavar="A,B,C", help="in the order of --channels")
    norm.add_argument("--std", type=_divisors, metavar="A,B,C")
    norm.add_argument("--resize", choices=get_args(Resize))
    norm.add_argument("--align", choices=get_args(Align))
    norm.add_argument("--pad", type=_byte, metavar="0..255")
    add("--score", type=_share, metavar="X", help="default threshold, 0..1")
    add("--iou", type=_share, metavar="X", help="default NMS threshold, 0..1")
    add("--licence", metavar="TEXT")
    add("--provenance", metavar="TEXT", help="who made it, where it is from")
    add("--description", metavar="TEXT")
    add("--force", action="store_true", help="replace a model of that name")


def _labels(text: str) -> Sequence[str]:
    if Path(text).is_file():
        return read_labels(Path(text))
    labels = [label.strip() for label in text.split(",")]
    if "" in labels or text.endswith(".txt"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a file nor a list like person,dog")
    return labels


def _size(text: str) -> tuple[int, int]:
    w, _, h = text.lower().partition("x")
    if not (w.isdecimal() and h.isdecimal() and int(w) and int(h)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write WIDTHxHEIGHT, like 640x384")
    if max(int(w), int(h)) > MAX_SIDE_PX:
        raise argparse.ArgumentTypeError(f"{text!r} is too large: at most {MAX_SIDE_PX} each way")
    return int(w), int(h)


def _triple(text: str) -> tuple[float, float, float]:
    try:
        a, b, c = map(float, text.split(","))
    except ValueError:
        a = b = c = math.nan
    if not all(map(math.isfinite, (a, b, c))):
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers: A,B,C")
    return a, b, c


def _divisors(text: str) -> tuple[float, float, float]:
    values = _triple(text)
    if 0 in values:
        raise argparse.ArgumentTypeError(f"{text!r} holds a 0; it divides, so no value may be 0")
    return values


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def _share(text: str) -> float:
    value = _finite(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} must lie between 0 and 1")
    return value


def _byte(text: str) -> int:
    if not (text.isdecimal() and int(text) <= 255):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number between 0 and 255")
    return int(text)


def _print_graph(model: Model) -> None:
    from app.backends.graph_io import read_graph

    graph = read_graph(model.weights)
    print(f"{'inputs':<11} {'; '.join(map(str, graph.inputs))}")
    print(f"{'outputs':<11} {'; '.join(map(str, graph.outputs))}")


def _wh(spec: ModelSpec) -> str:
    return "{}x{}".format(*spec.input.size_wh)


def _brief(spec: ModelSpec) -> str:
    return f"{len(spec.labels)} classes" if len(spec.labels) > 2 else ", ".join(spec.labels)


def _norm(spec: ModelSpec) -> str:
    mean, std = (", ".join(f"{v:g}" for v in t) for t in (spec.input.mean, spec.input.std))
    return f", minus ({mean}), over ({std})"
