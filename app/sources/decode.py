"""Decoded pictures become frames: planes copied out, the picture upright, its colours named."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.frame import Colour, FramePool, PixelFormat
from .base import load_av, load_cv2

# AVColorSpace (ITU-T H.273, table 4) to the matrices that Colour knows; FCC is 601 but for its
# third digit, SMPTE 240M is nearest to 709.
_MATRICES: dict[int, Literal["bt601", "bt709", "bt2020"]] = {
    1: "bt709",
    4: "bt601",
    5: "bt601",
    6: "bt601",
    7: "bt709",
    9: "bt2020",
    10: "bt2020",
}
_SWS_MATRICES = {"bt601": 5, "bt709": 1, "bt2020": 9}  # SWS_CS_* of libswscale
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG; 1 is limited, 0 unknown, which means limited
_I420 = ("yuv420p", "yuvj420p")
_WIDEST_PIXEL = 8  # a greater pixel aspect, or its inverse, is a wrong header


class Picture(NamedTuple):
    """What a Frame is made of, but for its place and time."""

    pixels: NDArray[np.uint8]
    format: PixelFormat
    colour: Colour
    pixel_aspect: float


def colour_of(frame: Any) -> Colour:
    """Matrix and range that an av.VideoFrame names.

    Where it names no matrix it is taken for BT.601 whatever its height. Players take HD for 709
    then, but files by OpenCV and by many cameras are 601 without saying so, and this is what
    libswscale and OpenCV assume.
    """
    full = int(frame.color_range) == _FULL_RANGE or frame.format.name.startswith("yuvj")
    return Colour(_MATRICES.get(int(frame.colorspace), "bt601"), full)


def upright_wh_px(frame: Any) -> tuple[int, int]:
    """(width, height) of an av.VideoFrame as it will be copied."""
    height_px, width_px = _turn_of(frame).size(frame.height, frame.width)
    return width_px, height_px


class PictureCopier:
    """Copies av.VideoFrames into recycled arrays, upright. Not thread-safe.

    4:2:0 of 8 bits with even sides stays in its planes. Other YUV becomes such (values scaled by
    their depth, chroma halved); odd sides, RGB, palettes and gray become BGR. Transparency is left
    out.
    """

    def __init__(self) -> None:
        self._pool = FramePool()
        self._reformatter: Any = None
        self._turn = UPRIGHT
        self._rotation: int | None = None

    def __call__(self, frame: Any, aspect: Fraction | None) -> Picture:
        """``aspect``: width of a pixel over its height, as stored; None or 0: unknown."""
        colour = colour_of(frame)
        name = frame.format.name
        even = frame.width % 2 == 0 and frame.height % 2 == 0
        if min(plane.line_size for plane in frame.planes) < 0:
            even = False  # stored from the bottom up: libswscale turns it over, on the way to RGB
        if not (even and name in (*_I420, "nv12")):
            name = "yuv420p" if even and _is_yuv(frame.format) else "rgb24"
            frame = self._reformat(frame, name, colour)
        # The matrix itself only where the angle changes: a frame whose side data were looked at
        # is part of a reference cycle and stays until the garbage collector comes: 100 MB at 432p.
        if (rotation := getattr(frame, "rotation", 0)) != self._rotation:
            self._turn, self._rotation = _turn_of(frame), rotation
        turn = self._turn
        pixel_aspect = _usable_aspect(aspect)
        if turn.transposed:
            pixel_aspect = 1 / pixel_aspect
        if name == "rgb24":
            return Picture(self._copy_rgb(frame, turn), "bgr8", colour, pixel_aspect)
        if name == "nv12":
            return Picture(self._copy_planes(frame, turn), "nv12", colour, pixel_aspect)
        return Picture(self._copy_planes(frame, turn), "i420", colour, pixel_aspect)

    def _reformat(self, frame: Any, name: str, colour: Colour) -> Any:
        if self._reformatter is None:
            self._reformatter = load_av().video.reformatter.VideoReformatter()
        matrix, value_range = _SWS_MATRICES[colour.matrix], _FULL_RANGE if colour.full_range else 1
        return self._reformatter.reformat(
            frame,
            format=name,
            src_colorspace=matrix,
            # RGB has none; but PyAV 14 passes the source's on only where the two differ
            dst_colorspace=matrix if name == "yuv420p" else 1 if matrix != 1 else 5,
            src_color_range=value_range,
            dst_color_range=value_range,
        )

    def _copy_rgb(self, frame: Any, turn: Turn) -> NDArray[np.uint8]:
        """BGR from RGB, which is what libswscale gives also for BGR stored from the bottom up."""
        source = _rows(frame.planes[0], frame.width * 3).reshape(frame.height, frame.width, 3)
        height_px, width_px = turn.size(frame.height, frame.width)
        out = self._pool.acquire((height_px, width_px, 3))
        load_cv2().cvtColor(turn.apply(source), 4, dst=out)  # 4: COLOR_RGB2BGR
        return out

    def _copy_planes(self, frame: Any, turn: Turn) -> NDArray[np.uint8]:
        width_px, height_px = frame.width, frame.height
        out_h, out_w = turn.size(height_px, width_px)
        out = self._pool.acquire((out_h * 3 // 2, out_w))
        flat = out.reshape(-1)
        at = 0
        for plane, (rows, columns, values) in zip(frame.planes, _shapes(frame), strict=True):
            source = _rows(plane, columns * values)
            target = flat[at : at + source.size]
            if turn == UPRIGHT:
                np.copyto(target.reshape(source.shape), source)  # twice as fast with two axes
            else:
                shape = (*turn.size(rows, columns), values)
                turn.copy(source.reshape(rows, columns, values), target.reshape(shape))
            at += source.size
        return out


class Turn(NamedTuple):
    """How stored rows become an upright picture: swap the axes first, then mirror."""

    transposed: bool = False
    across: bool = False
    down: bool = False

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the upright picture."""
        return (width, height) if self.transposed else (height, width)

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A view or a new array; (H, W, C) as is ``pixels``."""
        if self == UPRIGHT:
            return pixels
        out = np.empty((*self.size(*pixels.shape[:2]), pixels.shape[2]), np.uint8)
        self.copy(pixels, out)
        return out

    def copy(self, pixels: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
        """Write the upright (H, W, C) picture into ``out``."""
        cv2 = load_cv2()
        turned = cv2.transpose(pixels) if self.transposed else pixels
        if self.across or self.down:
            turned = cv2.flip(turned, -1 if self.across and self.down else int(self.across))
        np.copyto(out, turned.reshape(out.shape))  # OpenCV drops the axis of a single channel


UPRIGHT = Turn()


def _turn_of(frame: Any) -> Turn:
    """What the display matrix asks for, to a right angle (libavutil/display.h).

    A stored point (p, q) is shown at (a·p + c·q, b·p + d·q), up to a shift.
    """
    side_data = frame.side_data
    if not len(side_data):
        return UPRIGHT
    try:
        matrix = side_data["DISPLAYMATRIX"]
    except (KeyError, ValueError):
        return UPRIGHT
    a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, np.int32, 5))
    return Turn(False, a < 0, d < 0) if abs(a) >= abs(b) else Turn(True, c < 0, b < 0)


def _is_yuv(pixel_format: Any) -> bool:
    parts = len(pixel_format.components)
    return parts >= 3 and not pixel_format.is_rgb and not pixel_format.name.startswith("xyz")


def _shapes(frame: Any) -> Iterator[tuple[int, int, int]]:
    """(rows, columns, values a pixel) of each plane of a 4:2:0 frame."""
    height_px, width_px = frame.height, frame.width
    yield height_px, width_px, 1
    if frame.format.name == "nv12":
        yield height_px // 2, width_px // 2, 2
    else:
        yield height_px // 2, width_px // 2, 1
        yield height_px // 2, width_px // 2, 1


def _rows(plane: Any, row_bytes: int) -> NDArray[np.uint8]:
    """(rows, ``row_bytes``): a view of the decoder's memory without what pads its lines."""
    lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return lines[:, :row_bytes]


