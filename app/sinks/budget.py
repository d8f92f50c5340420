"""How much a folder of recordings may hold, of bytes and of the past, and whose folder it is."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import SinkError
from .json_lines import unwritable

log = logging.getLogger(__name__)

# Written before this, a file is of a device whose clock had not been set yet: its age is unknown,
# and when the clock is set it must not look fifty years old.
PLAUSIBLE_S = 1_577_836_800  # 2020-01-01
# Between two runs the wall clock alone tells how much time has passed. A step beyond this may as
# well be a clock that was set wrongly, and does not count.
TRUSTED_S = 86_400.0
SAVE_S = 60.0  # between two notes of the ages
LEAST_KEPT_BYTES = 10**9
ENDINGS = "mp4|jpg|json|jsonl"


@dataclass(slots=True)
class _Recording:
    """The files of one name: video, boxes, thumbnail, sidecar."""

    name: str
    written_s: float = 0.0
    size: int = 0
    paths: list[Path] = field(default_factory=list)


class Budget:
    """The oldest recordings are removed until the rest fits both limits. One thread.

    Only files named ``PREFIX-YYYYMMDDThhmmssZ[-n]`` or, where ``others`` matches them, so, are ever
    counted or removed. Ages grow with the monotonic clock, so that no jump of the wall clock makes
    a recording old; while the folder is claimed they are kept in its lock file for the next run.
    """

    def __init__(
        self,
        *,
        folder: Path,
        prefix: str,
        max_bytes: int,
        max_age_s: float,
        keep_bytes: int | None = None,
        others: str = "(?!)",
        wall_s: Callable[[], float] = time.time,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self._prefix = folder, prefix
        self.limit(max_bytes=max_bytes, max_age_s=max_age_s, keep_bytes=keep_bytes)
        self._name = re.compile(
            rf"({re.escape(prefix)}-\d{{8}}T\d{{6}}Z(?:-\d+)?|{others})\.(?:{ENDINGS})"
        )
        self._wall_s, self._clock_s = wall_s, clock_s
        self._lock_fd = -1
        self._ages_s: dict[str, float] = {}  # by name, since each was last written
        self._now_s: float | None = None  # what the wall clock would be without its jumps
        self._ticked_s = self._saved_s = clock_s()
        self._most_bytes = 0
        self._warned = False

    def limit(self, *, max_bytes: int, max_age_s: float, keep_bytes: int | None) -> None:
        """Other limits from the next look on; any thread."""
        self._max_bytes, self._max_age_s, self._keep_bytes = max_bytes, max_age_s, keep_bytes

    def claim(self) -> None:
        """Make the folder where missing, and be the only run that records into it.

        Raises SinkError, with the cure.
        """
        self._lock_fd = claim_folder(self.folder, self._prefix, doing="record to")
        self._recall()
        self._oldest_first(None)  # their ages, before there is a file of this run

    def release(self) -> None:
        """Note the ages and let go of the folder. Idempotent."""
        if self._lock_fd >= 0:
            self._tick()
            self._save()
            os.close(self._lock_fd)
            self._lock_fd = -1

    def new_path(self, now_s: float | None = None) -> Path:
        """A name that nobody has yet; the wall clock of a small device may jump back."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
        path, n = self.folder / f"{self._prefix}-{stamp}.mp4", 1
        while path.exists():
            path, n = self.folder / f"{self._prefix}-{stamp}-{n}.mp4", n + 1
        self.adopt(path)
        return path

    def adopt(self, path: Path) -> None:
        """A recording of this name begins now, whatever the wall clock says."""
        self._tick()
        self._ages_s[path.stem] = 0.0

    def enforce(self, *, spare: Path | None = None) -> list[Path]:
        """Remove what is too much, never ``spare``; returns the videos that were removed."""
        found = self._oldest_first(spare)
        total = sum(each.size for each in found)
        self._most_bytes = max(self._most_bytes, total)
        removed = []
        for each in found:
            too_old = self._ages_s[each.name] > self._max_age_s
            spared = spare is not None and each.name == spare.stem
            if (total > self._max_bytes or too_old) and not spared and _remove(each):
                total -= each.size
                removed += [path for path in each.paths if path.suffix == ".mp4"]
        if self._clock_s() - self._saved_s >= SAVE_S:
            self._save()
        return removed

    def make_room(self) -> bool:
        """Remove the oldest recording on a full disk; False where none may be removed.

        Where other data fills the disk, the last ``keep_bytes`` stay, by default 1 GB or half of
        the most there was, whichever is less: else recordings would make room for others until
        none is left. Where recordings are at least half of all data, they are a ring, and the
        oldest goes.
        """
        found = self._oldest_first(None)
        total = sum(each.size for each in found)
        self._most_bytes = max(self._most_bytes, total)
        keep_bytes = self._keep_bytes
        if keep_bytes is None:
            keep_bytes = min(LEAST_KEPT_BYTES, self._most_bytes // 2)
        if not found:
            return False
        if total - found[0].size < keep_bytes and not self._fills_disk(total):
            if total and not self._warned:
                log.warning(
                    "%s: other data fills the disk, and the last %.3g MB of recordings stay; free "
                    "some space",
                    self.folder,
                    total / 1e6,
                )
            self._warned = True
            return False
        return _remove(found[0])

    def _fills_disk(self, total: int) -> bool:
        try:
            return 2 * total >= shutil.disk_usage(self.folder).used
        except OSError:
            return False

    def _oldest_first(self, spare: Path | None) -> list[_Recording]:
        """All recordings, their ages brought up to date; ``spare`` is being written."""
        self._tick()
        found: dict[str, _Recording] = {}
        with suppress(OSError):  # the folder has gone
            for entry in os.scandir(self.folder):
                match = self._name.fullmatch(entry.name)
                with suppress(OSError):  # removed by somebody else just now
                    if match and entry.is_file():
                        each = found.setdefault(match[1], _Recording(match[1]))
                        each.written_s = max(each.written_s, entry.stat().st_mtime)
                        each.size += entry.stat().st_size
                        each.paths.append(Path(entry.path))
        if self._now_s is None:
            self._now_s = self._trusted_now([each.written_s for each in found.values()])
        ages_s = {name: self._age_s(each) for name, each in found.items()}
        if spare is not None:
            ages_s[spare.stem] = 0.0
        self._ages_s = ages_s
        return sorted(found.values(), key=lambda each: (-ages_s[each.name], each.written_s))

    def _age_s(self, each: _Recording) -> float:
        assert self._now_s is not None
        if each.name in self._ages_s:
            return self._ages_s[each.name]
        return max(0.0, self._now_s - each.written_s) if each.written_s > PLAUSIBLE_S else 0.0

    def _trusted_now(self, written_s: list[float]) -> float:
        """The wall clock's time, or, where it is too far beyond the newest file, that file's."""
        now_s, newest_s = self._wall_s(), max(written_s, default=0.0)
        step_s = now_s - newest_s
        return newest_s if newest_s > PLAUSIBLE_S and step_s > TRUSTED_S else now_s

    def _tick(self) -> None:
        now_s = self._clock_s()
        passed_s, self._ticked_s = now_s - self._ticked_s, now_s
        self._ages_s = {name: age_s + passed_s for name, age_s in self._ages_s.items()}
        if self._now_s is not None:
            self._now_s += passed_s

    def _recall(self) -> None:
        """The ages that the last run has noted, and how much time has passed since."""
        try:
            noted = json.loads(os.pread(self._lock_fd, 1 << 26, 0))
            then_s, ages_s = float(noted["wall_s"]), dict(noted["ages_s"])
            ages_s = {str(name): float(age_s) for name, age_s in ages_s.items()}
        except (OSError, ValueError, TypeError, KeyError):  # none yet, or half written
            return
        now_s = self._wall_s()
        passed_s = now_s - then_s if 0 <= now_s - then_s <= TRUSTED_S else 0.0
        self._ages_s = {name: age_s + passed_s for name, age_s in ages_s.items()}
        self._now_s = then_s + passed_s

    def _save(self) -> None:
        self._saved_s = self._clock_s()
        if self._lock_fd < 0:
            return
        ages_s = {name: round(age_s, 1) for name, age_s in self._ages_s.items()}
        text = json.dumps({"wall_s": self._wall_s(), "ages_s": ages_s})
        with suppress(OSError):  # a full disk: the next run goes by the files' times
            os.ftruncate(self._lock_fd, 0)
            os.pwrite(self._lock_fd, text.encode(), 0)


def claim_folder(folder: Path, prefix: str, *, doing: str) -> int:
    """Make the folder where missing, and be the only run that writes ``prefix`` into it.

    Returns the open lock file, to be closed at the end. Raises SinkError, with the cure.
    """
    path = folder / f".{prefix}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except FileExistsError as error:
        raise SinkError(f"cannot {doing} {folder}: it is no folder; name another one") from error
    except OSError as error:
        raise unwritable(f"cannot {doing} {folder}", error, folder) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise SinkError(
            f"cannot {doing} {folder}: another run writes to it; end that one, or name another "
            "folder"
        ) from error
    except OSError as error:  # a network disk without locks
        log.debug("%s cannot be locked: %s", path, error)
    return fd


def _remove(recording: _Recording) -> bool:
    """False where its video stays. What lies beside goes first: it is nothing without."""
    for path in sorted(recording.paths, key=lambda path: path.suffix == ".mp4"):
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            log.warning("cannot remove %s: %s", path, error.strerror)
            return False
    log.info("removed %s to make room", recording.paths[0].with_suffix(""))
    return True
