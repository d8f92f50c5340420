#!/usr/bin/env python3
"""Measures which events the motion gate misses in hours of made scenes, beside full inference.

    python -m scripts.measure_scenes CLIP PHOTOS --out FILE.jsonl [--scenes 60] [--minutes 10]

CLIP: people who walk through an empty room, as in `one-by-one-person-detection.mp4` of Intel's
sample videos; they are cut out and sent over photographs without people (PHOTOS), with a sensor's
noise, rain, waving leaves, light that is switched or fades, a clock burnt in, passing things and a
codec's blocks, all drawn by the scene's number. Each frame (640x360, 5 a second) is inferred once;
a tracker sees all results, one those that the gate lets through, and one, for comparison, those of
every second frame: an object at the edge of being found gives other events whatever one leaves out.
A line of FILE is a scene; scenes
that are there are not made again. With --keep FOLDER what the network found is kept there, for
another gate or tracker.
"""

from __future__ import annotations

import argparse
import json
import pickle
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from app.analytics.analytics import Analytics, AnalyticsOptions
from app.analytics.what_if import EventChange, compare
from app.analytics.zones import Line, Zone
from app.api import Detector
from app.config import MotionOptions
from app.core.detections import Detections
from app.core.errors import SourceEnded
from app.core.frame import Frame, SourceInfo
from app.sources.motion_gate import MotionGate

W, H, RATE = 640, 360, 5
Pixels = NDArray[np.uint8]
LATE_S = 0.3  # an event that comes by more earlier or later is missed
DIFFERENT = 28  # of 255, from the empty room


class Cut(NamedTuple):
    """A person's picture and how much of each pixel is theirs (0..1)."""

    bgr: Pixels
    share: NDArray[np.float32]


def cut_people(clip: Path) -> list[list[Cut]]:
    """Each walk through the room, empty for its first 4 s: all frames with a whole person."""
    import av

    with av.open(str(clip)) as container:
        rate = float(container.streams.video[0].average_rate or 10)
        frames = [each.to_ndarray(format="bgr24") for each in container.decode(video=0)]
    room = np.median(np.stack(frames[: int(4 * rate)]), axis=0).astype(np.uint8)
    walks: list[list[Cut]] = [[]]
    for frame in frames:
        apart = cv2.absdiff(frame, room).max(axis=2)
        mask = (cv2.GaussianBlur(apart, (7, 7), 0) > DIFFERENT).astype(np.uint8)
        mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((15, 15), np.uint8))
        _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
        which = 1 + int(np.argmax(stats[1:, 4])) if len(stats) > 1 else 0
        x, y, w, h, area = stats[which].tolist()
        whole = which and x > 2 and x + w < frame.shape[1] - 2
        if not whole or area < 0.01 * mask.size or h < 1.2 * w:
            if walks[-1]:
                walks.append([])
            continue
        part = (slice(y, y + h), slice(x, x + w))
        share = cv2.GaussianBlur((labels[part] == which).astype(np.float32), (5, 5), 0)
        walks[-1].append(Cut(frame[part].copy(), share))
    return [walk for walk in walks if len(walk) >= 5]


class Walk:
    """A person on their way: from one side to the other, with or without a stay."""

    def __init__(self, rng: random.Random, walks: Sequence[Sequence[Cut]], start_s: float) -> None:
        self.cuts = rng.choice(walks)
        self.start_s, self.height = start_s, rng.randint(70, 250)
        self.speed = rng.uniform(25, 110) * rng.choice((-1, 1))
        self.bottom = rng.randint(self.height + 5, H - 2)
        self.stop_x, self.stay_s = rng.randint(120, W - 120), rng.choice((0, 0, 4, 20, 60))
        self.until_s = start_s + (W + 300) / abs(self.speed) + self.stay_s

    def place(self, t: float) -> tuple[float, int]:
        """x of the middle, and which cut; a person who stays stands still."""
        start_x = -150.0 if self.speed > 0 else W + 150.0
        arrive_s = (self.stop_x - start_x) / self.speed
        went_s = t - self.start_s
        walked_s = min(went_s, arrive_s) + max(0.0, went_s - arrive_s - self.stay_s)
        return start_x + self.speed * walked_s, int(walked_s * RATE) % len(self.cuts)

    def draw(self, picture: Pixels, t: float, light: float) -> None:
        """Put them into the picture."""
        x, which = self.place(t)
        cut = self.cuts[which]
        scale = self.height / cut.share.shape[0]
        size = (max(2, round(cut.share.shape[1] * scale)), self.height)
        bgr = cv2.resize(cut.bgr, size, interpolation=cv2.INTER_AREA).astype(np.float32) * light
        share = cv2.resize(cut.share, size, interpolation=cv2.INTER_AREA)[..., None]
        left, top = round(x) - size[0] // 2, self.bottom - self.height
        x0, x1 = max(0, left), min(W, left + size[0])
        if x0 >= x1:
            return
        here, part = (slice(top, self.bottom), slice(x0, x1)), slice(x0 - left, x1 - left)
        mixed = picture[here] * (1 - share[:, part]) + bgr[:, part] * share[:, part]
        picture[here] = np.clip(mixed, 0, 255)


