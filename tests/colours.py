"""Frames of every YUV layout and colour space, and by the definition the colours they mean."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from app.core.frame import Colour, Frame, PixelFormat

COLOURS = [
    Colour(matrix, full)  # type: ignore[arg-type]
    for matrix, full in product(("bt601", "bt709", "bt2020"), (False, True))
]
YUV_FORMATS: tuple[PixelFormat, ...] = ("yuyv", "nv12", "i420")
# Kr and Kb of ITU-R BT.601-7, BT.709-6 and BT.2020-2
K = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}


def packed(luma: Any, u: Any, v: Any, pixel_format: PixelFormat) -> np.ndarray:
    """(H, W) of luma and (H/2, W/2) of chroma in a layout."""
    if pixel_format == "yuyv":
        chroma = np.stack([u, v], -1).reshape(len(u), -1).repeat(2, axis=0)
        return np.ascontiguousarray(np.stack([luma, chroma], -1))
    chroma = np.stack([u, v], -1) if pixel_format == "nv12" else np.stack([u, v])
    return np.concatenate([luma, chroma.reshape(-1, luma.shape[1])])


def yuv_frame(pixel_format: PixelFormat, colour: Colour, wh: tuple[int, int]) -> Frame:
    """Random values of the whole range, those that mean no colour too."""
    w, h = wh
    rng = np.random.default_rng(w * h)
    values = (rng.integers(0, 256, size, np.uint8) for size in ((h, w), *((h // 2, w // 2),) * 2))
    return Frame(packed(*values, pixel_format), 0, 0, format=pixel_format, colour=colour)


def yuv_of(bgr: Any, colour: Colour) -> tuple[np.ndarray, ...]:
    """Y, U and V of (…, 3) BGR from 0 to 255, rounded: E'Y = Kr R + (1 - Kr - Kb) G + Kb B …"""
    kr, kb = K[colour.matrix]
    b, g, r = (np.asarray(bgr, np.float64)[..., i] / 255 for i in range(3))
    y = kr * r + (1 - kr - kb) * g + kb * b
    pb, pr = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    luma, chroma, black = (255, 255, 0) if colour.full_range else (219, 224, 16)
    planes = (black + luma * y, 128 + chroma * pb, 128 + chroma * pr)
    return tuple(np.clip(np.rint(plane), 0, 255).astype(np.uint8) for plane in planes)


def bgr_by_definition(frame: Frame) -> np.ndarray:
    """(H, W, 3) float64, clipped, not rounded; a value of chroma counts for all its pixels."""
    w, h = frame.wh_px
    if frame.format == "yuyv":
        y, chroma = frame.pixels[..., 0], frame.pixels[..., 1]
        u, v = (np.repeat(chroma[:, i::2], 2, axis=1) for i in (0, 1))
    else:
        y, rest = frame.pixels[:h], frame.pixels[h:].ravel()
        pair = (rest[0::2], rest[1::2]) if frame.format == "nv12" else np.split(rest, 2)
        u, v = (np.kron(each.reshape(h // 2, w // 2), np.ones((2, 2))) for each in pair)
    kr, kb = K[frame.colour.matrix]
    luma, chroma_range, black = (255, 255, 0) if frame.colour.full_range else (219, 224, 16)
    e = (y.astype(np.float64) - black) / luma
    pb, pr = ((each.astype(np.float64) - 128) / chroma_range for each in (u, v))
    r, b = e + 2 * (1 - kr) * pr, e + 2 * (1 - kb) * pb
    g = (e - kr * r - kb * b) / (1 - kr - kb)
    return np.clip(np.stack([b, g, r], -1) * 255, 0, 255)
