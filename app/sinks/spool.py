"""On-disk queue of messages while the broker is away.

In memory first: what is acknowledged within a second never touches the disk, so that months of
normal running wear out no flash card. What waits longer is moved to an SQLite file and survives the
process. All on disk is older than all in memory, so the order is that of ``seq``.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from ..core.text import foreign

log = logging.getLogger(__name__)

SAVE_AFTER_S = 1.0
RETRY_S = 30.0
MEMORY_BYTES = 8_000_000
HIGHEST = 2**53  # of a seq; a higher one is a damage
_OVERHEAD = 64  # bytes a row takes besides its text, about


def state_folder() -> Path:
    """Where what must outlive a run is: the service's (systemd) or the user's state directory."""
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(given) if given else Path(state) / "kestrel"


class SpooledMessage(NamedTuple):
    """``seq`` rises by one a message, also across runs while the file holds some."""

    seq: int
    topic: str
    text: str

    @property
    def size(self) -> int:
        """Bytes, about."""
        return len(self.topic) + len(self.text) + _OVERHEAD


class Spool:
    """A bounded queue in order. ``append`` from any thread, the rest from one.

    Where the file cannot be used, memory alone is, and the log says so. When a bound is reached the
    oldest message that was not handed out yet is dropped: ``on_drop`` gets the reason. A damaged
    file is set aside; what can be read of it is handed out, in this run where the damage is found
    at its start, else in the next. ``sound`` says whether a message from the disk can be sent.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        on_drop: Callable[[str], None],
        memory_bytes: int = MEMORY_BYTES,
        clock_s: Callable[[], float] = monotonic,
        sound: Callable[[str, str], bool] = lambda topic, text: True,
        name: str = "MQTT",
        cure: str = "name another file as spool in [mqtt]",
    ) -> None:
        """``name`` and ``cure`` are for the log."""
        self._name, self._cure = name, cure
        self._path, self._max_bytes, self._memory_bytes = path, max_bytes, memory_bytes
        self._on_drop, self._clock_s, self._is_sound = on_drop, clock_s, sound
        # damaged, from an earlier run that had no room for it among its own messages
        self._unread = path.with_name(f"{path.name}.unread")
        self._lock = threading.Lock()
        self._young: dict[int, tuple[SpooledMessage, float]] = {}  # by seq: message, when it came
        self._young_bytes = 0
        self._db: sqlite3.Connection | None = None
        self._disk_bytes = self._disk_count = self._disk_last = 0
        self._acked: set[int] = set()  # still on disk
        self._handed = 0  # the last seq that was handed out
        self._retry_s = 0.0
        self.trouble = ""
        self._next = 1

    def open(self) -> None:
        """Find what an earlier run left behind; before the first ``append``."""
        try:
            self._recover()
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
        else:
            self._open()
        self._next = self._disk_last + 1

    def __len__(self) -> int:
        """How many wait, in memory and on disk."""
        return len(self._young) + self._disk_count - len(self._acked)

    def append(self, topic: str, text: str) -> None:
        """Take a message; never touches the disk."""
        dropped = 0
        with self._lock:
            message = SpooledMessage(self._next, topic, text)
            self._next += 1
            self._young[message.seq] = message, self._clock_s()
            self._young_bytes += message.size
            while self._young_bytes > self._memory_bytes:
                oldest = next((seq for seq in self._young if seq > self._handed), None)
                if oldest is None:
                    break
                self._young_bytes -= self._young.pop(oldest)[0].size
                dropped += 1
        for _ in range(dropped):
            self._on_drop("memory full" if self.trouble else "disk too slow")

    def hand_out(self, count: int) -> list[SpooledMessage]:
        """The next messages; each is handed out once in a run."""
        found: list[SpooledMessage] = []
        if self._disk_last > self._handed and self._db is not None:
            try:
                rows = self._db.execute(
                    "SELECT seq, topic, text FROM message WHERE seq > ? ORDER BY seq LIMIT ?",
                    (self._handed, count),
                ).fetchall()
                found = self._sound(rows)
                if rows:  # damaged ones are done with, too
                    self._handed = rows[-1][0]
            except sqlite3.Error as error:
                self._failed(error)
        with self._lock:
            for seq, (message, _) in self._young.items():
                if len(found) == count:
                    break
                if seq > self._handed:
                    found.append(message)
            if found:
                self._handed = max(self._handed, found[-1].seq)
        return found

    def _sound(self, rows: Sequence[tuple[Any, ...]]) -> list[SpooledMessage]:
        """Without what a damaged file holds in place of messages, which is counted as lost."""
        found: list[SpooledMessage] = []
        for seq, topic, text in rows:
            if isinstance(topic, str) and isinstance(text, str) and self._is_sound(topic, text):
                found.append(SpooledMessage(seq, topic, text))
            else:
                self._acked.add(seq)
                self._on_drop("damaged")
        return found

    def remove(self, seq: int) -> None:
        """It has arrived."""
        with self._lock:
            young = self._young.pop(seq, None)
            if young is not None:
                self._young_bytes -= young[0].size
                return
        if seq <= self._disk_last:
            self._acked.add(seq)

    def save(self, *, everything: bool = False) -> None:
        """Move to the disk what has waited long (or all), and delete there what has arrived."""
        until_s = self._clock_s() - (-1 if everything else SAVE_AFTER_S)
        with self._lock:
            moving = [message for message, came_s in self._young.values() if came_s < until_s]
        if not moving and not self._acked:
            return
        if self.trouble and self._clock_s() < self._retry_s:
            return
        if self._db is None:
            self._open()
        if self._db is None:
            return
        try:
            with self._db:
                self._db.executemany(
                    "DELETE FROM message WHERE seq = ?", [(seq,) for seq in self._acked]
                )
                self._insert(self._db, moving)
            if moving:
                self._disk_last = moving[-1].seq
            self._acked.clear()
            self._measure()
            self._bound()
        except sqlite3.Error as error:
            self._failed(error, readable=True)
            if len(self._acked) >= self._disk_count:
                self._start_afresh()  # a full disk has no room even for deleting
            return
        if self.trouble:
            log.info("the %s spool %s works again", self._name, self._path)
            self.trouble = ""
        with self._lock:
            for message in moving:
                if self._young.pop(message.seq, None) is not None:
                    self._young_bytes -= message.size

    def close(self) -> None:
        """Save what waits and let go; what cannot be saved is counted as lost."""
        self._retry_s = -1.0
        self.save(everything=True)
        with self._lock:
            lost = len(self._young)
            self._young.clear()
        for _ in range(lost):
            self._on_drop("stopped")
        self._let_go()

    def _bound(self) -> None:
        """Drop the oldest on disk that are too many; the caller catches sqlite3.Error."""
        assert self._db is not None
        while self._disk_bytes > self._max_bytes:
            rows = self._db.execute(
                "SELECT seq FROM message WHERE seq > ? ORDER BY seq LIMIT 100", (self._handed,)
            ).fetchall()
            if not rows:
                return
            with self._db:
                self._db.executemany("DELETE FROM message WHERE seq = ?", rows)
            for _ in rows:
                self._on_drop("spool full")
            self._measure()

    def _measure(self) -> None:
        assert self._db is not None
        self._disk_count, size = self._db.execute(
            f"SELECT count(*), ifnull(sum(length(topic) + length(text) + {_OVERHEAD}), 0)"
            " FROM message"
        ).fetchone()
        self._disk_bytes = size

    def _insert(self, db: sqlite3.Connection, messages: Sequence[SpooledMessage]) -> None:
        """One that the database does not take is lost alone."""
        for message in messages:
            try:
                db.execute("INSERT INTO message VALUES (?, ?, ?)", message)
            except (sqlite3.IntegrityError, sqlite3.DataError, UnicodeError, OverflowError):
                self._on_drop("damaged")

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._db = self._connect(self._path)
            self._measure()
            last = self._db.execute("SELECT ifnull(max(seq), 0) FROM message").fetchone()[0]
            # what came while the disk was away keeps its place behind
            self._disk_last = max(self._disk_last, last)
        except (sqlite3.Error, OSError) as error:
            self._failed(error)

    def _recover(self) -> None:
        """Before the first opening: make one sound file of what can be read of damaged ones."""
        damaged = self._path.is_file() and not self._is_whole()
        if not damaged and not self._unread.is_file():
            return
        rows: list[tuple[Any, ...]] = []
        for path in (self._unread, self._path):
            rows += _readable(path)
        for path in (self._unread, self._path):
            if path.is_file():
                aside = self._path.with_name(f"{self._path.name}.damaged")
                _move(path, aside)
        messages = self._sound([(n, topic, text) for n, (topic, text) in enumerate(rows, 1)])
        self._acked.clear()
        with closing(self._connect(self._path)) as db, db:
            self._insert(db, messages)
        log.warning(
            "the %s spool %s is damaged; it is now %s, and the %d messages that can be read of "
            "it are sent",
            *(self._name, self._path, aside, len(messages)),
        )

    def _is_whole(self) -> bool:
        """Whether the file is a database whose messages can be numbered on."""
        try:
            with closing(self._connect(self._path)) as db:
                fault = db.execute("PRAGMA quick_check(1)").fetchone()[0]
                row = "SELECT ifnull(min(seq), 1), ifnull(max(seq), 1) FROM message"
                low, high = db.execute(row).fetchone()
            return bool(fault == "ok" and low > 0 and high < HIGHEST)
        except sqlite3.Error as error:
            if not _is_damage(error):  # _open tells what is wrong
                raise
            return False

    @staticmethod
    def _connect(path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, timeout=0.5, check_same_thread=False)
        db.text_factory = _decoded
        try:
            for pragma in (
                "locking_mode=EXCLUSIVE",  # two processes would send everything twice
                "journal_mode=WAL",
                "synchronous=NORMAL",
                "journal_size_limit=1000000",
            ):
                with closing(db.execute(f"PRAGMA {pragma}")) as answer:
                    answer.fetchall()
            with db:
                db.execute(
                    "CREATE TABLE IF NOT EXISTS message"
                    " (seq INTEGER PRIMARY KEY, topic TEXT NOT NULL, text TEXT NOT NULL)"
                )
                columns = {row[1] for row in db.execute("PRAGMA table_info(message)")}
                if not {"seq", "topic", "text"} <= columns:
                    raise sqlite3.DatabaseError("its table is another program's")
                db.execute("SELECT seq, topic, text FROM message LIMIT 1").fetchone()
        except UnicodeDecodeError as error:  # of SQLite's own words about a damaged file
            db.close()
            raise sqlite3.DatabaseError("its structure is damaged") from error
        except BaseException:
            db.close()
            raise
        return db

    def _failed(self, error: Exception, *, readable: bool = False) -> None:
        """Go on in memory, and say so once; what is on disk may still be read.

        A file that is found damaged makes room for a new one, and waits for the next run.
        """
        if _is_damage(error) and self._db is not None:
            self._let_go()
            with suppress(OSError):
                _move(self._path, self._unread)
            self._acked.clear()
            self._disk_count = self._disk_bytes = 0
        elif not readable:
            self._let_go()
        self._retry_s = self._clock_s() + RETRY_S
        if not self.trouble:
            log.warning(
                "the %s spool %s cannot be used (%s): at most %.3g MB wait in memory instead, "
                "and are lost when the process ends; free some space, or %s",
                *(self._name, self._path, _why(error), self._memory_bytes / 1e6, self._cure),
            )
        self.trouble = f"spool: {_why(error)}"

    def _start_afresh(self) -> None:
        """Nothing on disk is needed any more: give all its room back."""
        self._let_go()
        with suppress(OSError):
            for end in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + end).unlink(missing_ok=True)
        self._acked.clear()
        self._disk_count = self._disk_bytes = 0

    def _let_go(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()


def _readable(path: Path) -> list[tuple[Any, Any]]:
    """Topic and text of the rows before the first damage, and of those behind the last."""
    if not path.is_file():
        return []
    forward: list[tuple[Any, ...]] = []
    backward: list[tuple[Any, ...]] = []
    with suppress(sqlite3.Error, UnicodeDecodeError), closing(sqlite3.connect(path)) as db:
        db.text_factory = _decoded
        query = "SELECT seq, topic, text FROM message"
        try:
            forward.extend(db.execute(f"{query} ORDER BY seq"))
        except sqlite3.DatabaseError:
            where = f" WHERE seq > {forward[-1][0]}" if forward else ""
            backward.extend(db.execute(f"{query}{where} ORDER BY seq DESC"))
    return [(topic, text) for _, topic, text in (*forward, *reversed(backward))]


def _decoded(data: bytes) -> str | None:
    """A text of the file; None where it is no UTF-8 any more."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _is_damage(error: Exception) -> bool:
    """Whether it is the file's fault, not that of the disk or of another process."""
    of_the_moment = isinstance(error, sqlite3.OperationalError)
    return isinstance(error, sqlite3.DatabaseError) and not of_the_moment


def _move(path: Path, to: Path) -> None:
    """A database with what SQLite keeps beside it."""
    for end in ("", "-wal", "-shm"):
        beside = path.with_name(path.name + end)
        if beside.exists():
            beside.replace(to.with_name(to.name + end))


def _why(error: Exception) -> str:
    text = foreign((error.strerror if isinstance(error, OSError) else "") or error)
    return "another process uses it" if "locked" in text else text
