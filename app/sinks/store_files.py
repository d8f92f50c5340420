"""What goes from an event store: by age, size and label, or on demand; files with their rows."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..config import StoreOptions

log = logging.getLogger(__name__)

ENFORCE_S = 60.0
CHUNK = 500  # events removed at once: other work waits meanwhile
SETTLED_MS = 900_000  # then a file is no longer written
COUNTS_KEPT_MS = 400 * 86_400_000  # counts, states and figures are small
TRUSTED_MS = 86_400_000  # a longer step of the wall clock may be a clock that was set wrongly
_CLIP_PARTS = (".mp4", ".jpg", ".json", ".jsonl")


class StoreFiles:
    """The rows of events and the files that they name. Writer's thread, inside a transaction.

    A file goes when no event names it any more, before the rows: what a crash interrupts is done
    again. Ages count from when an event was stored, on a clock that follows the monotonic one, so
    that neither a recording of long ago nor a jump of the wall clock is old.
    """

    def __init__(
        self,
        database: sqlite3.Connection,
        folder: Path,
        options: StoreOptions,
        folders: Mapping[str, Path],
    ) -> None:
        self._db, self._folder, self._folders = database, folder, folders
        self.limit(options)
        last_ms = database.execute("SELECT max(stored_ms) FROM events").fetchone()[0]
        now_ms = time.time_ns() // 1_000_000
        if last_ms is not None:  # neither back nor far ahead of what is there
            now_ms = last_ms if now_ms - last_ms > TRUSTED_MS else max(now_ms, last_ms)
        self._offset_ms = now_ms - time.monotonic_ns() // 1_000_000

    def limit(self, options: StoreOptions) -> None:
        """Keep to these limits, and look at once whether anything is beyond them; any thread."""
        self._hours, self._default_hours = options.hours_of(), options.keep_hours
        self._max_bytes = int(options.budget_mb * 1e6)
        self._enforced_s = float("-inf")

    def now_ms(self) -> int:
        """Milliseconds since 1970 as the store counts them."""
        return time.monotonic_ns() // 1_000_000 + self._offset_ms

    def meta(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES(?, ?)", (key, value))

    def note_folders(self) -> None:
        """Where readers find the files; below the store relative to it, so that it may be moved."""
        for kind, path in self._folders.items():
            place, root = path.absolute(), self._folder.absolute()
            below = place.is_relative_to(root)
            self.set_meta(f"folder_{kind}", str(place.relative_to(root) if below else place))

    def note(self, kind: str, name: str) -> None:
        """An event names this file; its size is looked at later."""
        self._db.execute(
            "INSERT OR IGNORE INTO files VALUES(?, ?, ?, -1)", (kind, name, self.now_ms())
        )

    def ids_of(self, event_id: str, *, whole: bool) -> list[str]:
        """The event, and all others of its object if ``whole``."""
        row = self._db.execute("SELECT object FROM events WHERE id = ?", (event_id,)).fetchone()
        if row is None:
            return []
        if not whole or row[0] is None:
            return [event_id]
        found = self._db.execute("SELECT id FROM events WHERE object = ?", (row[0],))
        return [each for (each,) in found]

    def delete(self, ids: Iterable[str]) -> None:
        """Files that only these events name, then the events, then objects without any."""
        ids = list(ids)
        for start in range(0, len(ids), CHUNK):
            some = ids[start : start + CHUNK]
            marks = ",".join("?" * len(some))
            for kind in ("snapshot", "clip"):
                names = self._db.execute(
                    f"SELECT DISTINCT {kind} FROM events WHERE id IN ({marks}) AND {kind} IS NOT"
                    f" NULL AND NOT EXISTS (SELECT 1 FROM events AS o WHERE o.{kind} ="
                    f" events.{kind} AND o.id NOT IN ({marks}))",
                    (*some, *some),
                ).fetchall()
                for (name,) in names:
                    for path in file_paths(self._folders, kind, name):
                        path.unlink(missing_ok=True)
                    self._db.execute("DELETE FROM files WHERE kind = ? AND name = ?", (kind, name))
            objects = self._db.execute(
                f"SELECT DISTINCT object FROM events WHERE id IN ({marks}) AND object IS NOT NULL",
                some,
            ).fetchall()
            self._db.execute(f"DELETE FROM events WHERE id IN ({marks})", some)
            self._db.executemany(
                "DELETE FROM objects WHERE id = ? AND NOT EXISTS"
                " (SELECT 1 FROM events WHERE object = objects.id)",
                objects,
            )

    def enforce(self, now_s: float) -> None:
        """Now and then: remove what is too old or too much, at most ``CHUNK`` events of a kind."""
        if now_s - self._enforced_s < ENFORCE_S:
            return
        removed = self._too_old() + self._too_much()
        # with more to do it goes on at the next tick
        self._enforced_s = now_s if removed < CHUNK else float("-inf")
        if removed:
            for kind in ("camera", "label", "zone", "line", "type"):
                self._db.execute(
                    "DELETE FROM places WHERE kind = ? AND NOT EXISTS"
                    f" (SELECT 1 FROM events WHERE {kind} = places.value)",
                    (kind,),
                )
            log.info("store %s: %d events removed by age or size", self._folder, removed)

    def _too_old(self) -> int:
        now_ms, removed = self.now_ms(), 0
        for (label,) in self._db.execute("SELECT DISTINCT label FROM events").fetchall():
            hours = self._hours.get(label, self._default_hours)
            found = self._db.execute(
                "SELECT id FROM events WHERE label IS ? AND stored_ms < ? LIMIT ?",
                (label, now_ms - int(hours * 3_600_000), CHUNK),
            ).fetchall()
            self.delete(each for (each,) in found)
            removed += len(found)
        oldest_ms = time.time_ns() // 1_000_000 - COUNTS_KEPT_MS
        self._db.execute("DELETE FROM counts WHERE minute < ?", (oldest_ms // 60_000,))
        self._db.execute("DELETE FROM states WHERE at_ms < ?", (oldest_ms,))
        self._db.execute("DELETE FROM figures WHERE at_ms < ?", (oldest_ms,))
        return removed

    def _too_much(self) -> int:
        self._measure()
        removed = 0
        while removed < CHUNK and self._bytes() > self._max_bytes:
            found = self._db.execute("SELECT id FROM events ORDER BY rowid LIMIT 20").fetchall()
            if not found:
                break
            self.delete(each for (each,) in found)
            removed += len(found)
        return removed

    def _measure(self) -> None:
        """Sizes of files that are new, or were when they were last looked at."""
        rows = self._db.execute(
            "SELECT kind, name, stored_ms FROM files WHERE bytes < 0 OR stored_ms > ?",
            (self.now_ms() - SETTLED_MS - int(2e3 * ENFORCE_S),),
        ).fetchall()
        for kind, name, stored_ms in rows:
            size = 0
            for path in file_paths(self._folders, kind, name):
                try:
                    size += path.stat().st_size
                except OSError:
                    continue
            if not size and self.now_ms() - stored_ms < SETTLED_MS:
                size = -1  # not written yet
            self._db.execute(
                "UPDATE files SET bytes = ? WHERE kind = ? AND name = ?", (size, kind, name)
            )

    def _bytes(self) -> int:
        (files,) = self._db.execute("SELECT total(bytes) FROM files WHERE bytes > 0").fetchone()
        pages, free, size = (
            int(self._db.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int(files) + (pages - free) * size


def file_paths(folders: Mapping[str, Path], kind: str, name: str) -> list[Path]:
    """The file of this name and what lies beside it; [] for a name that leads elsewhere."""
    if kind not in folders:
        return []
    root = folders[kind].absolute()
    path = Path(root, name)
    if ".." in path.parts or not path.is_relative_to(root):
        return []
    return [path.with_suffix(each) for each in _CLIP_PARTS] if kind == "clip" else [path]
