"""How much may a folder of recordings hold, and which of them goes first?"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

# Written before this, a file is of a device whose clock had not been set yet: its age is unknown,
# and when the clock is set it must not look fifty years old.
PLAUSIBLE_S = 1_577_836_800  # 2020-01-01


@dataclass(frozen=True, slots=True)
class Budget:
    """The oldest recordings are removed until the rest fits both limits. Any thread.

    Only files named ``PREFIX-YYYYMMDDThhmmssZ[-n].mp4`` are ever counted or removed.
    """

    folder: Path
    prefix: str
    max_bytes: int
    max_age_s: float

    def new_path(self, now_s: float | None = None) -> Path:
        """A name that nobody has yet; the wall clock of a small device may jump back."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
        path, n = self.folder / f"{self.prefix}-{stamp}.mp4", 1
        while path.exists():
            path, n = self.folder / f"{self.prefix}-{stamp}-{n}.mp4", n + 1
        return path

    def enforce(
        self, *, spare: Path | None = None, now_s: Callable[[], float] = time.time
    ) -> list[Path]:
        """Remove what is too much, never ``spare``; returns what was removed."""
        files = sorted(self._files())  # by time of last writing
        total = sum(size for _, size, _ in files)
        removed = []
        for written_s, size, path in files:
            too_old = PLAUSIBLE_S < written_s < now_s() - self.max_age_s
            if (total > self.max_bytes or too_old) and path != spare and _remove(path):
                total -= size
                removed.append(path)
        return removed

    def remove_oldest(self, *, spare: Path | None = None) -> bool:
        """Make room on a full disk; False if there is nothing left to remove."""
        return any(_remove(path) for _, _, path in sorted(self._files())[:1] if path != spare)

    def _files(self) -> list[tuple[float, int, Path]]:
        ours = re.compile(rf"{re.escape(self.prefix)}-\d{{8}}T\d{{6}}Z(-\d+)?\.mp4")
        found = []
        for path in self.folder.glob(f"{self.prefix}-*.mp4"):
            with suppress(OSError):  # removed by somebody else just now
                if ours.fullmatch(path.name) and path.is_file():
                    status = path.stat()
                    found.append((status.st_mtime, status.st_size, path))
        return found


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except OSError as error:
        log.warning("cannot remove %s: %s", path, error.strerror)
        return False
    log.info("removed %s to make room", path)
    return True
