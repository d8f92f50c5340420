"""Finds the YOLO, made from its description alone, that costs as much as our network on one thread.

Nothing is downloaded: Ultralytics' package brings ``yolov8.yaml``; its width is searched until its
CPU time is within 10 % of our model's, both measured in turns by the library that will run it: ONNX
Runtime in float32, or OpenVINO in bfloat16.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import process_time_ns
from typing import Any, Literal

import numpy as np

from app.inference.openvino import one_thread, openvino_core
from app.models.cache import cache_dir
from app.models.manifest import Model
from app.models.onnx_session import open_session
from app.ops.machine import device
from scripts.bench_peers.contract import NotHere

Library = Literal["onnx", "openvino"]  # Ultralytics' word for what it exports to
LIBRARIES: dict[Library, str] = {"onnx": "onnxruntime", "openvino": "openvino"}  # who runs that
TOLERANCE = 0.10
TURNS = 60
STEPS = 8
# Depth, and side of the input as a part of ours. Widths come in steps, so that one depth alone may
# miss; and in bfloat16 even the narrowest YOLO is dearer than ours, unless it looks at less.
SHAPES = ((1 / 3, 1.0), (2 / 3, 1.0), (1.0, 1.0), (1 / 3, 0.8), (1 / 3, 0.6), (1 / 3, 0.4))
WIDTHS = (0.03, 0.75)


def load_ultralytics() -> Any:
    """The class YOLO, kept from sending, installing and writing anything outside its own cache."""
    folder = cache_dir("bench_peers") / "ultralytics"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(YOLO_CONFIG_DIR=str(folder), YOLO_AUTOINSTALL="false", YOLO_OFFLINE="true")
    try:
        from ultralytics import YOLO, settings
    except ImportError as fault:
        raise NotHere(f"{fault} (scripts/bench_peers/requirements.txt)") from fault
    settings.update({"sync": False})
    return YOLO


def network_of_cost(model: Model, library: Library) -> tuple[Path, dict[str, Any]]:
    """Ultralytics' export and what is known of it. Raises NotHere if no width comes near enough."""
    key = {
        "format": 2,
        "cpu": device()["cpu"],
        "model_sha256": hashlib.sha256(model.weights.read_bytes()).hexdigest(),
        "size": model.spec.input.size_wh,
        **{name: version(name) for name in ("ultralytics", LIBRARIES[library], "torch")},
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    # Ultralytics tells by the end of a name what it is
    end = {"onnx": ".onnx", "openvino": "_openvino_model"}[library]
    weights = cache_dir("bench_peers") / f"same_cost_{digest}{end}"
    notes = weights.with_name(f"same_cost_{digest}.json")
    if weights.exists() and notes.exists():
        fit = json.loads(notes.read_text())
        today = cost_ratio(weights, model, library, fit["input"])
        # told, and no reason for another network: rounds are to compare the same one
        return weights, {**fit, "cost_ratio_this_time": round(today, 3)}
    with tempfile.TemporaryDirectory(dir=weights.parent) as folder:
        found: list[tuple[float, float, Path, float, tuple[int, int]]] = []
        for depth, part in SHAPES:
            if part == 1 and found and found[-1][1] > 1 and found[-1][0] < 2 * WIDTHS[0]:
                continue  # even the narrowest is too dear, and a deeper one would be dearer still
            size_wh = _part_of(model.spec.input.size_wh, part)
            measure = partial(
                _measured,
                depth=depth,
                size_wh=size_wh,
                model=model,
                library=library,
                folder=Path(folder),
            )
            found.append((*nearest(measure), depth, size_wh))
            if abs(found[-1][1] - 1) <= TOLERANCE:
                break
        width, ratio, made, depth, size_wh = min(found, key=lambda one: abs(one[1] - 1))
        if abs(ratio - 1) > TOLERANCE:
            raise NotHere(f"no YOLO of the same cost: the nearest is {ratio:.2f} times ours")
        if weights.is_dir():
            shutil.rmtree(weights)
        made.replace(weights)
    fit = {
        "width": round(width, 4),
        "depth": round(depth, 3),
        "input": list(size_wh),
        "cost_ratio": round(ratio, 3),
    }
    notes.write_text(json.dumps(fit))
    return weights, fit


def nearest(measure: Callable[[float], tuple[float, Path]]) -> tuple[float, float, Path]:
    """Bisect over the width; of all that were tried (width, cost ratio, file) of the best."""
    low, high = WIDTHS
    tried: list[tuple[float, float, Path]] = []
    for _ in range(STEPS):
        width = (low * high) ** 0.5
        ratio, path = measure(width)
        tried.append((width, ratio, path))
        if abs(ratio - 1) <= TOLERANCE / 4:
            break
        low, high = (width, high) if ratio < 1 else (low, width)
    return min(tried, key=lambda one: abs(one[1] - 1))


def cost_ratio(candidate: Path, model: Model, library: Library, size_wh: Sequence[int]) -> float:
    """CPU time of ``candidate`` over that of the model's network, one thread each, in turns.

    ``size_wh``: the input of the candidate.
    """
    runner = {"onnx": _onnx_runner, "openvino": _openvino_runner}[library]
    sizes = {candidate: size_wh, model.weights: model.spec.input.size_wh}
    runs = [runner(path, (1, 3, height, width)) for path, (width, height) in sizes.items()]
    spent: list[list[int]] = [[], []]
    for _ in range(TURNS):
        for run, times in zip(runs, spent, strict=True):
            start_ns = process_time_ns()  # OpenVINO computes on a thread of its own
            run()
            times.append(process_time_ns() - start_ns)
    pairs = zip(*(times[TURNS // 8 :] for times in spent), strict=True)
    return float(median(theirs / ours for theirs, ours in pairs))


def _onnx_runner(path: Path, shape: tuple[int, ...]) -> Callable[[], Any]:
    session = open_session(path, threads=1)
    feed = {session.get_inputs()[0].name: np.full(shape, 0.5, np.float32)}
    return lambda: session.run(None, feed)


def _openvino_runner(path: Path, shape: tuple[int, ...]) -> Callable[[], Any]:
    network = openvino_core().read_model(str(next(path.glob("*.xml")) if path.is_dir() else path))
    network.reshape(list(shape))
    request = one_thread(network, "bf16").create_infer_request()
    tensor = np.full(shape, 0.5, np.float32)
    return lambda: request.infer([tensor], share_inputs=True, share_outputs=True)


def _part_of(size_wh: tuple[int, int], part: float) -> tuple[int, int]:
    width, height = (max(32, round(side * part / 32) * 32) for side in size_wh)
    return width, height


def _measured(
    width: float,
    *,
    depth: float,
    size_wh: tuple[int, int],
    model: Model,
    library: Library,
    folder: Path,
) -> tuple[float, Path]:
    import ultralytics
    import yaml

    found = next((Path(ultralytics.__file__).parent / "cfg/models/v8").glob("yolov8.yaml"))
    description = yaml.safe_load(found.read_text())
    description["nc"] = len(model.spec.labels)
    description["scales"] = {"n": [depth, width, 1024]}
    made = folder / f"width{width:.4f}depth{depth:.2f}at{size_wh[0]}-yolov8n.yaml"
    made.write_text(yaml.safe_dump(description))
    network = load_ultralytics()(str(made), task="detect")
    options: dict[str, Any] = {"format": library, "imgsz": [size_wh[1], size_wh[0]]}
    if library == "onnx":
        options["simplify"] = False
    before = Path.cwd()
    os.chdir(folder)  # where it writes what has no weights of its own
    try:
        path = Path(network.export(**options, verbose=False))
        path = path.absolute()
    finally:
        os.chdir(before)
    return cost_ratio(path, model, library, size_wh), path
