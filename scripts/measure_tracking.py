"""Measure the tracker on sequences with ground truth, beside SORT, ByteTrack and OC-SORT.

    python -m venv ENV && ENV/bin/pip install trackers trackeval   # needs NumPy 2
    python -m scripts.measure_tracking --env ENV --json FILE

The peers (``trackers``) and the metrics (``trackeval``: HOTA, IDF1, MOTA) run as a subprocess in
an environment of their own; files of JSON go to and fro. All trackers get the same detections.
Each peer runs three times, by its defaults with and without the times of capture, and with
parameters drawn at random from its own search space, of which ``--peer-tuning`` draws the best on
the tuning seeds is kept; the best of the three counts, for each condition anew. Boxes without an
id are left out for everybody. The seeds of the report (from 1) differ from those that Kestrel and
the peers were tuned with (from 1001).
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WIDTH, HEIGHT = 1280, 720
RATE = 30  # of the world, frames/s
SECONDS = 12
TUNING_SEED = 1001
CONDITIONS = ("30", "15", "5", "uneven", "drop10", "drop30", "drop50")
DROPPED = ("uneven", "drop10", "drop30", "drop50")


class Scene(NamedTuple):
    """Truth and detections of all frames of the world; some of them reach a tracker."""

    truth: list[list[list[float]]]  # a frame: [id, x1, y1, x2, y2]
    found: list[list[list[float]]]  # a frame: [x1, y1, x2, y2, score]


def make_scene(seed: int) -> Scene:
    """People and vehicles that cross, stop, turn, hide each other and go behind pillars.

    Boxes jitter by 3 % of their size; what is hidden is found less often and with a lower score;
    a third of a false box a frame, and one box in a hundred twice.
    """
    rng = np.random.default_rng(seed)
    frames = RATE * SECONDS
    movers = [_path(rng, frames) for _ in range(rng.integers(14, 26))]
    pillars = [
        (x, 0.0, x + rng.uniform(30, 90), float(HEIGHT))
        for x in rng.uniform(100, WIDTH - 100, rng.integers(0, 3))
    ]
    truth: list[list[list[float]]] = []
    found: list[list[list[float]]] = []
    for frame in range(frames):
        present = [(i, path[frame]) for i, path in enumerate(movers) if np.isfinite(path[frame, 0])]
        here: list[list[float]] = []
        boxes: list[list[float]] = []
        for i, box in present:
            nearer = [other for j, other in present if j != i and other[3] > box[3]]
            seen = _visible(box, [*nearer, *pillars])
            if seen > 0.1:
                here.append([i, *box])
            if rng.random() < np.clip((seen - 0.1) * 1.6, 0, 0.97):
                score = float(np.clip(0.25 + 0.6 * seen + rng.normal(0, 0.08), 0.1, 0.98))
                boxes.append([*_jittered(rng, box, 0.03), score])
                if rng.random() < 0.01:
                    boxes.append([*_jittered(rng, box, 0.1), score * 0.7])
        for _ in range(rng.poisson(0.33)):
            w, h = rng.uniform(25, 120), rng.uniform(50, 200)
            x, y = rng.uniform(0, WIDTH - w), rng.uniform(0, HEIGHT - h)
            boxes.append([x, y, x + w, y + h, rng.uniform(0.1, 0.65)])
        truth.append(here)
        found.append(sorted(boxes, key=lambda b: -b[4]))
    return Scene(truth, found)


def _path(rng: np.random.Generator, frames: int) -> Floats:
    """(frames, 4) xyxy of one object, NaN while it is not there."""
    vehicle = rng.random() < 0.25
    height = rng.uniform(60, 130) if vehicle else rng.uniform(70, 220)
    width = height * (rng.uniform(1.4, 2.2) if vehicle else rng.uniform(0.35, 0.5))
    cruise = (rng.uniform(1.0, 3.5) if vehicle else rng.uniform(0.3, 1.4)) * height  # px/s
    to_right = rng.random() < 0.5
    angle = rng.normal(0, 0.25) + (0 if to_right else np.pi)
    at = np.array(
        [
            rng.uniform(-width, WIDTH * 0.5)
            if to_right
            else rng.uniform(WIDTH * 0.5, WIDTH + width),
            rng.uniform(HEIGHT * 0.35, HEIGHT * 0.8),
        ]
    )
    path = np.full((frames, 4), np.nan)
    first = int(rng.integers(0, frames * 2 // 3)) if rng.random() < 0.6 else 0
    speed = cruise
    turning = 0.0
    for frame in range(first, frames):
        if rng.random() < 0.4 / RATE:  # a new plan every 2.5 s
            speed = 0.0 if not vehicle and rng.random() < 0.35 else cruise * rng.uniform(0.5, 1.3)
            turning = rng.normal(0, 0.15 if vehicle else 0.7)
        angle += turning / RATE
        at = at + np.array((np.cos(angle), 0.5 * np.sin(angle))) * speed / RATE
        half = np.array((width, height)) / 2
        low, high = np.maximum(at - half, 0), np.minimum(at + half, (WIDTH, HEIGHT))
        if ((high - low) > half * 0.5).all():
            path[frame] = (*low, *high)
    return path


def _visible(box: Any, before: list[Any]) -> float:
    """The part of a box that nothing hides, on a grid of 12 by 12 points."""
    x = np.linspace(box[0], box[2], 12)[:, None]
    y = np.linspace(box[1], box[3], 12)
    hidden = np.zeros((12, 12), bool)
    for x1, y1, x2, y2 in before:
        hidden |= (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
    return 1 - float(hidden.mean())


def _jittered(rng: np.random.Generator, box: Any, part: float) -> list[float]:
    size = np.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    moved = np.asarray(box) + rng.normal(0, part * size, 4)
    return [float(v) for v in (*moved[:2], *np.maximum(moved[2:], moved[:2] + 2))]


def frames_that_come(condition: str, seed: int) -> list[int]:
    """Numbers of the frames that reach the tracker."""
    rng = np.random.default_rng(seed + 77)
    count = RATE * SECONDS
    if condition.isdigit():
        return list(range(0, count, RATE // int(condition)))
    if condition == "uneven":  # waits from 1 to about 15 frames, 6 frames/s on average
        waits = 1 + rng.geometric(0.25, count)
        return [int(i) for i in np.cumsum(waits) if i < count]
    share = int(condition.removeprefix("drop")) / 100
    kept, dropping = [], False
    for i in range(count):  # in bursts of 3 frames on average
        dropping = rng.random() < (2 / 3 if dropping else share / (1 - share) / 3)
        if not dropping:
            kept.append(i)
    return kept


def make_sequences(seeds: list[int], conditions: tuple[str, ...]) -> list[dict[str, Any]]:
    """What goes to the trackers: times, detections and truth of each sequence."""
    sequences = []
    for seed in seeds:
        scene = make_scene(seed)
        for condition in conditions:
            come = frames_that_come(condition, seed)
            sequences.append(
                {
                    "condition": condition,
                    "seed": seed,
                    "times_s": [i / RATE for i in come],
                    "truth": [scene.truth[i] for i in come],
                    "found": [scene.found[i] for i in come],
                }
            )
    return sequences


def run_kestrel(sequence: dict[str, Any]) -> list[list[list[float]]]:
    """[id, x1, y1, x2, y2] of each frame."""
    from app.analytics.tracker import Tracker

    tracker = Tracker()
    out = []
    for time_s, found in zip(sequence["times_s"], sequence["found"], strict=True):
        array = np.array(found, np.float32).reshape(-1, 5)
        classes = np.zeros(len(array), np.int32)
        ids = tracker.update(array[:, :4], array[:, 4], classes, time_ns=round(time_s * 1e9))
        out.append([[int(i), *box[:4]] for i, box in zip(ids, found, strict=True) if i >= 0])
    return out


# What follows runs in the environment of the peers.


def run_peer(sequence: dict[str, Any], name: str, *, timed: bool, options: dict[str, Any]) -> Any:
    """[id, x1, y1, x2, y2] of each frame, by a tracker of ``trackers``."""
    import supervision
    import trackers

    kinds = {
        "SORT": trackers.SORTTracker,
        "ByteTrack": trackers.ByteTrackTracker,
        "OC-SORT": trackers.OCSORTTracker,
    }
    times = sequence["times_s"]
    rate = RATE if timed else (len(times) - 1) / (times[-1] - times[0])
    tracker = kinds[name](frame_rate=rate, **options)
    out = []
    for time_s, found in zip(times, sequence["found"], strict=True):
        array = np.array(found, np.float32).reshape(-1, 5)
        detections = supervision.Detections(xyxy=array[:, :4], confidence=array[:, 4])
        if timed:
            done = tracker.update(detections, timestamp=time_s + 1.0)
        else:
            done = tracker.update(detections)
        pairs = zip(done.tracker_id, done.xyxy, strict=True)
        out.append([[int(i), *map(float, box)] for i, box in pairs if i >= 0])
    return out


def score_one(truth: Any, tracked: Any) -> Any:
    """HOTA, IDF1 and MOTA of one sequence as TrackEval's three results."""
    import trackeval

    data: dict[str, Any] = {"gt_ids": [], "tracker_ids": [], "similarity_scores": []}
    known: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for true, got in zip(truth, tracked, strict=True):
        boxes = []
        for rows, names, key in ((true, known[0], "gt_ids"), (got, known[1], "tracker_ids")):
            ids = [names.setdefault(int(row[0]), len(names)) for row in rows]
            data[key].append(np.array(ids, int))
            boxes.append(np.array([row[1:5] for row in rows], float).reshape(-1, 4))
        data["similarity_scores"].append(_iou(*boxes))
    for kind, found in (("gt", known[0]), ("tracker", known[1])):
        data[f"num_{kind}_ids"] = len(found)
        data[f"num_{kind}_dets"] = sum(len(ids) for ids in data[f"{kind}_ids"])
    data["num_timesteps"] = len(truth)
    metrics = trackeval.metrics
    quiet = {"PRINT_CONFIG": False}
    return (
        metrics.HOTA().eval_sequence(data),
        metrics.Identity(quiet).eval_sequence(data),
        metrics.CLEAR(quiet).eval_sequence(data),
    )


