"""Reading an event store: queries with paging, what to choose from, files, and camera reports."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import SinkError
from ..core.states import WORKING
from .store import AGE_STEP
from .store_files import file_paths
from .store_schema import open_to_read

MOST = 500  # events of one page
_PLACES = ("camera", "label", "zone", "line", "type")


@dataclass(frozen=True, kw_only=True, slots=True)
class EventQuery:
    """Which events. Times are milliseconds since 1970, ``until`` exclusive; None: whatever.

    ``text``: each of its words is in camera, label, zone, line or type. ``objects``: the first
    event of each object, and those that are of none. ``after``: the ``next`` of the page before.
    """

    camera: str | None = None
    label: str | None = None
    zone: str | None = None
    line: str | None = None
    type: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    seen: bool | None = None
    text: str = ""
    objects: bool = False
    after: tuple[int, str] | None = None
    limit: int | None = 60

    @property
    def index(self) -> str:
        """That by which few rows are looked at."""
        rare = [name for name in ("line", "zone", "label") if getattr(self, name) is not None]
        return f"events_by_{rare[0] if rare else 'time'}"

    def where(self, places: Mapping[str, Sequence[str]]) -> tuple[str, list[Any]]:
        """The condition in SQL, and its values. ``places``: those that there are, by column."""
        parts, values = ["1"], list[Any]()

        def add(part: str, *more: Any) -> None:
            parts.append(part)
            values.extend(more)

        for name in _PLACES:
            if (value := getattr(self, name)) is not None:
                add(f"{name} = ?", value)
        if self.since_ms is not None:
            add("time_ms >= ?", self.since_ms)
        if self.until_ms is not None:
            add("time_ms < ?", self.until_ms)
        if self.seen is not None:
            add("seen = ?", self.seen)
        if self.objects:
            add("(first = 1 OR type IN ('source_lost', 'source_back', 'ended'))")
        for word in self.text.casefold().split()[:8]:
            meant = [(n, [v for v in places[n] if word in v.casefold()]) for n in _PLACES]
            either = [f"{n} IN ({','.join('?' * len(found))})" for n, found in meant if found]
            # no constant where nothing is meant: SQLite would drop the rest, and so the index
            none = "length(type) = 0"
            add(f"({' OR '.join(either) or none})", *(v for _, found in meant for v in found))
        if self.after is not None:
            add("(time_ms, id) < (?, ?)", *self.after)
        return " AND ".join(parts), values


@dataclass(frozen=True, slots=True)
class EventPage:
    """Newest first. ``next``: what ``after`` of the following page is; None at the end."""

    events: list[dict[str, Any]]
    next: tuple[int, str] | None


@dataclass(frozen=True, slots=True)
class CameraDay:
    """What the store knows of one camera between two moments; ages in ms, None without frames.

    ``availability``: the share of ``watched_s`` in which frames came; None where no run watched.
    ``gaps``: from, until (milliseconds since 1970), state and cause of the rest, "off" for times
    without a run.
    """

    camera: str
    watched_s: float
    availability: float | None
    gaps: list[dict[str, Any]]
    captured: int
    processed: int
    dropped: dict[str, int]
    happened: dict[str, int]
    age_ms: dict[str, float | None]
    events: dict[str, int]


class StoreReader:
    """The store in a folder; any thread, also while a run writes to it. Raises SinkError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        database = open_to_read(self.folder)
        try:
            yield database
        except sqlite3.Error as error:
            raise SinkError(f"cannot read the store {self.folder}: {error}") from error
        finally:
            database.close()

    def page(self, query: EventQuery) -> EventPage:
        """Events newest first: as told, with ``seen`` and, of objects, ``object`` and ``zones``."""
        most = "" if query.limit is None else f" LIMIT {query.limit + 1}"
        with self._open() as database:
            where, values = query.where(_places(database))
            # found by the index alone, before any event is read
            found = (
                f"SELECT rowid AS r FROM events INDEXED BY {query.index} WHERE {where} ORDER BY"
                f" time_ms DESC, id DESC{most}"
            )
            zones = (
                "SELECT json_group_array(DISTINCT o.zone) FROM events AS o WHERE o.object ="
                " e.object AND o.zone IS NOT NULL"
            )
            rows = database.execute(
                f"SELECT e.time_ms, e.id, e.seen, e.object, e.told, ({zones}) AS zones FROM"
                f" ({found}) JOIN events AS e ON e.rowid = r ORDER BY e.time_ms DESC, e.id DESC",
                values,
            ).fetchall()
        more = query.limit is not None and len(rows) > query.limit
        rows = rows[: query.limit]
        last = (rows[-1]["time_ms"], rows[-1]["id"]) if more else None
        events = [_event(row) for row in rows]
        for row, event in zip(rows, events, strict=True):
            if row["object"] is not None and (zones := json.loads(row["zones"])):
                event["zones"] = zones
        return EventPage(events, last)

    def event(self, event_id: str) -> dict[str, Any] | None:
        """One event with its object's times and zones; None: there is none."""
        with self._open() as database:
            row = database.execute(
                "SELECT id, seen, object, told FROM events WHERE id = ?", (event_id,)
            ).fetchone()
            if row is None:
                return None
            told = _event(row)
            if row["object"] is not None:
                of = database.execute(
                    "SELECT first_ms, last_ms, score FROM objects WHERE id = ?", (row["object"],)
                ).fetchone()
                others = database.execute(
                    "SELECT type, told FROM events WHERE object = ? ORDER BY time_ms, id LIMIT 500",
                    (row["object"],),
                ).fetchall()
                told["object"] = {
                    **({} if of is None else dict(of)),
                    "events": [json.loads(other["told"]) for other in others],
                }
            return told

    def choices(self) -> dict[str, list[str]]:
        with self._open() as database:
            return _places(database)

    def timeline(self, query: EventQuery, step_ms: int) -> dict[int, int]:
        """How many events there are in each ``step_ms`` from ``since_ms`` on, by its number."""
        with self._open() as database:
            where, values = query.where(_places(database))
            rows = database.execute(
                f"SELECT (time_ms - ?) / ? AS slot, count(*) FROM events INDEXED BY {query.index}"
                f" WHERE {where} GROUP BY slot",
                (query.since_ms or 0, step_ms, *values),
            ).fetchall()
        return dict(map(tuple, rows))

    def counts(self, since_ms: int, until_ms: int) -> list[dict[str, Any]]:
        with self._open() as database:
            rows = database.execute(
                "SELECT * FROM counts WHERE minute >= ? AND minute * 60000 < ? ORDER BY minute",
                (since_ms // 60_000, until_ms),
            ).fetchall()
        return [dict(row) for row in rows]

    def files_of(self, event: Mapping[str, Any]) -> dict[str, Path]:
        """The files of an event that exist: snapshot, clip, thumbnail (of the clip)."""
        with self._open() as database:
            noted = database.execute("SELECT key, value FROM meta WHERE key LIKE 'folder_%'")
            folders = {key.removeprefix("folder_"): self.folder / value for key, value in noted}
        found: dict[str, Path] = {}
        endings = {".mp4": "clip", ".jpg": "thumbnail"}
        for kind in ("snapshot", "clip"):
            for path in file_paths(folders, kind, event[kind]) if kind in event else []:
                name = kind if kind == "snapshot" else endings.get(path.suffix)
                if name is not None and path.is_file():
                    found[name] = path
        return found

    def report(self, since_ms: int, until_ms: int) -> list[CameraDay]:
        """Of each camera that was known by then. What is still to come is not counted."""
        with self._open() as database:
            states = database.execute(
                "SELECT camera, at_ms, state, cause FROM states WHERE at_ms < ? ORDER BY at_ms",
                (until_ms,),
            ).fetchall()
            figures = database.execute(
                "SELECT * FROM figures WHERE at_ms >= ? AND at_ms < ?", (since_ms, until_ms)
            ).fetchall()
            events = database.execute(
                "SELECT camera, type, count(*) AS n FROM events WHERE time_ms >= ? AND time_ms < ?"
                " GROUP BY camera, type",
                (since_ms, until_ms),
            ).fetchall()
            alive = database.execute("SELECT value FROM meta WHERE key = 'alive_ms'").fetchone()
        until_ms = min(until_ms, int(alive[0])) if alive else until_ms
        cameras = sorted({row["camera"] for row in (*states, *figures, *events)})
        made = []
        for camera in cameras:
            mine = [row for row in states if row["camera"] == camera]
            spans = _spans(mine, since_ms, until_ms)
            watched = [each for each in spans if each["state"] != "off"]
            watched_ms = sum(each["until_ms"] - each["from_ms"] for each in watched)
            up_ms = sum(
                each["until_ms"] - each["from_ms"] for each in watched if each["state"] in WORKING
            )
            own = [row for row in figures if row["camera"] == camera]
            made.append(
                CameraDay(
                    camera,
                    watched_ms / 1e3,
                    up_ms / watched_ms if watched_ms else None,
                    [each for each in spans if each["state"] not in WORKING],
                    sum(row["captured"] for row in own),
                    sum(row["processed"] for row in own),
                    dict(_sum(row["dropped"] for row in own)),
                    dict(_sum(row["happened"] for row in own)),
                    _ages(_sum(row["ages"] for row in own)),
                    {row["type"]: row["n"] for row in events if row["camera"] == camera},
                )
            )
        return made


def _places(database: sqlite3.Connection) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {name: [] for name in _PLACES}
    for kind, value in database.execute("SELECT kind, value FROM places ORDER BY kind, value"):
        found[kind].append(value)
    return found


def _event(row: sqlite3.Row) -> dict[str, Any]:
    told: dict[str, Any] = {**json.loads(row["told"]), "seen": bool(row["seen"])}
    if row["object"] is not None:
        told["object"] = row["object"]
    return told


def _spans(states: list[sqlite3.Row], since_ms: int, until_ms: int) -> list[dict[str, Any]]:
    """States as spans within the two moments."""
    spans = []
    for row, after in zip(states, [*states[1:], None], strict=False):
        end_ms = until_ms if after is None else after["at_ms"]
        from_ms, to_ms = max(row["at_ms"], since_ms), min(end_ms, until_ms)
        if to_ms > from_ms:
            span = {"from_ms": from_ms, "until_ms": to_ms, "state": row["state"]}
            spans.append({**span, "cause": row["cause"]})
    return spans


def _sum(texts: Iterator[str]) -> Counter[str]:
    total = Counter[str]()
    for text in texts:
        total.update(json.loads(text))
    return total


def _ages(classes: Counter[str]) -> dict[str, float | None]:
    """p50, p95 and p99 from counts by class (store.age_classes): the middle of the class."""
    total, found = sum(classes.values()), dict[str, float | None]()
    for percent in (50, 95, 99):
        below, found[f"p{percent}"] = 0, None
        for name in sorted(classes, key=int):
            below += classes[name]
            if below >= total * percent / 100:
                found[f"p{percent}"] = round(AGE_STEP ** (int(name) - 0.5), 2)
                break
    return found