def _usable_aspect(aspect: Fraction | None) -> float:
    value = float(aspect) if aspect else 1.0
    return value if 1 / _WIDEST_PIXEL <= value <= _WIDEST_PIXEL else 1.0


class Deinterlacer:
    """Makes whole pictures of interlaced ones (FFmpeg's yadif); progressive ones pass."""

    def __init__(self) -> None:
        self._kind: tuple[Any, ...] = ()
        self._source: Any = None
        self._sink: Any = None

    def feed(self, frame: Any | None, time_base: Fraction) -> Iterator[Any]:
        """Frames that are ready; None: the last was given before, give what is left."""
        if frame is not None:
            kind = (frame.width, frame.height, frame.format.name, time_base)
            if kind != self._kind:
                yield from self.feed(None, time_base)
                self._build(kind)
        if self._source is None:
            return
        av = load_av()
        self._source.push(frame)
        while True:
            try:
                yield self._sink.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                break
        if frame is None:
            self._kind, self._source, self._sink, self._graph = (), None, None, None

    def _build(self, kind: tuple[Any, ...]) -> None:
        width_px, height_px, name, time_base = kind
        graph = load_av().filter.Graph()
        self._source = graph.add_buffer(
            width=width_px, height=height_px, format=name, time_base=time_base
        )
        yadif = graph.add("yadif", "mode=send_frame:deint=interlaced")
        self._sink = graph.add("buffersink")
        self._source.link_to(yadif)
        yadif.link_to(self._sink)
        graph.configure()
        self._kind, self._graph = kind, graph
