"""`models quantize`: a smaller variant of a model, on the shelf beside it."""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.backends.compress import to_fp16, to_half_weights, to_int8
from app.backends.preprocess import CpuPreprocessor
from app.errors import ConfigError, SourceEnded
from app.frame import Frame
from app.model_spec import InputSpec
from app.shelf import find_model, install
from app.sources.uri import make_source

SUFFIXES = {"int8": "int8", "fp16": "fp16", "fp16-weights": "half"}
SEED = 1
OPEN_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
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
        spec = replace(model.spec, name=name, default=False, url=None, accuracy={})
        spec = replace(spec, parent=model.spec.name, provenance=_provenance(args, model.spec.name))
        variant = install(spec, file, shelf_dir=args.shelf_dir, force=args.force)
    before, after = (m.weights.stat().st_size / 1e6 for m in (model, variant))
    print(f"wrote {variant.manifest} and {variant.weights}: {after:.2f} MB, was {before:.2f} MB")
    print(f"what it costs in accuracy: `python -m app models evaluate {variant.ref} --data FOLDER`")
    return 0


def draw_frames(uri: str, count: int) -> list[Frame]:
    """``count`` frames of a recording, each as likely as any other; the same ones every time."""
    if uri.split(":")[0] in ("camera", "rtsp", "rtsps", "http", "https"):
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


def _provenance(args: argparse.Namespace, parent: str) -> str:
    how = f"`models quantize --to {args.to}"
    if args.to == "int8":
        how += f" --for {args.target} --method {args.method} --frames {args.frames}"
    return f"{parent}, by {how}`"
