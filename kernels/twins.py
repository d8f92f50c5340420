"""What each kernel must give, in NumPy: the same arithmetic, one whole array at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def to_bgr(pixels: Bytes, pixel_format: str, yuv: Sequence[np.float32]) -> Floats:
    """Camera layout to (H, W, 3) float32 BGR, whole numbers 0..255.

    bgr8 (H,W,3); bgra8 (H,W,4); gray8 (H,W); yuyv (H,W,2); nv12 and i420 (H·3/2, W). ``yuv``: the
    kernel's last six numbers.
    """
    match pixel_format:
        case "bgr8":
            return pixels.astype(np.float32)
        case "bgra8":
            return pixels[..., :3].astype(np.float32)
        case "gray8":
            return np.repeat(pixels[..., None], 3, axis=2).astype(np.float32)
        case "yuyv":
            luma = pixels[..., 0]
            chroma = np.repeat(pixels[..., 1].reshape(len(pixels), -1, 2), 2, axis=1)
            return _from_yuv(luma, chroma[..., 0], chroma[..., 1], yuv)
        case "nv12":
            rows = pixels.shape[0] * 2 // 3
            pairs = pixels[rows:].reshape(rows // 2, -1, 2)
            chroma = pairs.repeat(2, axis=0).repeat(2, axis=1)
            return _from_yuv(pixels[:rows], chroma[..., 0], chroma[..., 1], yuv)
        case "i420":
            rows = pixels.shape[0] * 2 // 3
            halves = pixels[rows:].reshape(2, rows // 2, -1)
            u, v = halves.repeat(2, axis=1).repeat(2, axis=2)
            return _from_yuv(pixels[:rows], u, v, yuv)
    raise ValueError(f"no such pixel format: {pixel_format}")


def _from_yuv(y: Bytes, u: Bytes, v: Bytes, yuv: Sequence[np.float32]) -> Floats:
    black, gain, blue_u, green_u, green_v, red_v = yuv
    luma = gain * (y.astype(np.float32) - black)
    d, e = u.astype(np.float32) - 128, v.astype(np.float32) - 128
    blue = luma + blue_u * d
    green = luma + green_u * d + green_v * e
    red = luma + red_v * e
    bgr: Floats = np.clip(np.rint(np.stack([blue, green, red], -1)), 0, 255).astype(np.float32)
    return bgr


def preprocess(
    pixels: Bytes,
    pixel_format: str,
    *,
    yuv: Sequence[np.float32],
    out_wh: tuple[int, int],
    placed: tuple[int, int, int, int],
    swap: bool,
    scale: Floats,
    shift: Floats,
    pad: float,
) -> Floats:
    """(3, out_h, out_w) float32; ``placed`` is (x, y, w, h) of the frame in the output."""
    frame = to_bgr(pixels, pixel_format, yuv)
    height, width = frame.shape[:2]
    x0, y0, w, h = placed
    left, right, fx = _taps(width, w)
    top, bottom, fy = _taps(height, h)
    resized = _blend(frame.astype(np.int32), (left, right, fx), (top, bottom, fy))
    canvas = np.full((out_wh[1], out_wh[0], 3), pad, np.float32)
    part = canvas[max(y0, 0) : y0 + h, max(x0, 0) : x0 + w]  # of a cropped frame the middle
    part[:] = resized[max(-y0, 0) :, max(-x0, 0) :][: part.shape[0], : part.shape[1]]
    if swap:
        canvas = canvas[..., ::-1]
    values: Floats = (canvas * scale + shift).transpose(2, 0, 1).astype(np.float32)
    return values


def _blend(
    frame: NDArray[np.int32],
    across: tuple[NDArray[np.int64], NDArray[np.int64], Floats],
    down: tuple[NDArray[np.int64], NDArray[np.int64], Floats],
) -> NDArray[np.int32]:
    """In whole numbers, with the bits that cv2.resize keeps: 11 a share, 4 dropped between."""
    (left, right, fx), (top, bottom, fy) = across, down
    a, b = (
        np.rint((1 - f) * 2048).astype(np.int32) for f in (fx[None, :, None], fy[:, None, None])
    )
    c, d = (np.rint(f * 2048).astype(np.int32) for f in (fx[None, :, None], fy[:, None, None]))
    upper, lower = (frame[row][:, left] * a + frame[row][:, right] * c for row in (top, bottom))
    return ((b * (upper >> 4) >> 16) + (d * (lower >> 4) >> 16) + 2) >> 2


def _taps(source: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Of each target pixel along one axis: its two source pixels and the second's share."""
    ratio = np.float32(source) / np.float32(target)
    at = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * ratio - np.float32(0.5)
    at = np.clip(at, 0, source - 1)
    first = at.astype(np.int64)
    second = np.minimum(first + 1, source - 1)
    return first, second, (at - first).astype(np.float32)
