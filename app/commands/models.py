"""``models list|info|fetch|add|quantize|evaluate``: the commands of the model shelf."""

from __future__ import annotations

import argparse
import contextlib
import math
import random
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, ModelError, SourceEnded
from ..core.frame import Frame
from ..core.letterbox import Align, Resize
from ..core.package import COMMAND
from ..inference.preprocess import CpuPreprocessor
from ..models.engine_file import draft_engine, is_engine
from ..models.families import FAMILY_NAMES
from ..models.importer import draft_model, install, read_graph
from ..models.manifest import (
    MAX_SIDE_PX,
    SHELF_DIR,
    InputSpec,
    ModelSpec,
    format_manifest,
    parse_manifest,
    parse_toml,
    read_labels,
)
from ..models.onnx_edit import to_fp16, to_half_weights, to_int8
from ..models.store import (
    checksum,
    fetch_weights,
    find_model,
    list_models,
    locate,
    weights_bytes,
    weights_fault,
    weights_state,
    why_not_here,
)
from ..sources.uri import is_recording, make_source
from . import columns, evaluate


def run_add(args: argparse.Namespace) -> int:
    """Write the manifest that the graph and the options describe, and copy the weights."""
    told = {"family": args.family, "labels": args.labels, "size_wh": args.size}
    drafted = (
        draft_engine(args.file, **told)
        if is_engine(args.file)
        else draft_model(args.file, **told, tidy=True)
    )
    spec = drafted.spec

    def given(*names: str) -> dict[str, Any]:
        return {k: v for k in names if (v := getattr(args, k)) is not None}

    spec = replace(
        spec,
        name=args.name or args.file.stem,
        input=replace(spec.input, **given("channels", "scale", "mean", "std", *_PLACING)),
        **given("score", "iou", "licence", "provenance", "description"),
    )
    if spec.input.fit:
        _check_fit(spec, drafted.weights)
    model = install(spec, drafted.weights, shelf_dir=args.shelf_dir, force=args.force)
    about = f" ({drafted.spec.description})" if drafted.spec.description else ""
    print(f"{spec.name}: {spec.family}{about} at {size_text(spec)}; {labels_text(spec)}")
    print(f"wrote {model.manifest} and {model.weights}; run it with `--model {model.ref}`")
    return 0


def size_text(spec: ModelSpec) -> str:
    """Of the input, in brief."""
    size = "{}x{}".format(*spec.input.size_wh)
    return f"{size} or less by {spec.input.fit}" if spec.input.fit else size


def labels_text(spec: ModelSpec) -> str:
    """What it finds, in brief."""
    return f"{len(spec.labels)} classes" if len(spec.labels) > 2 else ", ".join(spec.labels)


_PLACING = ("resize", "align", "pad", "fit")


def _check_fit(spec: ModelSpec, weights: Path) -> None:
    """Refuse a network that does not run at its flattest and narrowest input."""
    from ..models.onnx_session import network_io, open_session

    parse_manifest(parse_toml(format_manifest(spec)), name=spec.name, where="that --fit asks for")
    session = open_session(weights, optimise=False)
    for wh_px in ((MAX_SIDE_PX, 1), (1, MAX_SIDE_PX)):
        cut = spec.for_frame(wh_px)
        cut.decoder(network_io(session, cut).shapes)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", metavar="FILE", type=Path, help="the ONNX file; it is copied")
    text = "checked against the graph; default: recognised from it"
    add("--family", choices=FAMILY_NAMES, help=text)
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
    norm.add_argument("--pad", type=_whole(0, 255), metavar="0..255")
    text = "the graph takes sizes in multiples of N (often 32): compute what a frame needs"
    norm.add_argument("--fit", type=_whole(1, MAX_SIDE_PX), metavar="N", help=text)
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


def _whole(low: int, high: int) -> Callable[[str], int]:
    """A type for argparse: a whole number from ``low`` to ``high``."""

    def number(text: str) -> int:
        if not (text.isdecimal() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return number


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,9})[xX](\d{1,9})", text)
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size; write WIDTHxHEIGHT, like 640x384, at most {MAX_SIDE_PX} each way"
        )
    return width, height


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


