"""Which YOLO, made from its description alone, costs what our network costs on one thread?

Nothing is downloaded: Ultralytics' package brings ``yolov8.yaml``; its width is searched until ONNX
Runtime's CPU time is within 10 % of our model's, both measured in turns.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import thread_time_ns
from typing import Any

import numpy as np

from app.backends.ort import open_session
from app.cache import cache_dir
from app.shelf import Model
from scripts.bench_peers.contract import NotHere

TOLERANCE = 0.10
TURNS = 60
STEPS = 8
DEPTHS = (1 / 3, 2 / 3, 1.0)
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


def network_of_cost(model: Model) -> tuple[Path, dict[str, Any]]:
    """The ONNX file and what is known of it. Raises NotHere if no width comes near enough."""
    key = {
        "model_sha256": hashlib.sha256(model.weights.read_bytes()).hexdigest(),
        "size": model.spec.input.size_wh,
        **{name: version(name) for name in ("ultralytics", "onnxruntime", "torch")},
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    weights = cache_dir("bench_peers") / f"same_cost_{digest}.onnx"
    notes = weights.with_suffix(".json")
    if weights.exists() and notes.exists():
        fit = json.loads(notes.read_text())
        fit["cost_ratio"] = round(cost_ratio(weights, model), 3)  # as it is today
        if abs(fit["cost_ratio"] - 1) <= TOLERANCE:
            return weights, fit
    with tempfile.TemporaryDirectory(dir=weights.parent) as folder:
        found = []
        for depth in DEPTHS:  # widths come in steps, so that one depth alone may miss
            measure = partial(_measured, depth=depth, model=model, folder=Path(folder))
            found.append((*nearest(measure), depth))
            if abs(found[-1][1] - 1) <= TOLERANCE:
                break
        width, ratio, made, depth = min(found, key=lambda one: abs(one[1] - 1))
        if abs(ratio - 1) > TOLERANCE:
            raise NotHere(f"no YOLO of the same cost: the nearest is {ratio:.2f} times ours")
        made.replace(weights)
    fit = {"width": round(width, 4), "depth": round(depth, 3), "cost_ratio": round(ratio, 3)}
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


def cost_ratio(candidate: Path, model: Model) -> float:
    """CPU time of ``candidate`` over that of the model's network, one thread each, in turns."""
    width, height = model.spec.input.size_wh
    runs = [_runner(path, (1, 3, height, width)) for path in (candidate, model.weights)]
    spent: list[list[int]] = [[], []]
    for _ in range(TURNS):
        for run, times in zip(runs, spent, strict=True):
            start_ns = thread_time_ns()
            run()
            times.append(thread_time_ns() - start_ns)
    pairs = zip(*(times[TURNS // 8 :] for times in spent), strict=True)
    return float(median(theirs / ours for theirs, ours in pairs))


def _runner(path: Path, shape: tuple[int, ...]) -> Callable[[], Any]:
    session = open_session(path, threads=1)
    feed = {session.get_inputs()[0].name: np.full(shape, 0.5, np.float32)}
    return lambda: session.run(None, feed)


def _measured(width: float, *, depth: float, model: Model, folder: Path) -> tuple[float, Path]:
    import ultralytics
    import yaml

    found = next((Path(ultralytics.__file__).parent / "cfg/models/v8").glob("yolov8.yaml"))
    description = yaml.safe_load(found.read_text())
    description["nc"] = len(model.spec.labels)
    description["scales"] = {"n": [depth, width, 1024]}
    made = folder / f"width{width:.4f}depth{depth:.2f}-yolov8n.yaml"
    made.write_text(yaml.safe_dump(description))
    network = load_ultralytics()(str(made), task="detect")
    width_px, height_px = model.spec.input.size_wh
    options = {"format": "onnx", "imgsz": [height_px, width_px], "simplify": False}
    before = Path.cwd()
    os.chdir(folder)  # where it writes what has no weights of its own
    try:
        path = Path(network.export(**options, verbose=False))
        path = path.absolute()
    finally:
        os.chdir(before)
    return cost_ratio(path, model), path
