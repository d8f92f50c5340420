#!/usr/bin/env python3
"""Measures --regions beside whole frames and --slices 2x2, on a film with small people.

    python -m scripts.measure_regions CLIP [--film FILE] [--seconds 40] [--model NAME] [--json FILE]

CLIP is of people who walk, such as `one-by-one-person-detection.mp4` of Intel's sample videos. Of
it a 1080p15 film is made: three small copies of the clip, each at another place of it, in an empty
room with a sensor's noise. What the model finds in the clip itself, at its full size, is taken for
the truth. A frame that was left out as still has the boxes of the one before. Figures are CPU
seconds of the whole process and its children, and shares of the true boxes at IoU 0.5.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from app.core.filters import overlap
from app.ops.machine import device
from scripts.measure_motion import cpu_s

WH, RATE, GOP = (1920, 1080), 15, 30
COPIES = ((300, 500, 160, 0.0), (900, 620, 240, 0.3), (1500, 420, 160, 0.6))  # x, y, width, from
SURE, LABEL = 0.5, "person"
MODES: dict[str, list[str]] = {
    "whole frames": ["--no-motion"],
    "whole frames, motion gate": ["--motion"],
    "slices 2x2": ["--no-motion", "--slices", "2x2"],
    "slices 2x2, motion gate": ["--motion", "--slices", "2x2"],
    "regions": ["--regions"],
}


def read(clip: Path) -> list[Any]:
    """Its pictures, BGR, at RATE."""
    import av

    with av.open(str(clip)) as container:
        rate = float(container.streams.video[0].average_rate or RATE)
        made = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    return [made[int(i * rate / RATE)] for i in range(int(len(made) * RATE / rate))]


def make_film(pictures: list[Any], film: Path, seconds: int) -> None:
    import av
    import cv2

    rng = np.random.default_rng(1)
    room = cv2.GaussianBlur(cv2.resize(pictures[0], WH), (0, 0), 9).astype(np.int16)
    noise = [rng.normal(0, 2, (WH[1], WH[0], 1)).astype(np.int8) for _ in range(8)]
    with av.open(str(film), "w") as out:
        stream: Any = out.add_stream("libx264", rate=RATE)
        stream.width, stream.height = WH
        stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", GOP
        stream.options = {"preset": "veryfast", "tune": "zerolatency", "crf": "23", "bf": "0"}
        for i in range(seconds * RATE):
            large = room.copy()
            for (x, y, width, _), picture in zip(COPIES, shown(pictures, i), strict=True):
                height = width * picture.shape[0] // picture.shape[1]
                small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
                large[y : y + height, x : x + width] = small
            pixels = np.clip(large + noise[i % 8], 0, 255).astype(np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgr24")))
        out.mux(stream.encode())


def shown(pictures: list[Any], i: int) -> list[Any]:
    return [pictures[int(share * len(pictures) + i) % len(pictures)] for *_, share in COPIES]


def truth(pictures: list[Any], seconds: int, model: str | None) -> list[Any]:
    """(N, 4) of each frame of the film."""
    from app.api import Detector

    boxes = []
    with Detector(model, score=SURE) as detect:
        labels = list(detect.labels)
        for i in range(seconds * RATE):
            of_frame = []
            for (x, y, width, _), picture in zip(COPIES, shown(pictures, i), strict=True):
                found = detect(picture)
                people = found.xyxy[found.class_ids == labels.index(LABEL)]
                of_frame.append(people * (width / picture.shape[1]) + (x, y, x, y))
            boxes.append(np.concatenate(of_frame).astype(np.float32))
    return boxes


def recall(lines: Path, true: list[Any]) -> tuple[float, float, int]:
    """(found of the true boxes, right of those found, frames inferred)."""
    by_frame = {}
    for text in lines.read_text().splitlines():
        row = json.loads(text)
        people = [each["box"] for each in row["detections"] if each["label"] == LABEL]
        by_frame[row["frame"]] = np.array(people, np.float32).reshape(-1, 4)
    hits = wanted = right = given = 0
    found = np.zeros((0, 4), np.float32)
    for i, boxes in enumerate(true):
        found = by_frame.get(i, found)
        wanted, given = wanted + len(boxes), given + len(found)
        if len(found) and len(boxes):
            hits += sum(bool(overlap(box, found).max() > 0.5) for box in boxes)
            right += sum(bool(overlap(box, boxes).max() > 0.5) for box in found)
    return hits / max(1, wanted), right / max(1, given), len(by_frame)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--film", type=Path, help="made there, or used if it is there")
    parser.add_argument("--seconds", type=int, default=40)
    parser.add_argument("--model")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    pictures = read(args.clip)
    with tempfile.TemporaryDirectory() as folder:
        film = args.film or Path(folder) / "film.mp4"
        if not film.exists():
            make_film(pictures, film, args.seconds)
        true = truth(pictures, args.seconds, args.model)
        figures = {}
        for mode, flags in MODES.items():
            lines = Path(folder) / "lines.jsonl"
            run = [sys.executable, "-m", "app", "replay", str(film), "--overwrite", *flags]
            run += ["--model", args.model] if args.model else []
            used = cpu_s([*run, "--json", str(lines)])
            found, right, inferred = recall(lines, true)
            figures[mode] = {
                **{"cpu_s": round(used, 1), "recall": round(found, 3)},
                **{"precision": round(right, 3), "inferred": inferred},
            }
            print(f"{mode:26} {figures[mode]}", flush=True)
    if args.json:
        about = {"date": datetime.date.today().isoformat(), "device": device()}
        args.json.write_text(json.dumps({**about, "seconds": args.seconds, **figures}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
