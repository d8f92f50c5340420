#!/usr/bin/env python3
"""Makes app/sources/sample.mp4, the bundled clip, from photographs that are free of copyright.

Needs `pip install scikit-image matplotlib`, which carry the photographs in their wheels (too large
for requirements-dev.txt, as only this script uses them), and nothing from the network. The same
versions of all packages give the same file. Origin and licences of the photographs, and what can
be seen in which frames: app/sources/sample.README.md.
"""

from __future__ import annotations

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

OUT = Path(__file__).parents[1] / "app" / "sources" / "sample.mp4"
WIDTH, HEIGHT, FPS, FRAMES = 640, 360, 20, 240
FEATHER_PX = 3.0


@dataclass(frozen=True)
class Shot:
    """A photograph that moves from frame ``first`` to ``last``, both included."""

    name: str
    first: int
    last: int
    motion: Motion  # of 0..1, the part of the shot that has passed

    def at(self, index: int) -> tuple[float, float, float]:
        """Its place in frame ``index``."""
        return self.motion((index - self.first) / (self.last - self.first))


# Where in its photograph a person is: left, top, right, bottom as parts of its width and height.
PERSONS = {
    "astronaut": (0.04, 0.02, 0.99, 1.0),
    "camera": (0.01, 0.12, 0.66, 1.0),
    "admiral": (0.03, 0.03, 1.0, 1.0),
}


def ease(t: float, start: float, end: float) -> float:
    """From 0 at ``start`` to 1 at ``end``, setting off and arriving gently."""
    t = min(max((t - start) / (end - start), 0.0), 1.0)
    return t * t * (3 - 2 * t)


def mix(a: float, b: float, t: float) -> float:
    """The point between a and b."""
    return a + (b - a) * t


def pass_by(t: float) -> float:
    """In from the left, a stay, out to the left."""
    return mix(mix(-130, 120, ease(t, 0, 0.3)), -130, ease(t, 0.78, 1))


# The astronaut fills the frame while the camera draws back; then an empty stretch; then the
# cameraman comes from the left, the admiral from the right, the astronaut from below into the
# middle; the cameraman leaves to the left; at last the admiral fills the frame.
SHOTS = (
    Shot("astronaut", 0, 59, lambda t: (mix(360, 322, t), mix(372, 318, t), mix(800, 646, t))),
    Shot("camera", 80, 187, lambda t: (pass_by(t), 192, mix(206, 222, ease(t, 0, 0.7)))),
    Shot("admiral", 104, 199, lambda t: (mix(760, 534, ease(t, 0, 0.3)), 179, mix(190, 204, t))),
    Shot("astronaut", 128, 199, lambda t: (328, mix(500, 182, ease(t, 0, 0.38)), mix(196, 204, t))),
    Shot("admiral", 200, 239, lambda t: (mix(320, 326, t), mix(300, 306, t), mix(646, 664, t))),
)


