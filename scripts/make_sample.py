#!/usr/bin/env python3
"""Makes app/sources/sample.mp4, the bundled clip, from photographs that are free of copyright.

Needs `pip install scikit-image matplotlib`, which carry the photographs in their wheels (too large
for requirements-dev.txt, as only this script uses them), and nothing from the network. The same
versions of all packages give the same file. Origin and licences of the photographs, and what can
be seen in which frames: app/sources/sample.README.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
# Where the photograph's centre lies in the frame and how wide the photograph is, in pixels.
Motion = Callable[[float], tuple[float, float, float]]
Part = tuple[float, float, float, float]

OUT = Path(__file__).parents[1] / "app" / "sources" / "sample.mp4"
WIDTH, HEIGHT, FPS, FRAMES = 640, 360, 20, 240
STREET = range(80, 200)  # frames that show the low wall
WALL_Y_PX = 284  # top of the low wall in front, behind which people walk


@dataclass(frozen=True)
class Cut:
    """How a photograph is cut out (GrabCut): rectangles as parts of its width and height, (left,
    top, right, bottom), that are surely the thing, may be, and surely are not."""

    sure: tuple[Part, ...]
    maybe: tuple[Part, ...]
    never: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Shot:
    """A photograph, or its cut-out, that moves from frame ``first`` to ``last``, both included."""

    name: str
    first: int
    last: int
    motion: Motion  # of 0..1, the part of the shot that has passed
    cut: bool = False

    def at(self, index: int) -> tuple[float, float, float]:
        return self.motion((index - self.first) / (self.last - self.first))


CUTS = {
    "astronaut": Cut(
        ((0.33, 0.08, 0.53, 0.38), (0.2, 0.55, 0.75, 0.98)),
        ((0.0, 0.0, 0.98, 1.0),),
        ((0, 0, 0.22, 0.28), (0, 0.25, 0.13, 0.62), (0, 0.6, 0.05, 1), (0.62, 0, 1, 0.68)),
    ),
    "camera": Cut(
        ((0.36, 0.2, 0.45, 0.33), (0.25, 0.45, 0.42, 0.8)),
        ((0.1, 0.08, 0.64, 1.0),),
        ((0.66, 0, 1, 1), (0, 0, 0.1, 1)),
    ),
    "admiral": Cut(
        ((0.36, 0.1, 0.66, 0.42), (0.2, 0.65, 0.9, 1.0)),
        ((0.03, 0.02, 1.0, 1.0),),
        ((0, 0, 0.3, 0.5), (0, 0.5, 0.13, 0.64), (0.72, 0.45, 1, 0.57), (0.74, 0, 1, 0.5)),
    ),
}


def ease(t: float, start: float, end: float) -> float:
    """From 0 at ``start`` to 1 at ``end``, setting off and arriving gently."""
    t = min(max((t - start) / (end - start), 0.0), 1.0)
    return t * t * (3 - 2 * t)


def mix(a: float, b: float, t: float) -> float:
    return a + (b - a) * t


def walk(start: float, end: float, foot: float, width: float, steps: int) -> Motion:
    """From ``start`` to ``end`` at an even pace, up and down with each step."""

    def motion(t: float) -> tuple[float, float, float]:
        return mix(start, end, t), foot - 4 * abs(math.sin(math.pi * steps * t)), width

    return motion


# The astronaut fills the frame while the camera draws back; then an empty stretch; then a low
# wall, behind which the cameraman walks to the right, the admiral past him to the left, and the
# astronaut to the right; at last the admiral fills the frame, and a cat's picture hangs there.
SHOTS = (
    Shot("astronaut", 0, 59, lambda t: (mix(360, 322, t), mix(372, 318, t), mix(800, 646, t))),
    Shot("camera", 84, 199, walk(-90, 640, 210, 260, 8), cut=True),
    Shot("admiral", 88, 152, walk(730, -110, 206, 190, 6), cut=True),
    Shot("astronaut", 150, 199, walk(-90, 430, 186, 236, 5), cut=True),
    Shot("admiral", 200, 219, lambda t: (mix(320, 323, t), mix(300, 303, t), mix(646, 655, t))),
    Shot("cat", 220, 239, lambda t: (mix(310, 330, t), 178, mix(400, 412, t))),
)


def photographs() -> dict[str, Pixels]:
    """Name -> (H, W, 3) uint8 BGR."""
    import matplotlib
    import skimage

    of_skimage = Path(skimage.__file__).parent / "data"
    return {
        "astronaut": read(of_skimage / "astronaut.png"),
        "camera": read(of_skimage / "camera.png"),
        "cat": read(of_skimage / "chelsea.png"),
        "admiral": read(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")),
    }


def read(path: Path) -> Pixels:
    """(H, W, 3) uint8 BGR."""
    pixels = cv2.imread(str(path))
    if pixels is None:
        raise SystemExit(f"cannot read {path}: install scikit-image and matplotlib as wheels")
    return np.asarray(pixels, np.uint8)


def opacity(photo: Pixels, cut: Cut) -> NDArray[np.float32]:
    """(H, W) 0..1: how much of each pixel belongs to the thing that is cut out."""
    height, width = photo.shape[:2]
    mask = np.full((height, width), cv2.GC_BGD, np.uint8)
    marks = ((cv2.GC_PR_FGD, cut.maybe), (cv2.GC_FGD, cut.sure), (cv2.GC_BGD, cut.never))
    for mark, parts in marks:
        for left, top, right, bottom in parts:
            rows = slice(round(top * height), round(bottom * height))
            mask[rows, round(left * width) : round(right * width)] = mark
    cv2.setRNGSeed(1)
    models, unused = (np.zeros((1, 65)), np.zeros((1, 65))), (0, 0, 1, 1)
    cv2.grabCut(photo, mask, unused, *models, 6, cv2.GC_INIT_WITH_MASK)
    inside = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    _, pieces, facts, _ = cv2.connectedComponentsWithStats(inside)
    largest = 1 + int(facts[1:, cv2.CC_STAT_AREA].argmax())
    solid = cv2.morphologyEx(
        (pieces == largest).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8)
    )
    thinner = cv2.erode(solid, np.ones((3, 3), np.uint8)).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(thinner, (0, 0), 1.2), np.float32)


def grainy(level: float, seed: int, tint: tuple[float, float, float]) -> NDArray[np.float32]:
    """A plastered wall: soft light and a little grain, the same in all frames."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    light = level - 60 * np.hypot((x - 240) / WIDTH, (y - 90) / HEIGHT)
    noise = np.random.default_rng(seed).standard_normal((HEIGHT, WIDTH)).astype(np.float32)
    stains = cv2.GaussianBlur(noise, (0, 0), 40) * 220
    grain = cv2.GaussianBlur(noise, (0, 0), 1.2) * 5
    return np.asarray((light + stains + grain)[..., None] * np.array(tint), np.float32)


