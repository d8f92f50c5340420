"""The database of an event store: its tables, how older ones are brought up to date, opening it."""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from ..core.errors import SinkError

log = logging.getLogger(__name__)

FILE = "kestrel.db"
BUSY_S = 5.0  # that a statement waits for another process, such as a backup
# Each entry brings a database from its number to the next (PRAGMA user_version). Entries are only
# ever added.
MIGRATIONS: tuple[str, ...] = (
    """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
-- told: the event's JSON object; the other columns are what is asked for
CREATE TABLE events(
  id TEXT NOT NULL UNIQUE, time_ms INTEGER NOT NULL, stored_ms INTEGER NOT NULL,
  camera TEXT NOT NULL, type TEXT NOT NULL, label TEXT, zone TEXT, line TEXT,
  object TEXT, first INTEGER NOT NULL, seen INTEGER NOT NULL DEFAULT 0,
  snapshot TEXT, clip TEXT, told TEXT NOT NULL);
-- all that filters and searches look at, so that they never read "told" of what does not match
CREATE INDEX events_by_time ON events(time_ms, id, first, seen, camera, type, label, zone, line);
CREATE INDEX events_by_label ON events(label, time_ms, id, first, seen, camera, type, zone, line);
CREATE INDEX events_by_zone ON events(zone, time_ms, id, first, seen, camera, type, label, line)
  WHERE zone IS NOT NULL;
CREATE INDEX events_by_line ON events(line, time_ms, id, first, seen, camera, type, label, zone)
  WHERE line IS NOT NULL;
CREATE INDEX events_by_age ON events(label, stored_ms);
CREATE INDEX events_by_object ON events(object) WHERE object IS NOT NULL;
CREATE INDEX events_by_snapshot ON events(snapshot) WHERE snapshot IS NOT NULL;
CREATE INDEX events_by_clip ON events(clip) WHERE clip IS NOT NULL;
-- the values of those columns that there are; kind: camera, label, zone, line or type
CREATE TABLE places(
  kind TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY(kind, value)) WITHOUT ROWID;
-- an object is called by the id of its first event
CREATE TABLE objects(
  id TEXT PRIMARY KEY, camera TEXT NOT NULL, track_id INTEGER NOT NULL, label TEXT,
  first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, score REAL) WITHOUT ROWID;
-- kind: object, zone or line; way: the event's type, or in and out of a line
CREATE TABLE counts(
  minute INTEGER NOT NULL, camera TEXT NOT NULL, kind TEXT NOT NULL, shape TEXT NOT NULL,
  way TEXT NOT NULL, label TEXT NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY(minute, camera, kind, shape, way, label)) WITHOUT ROWID;
-- each lasts until the next one of its camera; "off": no run
CREATE TABLE states(
  camera TEXT NOT NULL, at_ms INTEGER NOT NULL, state TEXT NOT NULL, cause TEXT NOT NULL,
  PRIMARY KEY(camera, at_ms)) WITHOUT ROWID;
-- of about a minute; dropped, happened and ages are JSON objects with counts
CREATE TABLE figures(
  at_ms INTEGER NOT NULL, camera TEXT NOT NULL, captured INTEGER NOT NULL,
  processed INTEGER NOT NULL, dropped TEXT NOT NULL, happened TEXT NOT NULL, ages TEXT NOT NULL,
  PRIMARY KEY(camera, at_ms)) WITHOUT ROWID;
CREATE TABLE files(
  kind TEXT NOT NULL, name TEXT NOT NULL, stored_ms INTEGER NOT NULL, bytes INTEGER NOT NULL,
  PRIMARY KEY(kind, name)) WITHOUT ROWID;
""",
)


def open_to_write(folder: Path) -> sqlite3.Connection:
    """The folder's database, made or brought up to date; raises SinkError with the cure.

    One that is damaged is set aside and a new one begun: a camera's run does not end for it.
    """
    path = folder / FILE
    try:
        return _migrated(path)
    except sqlite3.OperationalError as error:  # full, not ours, locked
        raise cannot_store(folder, error) from error
    except sqlite3.DatabaseError as error:
        aside = path.with_name(f"{FILE}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
        log.warning("%s is damaged (%s): it is set aside as %s", path, error, aside.name)
        try:
            path.replace(aside)
            for ending in ("-wal", "-shm"):
                with suppress(FileNotFoundError):
                    Path(f"{path}{ending}").replace(f"{aside}{ending}")
            return _migrated(path)
        except (OSError, sqlite3.Error) as fault:
            raise cannot_store(folder, fault) from fault


def open_to_read(folder: Path) -> sqlite3.Connection:
    """The folder's database as it is at the moment; raises SinkError with the cure."""
    path = folder / FILE
    if not path.is_file():
        raise SinkError(f"{folder} holds no event store; name the folder of a run's --store")
    try:
        database = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=BUSY_S
        )
        database.row_factory = sqlite3.Row
        version = _version(database)
    except sqlite3.Error as error:
        raise SinkError(f"cannot read {path}: {error}") from error
    if version != len(MIGRATIONS):
        database.close()
        raise SinkError(
            f"{path} is of version {version}, and this program reads {len(MIGRATIONS)}: "
            + ("update Kestrel" if version > len(MIGRATIONS) else "start a run with --store once")
        )
    return database


def cannot_store(folder: Path, error: BaseException) -> SinkError:
    """The error with its cure."""
    return SinkError(
        f"cannot keep events in {folder}: {error}; check its rights and the free space, or name "
        "another folder"
    )


def _migrated(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        version = _version(database)
        if version > len(MIGRATIONS):
            raise SinkError(
                f"{path} was written by a newer Kestrel (version {version}, known is "
                f"{len(MIGRATIONS)}): update this one, or name another folder"
            )
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            database.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")
        database.execute("SELECT count(*) FROM meta").fetchone()
    except BaseException:
        database.close()
        raise
    return database


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])
