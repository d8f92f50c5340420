#!/usr/bin/env python3
"""Is Kestrel faster than the loop a user would write, and does it find the same boxes?

The plain loop: read, preprocess with cv2, session.run, decode, NMS, one after the other, all
libraries with their default threads. Kestrel: `replay` as the application runs it. Both in fresh
processes, interleaved; the ratio is that of the medians.

    python scripts/compare_plain_loop.py CLIP [--model fastestdet_352] [--runs 7] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))


def plain_loop(clip: str, weights: str, score: float, iou: float) -> dict[str, Any]:
    """FastestDet, as in its authors' sample, vectorised where it is easy."""
    import cv2
    import numpy as np
    import onnxruntime as ort

    session = ort.InferenceSession(weights, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    capture = cv2.VideoCapture(clip)
    grid_y, grid_x = np.mgrid[:22, :22]
    frames, first, last = [], 0.0, 0.0
    while True:
        ok, frame = capture.read()
        if not ok:
            break
        height, width = frame.shape[:2]
        tensor = cv2.dnn.blobFromImage(cv2.resize(frame, (352, 352)), 1 / 255)
        out = session.run(None, {name: tensor})[0][0]
        scores = out[0] ** 0.6 * out[5:].max(axis=0) ** 0.4
        keep = scores > score
        t = out[:, keep]
        cx = (grid_x[keep] + np.tanh(t[1])) / 22 * width
        cy = (grid_y[keep] + np.tanh(t[2])) / 22 * height
        w, h = width / (1 + np.exp(-t[3])), height / (1 + np.exp(-t[4]))
        boxes = np.stack((cx - w / 2, cy - h / 2, w, h), axis=1).tolist()
        kept, classes, values = [], t[5:].argmax(axis=0), scores[keep].tolist()
        for c in set(classes.tolist()):  # NMS within each class
            mine = np.flatnonzero(classes == c)
            picked = cv2.dnn.NMSBoxes(
                [boxes[i] for i in mine], [values[i] for i in mine], score, iou
            )
            kept += [int(mine[i]) for i in np.array(picked).ravel()]
        last = time.perf_counter()
        first = first or last
        frames.append(
            [
                [
                    int(classes[i]),
                    values[i],
                    max(boxes[i][0], 0.0),
                    max(boxes[i][1], 0.0),
                    min(boxes[i][0] + boxes[i][2], width),
                    min(boxes[i][1] + boxes[i][3], height),
                ]
                for i in kept
            ]
        )
    return {"fps": (len(frames) - 1) / (last - first), "frames": frames}


def kestrel(clip: str, model_name: str) -> dict[str, Any]:
    """The application's replay, its results collected by a sink."""
    from app.config import Config
    from app.detections import Result
    from app.handoff import Policy
    from app.pipeline import Pipeline
    from app.shelf import find_model
    from app.sources.uri import make_source
    from app.tools.engines import backend_factory

    frames: list[Any] = []

    class Collect:
        def open(self, *args: object) -> None:
            """Nothing to open."""

        def emit(self, result: Result) -> None:
            found = result.detections
            frames.append(
                [
                    [int(c), float(s), *box.tolist()]
                    for c, s, box in zip(found.class_ids, found.scores, found.xyxy, strict=True)
                ]
            )

        def close(self) -> None:
            """Nothing to close."""

    model = find_model(model_name)
    pipeline = Pipeline(
        make_source(clip, realtime=False),
        backend_factory(Config(), model, Policy.LOSSLESS),
        [Collect()],
        labels=model.spec.labels,
        policy=Policy.LOSSLESS,
    )
    pipeline.start()
    while not pipeline.wait():
        pass
    return {"fps": pipeline.join().overall_fps, "frames": frames}


def same_boxes(a: list[Any], b: list[Any]) -> tuple[int, int]:
    """(boxes compared, boxes without a partner of IoU ≥ 0.95, same class, score within 0.01)."""
    total = alone = 0
    for left, right in zip(a, b, strict=True):
        for mine, theirs in ((left, right), (right, left)):
            for box in mine:
                total += 1
                alone += not any(
                    box[0] == other[0]
                    and abs(box[1] - other[1]) <= 0.01
                    and _iou(box[2:], other[2:]) >= 0.95
                    for other in theirs
                )
    return total, alone


def _iou(a: list[float], b: list[float]) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inner = max(w, 0.0) * max(h, 0.0)
    return inner / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner)


def main() -> int:
    """Interleave the runs, compare, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("--model", default="fastestdet_352")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--role", choices=("plain", "kestrel"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role == "kestrel":
        print(json.dumps(kestrel(args.clip, args.model)))
        return 0

    from app.shelf import find_model

    model = find_model(args.model)
    if model.spec.family != "fastestdet":
        sys.exit("the plain loop here is written for the family fastestdet")
    if args.role == "plain":
        print(
            json.dumps(plain_loop(args.clip, str(model.weights), model.spec.score, model.spec.iou))
        )
        return 0
    speeds: dict[str, list[float]] = {"plain": [], "kestrel": []}
    boxes: dict[str, Any] = {}
    for run in range(args.runs):
        for role in speeds:
            done = subprocess.run(
                [sys.executable, __file__, args.clip, "--model", args.model, "--role", role],
                capture_output=True,
                text=True,
                check=True,
                env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
            )
            answer = json.loads(done.stdout)
            speeds[role].append(round(answer["fps"], 1))
            boxes[role] = answer["frames"]
        print(f"run {run + 1}: " + ", ".join(f"{r} {v[-1]} FPS" for r, v in speeds.items()))
    total, alone = same_boxes(boxes["plain"], boxes["kestrel"])
    medians = {role: statistics.median(values) for role, values in speeds.items()}
    ratio = medians["kestrel"] / medians["plain"]
    print(
        f"medians: plain {medians['plain']:.1f}, kestrel {medians['kestrel']:.1f} FPS; "
        f"ratio {ratio:.2f}; {total} boxes compared, {alone} differ"
    )
    if args.json:
        from app.tools.machine import device

        report = {
            "date": date.today().isoformat(),
            "device": device(),
            "clip": Path(args.clip).name,
            "model": args.model,
            "fps": speeds,
            "median_ratio": round(ratio, 3),
            "boxes_compared": total,
            "boxes_that_differ": alone,
        }
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if alone == 0 else 6


if __name__ == "__main__":
    from app.errors import KestrelError

    try:
        sys.exit(main())
    except KestrelError as error:
        sys.exit(str(error))