def _triple(text: str) -> tuple[float, ...]:
    with contextlib.suppress(argparse.ArgumentTypeError):
        values = tuple(map(_finite, text.split(",")))
        if len(values) == 3:
            return values
    raise argparse.ArgumentTypeError(f"{text!r} is not three numbers: A,B,C")


def _divisors(text: str) -> tuple[float, ...]:
    values = _triple(text)
    if 0 in values:
        raise argparse.ArgumentTypeError(f"{text!r} holds a 0; it divides, so no value may be 0")
    return values


SUFFIXES = {"int8": "int8", "fp16": "fp16", "fp16-weights": "half"}
SEED = 1
OPEN_S = 30.0


def quantize_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="NAME_OR_PATH")
    add("--to", choices=tuple(SUFFIXES), default="int8",
        help="int8: computed with 8 bits; fp16: computed in half precision, for GPUs; "
        "fp16-weights: half the file, computed in float32 (default: int8)")  # fmt: skip
    add("--for", dest="target", choices=("cpu", "gpu"), default="cpu",
        help="int8 as CPUs or as TensorRT take it (default: cpu)")  # fmt: skip
    add("--calibrate", metavar="SOURCE",
        help="int8: a folder of pictures or a recording like what the camera will see")  # fmt: skip
    add("--frames", type=int, default=200, metavar="N", help="of them, drawn evenly (default: 200)")
    add("--method", choices=("minmax", "entropy", "percentile"), default="minmax",
        help="how the range of values is found (default: minmax)")  # fmt: skip
    add("--name", help="of the variant; default: the model's name and _int8, _fp16 or _half")
    add("--force", action="store_true", help="replace a model of that name")


def run_quantize(args: argparse.Namespace) -> int:
    """Write the variant and its manifest, which names the model as its parent."""
    if (args.to == "int8") != (args.calibrate is not None):
        cure = "int8 needs --calibrate" if args.to == "int8" else f"{args.to} needs no --calibrate"
        raise ConfigError(f"{cure} (a folder of pictures or a recording)")
    if args.target == "gpu" and args.to != "int8":
        raise ConfigError("--for gpu goes with --to int8 only")
    if args.frames < 1:
        raise ConfigError(f"--frames is {args.frames}; at least 1 is needed")
    model = find_model(args.model, shelf_dir=args.shelf_dir)
    name = args.name or f"{model.spec.name}_{SUFFIXES[args.to]}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{name}.onnx"
        if args.to == "int8":
            frames = draw_frames(args.calibrate, args.frames)
            print(f"calibrating with {len(frames)} frames of {args.calibrate}")
            tensors = prepared(model.spec.input, frames)
            to_int8(model.weights, file, tensors, target=args.target, method=args.method)
        elif args.to == "fp16":
            to_fp16(model.weights, file)
        else:
            to_half_weights(model.weights, file)
        how = f"--to {args.to}"
        if args.to == "int8":
            how += f" --for {args.target} --method {args.method} --frames {args.frames}"
        made = f"{model.spec.name}, by `models quantize {how}`"
        spec = replace(model.spec, name=name, default=False, url=None, accuracy={})
        spec = replace(spec, parent=model.spec.name, provenance=made)
        variant = install(spec, file, shelf_dir=args.shelf_dir, force=args.force)
    before, after = (m.weights.stat().st_size / 1e6 for m in (model, variant))
    print(f"wrote {variant.manifest} and {variant.weights}: {after:.2f} MB, was {before:.2f} MB")
    print(f"what it costs in accuracy: `{COMMAND} models evaluate {variant.ref} --data FOLDER`")
    return 0