class Scene:
    """A photograph, what lives in it, and what troubles the camera, all drawn by its number."""

    def __init__(self, number: int, room: Pixels, walks: Sequence[Sequence[Cut]], s: float) -> None:
        rng = random.Random(number)
        self.room, self.seconds, self.rng = room, s, rng
        self.numbers = np.random.default_rng(number)
        has = {kind: rng.random() < 0.35 for kind in ("rain", "leaves", "switch", "fade", "things")}
        self.kinds = [kind for kind, there in has.items() if there]
        self.noise = rng.choice((1.0, 2.0, 4.0, 7.0))
        self.grains = self.numbers.normal(0, self.noise, (8, H, W, 1)).astype(np.float32)
        self.clock, self.quality = rng.random() < 0.7, rng.choice((35, 55, 80, 0))
        self.people: list[Walk] = []
        t = rng.uniform(5, 60)
        while t < s - 40:
            self.people.append(Walk(rng, walks, t))
            t += rng.choice((5.0, 30.0, 90.0)) * rng.uniform(0.5, 1.5)
        self.leaves = (rng.randint(0, W - 200), rng.randint(0, H - 150))
        self.switches = sorted(rng.uniform(0, s) for _ in range(rng.randint(2, 8)))
        # a bag, a ball: they move, and are no objects
        self.things = [(rng.uniform(0, s), rng.randint(20, H - 20)) for _ in range(int(s / 40))]

    def frames(self) -> Iterator[Pixels]:
        """(H, W, 3) BGR each."""
        for i in range(round(self.seconds * RATE)):
            t = i / RATE
            picture = self.room.copy()
            light = 1.0
            if "fade" in self.kinds:
                light *= 0.75 + 0.25 * float(np.cos(2 * np.pi * t / self.seconds))
            if "switch" in self.kinds and sum(s <= t for s in self.switches) % 2:
                light *= 0.6
            if "leaves" in self.kinds:
                x, y = self.leaves
                shift = 4 * np.sin(t * 2.1 + np.arange(150) / 17)
                columns, rows = np.meshgrid(np.arange(200), np.arange(150))
                part = picture[y : y + 150, x : x + 200].copy()
                moved = (columns + shift[:, None]).astype(np.float32)
                cv2.remap(
                    part,
                    moved,
                    rows.astype(np.float32),
                    cv2.INTER_LINEAR,
                    dst=picture[y : y + 150, x : x + 200],
                    borderMode=cv2.BORDER_REFLECT,
                )
            lit = picture.astype(np.float32) * light
            picture = np.clip(lit + self.grains[self.numbers.integers(8)], 0, 255).astype(np.uint8)
            if "things" in self.kinds:
                for start_s, y in self.things:
                    if 0 <= t - start_s < 6:
                        where = (round((t - start_s) / 6 * W), y)
                        cv2.ellipse(picture, where, (14, 10), t * 50, 0, 360, (190, 200, 205), -1)
            for person in self.people:
                if person.start_s <= t < person.until_s:
                    person.draw(picture, t, light)
            if "rain" in self.kinds:
                drops = np.zeros_like(picture)
                for x, y in self.numbers.integers(0, (W, H), (100, 2)).tolist():
                    cv2.line(drops, (x, y), (x + 2, y + 12), (45, 45, 45), 1, cv2.LINE_AA)
                cv2.add(picture, drops, dst=picture)
            if self.clock:
                text = f"2026-11-30 {int(t) // 60:02d}:{int(t) % 60:02d}"
                cv2.putText(picture, text, (440, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255,) * 3, 1)
            if self.quality:
                _, data = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, self.quality))
                picture = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
            yield picture


class Played:
    """A scene as a source, for the gate; ``listener`` is called with each frame."""

    def __init__(self, scene: Scene, listener: Callable[[Frame], None]) -> None:
        self._frames, self._listener = enumerate(scene.frames()), listener

    def open(self) -> SourceInfo:
        """See FrameSource."""
        return SourceInfo(
            name="scene", uri="scene:", wh_px=(W, H), fps=RATE, live=False, frame_count=None
        )

    def read(self, timeout_s: float) -> Frame | None:
        """See FrameSource."""
        for i, pixels in self._frames:
            ns = i * 10**9 // RATE
            frame = Frame(pixels=pixels, index=i, captured_ns=ns, media_ns=ns)
            self._listener(frame)
            return frame
        raise SourceEnded("scene")

    def close(self) -> None:
        """See FrameSource."""


