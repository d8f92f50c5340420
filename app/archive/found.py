"""What a detector found in the frames of a part, as arrays that travel and wait on a disk."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from ..core.detections import Detections
from ..core.frame import Frame, SourceInfo

_ARRAYS = tuple(
    each.name for each in fields(Detections) if each.name not in ("masks", "point_names")
)


@dataclass
class Found:
    """``frames``: media_ns, width and height of each, with what was found in it.

    ``sure``: False where a part could differ from the same frames of the whole clip.
    """

    info: SourceInfo
    frames: list[tuple[int, int, int, Detections]] = field(default_factory=list)
    sure: bool = True

    def to_bytes(self) -> bytes:
        """NumPy's .npz, which holds nothing that could run."""
        found = [each for *_, each in self.frames]
        names = next((each.point_names for each in found if each.point_names), ())
        told = {"info": asdict(self.info), "sure": self.sure, "points": names}
        arrays: dict[str, Any] = {
            "places": np.array([each[:3] for each in self.frames], np.int64).reshape(-1, 3),
            "counts": np.array([len(each) for each in found], np.int64),
            "told": np.frombuffer(json.dumps(told).encode(), np.uint8),
        }
        for name in _ARRAYS:
            parts = [part for each in found if (part := getattr(each, name)) is not None]
            parts = [part for part in parts if len(part)] or parts[:1]
            if parts:
                arrays[name] = np.concatenate(parts)
        out = io.BytesIO()
        np.savez(out, **arrays)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Found:
        """Raises ValueError, KeyError or OSError for what ``to_bytes`` did not make."""
        with np.load(io.BytesIO(data), allow_pickle=False) as loaded:
            arrays = dict(loaded)
        told = json.loads(arrays["told"].tobytes())
        info = dict(told["info"])
        info["wh_px"] = info["wh_px"] and tuple(info["wh_px"])
        ends, at, frames = np.cumsum(arrays["counts"]).tolist(), 0, []
        for place, end in zip(arrays["places"].tolist(), ends, strict=True):
            rows = {name: arrays[name][at:end] for name in _ARRAYS if name in arrays}
            found = Detections(**rows, point_names=tuple(told["points"])) if end > at else _NONE
            frames.append((*place, found))
            at = end
        return cls(SourceInfo(**info), frames, told["sure"])


_NONE = Detections.empty()


def joined(parts: Sequence[Found]) -> Iterator[tuple[Frame, Detections]]:
    """The frames of a clip in order, numbered as in the whole of it; their pixels are not there.

    They are captured at their places in the recording: nothing here knows a clock.
    """
    index = 0
    for part in parts:
        for media_ns, width, height, found in part.frames:
            pixels = np.broadcast_to(np.uint8(0), (height, width, 3))
            yield Frame(pixels, index, media_ns, media_ns), found
            index += 1


def is_whole(parts: Sequence[Found]) -> bool:
    """Whether the parts are all of what the whole clip would have given: places rise over their
    seams, as in a sound recording, and as many frames came as its container promises."""
    last_ns = -1
    for part in parts:
        for media_ns, *_ in part.frames:
            if not part.sure or media_ns <= last_ns:
                return False
            last_ns = media_ns
    count = sum(len(part.frames) for part in parts)
    promised = parts[0].info.frame_count or 0
    return promised - count <= max(1, 0.01 * promised)