def draw_frames(uri: str, count: int) -> list[Frame]:
    """``count`` frames of a recording, each as likely as any other; the same ones every time."""
    if not is_recording(uri):
        raise ConfigError(f"{uri} does not end; calibrate with a recording or a folder of pictures")
    source = make_source(uri, realtime=False)
    chance, drawn, seen = random.Random(SEED), list[Frame](), 0
    source.open()
    try:
        while True:
            frame = source.read(OPEN_S)
            if frame is None:
                raise ConfigError(f"{uri} gave no frame within {OPEN_S:g} s")
            seen += 1  # reservoir sampling: how many will come is not known before the end
            place = len(drawn) if len(drawn) < count else chance.randrange(seen)
            if place < count:
                own = replace(frame, pixels=frame.pixels.copy())
                drawn[place : place + 1] = [own]
    except SourceEnded:
        return drawn
    finally:
        source.close()


def prepared(spec: InputSpec, frames: list[Frame]) -> Iterator[NDArray[np.float32]]:
    """Each frame as the network gets it, (1,3,H,W)."""
    preprocess = CpuPreprocessor(spec)
    width, height = spec.size_wh
    for frame in frames:
        tensor = np.zeros((1, 3, height, width), np.float32)
        preprocess(frame, tensor)
        yield tensor


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
    add_model_arguments(command("add", run_add, text))
    text = "make a smaller variant of a model: 8 bits, half precision"
    quantize_arguments(command("quantize", run_quantize, text))
    text = "accuracy and CPU time on labelled photographs, and the verdict on variants"
    evaluate.add_arguments(command("evaluate", evaluate.run_evaluate, text))


def run_list(args: argparse.Namespace) -> int:
    """Print the shelf as a table; `*` marks the default, gray what this machine cannot run."""
    rows, gray = [], [False]
    for model in list_models(shelf_dir=args.shelf_dir):
        spec, size = model.spec, weights_bytes(model)
        average_precision, refused = spec.accuracy.get("coco_ap"), why_not_here(model)
        note = f"cannot run: {refused}" if refused else "not run by us" * spec.untried
        gray.append(bool(refused))
        rows.append(
            (
                spec.name + (" *" if spec.default else ""),
                spec.family,
                "{}x{}".format(*spec.input.size_wh),
                labels_text(spec),
                f"{size / 1e6:.1f} MB" if size is not None else "-",
                str(average_precision or "-"),
                weights_state(model),
                spec.licence or "-",
                note,
            )
        )
    head = ("NAME", "FAMILY", "INPUT", "CLASSES", "SIZE", "COCO AP", "WEIGHTS", "LICENCE", "")
    dim, plain = ("\x1b[2m", "\x1b[0m") if sys.stdout.isatty() else ("", "")
    for line, is_gray in zip(columns(head, rows), gray, strict=True):
        print(f"{dim}{line}{plain}" if is_gray else line)
    return 0


def run_info(args: argparse.Namespace) -> int:
    """Print one model. Exit code 4 if its weights are there and wrong."""
    model = locate(args.model, shelf_dir=args.shelf_dir)
    spec, frame = model.spec, model.spec.input
    here = model.weights.is_file()
    wrong = weights_fault(model) if here else None
    state = f"missing: `{COMMAND} models fetch {model.ref}`"
    if here:
        known = checksum(model)
        good = f"{known.kind} is right" if known else "no checksum to compare with"
        state = f"{model.weights.stat().st_size / 1e6:.1f} MB, {wrong or good}"
    norm = "" if not any(frame.mean) and {*frame.std} == {1.0} else _norm(spec)
    placed = f"{frame.resize}, {frame.align}, pad {frame.pad}"
    lines = {
        "name": spec.name + (" (the default)" if spec.default else ""),
        "about": spec.description,
        "manifest": model.manifest or "none: recognised from the graph",
        "weights": f"{model.weights}: {state}",
        "sha256": spec.sha256,
        "git blob": spec.git_blob,
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
        graph = read_graph(model.weights)
        print(f"{'inputs':<11} {'; '.join(map(str, graph.inputs))}")
        print(f"{'outputs':<11} {'; '.join(map(str, graph.outputs))}")
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


def _norm(spec: ModelSpec) -> str:
    mean, std = (", ".join(f"{v:g}" for v in t) for t in (spec.input.mean, spec.input.std))
    return f", minus ({mean}), over ({std})"
