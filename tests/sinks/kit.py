"""What the tests of the sinks and the window feed them with."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from app.core.detections import Detections, Result
from app.core.events import Event, EventType
from app.core.frame import Frame, SourceInfo
from app.core.masks import ObjectMask
from app.core.overlay import COCO17

ROOT = Path(__file__).parents[2]
LABELS = ("person", "dog", "face")
CLIP = SourceInfo("clip.mp4", live=False, wh_px=(320, 240), fps=25.0, frame_count=60)
CAMERA = SourceInfo("camera:0", live=True)
FRAME_NS = 40_000_000
_NUMBERS = count(1)


def found(*each: tuple, keypoints: list | None = None) -> Detections:
    """Detections from (class_id, score, x0, y0, x1, y1)."""
    return Detections(
        np.array([row[2:] for row in each], np.float32).reshape(-1, 4),
        np.array([row[1] for row in each], np.float32),
        np.array([row[0] for row in each], np.int32),
        None if keypoints is None else np.array(keypoints, np.float32),
    )


Places = tuple[tuple[int, int], ...]  # x, y


def of_task(task: str) -> tuple[Detections, Places, Places, Places]:
    """A person with more than a box; where its colour is, is mixed in, and is not."""
    plain = found((0, 0.9, 100, 60, 220, 180))
    if task == "pose":  # of which the shoulders alone are sure
        points, sure = np.full((1, 17, 2), 160, np.float32), np.zeros((1, 17), np.float32)
        points[0, 5:7], sure[0, 5:7] = ((120, 100), (200, 100)), 0.9
        full = replace(plain, keypoints=points, keypoint_scores=sure, point_names=COCO17)
        return full, ((160, 100), (120, 100), (200, 100)), (), ((160, 160), (140, 130))
    if task == "turned":
        corners = np.array([[(160, 60), (220, 120), (160, 180), (100, 120)]], np.float32)
        return (
            replace(plain, polygons=corners),
            ((190, 90), (130, 150)),
            (),
            ((102, 66), (160, 120)),
        )
    y, x = np.mgrid[:120, :120] - 59.5  # a disc
    field, masks = (40 - np.hypot(x, y)).astype(np.float32), np.empty(1, object)
    masks[0] = ObjectMask(100, 60, 120, 120, field, (1, 0, 1, 0), task == "outlines")
    return (
        replace(plain, masks=masks),
        ((160, 60),),
        ((160, 120), (135, 120)),
        ((110, 70), (210, 170)),
    )


TASKS = ("masks", "outlines", "pose", "turned")


def gray(width: int = 320, height: int = 240, level: int = 128) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def textured(index: int, width: int = 320, height: int = 240) -> np.ndarray:
    """A picture that moves from frame to frame and costs an encoder some bytes."""
    y, x = np.mgrid[0:height, 0:width]
    wave = 127 + 60 * np.sin((x + 7 * index) / 9) + 60 * np.cos((y - 5 * index) / 7)
    noise = np.random.default_rng(index).integers(0, 16, (height, width, 3))
    return np.clip(wave[..., None] + noise, 0, 255).astype(np.uint8)


def result(
    index: int = 0,
    detections: Detections | None = None,
    pixels: np.ndarray | None = None,
    *,
    live: bool = False,
) -> Result:
    frame = Frame(
        gray() if pixels is None else pixels,
        index,
        captured_ns=5_000_000_000 + index * FRAME_NS,
        media_ns=None if live else index * FRAME_NS,
    )
    return Result(frame, Detections.empty() if detections is None else detections, 9_412_345)


def python(code: str, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that sees the product."""
    options = {"capture_output": True, "timeout": 60} | options
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, text=True, cwd=ROOT, check=False, **options)


def event(kind: EventType, track_id: int | None = 1, **more: Any) -> Event:
    """One of a person, with an id that no other has."""
    number = f"{next(_NUMBERS):026}"
    more = {"label": "person" if track_id is not None else None, "source": "camera:0"} | more
    return Event(type=kind, id=number, time="2026-01-31T12:00:04.500Z", track_id=track_id, **more)