def measure(
    number: int, scene: Scene, detector: Detector, kept: list[Detections]
) -> dict[str, Any]:
    """The events of both, compared. ``kept``: of each frame; filled if it is empty."""
    options = AnalyticsOptions(
        labels=("person",),
        zones=(Zone(name="left", points=((0, 0), (0.5, 0), (0.5, 1), (0, 1)), labels=("person",)),),
        lines=(Line(name="middle", points=((0.5, 1), (0.5, 0)), labels=("person",)),),
    )
    watchers = {
        way: Analytics(options, labels=detector.labels, source=f"scene {number}")
        for way in ("every", "gate", "second")
    }
    rows: dict[str, list[Any]] = {way: [] for way in watchers}
    looked = 0

    def tell(way: str, frame: Frame, still_ns: int = 0) -> None:
        i, ns = frame.index, frame.captured_ns
        update = watchers[way].update(
            kept[i], wh_px=(W, H), captured_ns=ns, media_ns=ns, frame=i, still_ns=still_ns
        )
        rows[way] += update.events

    def infer(frame: Frame) -> None:
        if frame.index == len(kept):
            kept.append(detector(frame.pixels))
        tell("every", frame)
        if frame.index % 2 == 0:
            tell("second", frame)

    gate = MotionGate(Played(scene, infer), MotionOptions(on=True, wake_s=0))
    gate.open()
    with suppress(SourceEnded):
        while True:
            if (frame := gate.read(1.0)) is not None:
                looked += 1
                tell("gate", frame, frame.still_ns)
    for way, watcher in watchers.items():
        rows[way] += watcher.end()[0]
    told = {way: [each.as_json() for each in some] for way, some in rows.items()}
    missed, new = _differences(told["every"], told["gate"])
    return {
        "scene": number,
        "kinds": scene.kinds,
        "noise": scene.noise,
        "jpeg": scene.quality,
        "frames": round(scene.seconds * RATE),
        "inferred": looked,
        "people": len(scene.people),
        "events": len(told["every"]),
        "missed": len(missed),
        "new": len(new),
        "missed_by_second": len(_differences(told["every"], told["second"])[0]),
        "which": [
            [c.kind, c.row.get("type"), c.row.get("media_ms"), c.how] for c in (*missed, *new)
        ],
    }


def _differences(
    every: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]
) -> tuple[list[EventChange], list[EventChange]]:
    """The events that ``other`` lacks or tells at another time, and those that it adds."""
    changes = compare(every, other).changes
    missed = [c for c in changes if c.kind == "gone" or abs(c.later_s) > LATE_S]
    return missed, [c for c in changes if c.kind == "new"]


def rooms(folder: Path, detector: Detector) -> Iterator[Pixels]:
    """Photographs in which the network sees nobody, as the camera's picture: every tenth."""
    for path in sorted(folder.glob("*.jpg"))[::10]:
        photo = cv2.imread(str(path))
        if photo is None or min(photo.shape[:2]) < 200:
            continue
        scale = max(W / photo.shape[1], H / photo.shape[0])
        photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        room = np.ascontiguousarray(photo[:H, :W], np.uint8)
        if "person" not in {detector.labels[i] for i in detector(room).class_ids.tolist()}:
            yield room


def summary(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sums over the scenes."""
    total = Counter[str]()
    for line in lines:
        total.update(
            {k: n for k, n in line.items() if isinstance(n, int) and k not in ("scene", "jpeg")}
        )
    events = max(1, total["events"])
    return {
        "scenes": len(lines),
        "hours": round(total["frames"] / RATE / 3600, 2),
        **total,
        "inferred_share": round(total["inferred"] / max(1, total["frames"]), 3),
        "recall": round(1 - total["missed"] / events, 4),
        "recall_of_every_second": round(1 - total["missed_by_second"] / events, 4),
        "new_share": round(total["new"] / events, 4),
    }


def main() -> int:
    """Measure, and print the sum."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl")
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--first", type=int, default=0, help="number of the first scene")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    lines = (
        [json.loads(each) for each in args.out.read_text().splitlines()]
        if args.out.exists()
        else []
    )
    done = {line["scene"] for line in lines}
    cv2.setNumThreads(1)
    walks = cut_people(args.clip)
    with Detector() as detector, args.out.open("a") as out:
        empty = rooms(args.photos, detector)
        for number in range(args.scenes):
            room = next(empty)
            if number in done or number < args.first:
                continue
            scene = Scene(number, room, walks, args.minutes * 60)
            file = args.keep and args.keep / f"scene{number}_{args.minutes:g}.pickle"
            kept = pickle.loads(file.read_bytes()) if file and file.exists() else []
            lines.append(measure(number, scene, detector, kept))
            if file:
                args.keep.mkdir(parents=True, exist_ok=True)
                file.write_bytes(pickle.dumps(kept))
            print(json.dumps(lines[-1]), file=out, flush=True)
    print(json.dumps(summary(lines)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
