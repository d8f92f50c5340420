"""`models add`: how does somebody's ONNX file become a model on the shelf?"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from app.letterbox import Align, Resize
from app.model_spec import FAMILIES, MAX_SIDE_PX, ModelSpec, parse_manifest
from app.shelf import draft_spec, install
from app.shelf.manifest import format_manifest, parse_toml, read_labels


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
    if spec.input.fit:
        _check_fit(spec, args.file)
    model = install(spec, args.file, shelf_dir=args.shelf_dir, force=args.force)
    print(f"{spec.name}: {spec.family} at {size_text(spec)}; {labels_text(spec)}")
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
    """Does the network run at its flattest and its narrowest input, does the manifest read back?"""
    from app.backends.decoders import make_decoder
    from app.backends.ort import open_session
    from app.backends.ort_io import network_io

    parse_manifest(parse_toml(format_manifest(spec)), name=spec.name, where="that --fit asks for")
    session = open_session(weights, optimise=False)
    for wh_px in ((MAX_SIDE_PX, 1), (1, MAX_SIDE_PX)):
        cut = spec.for_frame(wh_px)
        make_decoder(cut, network_io(session, cut).shapes)


def add_arguments(parser: argparse.ArgumentParser) -> None:
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
    text = "the graph takes sizes in multiples of N (often 32): compute what a frame needs"
    norm.add_argument("--fit", type=_count, metavar="N", help=text)
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


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= MAX_SIDE_PX:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {MAX_SIDE_PX}")
    return int(text)


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
