#!/usr/bin/env python3
"""Measures what the motion gate spares and what it misses, beside every frame and a plain gate.

    python -m scripts.measure_motion CLIP [--film FILE] [--rounds 3] [--json FILE]

CLIP begins with an empty room, which a person enters after 5 s and leaves after 22 s at most, as
`one-by-one-person-detection.mp4` of Intel's sample videos does. From it a film is made as a camera
sends it: 5 minutes of 1080p15 H.264, a key frame every 2 s, a sensor's noise, a clock burnt in, the
person twice. Figures are CPU seconds of the whole process and its children.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from app.analytics.what_if import compare
from app.ops.machine import device

WH, RATE, SECONDS, GOP = (1920, 1080), 15, 300, 30
EMPTY_S, STAY_S, STARTS_S = 5, 16, (60, 200)
MODES = {
    "every frame": ["--no-motion"],
    "gate, all decoded": ["--motion", "--motion-wake-s", "0"],
    "gate": ["--motion"],
}
PLAIN = "plain gate (MOG2)"
PLAIN_SHARE = 0.002  # of the pixels that MOG2 finds in the foreground


def make_film(clip: Path, film: Path) -> None:
    """Encode the film; takes minutes."""
    import av
    import cv2

    with av.open(str(clip)) as container:
        rate = float(container.streams.video[0].average_rate or 10)
        pictures = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    empty = int(EMPTY_S * rate)
    rng = np.random.default_rng(1)
    noise = [rng.normal(0, 2, (WH[1], WH[0], 1)).astype(np.int8) for _ in range(12)]
    making = film.with_suffix(".part.mp4")
    with av.open(str(making), "w") as out:
        stream: Any = out.add_stream("libx264", rate=RATE)
        stream.width, stream.height = WH
        stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", GOP
        stream.options = {"preset": "veryfast", "tune": "zerolatency", "crf": "27", "bf": "0"}
        for i in range(SECONDS * RATE):
            stay = next((i - s * RATE for s in STARTS_S if 0 <= i - s * RATE < STAY_S * RATE), None)
            which = i // 3 % empty if stay is None else empty + int(stay * rate / RATE)
            large = cv2.resize(pictures[which], WH).astype(np.int16) + noise[rng.integers(12)]
            pixels = np.clip(large, 0, 255).astype(np.uint8)
            clock = f"2026-11-29 08:{i // (60 * RATE):02d}:{i // RATE % 60:02d}"
            cv2.putText(pixels, clock, (1400, 60), cv2.FONT_HERSHEY_SIMPLEX, 1.4, (255,) * 3, 3)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgr24")))
        out.mux(stream.encode())
    making.rename(film)


def plain_gate(film: Path, events: Path) -> None:
    """A motion gate as one writes it: MOG2 at a quarter of the size, then the same network."""
    import av
    import cv2

    from app.analytics.analytics import Analytics, AnalyticsOptions
    from app.api import Detector

    cv2.setNumThreads(1)
    mog2, rows = cv2.createBackgroundSubtractorMOG2(detectShadows=False), []
    with Detector() as detect, av.open(str(film)) as container:
        analytics = Analytics(AnalyticsOptions(), labels=detect.labels, source=str(film))
        for i, frame in enumerate(container.decode(video=0)):
            pixels = frame.to_ndarray(format="bgr24")
            small = cv2.resize(pixels, (WH[0] // 4, WH[1] // 4), interpolation=cv2.INTER_AREA)
            if cv2.countNonZero(mog2.apply(small)) < PLAIN_SHARE * small.shape[0] * small.shape[1]:
                continue
            ns = round(frame.time * 1e9)
            rows += analytics.update(
                detect(pixels), wh_px=WH, captured_ns=ns, media_ns=ns, frame=i
            ).events
        rows += analytics.end()[0]
    events.write_text("".join(json.dumps(each.as_json()) + "\n" for each in rows))


def cpu_s(command: list[str]) -> float:
    """CPU time of a command and its children; raises where it fails."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"failed: {' '.join(command)}")
    return used.ru_utime + used.ru_stime


def rows_of(events: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in events.read_text().splitlines()]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--film", type=Path, help="made there, or used if it is there")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.plain:
        plain_gate(args.clip, args.plain)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        film = args.film or Path(folder) / "film.mp4"
        if not film.exists():
            make_film(args.clip, film)
        app = [sys.executable, "-m", "app", "replay", str(film), "--overwrite"]
        this = [sys.executable, "-m", "scripts.measure_motion", str(film)]
        events = {mode: Path(folder) / f"{i}.jsonl" for i, mode in enumerate((*MODES, PLAIN))}
        used: dict[str, list[float]] = {mode: [] for mode in events}
        for _ in range(args.rounds):
            for mode, flags in MODES.items():
                used[mode].append(cpu_s([*app, "--events", str(events[mode]), *flags]))
            used[PLAIN].append(cpu_s([*this, "--plain", str(events[PLAIN])]))
        whole, all_s = rows_of(events["every frame"]), median(used["every frame"])
        figures = {}
        for mode, seconds in used.items():
            changes, same = compare(whole, rows_of(events[mode]))
            kinds = {k: sum(c.kind == k for c in changes) for k in ("new", "gone", "different")}
            figures[mode] = {
                **{"cpu_s": round(median(seconds), 2), "share": round(median(seconds) / all_s, 3)},
                **{"same_events": same, **kinds, "how": [c.how for c in changes if c.how]},
            }
            print(f"{mode:20} {figures[mode]}")
    if args.json:
        about = {"date": datetime.date.today().isoformat(), "device": device()}
        args.json.write_text(json.dumps({**about, "rounds": args.rounds, **figures}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