def photographs() -> dict[str, Pixels]:
    """Name -> (H, W, 3) uint8 BGR."""
    import matplotlib
    import skimage

    of_skimage = Path(skimage.__file__).parent / "data"
    return {
        "astronaut": read(of_skimage / "astronaut.png"),
        "camera": read(of_skimage / "camera.png"),
        "admiral": read(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")),
    }


def read(path: Path) -> Pixels:
    """(H, W, 3) uint8 BGR."""
    pixels = cv2.imread(str(path))
    if pixels is None:
        raise SystemExit(f"cannot read {path}: install scikit-image and matplotlib as wheels")
    return np.asarray(pixels, np.uint8)


def backdrop() -> NDArray[np.float32]:
    """A wall with soft light and a little grain, the same in all frames."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    light = 168 - 60 * np.hypot((x - 240) / WIDTH, (y - 90) / HEIGHT)
    noise = np.random.default_rng(7).standard_normal((HEIGHT, WIDTH)).astype(np.float32)
    stains = cv2.GaussianBlur(noise, (0, 0), 40) * 220
    grain = cv2.GaussianBlur(noise, (0, 0), 1.2) * 5
    wall = light + stains + grain
    return np.asarray(wall[..., None] * np.array([0.98, 1.0, 1.02]), np.float32)


def paste(frame: NDArray[np.float32], photo: Pixels, at: tuple[float, float, float]) -> None:
    """Lay the photograph over the frame, in place, with a soft edge and a soft shadow."""
    centre_x, centre_y, width = at
    scale = width / photo.shape[1]
    # warpAffine does not average, so what is shrunk is softened before
    source = photo.astype(np.float32)
    if scale < 1:
        source = cv2.GaussianBlur(source, (0, 0), 0.42 / scale).astype(np.float32)
    half_w, half_h = photo.shape[1] / 2, photo.shape[0] / 2
    left, top = centre_x - scale * half_w, centre_y - scale * half_h
    matrix, size = np.array([[scale, 0, left], [0, scale, top]]), (WIDTH, HEIGHT)
    cubic, edge = cv2.INTER_CUBIC, cv2.BORDER_REPLICATE
    moved = cv2.warpAffine(source, matrix, size, flags=cubic, borderMode=edge)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    # how far inside the photograph each pixel's centre lies
    inside = np.minimum(
        scale * half_w - np.abs(x + 0.5 - centre_x), scale * half_h - np.abs(y + 0.5 - centre_y)
    )
    alpha = np.clip(inside / FEATHER_PX + 0.5, 0, 1)[..., None]
    shadow = np.clip(inside / 24 + 1, 0, 1)[..., None] ** 2 * 0.45
    frame *= 1 - shadow * (1 - alpha)
    frame += (moved.clip(0, 255) - frame) * alpha


def render(index: int, wall: NDArray[np.float32], photos: dict[str, Pixels]) -> Pixels:
    """Frame ``index``, (HEIGHT, WIDTH, 3) uint8 BGR."""
    frame = wall.copy()
    for shot in SHOTS:
        if shot.first <= index <= shot.last:
            paste(frame, photos[shot.name], shot.at(index))
    return np.asarray(np.rint(frame).clip(0, 255), np.uint8)


def persons(index: int, photos: dict[str, Pixels]) -> tuple[int, int]:
    """How many persons are at least half in frame ``index``, and how many less than half."""
    mostly = barely = 0
    for shot in SHOTS:
        if not shot.first <= index <= shot.last:
            continue
        centre_x, centre_y, width = shot.at(index)
        height = width * photos[shot.name].shape[0] / photos[shot.name].shape[1]
        left, top, right, bottom = PERSONS[shot.name]
        x0, x1 = (centre_x + (part - 0.5) * width for part in (left, right))
        y0, y1 = (centre_y + (part - 0.5) * height for part in (top, bottom))
        seen_w, seen_h = min(x1, WIDTH) - max(x0, 0), min(y1, HEIGHT) - max(y0, 0)
        fills = width >= WIDTH  # head and shoulders: that is a person, if less than half
        part = max(seen_w, 0) * max(seen_h, 0) / ((x1 - x0) * (y1 - y0))
        mostly += fills or part >= 0.5
        barely += not fills and 0 < part < 0.5
    return mostly, barely


def table(photos: dict[str, Pixels]) -> str:
    """Ground truth by construction, as rows of Markdown."""
    counts = [persons(index, photos) for index in range(FRAMES)]
    rows = []
    for (mostly, barely), group in groupby(range(FRAMES), key=counts.__getitem__):
        frames = list(group)
        rows.append(f"| {frames[0]}–{frames[-1]} | {mostly} | {barely} |")
    return "\n".join(rows)


def main() -> None:
    """Write the clip."""
    wall, photos = backdrop(), photographs()
    # one thread and no version strings: the same input gives the same bytes
    options = {"movflags": "faststart", "fflags": "+bitexact"}
    with av.open(str(OUT), "w", options=options) as out:
        encoder = {"preset": "slow", "crf": "21", "g": "40"}
        stream = out.add_stream("libx264", rate=FPS, options=encoder)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.thread_count = 1
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        for index in range(FRAMES):
            picture = av.VideoFrame.from_ndarray(render(index, wall, photos), format="bgr24")
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    print(table(photos))
    print(
        f"{OUT}: {OUT.stat().st_size / 1000:.0f} kB, {FRAMES} frames, {WIDTH}x{HEIGHT}, {FPS} FPS"
    )


if __name__ == "__main__":
    main()
