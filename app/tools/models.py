"""`models list|info|fetch|add|quantize|evaluate`: the shelf, and how does more get there?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from app.errors import ConfigError, ModelError
from app.model_spec import ModelSpec
from app.shelf import SHELF_DIR, Model, fetch_weights, list_models, locate
from app.shelf.fetch import sha256_fault
from app.tools import add_model, evaluate, quantize
from app.tools.add_model import labels_text, size_text


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
    text = "put an ONNX file on the shelf, with a manifest"
    add_model.add_arguments(command("add", add_model.run_add, text))
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
                "{}x{}".format(*spec.input.size_wh),
                labels_text(spec),
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
        "input": f"{size_text(spec)} {frame.channels}, pixel * {frame.scale:.6g}{norm}",
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


def _print_graph(model: Model) -> None:
    from app.backends.graph_io import read_graph

    graph = read_graph(model.weights)
    print(f"{'inputs':<11} {'; '.join(map(str, graph.inputs))}")
    print(f"{'outputs':<11} {'; '.join(map(str, graph.outputs))}")


def _norm(spec: ModelSpec) -> str:
    mean, std = (", ".join(f"{v:g}" for v in t) for t in (spec.input.mean, spec.input.std))
    return f", minus ({mean}), over ({std})"
