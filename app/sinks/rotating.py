"""Recordings that never end, in segments within a budget of disk."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from ..config import ClipOptions, RecordOptions
from ..core.detections import Result
from ..core.errors import SinkError
from ..core.frame import SourceInfo
from ..core.interfaces import Sink
from ..core.stats import OutputMeter
from .json_lines import unwritable
from .video import VideoFileSink

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

    @staticmethod
    def of(options: RecordOptions | ClipOptions, prefix: str) -> Budget:
        """The folder and limits that the options name."""
        assert options.path is not None
        max_bytes, max_age_s = int(options.budget_mb * 1e6), options.keep_hours * 3600
        return Budget(Path(options.path), prefix, max_bytes, max_age_s)

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


LOOK_S = 1.0  # between looks at the size of the file
RETRY_S = 10.0  # between attempts after a fault


class SegmentsSink:
    """Annotated video in a folder, a new file every so many minutes or megabytes.

    The oldest files are removed to keep within age and budget. A full or vanished disk ends no
    run: frames are counted as lost and a new file is tried every 10 s.
    """

    def __init__(
        self,
        options: RecordOptions,
        meter: OutputMeter,
        *,
        make: Callable[[Path], Sink] = VideoFileSink,
        clock_s: Callable[[], float] = monotonic,
    ) -> None:
        self._options, self._meter = options, meter
        self._make, self._clock_s = make, clock_s
        self._budget = Budget.of(options, "kestrel")
        self._source: SourceInfo | None = None
        self._labels: Sequence[str] = ()
        self._file: Sink | None = None
        self._path: Path | None = None
        self._began_s = self._look_s = self._retry_s = 0.0

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Make the folder and try a file in it; raises SinkError."""
        self._source, self._labels = source, labels
        make_folder(self._budget.folder)
        self._begin()

    def emit(self, result: Result) -> None:
        """Write into the present file, or into the next one; never raises for a bad disk."""
        now_s = self._clock_s()
        try:
            if self._file is not None and self._is_full(now_s):
                self._end()
            if self._file is None:
                if now_s < self._retry_s:
                    self._meter.dropped("disk")
                    return
                self._begin()
            assert self._file is not None
            self._file.emit(result)
        except SinkError as error:
            self._fault(error, now_s)
            self._meter.dropped("disk")

    def close(self) -> None:
        """End the present file."""
        with suppress(SinkError):
            self._end()

    def _begin(self) -> None:
        assert self._source is not None
        self._path = self._budget.new_path()
        file = self._make(self._path)
        file.open(self._source, self._labels)
        self._file = file
        self._began_s = self._look_s = self._clock_s()
        if self._meter.trouble:
            log.info("recording again, to %s", self._path)
            self._meter.trouble = ""

    def _end(self) -> None:
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close()
        finally:
            self._budget.enforce()

    def _is_full(self, now_s: float) -> bool:
        if now_s - self._began_s >= self._options.segment_minutes * 60:
            return True
        if now_s - self._look_s < LOOK_S:
            return False
        self._look_s = now_s
        self._budget.enforce(spare=self._path)
        try:
            assert self._path is not None
            return self._path.stat().st_size >= self._options.segment_mb * 1e6
        except OSError:  # somebody moved it
            return True

    def _fault(self, error: SinkError, now_s: float) -> None:
        with suppress(SinkError):
            self._end()
        if not self._meter.trouble:
            log.warning("%s; trying again every %g s", error, RETRY_S)
        self._meter.trouble = str(error)
        # another disk user may have taken the room that the budget promised
        room = error.disk_full and self._budget.remove_oldest()
        self._retry_s = now_s + (LOOK_S if room else RETRY_S)


def make_folder(folder: Path) -> None:
    """Make it where missing; raises SinkError with the cure."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise SinkError(f"cannot record to {folder}: it is no folder; name another one") from error
    except OSError as error:
        raise unwritable(f"cannot record to {folder}", error, folder) from error
