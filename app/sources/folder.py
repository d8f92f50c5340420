"""How does a folder of pictures become a recording?"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import SourceEnded, SourceError
from app.frame import Frame, SourceInfo
from app.sources._cv2 import load_cv2

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
FOLDER_FPS = 10.0


def natural_key(name: str) -> list[Any]:
    """Sorts frame2 before frame10."""
    return [
        int(part) if i % 2 else part.casefold() for i, part in enumerate(re.split("([0-9]+)", name))
    ]


def pictures_in(folder: Path) -> list[Path]:
    """The folder's pictures in natural order; not those of its subfolders."""
    found = [
        p
        for p in folder.iterdir()
        if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".") and p.is_file()
    ]
    return sorted(found, key=lambda p: (natural_key(p.name), p.name))


class FolderSource:
    """One frame for each picture, ``FOLDER_FPS`` a second.

    Gray, 16-bit and transparent pictures become 8-bit BGR, and a photograph is turned upright as
    its EXIF orientation says. Pictures may differ in size.
    """

    def __init__(self, place: Path, *, label: str) -> None:
        self._place = place
        self._label = label
        self._paths: Sequence[Path] = ()
        self._first: NDArray[np.uint8] | None = None
        self._index = 0

    def open(self) -> SourceInfo:
        """List the pictures and decode the first; raises SourceError with the cure."""
        try:
            self._paths = pictures_in(self._place) if self._place.is_dir() else [self._place]
        except OSError as error:
            raise SourceError(f"cannot list the folder {self._label}: {error.strerror}") from error
        if not self._paths:
            raise SourceError(
                f"the folder {self._label} has no pictures "
                f"({' '.join(sorted(s[1:] for s in PICTURE_SUFFIXES))})"
            )
        self._first = self._decode(self._paths[0])
        height_px, width_px = self._first.shape[:2]
        return SourceInfo(
            uri=self._label,
            live=False,
            wh_px=(width_px, height_px),
            fps=FOLDER_FPS,
            frame_count=len(self._paths),
            detail="pictures",
        )

    def read(self, timeout_s: float) -> Frame | None:
        """The next picture."""
        index = self._index
        if index >= len(self._paths):
            raise SourceEnded
        self._index += 1
        pixels, self._first = self._first, None
        if pixels is None:
            pixels = self._decode(self._paths[index])
        return Frame(pixels, index, time.monotonic_ns(), round(index * 1e9 / FOLDER_FPS))

    @property
    def can_seek(self) -> bool:
        """See interfaces.Seekable."""
        return True

    def seek(self, media_ns: int) -> None:
        """See interfaces.Seekable."""
        self._index = min(round(media_ns * FOLDER_FPS / 1e9), len(self._paths) - 1)
        self._first = None

    def close(self) -> None:
        """Forget the pictures."""
        self._paths = ()
        self._first = None

    def _decode(self, path: Path) -> NDArray[np.uint8]:
        cv2 = load_cv2()
        pixels: NDArray[np.uint8] | None
        try:
            # not imread: it dies of a name that is not UTF-8
            pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        except OSError as error:
            raise SourceError(f"cannot read {path}: {error.strerror}; see 'ls -l'") from error
        except cv2.error:
            pixels = None
        if pixels is None:
            raise SourceError(f"{path} is no picture that can be read: repair or remove it")
        return pixels