def paste(
    frame: NDArray[np.float32],
    photo: Pixels,
    alpha: NDArray[np.float32],
    at: tuple[float, float, float],
) -> None:
    """Lay what ``alpha`` shows of the photograph over the frame, in place, with a soft shadow."""
    centre_x, centre_y, width = at
    scale = width / photo.shape[1]
    # warpAffine does not average, so what is shrunk is softened before
    source = np.dstack([photo * alpha[..., None], alpha]).astype(np.float32)
    if scale < 1:
        source = np.asarray(cv2.GaussianBlur(source, (0, 0), 0.42 / scale), np.float32)
    left, top = centre_x - scale * photo.shape[1] / 2, centre_y - scale * photo.shape[0] / 2
    matrix = np.array([[scale, 0, left], [0, scale, top]])
    moved = cv2.warpAffine(source, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
    covered = moved[..., 3:]
    shade = cv2.GaussianBlur(np.roll(moved[..., 3], (5, 9), (0, 1)), (0, 0), 7)[..., None]
    frame *= (1 - 0.35 * shade) * (1 - covered)
    frame += moved[..., :3]


class Scene:
    """All that does not change from frame to frame."""

    def __init__(self) -> None:
        self.photos = photographs()
        self.alphas = {name: opacity(self.photos[name], cut) for name, cut in CUTS.items()}
        self.back = grainy(168, 7, (0.98, 1.0, 1.02))
        self.front = grainy(120, 9, (0.8, 0.92, 1.0))[WALL_Y_PX:]
        self.front[:5] *= 1.25  # its coping

    def render(self, index: int) -> Pixels:
        """Frame ``index``, (HEIGHT, WIDTH, 3) uint8 BGR."""
        frame = self.back.copy()
        for shot in shots_at(index):
            photo = self.photos[shot.name]
            whole = np.ones(photo.shape[:2], np.float32)
            paste(frame, photo, self.alphas[shot.name] if shot.cut else whole, shot.at(index))
        if index in STREET:
            frame[WALL_Y_PX:] = self.front
        return np.asarray(np.rint(frame).clip(0, 255), np.uint8)

    def persons(self, index: int) -> tuple[int, int]:
        """How many persons are at least half in frame ``index``, and how many less than half."""
        mostly = barely = 0
        for shot in shots_at(index):
            if not shot.cut:  # head and shoulders fill the frame, or the cat
                mostly += shot.name != "cat"
            else:
                centre_x, _, width = shot.at(index)
                columns = np.flatnonzero(self.alphas[shot.name].max(0) > 0.5)
                scale = width / self.photos[shot.name].shape[1]
                x0, x1 = (centre_x - width / 2 + scale * columns[i] for i in (0, -1))
                part = (min(x1, WIDTH) - max(x0, 0)) / (x1 - x0)
                mostly += part >= 0.5
                barely += 0 < part < 0.5
        return mostly, barely


def shots_at(index: int) -> list[Shot]:
    return [shot for shot in SHOTS if shot.first <= index <= shot.last]


def table(scene: Scene) -> str:
    """Ground truth by construction, as rows of Markdown."""
    counts = [scene.persons(index) for index in range(FRAMES)]
    rows = []
    for (mostly, barely), group in groupby(range(FRAMES), key=counts.__getitem__):
        frames = list(group)
        rows.append(f"| {frames[0]}–{frames[-1]} | {mostly} | {barely} |")
    return "\n".join(rows)


def main() -> None:
    scene = Scene()
    # one thread and no version strings: the same input gives the same bytes
    options = {"movflags": "faststart", "fflags": "+bitexact"}
    with av.open(str(OUT), "w", options=options) as out:
        encoder = {"preset": "slow", "crf": "21", "g": "40"}
        stream = out.add_stream("libx264", rate=FPS, options=encoder)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.thread_count = 1
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        for index in range(FRAMES):
            picture = av.VideoFrame.from_ndarray(scene.render(index), format="bgr24")
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    print(table(scene))
    print(
        f"{OUT}: {OUT.stat().st_size / 1000:.0f} kB, {FRAMES} frames, {WIDTH}x{HEIGHT}, {FPS} FPS"
    )


if __name__ == "__main__":
    main()
