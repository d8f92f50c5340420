"""The nodes of a fleet, also those that are away: since when, and what they ran.

A member's key lives for TTL and then tells nothing. So ``fleet serve`` notes in the bucket of nodes
who comes and who goes: ``labels`` and ``capacity`` of who has been there, ``gone`` (when it renewed
last) and ``had`` (its cameras then); ``token`` where it has one. People note ``drain`` there.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError

from ..core.errors import ConfigError, SourceError
from .configuration import KEYS, SERVER_KEY, BucketEntry, entries
from .connection import LEASES, MEMBERS, NODES, Link, bucket
from .events import FAULTS
from .security import ADMIN, Secrets

LOOK_S = 1.0
BEFORE = 4  # looks back at who held what: a node that leaves in order gives it up before
KEPT = timedelta(days=7)  # that a node without a token is remembered
Note = Mapping[str, Any]
Entry = TypeVar("Entry")


class Roll:
    """Keeps the notes. ``tokens``: the server's file of them; None: no node needs one."""

    def __init__(self, tokens: Path | None = None) -> None:
        self._tokens = tokens
        self._here: dict[str, BucketEntry] = {}
        self._held: deque[dict[str, str]] = deque(maxlen=BEFORE)  # nodes by camera

    async def run(self, link: Link) -> None:
        """Until cancelled."""
        while True:
            with suppress(*FAULTS, ConfigError, SourceError):
                await self.look(link)
            await asyncio.sleep(LOOK_S)

    async def look(self, link: Link) -> None:
        """Note who has come or gone since the last time."""
        here = members_of(await entries(link.js, MEMBERS))
        notes = {name: each.table for name, each in (await entries(link.js, NODES)).items()}
        known = None if self._tokens is None else set(Secrets.load(self._tokens).users) - {ADMIN}
        for name in {*here, *notes, *self._here, *(known or ())}:
            note = notes.get(name, {})
            made = dict(note) if name not in here else {"drain": note.get("drain", False)}
            if name in here:
                made |= {key: here[name].table.get(key) for key in ("labels", "capacity")}
            elif name in self._here or ("labels" in note and "gone" not in note):
                last = self._here[name].time if name in self._here else _now()
                had = {camera for held in self._held for camera in held if held[camera] == name}
                made |= {"gone": last.isoformat(timespec="seconds"), "had": sorted(had)}
            if known is not None:
                made["token"] = name in known
            if name not in here and not made.get("drain") and self._is_over(made):
                await forget(link.js, name)
            elif made != note:
                await note_node(link.js, name, partial(_noted, made))
        self._here = here
        leases = await entries(link.js, LEASES)
        self._held.append({name: str(each.table.get("node", "")) for name, each in leases.items()})

    def _is_over(self, note: Note) -> bool:
        if self._tokens is not None:
            return not note.get("token")
        return "gone" not in note or _now() - datetime.fromisoformat(note["gone"]) > KEPT


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _noted(made: Note, now: Note | None) -> Note:
    """What people say of it meanwhile stays."""
    return {**made, "drain": now["drain"]} if now and "drain" in now else made


def members_of(found: Mapping[str, Entry]) -> dict[str, Entry]:
    """Of the bucket of members the nodes, by name."""
    start = "node."
    return {key.removeprefix(start): e for key, e in found.items() if key.startswith(start)}


async def away(js: JetStreamContext, here: Collection[str] = ()) -> dict[str, dict[str, Any]]:
    """The notes on nodes that are not ``here``, each with ``state``: "gone", or "not joined" yet.

    One that has told its key, and of which nobody has noted when it went, is gone as well.
    """
    await bucket(js, NODES)
    await bucket(js, KEYS)
    notes, keys = await entries(js, NODES), await entries(js, KEYS)
    found: dict[str, dict[str, Any]] = {}
    for name in sorted({*notes, *keys} - {*here, SERVER_KEY}):
        note = notes[name].table if name in notes else {}
        if "gone" in note or name in keys:
            found[name] = {**note, "state": "gone"}
        elif note.get("drain") or note.get("token"):
            found[name] = {**note, "state": "not joined"}
    return found


async def forget(js: JetStreamContext, name: str) -> None:
    """A node that does not belong to the fleet any more; nothing is sealed for it either."""
    for each in (NODES, KEYS):
        with suppress(KeyNotFoundError):
            await (await bucket(js, each)).delete(name)


async def note_node(js: JetStreamContext, name: str, change: Callable[[Any], Note]) -> None:
    """Write what ``change`` makes of the note; again where somebody else came first."""
    kv = await bucket(js, NODES)
    for _ in range(10):
        try:
            entry = await kv.get(name)
            value, last = json.loads(entry.value or b"null"), entry.revision
        except KeyNotFoundError as gone:
            value, last = None, gone.entry.revision if gone.entry else 0
        try:
            await kv.update(name, json.dumps(change(value)).encode(), last=last)
            return
        except KeyWrongLastSequenceError:
            continue
    raise SourceError(f"{name} is being changed by others; try again")