def _iou(a: Floats, b: Floats) -> Floats:
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(x[:, 2:] - x[:, :2], axis=1) for x in (a, b)]
    return np.asarray(shared / np.maximum(areas[0][:, None] + areas[1] - shared, 1e-9))


def combine(results: list[Any]) -> dict[str, float]:
    """Figures in percent over several sequences, as TrackEval combines them."""
    import trackeval

    quiet = {"PRINT_CONFIG": False}
    metrics = (trackeval.metrics.HOTA(), trackeval.metrics.Identity(quiet))
    hota, identity = (
        metric.combine_sequences({str(i): r[k] for i, r in enumerate(results)})
        for k, metric in enumerate(metrics)
    )
    clear = trackeval.metrics.CLEAR(quiet).combine_sequences(
        {str(i): r[2] for i, r in enumerate(results)}
    )
    return {
        "HOTA": round(100 * float(np.mean(hota["HOTA"])), 2),
        "AssA": round(100 * float(np.mean(hota["AssA"])), 2),
        "DetA": round(100 * float(np.mean(hota["DetA"])), 2),
        "IDF1": round(100 * float(identity["IDF1"]), 2),
        "MOTA": round(100 * float(clear["MOTA"]), 2),
        "IDSW": int(clear["IDSW"]),
    }


