"""What a user writes around a network: cv2 before it, NumPy and cv2's NMS after it.

Used by every peer that brings only an engine or a way to read. Written for itself: Kestrel's own
preprocessing and decoders would prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from app.models.manifest import ModelSpec
from scripts.bench_peers.contract import Box, NotHere

Pixels = NDArray[np.uint8]


def frames_of(clip: str) -> Iterator[Pixels]:
    """The clip's frames as cv2 gives them by default."""
    capture = cv2.VideoCapture(clip)
    while True:
        ok, frame = capture.read()
        if not ok:
            return
        yield np.asarray(frame, np.uint8)


def frame_wh(clip: str) -> tuple[int, int]:
    for frame in frames_of(clip):
        return frame.shape[1], frame.shape[0]
    raise NotHere(f"{clip} has no frame that can be decoded")


class PlainParts:
    """Preprocessing and postprocessing for one model."""

    def __init__(self, spec: ModelSpec) -> None:
        decoders: dict[str, Callable[..., Any]] = {
            "yolov8": _yolov8,
            "fastestdet": _fastestdet,
            "yolox": partial(_yolox, strides=spec.parameters.get("strides", (8, 16, 32))),
        }
        if spec.family not in decoders or spec.parameters.keys() - {"strides"}:
            raise NotHere(f"the plain parts know {', '.join(decoders)}, not {spec.family}")
        self._spec, self._decode = spec, decoders[spec.family]

    def tensor(self, frame: Pixels) -> NDArray[np.float32]:
        """(1, 3, H, W) float32."""
        wanted = self._spec.input
        width, height = wanted.size_wh
        x, y, w, h = self._place(frame)
        if (w, h) != (width, height):
            canvas = np.full((height, width, 3), wanted.pad, np.uint8)
            canvas[y : y + h, x : x + w] = cv2.resize(frame, (w, h))
        else:
            canvas = np.asarray(cv2.resize(frame, (w, h)), np.uint8)
        mean = [m / wanted.scale for m in wanted.mean]
        swap = wanted.channels == "RGB"
        blob = np.asarray(
            cv2.dnn.blobFromImage(canvas, wanted.scale, mean=mean, swapRB=swap), np.float32
        )
        if any(s != 1 for s in wanted.std):
            blob /= np.array(wanted.std, np.float32).reshape(1, 3, 1, 1)
        return blob

    def boxes(self, output: NDArray[np.float32], frame: Pixels) -> list[Box]:
        """The network's one output to boxes of the frame."""
        spec = self._spec
        ids, scores, xywh = self._decode(output[0], spec.input.size_wh, spec.score)
        kept = cv2.dnn.NMSBoxesBatched(
            xywh.tolist(), scores.tolist(), ids.tolist(), spec.score, spec.iou
        )
        x, y, w, h = self._place(frame)
        height, width = frame.shape[:2]
        found = []
        for i in np.asarray(kept, int).ravel():
            left, top = (xywh[i, 0] - x) * width / w, (xywh[i, 1] - y) * height / h
            right, bottom = left + xywh[i, 2] * width / w, top + xywh[i, 3] * height / h
            corners = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
            if corners[2] > corners[0] and corners[3] > corners[1]:
                found.append(Box(int(ids[i]), float(scores[i]), *map(float, corners)))
        return found

    def _place(self, frame: Pixels) -> tuple[int, int, int, int]:
        """Where the frame lies in the input: x, y, width, height."""
        wanted = self._spec.input
        width, height = wanted.size_wh
        if wanted.resize == "stretch":
            return 0, 0, width, height
        scale = min(width / frame.shape[1], height / frame.shape[0])
        w, h = round(frame.shape[1] * scale), round(frame.shape[0] * scale)
        if wanted.align == "top-left":
            return 0, 0, w, h
        return (width - w) // 2, (height - h) // 2, w, h


def _yolov8(out: NDArray[np.float32], size_wh: tuple[int, int], score: float) -> Any:
    best = out[4:].max(axis=0)
    keep = best > score
    rows = out[:, keep].T
    xywh = rows[:, :4].astype(np.float64)
    xywh[:, :2] -= xywh[:, 2:] / 2
    return rows[:, 4:].argmax(axis=1), best[keep], xywh


def _fastestdet(out: NDArray[np.float32], size_wh: tuple[int, int], score: float) -> Any:
    scores = out[0] ** 0.6 * out[5:].max(axis=0) ** 0.4
    keep = scores > score
    t = out[:, keep]
    grid_y, grid_x = np.nonzero(keep)
    rows, columns = keep.shape
    cx = (grid_x + np.tanh(t[1])) / columns * size_wh[0]
    cy = (grid_y + np.tanh(t[2])) / rows * size_wh[1]
    w, h = size_wh[0] / (1 + np.exp(-t[3])), size_wh[1] / (1 + np.exp(-t[4]))
    return t[5:].argmax(axis=0), scores[keep], np.stack((cx - w / 2, cy - h / 2, w, h), axis=1)


def _yolox(
    out: NDArray[np.float32], size_wh: tuple[int, int], score: float, *, strides: Sequence[int]
) -> Any:
    cells = []
    for stride in strides:
        columns, rows = size_wh[0] // stride, size_wh[1] // stride
        cells += [(x, y, stride) for y in range(rows) for x in range(columns)]
    at = np.array(cells, np.float64)
    best = out[:, 4] * out[:, 5:].max(axis=1)
    keep = best > score
    t, at = out[keep], at[keep]
    centre, size = (t[:, :2] + at[:, :2]) * at[:, 2:], np.exp(t[:, 2:4]) * at[:, 2:]
    xywh = np.concatenate((centre - size / 2, size), axis=1)
    return t[:, 5:].argmax(axis=1), best[keep], xywh
