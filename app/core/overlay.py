"""How detections look wherever they are drawn: colours, captions, sizes, and where the tags lie.

Recordings and snapshots (OpenCV), the window (Qt) and the page (its own script, which gets the
numbers from here) draw with their own means and decide nothing of this themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .detections import Detections, label_of
from .text import printable

Rgb = tuple[int, int, int]
Rect = tuple[float, float, float, float]  # left, top, right, bottom

# Bright, saturated and far apart from one another, so that they show on photographs: neighbouring
# class ids (a model's commonest ones) get the most different hues.
_FIRST: tuple[Rgb, ...] = (
    (57, 219, 94),
    (255, 159, 28),
    (64, 169, 255),
    (255, 92, 138),
    (255, 221, 64),
    (178, 130, 255),
    (38, 220, 214),
    (255, 110, 64),
    (166, 226, 46),
    (240, 128, 240),
    (122, 199, 255),
    (214, 178, 120),
)
# Each of these is the bright colour of the 17-step RGB cube that is farthest in CIELAB from all
# before it; no two of the 96 are nearer than 14.7: each class of COCO
# and some more have their own.
_MORE = bytes.fromhex(
    "7700ffffbbddff22ffccffaa00ff000055ffff00aaff004400ffbbff99889933dd0066ddff2200aa99ddaaddbb"
    "eeff00dd8844dd77aaffee88aaeeffdd33ccdd555555dd1199dd66dd449977dd9911ddffffeebbeebbaaeebb55"
    "eeaaffccdd55ff77006655ddddccff8899ffff007788ff99bb11ff88ffddaaff0000ff66bb55ddddaa0099ff66"
    "dd7788dd22555533eedd332200ff99dd55ffccdd99ff55ccdddd11ff77cc1188ee88ffffdd775500ffdddd7711"
    "ffbb7733dd8877ff0000aadddd99777799ddccff77ff5500ff99dd22ddaadd99aa7777eeddff55aa66ffff11dd"
    "ee0088cc00ddccdd77bb99ffff5555bbffeeddcc55dd99ccff7788"
)
PALETTE: tuple[Rgb, ...] = (*_FIRST, *zip(_MORE[::3], _MORE[1::3], _MORE[2::3], strict=True))


# of people in COCO, and the pairs of them that are drawn as bones
COCO17 = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
)
_BONES = (
    *((0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10)),
    *((5, 11), (6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16)),
)
SURE = 0.25  # the score from which a keypoint is drawn
TINT = 0.4  # how opaque a mask's colour is


def bones_of(point_names: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    return _BONES if point_names == COCO17 else ()


def colour_of(class_id: int) -> Rgb:
    """The class's colour as (red, green, blue) 0..255; the same one in every run."""
    return PALETTE[class_id % len(PALETTE)]


def text_colour_on(background: Rgb) -> Rgb:
    """Black or white, whichever is read more easily on it (Rec. 709 luma weights)."""
    red, green, blue = background
    return (0, 0, 0) if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 110 else (255, 255, 255)


def caption(
    labels: Sequence[str],
    class_id: int,
    score: float,
    track_id: int = -1,
    *,
    named: bool = True,
    scored: bool = True,
) -> str:
    """What is written at a box: its label and the number of its track (-1: none), its score."""
    words = [printable(label_of(labels, class_id))] if named else []
    if named and track_id >= 0:
        words.append(str(track_id))
    return " ".join([*words, f"{score:.2f}"] if scored else words)


def captions(
    found: Detections, labels: Sequence[str], *, named: bool = True, scored: bool = True
) -> list[str]:
    ids = [-1] * len(found) if found.track_ids is None else found.track_ids.tolist()
    each = zip(found.class_ids.tolist(), found.scores.tolist(), ids, strict=True)
    return [caption(labels, *one, named=named, scored=scored) for one in each]


def tagged(found: Detections, boxes: Sequence[list[float]]) -> Sequence[list[float]]:
    """The boxes that tags are placed at: of turned ones, which begin at their highest corner."""
    if found.polygons is None:
        return boxes
    tops = found.polygons[:, :, 1].argmin(axis=1)
    share = (found.polygons[range(len(found)), tops, 0] - found.xyxy[:, 0]) / np.maximum(
        found.xyxy[:, 2] - found.xyxy[:, 0], 1e-6
    )
    starts = share.clip(0, 1).tolist()
    return [
        [left + (right - left) * start, top, right, bottom]
        for (left, top, right, bottom), start in zip(boxes, starts, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class OverlayStyle:
    """Sizes in logical pixels of a screen, whatever the zoom; of a frame: ``for_frame``."""

    line: float = 2.0  # width of a box's line
    point: float = 3.0  # radius of a keypoint
    text: float = 13.0  # size of the font
    pad_x: float = 5.0  # of a tag, left and right of its text
    pad_y: float = 1.5  # above and below it
    handle: float = 5.0  # radius of a zone's point that can be dragged
    grab: float = 11.0  # from its centre, within which a pointer means it
    arrow: float = 7.0  # of a line, towards its "in"
    most_apart: int = 40  # tags that the next ones keep clear of: in a crowd there is no room

    @staticmethod
    def for_frame(wh_px: tuple[int, int]) -> OverlayStyle:
        """In the pixels of a frame of this size, so that small and large frames look alike."""
        scale = min(wh_px) / 480
        small = max(0.65, scale)
        return OverlayStyle(
            # at least 2: one pixel would lose its colour in video, which halves its resolution
            line=max(2, round(SCREEN.line * scale)),
            point=SCREEN.point * max(1.0, scale),
            text=SCREEN.text * small,
            pad_x=SCREEN.pad_x * small,
            pad_y=SCREEN.pad_y * small,
        )


SCREEN = OverlayStyle()


def place_tags(
    boxes: Sequence[Sequence[float]],
    sizes: Sequence[tuple[float, float]],
    room: Rect,
    style: OverlayStyle = SCREEN,
) -> dict[int, Rect]:
    """Where the tags of (width, height) ``sizes`` lie, by the index of their box.

    Above the box, or inside it at the upper edge of the room. Where another tag is, below the box
    or inside at its lower edge, if that is free. A tag stays in the room as long as a part of its
    box does; a box outside has none. Large boxes choose first: a box that lies in another gives
    way to it, and sizes change less from frame to frame than scores.
    """
    room_left, room_top, room_right, room_bottom = room
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in boxes]
    placed: dict[int, Rect] = {}
    taken: list[Rect] = []
    for i in sorted(range(len(boxes)), key=lambda i: -areas[i]):
        left, top, right, bottom = boxes[i]
        if left >= room_right or right <= room_left or top >= room_bottom or bottom <= room_top:
            continue
        width, height = sizes[i]
        x = max(room_left, min(left - style.line / 2, room_right - width))
        above = top - height
        first = above if above >= room_top else max(room_top, top)
        chosen = first
        for y in (first, bottom, bottom - height):
            if room_top <= y <= room_bottom - height and not any(
                x < each[2] and each[0] < x + width and y < each[3] and each[1] < y + height
                for each in taken
            ):
                chosen = y
                break
        placed[i] = x, chosen, x + width, chosen + height
        if len(taken) < style.most_apart:
            taken.append(placed[i])
    return placed