def by_condition(
    sequences: list[dict[str, Any]], tracked: list[Any]
) -> dict[str, dict[str, float]]:
    """The combined figures of each condition."""
    results: dict[str, list[Any]] = {}
    for sequence, boxes in zip(sequences, tracked, strict=True):
        one = score_one(sequence["truth"], boxes)
        results.setdefault(sequence["condition"], []).append(one)
    return {condition: combine(each) for condition, each in results.items()}


def draw(space: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Parameters at random from a peer's own search space."""
    return {
        key: int(rng.integers(*rule["range"]))
        if rule["type"] == "randint"
        else float(rng.uniform(*rule["range"]))
        for key, rule in space.items()
    }


def work(folder: Path, draws: int) -> None:
    """Score what Kestrel tracked, track with the peers and score that."""
    import trackers

    kinds = {
        "SORT": trackers.SORTTracker,
        "ByteTrack": trackers.ByteTrackTracker,
        "OC-SORT": trackers.OCSORTTracker,
    }
    report = json.loads((folder / "report.json").read_text())
    tuning = json.loads((folder / "tuning.json").read_text())
    kestrel = json.loads((folder / "kestrel.json").read_text())
    figures: dict[str, Any] = {"Kestrel": by_condition(report, kestrel)}
    chosen: dict[str, Any] = {}
    for name, kind in kinds.items() if draws else ():
        rng = np.random.default_rng(TUNING_SEED)
        best: tuple[float, bool, dict[str, Any]] = (-1.0, True, {})
        for _ in range(draws):
            options, timed = draw(kind.search_space, rng), bool(rng.random() < 0.5)
            tracked = [run_peer(s, name, timed=timed, options=options) for s in tuning]
            hota = statistics.fmean(f["HOTA"] for f in by_condition(tuning, tracked).values())
            best = max(best, (hota, timed, options), key=lambda b: b[0])
        ways: dict[str, tuple[bool, dict[str, Any]]] = {
            "defaults, by frames": (False, {}),
            "defaults, by times": (True, {}),
            "tuned": best[1:],
        }
        chosen[name] = {"timed": best[1], **best[2]}
        print(f"{name}: tuned to {best[0]:.1f} by {best[1:]}", file=sys.stderr, flush=True)
        runs = {}
        for way, (timed, options) in ways.items():
            tracked = [run_peer(s, name, timed=timed, options=options) for s in report]
            runs[way] = by_condition(report, tracked)
        figures[name] = {}
        for condition in runs["tuned"]:
            way = max(runs, key=lambda w: float(runs[w][condition]["HOTA"]))
            figures[name][condition] = {**runs[way][condition], "way": way}
    (folder / "out.json").write_text(json.dumps({"figures": figures, "tuned": chosen}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", type=Path, help="environment with trackers and trackeval")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--peer-tuning", type=int, default=12, metavar="DRAWS")
    parser.add_argument(
        "--reuse", type=Path, metavar="REPORT", help="take the peers' figures from this report"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work, args.peer_tuning)
        return 0
    if args.env is None:
        parser.error("--env is missing: the environment with trackers and trackeval")
    before = json.loads(args.reuse.read_text()) if args.reuse else None
    if before and before["sequences"]["seeds"] != args.seeds:
        parser.error(f"--reuse: that report has {before['sequences']['seeds']} seeds; use --seeds")
    report = make_sequences(list(range(1, args.seeds + 1)), CONDITIONS)
    tuning = make_sequences([TUNING_SEED, TUNING_SEED + 1], ("30", "5", "drop50"))
    started = time.process_time()
    kestrel = [run_kestrel(sequence) for sequence in report]
    spent = time.process_time() - started
    frames = sum(len(s["times_s"]) for s in report)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for stem, value in (("report", report), ("tuning", tuning), ("kestrel", kestrel)):
            (folder / f"{stem}.json").write_text(json.dumps(value))
        own = [str(args.env / "bin/python"), str(Path(__file__).resolve()), "--work", name]
        draws = 0 if before else args.peer_tuning
        subprocess.run([*own, "--peer-tuning", str(draws)], check=True)
        done = json.loads((folder / "out.json").read_text())
    if before:
        done["tuned"], done["peers_measured_by"] = before["tuned"], before["command"]
        done["figures"] = {**before["figures"], **done["figures"]}
    done = {
        "command": " ".join(["python -m scripts.measure_tracking", *sys.argv[1:]]),
        "device": f"{_cpu()}, {platform.system()} {platform.machine()}",
        "date": datetime.date.today().isoformat(),
        "sequences": {"seeds": args.seeds, "seconds": SECONDS, "frames": frames},
        "boxes_a_frame": round(sum(len(f) for s in report for f in s["found"]) / frames, 1),
        "kestrel_ms_a_frame": round(1000 * spent / frames, 3),
        **done,
    }
    print(f"{'HOTA / IDF1 / MOTA':10}", *(f"{c:>16}" for c in CONDITIONS))
    for who, figures in done["figures"].items():
        cells = (f"{f['HOTA']:.1f}/{f['IDF1']:.1f}/{f['MOTA']:.1f}" for f in figures.values())
        print(f"{who:18}", *(f"{cell:>16}" for cell in cells))
    if args.json:
        args.json.write_text(json.dumps(done, indent=1) + "\n")
    ours, *peers = done["figures"].values()
    ahead = [all(ours[c]["HOTA"] > p[c]["HOTA"] for p in peers) for c in DROPPED]
    level = all(ours["30"]["HOTA"] >= p["30"]["HOTA"] for p in peers)
    return 0 if level and all(ahead) else 6


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((x.split(":")[1].strip() for x in lines if "model name" in x), platform.processor())


if __name__ == "__main__":
    sys.exit(main())
