"""What a node decides: who is there, which cameras it may run, when it must stop. No I/O, no clock.

A node's *session* is one key that lives for TTL on the server and is renewed by its revision. A
camera's *lease* is a key that names the session of its holder, written by compare-and-set; it holds
as long as that session lives, so that renewing costs one write a node and not one a camera. The
revision with which a lease was taken is its number: whoever takes the camera next has a higher one.

Safety: a renewal counts from the moment before it was sent, on the node's own clock, and the holder
stops ``MARGIN_S`` before TTL from then. The server counts TTL from when it got the renewal, and
nobody takes a lease before the server itself says that the session is gone. So two nodes never hold
a camera at a time, whatever their wall clocks say, as long as clocks run equally fast to 15 %.

``now`` is always seconds of one clock that only runs forward, also while the machine sleeps. What
is to be done comes out of ``tick`` as operations, whose outcome goes in again; the simulation and
the node run this same code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from .assignment import Camera, Node, assign
from .connection import LEASES, MEMBERS

TTL_S = 3.0
MARGIN_S = 0.5  # of a fence before the lease can pass on
RENEWALS = 6  # in one TTL
SETTLE_S = 1.0  # a new session, or server, is given so long to show who is there
CALM_S = 1.0  # the plan has stood so long before anything moves for it
MOVE_S = 10.0  # a camera that cannot be opened in this time is not moved
AVOID_S = 60.0  # and not tried again for so long
STOP_S = 2.0  # for the last events of a camera that is given up
LOOK_S = 0.1  # between two questions whether a silent node is gone
_NODE = "node."  # before a node's name in its key
LOCK = "lock.move"  # held by the node that moves a camera: one at a time in the fleet

Value = Mapping[str, Any]


class Write(NamedTuple):
    """Compare-and-set of a key; ``value`` None deletes it. ``last``: its revision, 0 for none."""

    bucket: str
    key: str
    value: Value | None
    last: int
    sent: float = 0.0


class Look(NamedTuple):
    """Ask the server itself for a key."""

    bucket: str
    key: str


class Ask(NamedTuple):
    """Ask a node to hand a camera over to a session of this node."""

    node: str
    camera: str
    revision: int
    session: str


Operation = Write | Look | Ask


@dataclass(slots=True)
class Entry:
    """A key as last seen; ``value`` None: deleted. ``seen``: when its revision came."""

    value: Value | None
    revision: int
    seen: float


@dataclass(slots=True)
class _Move:
    camera: str
    since: float
    has_lock: bool = False
    asked: float = float("-inf")


@dataclass(slots=True)
class _Release:
    """``to`` None: nobody in particular."""

    to: tuple[str, str] | None
    since: float
    is_closed: bool = False  # the lease is being passed on: nothing is delivered any more


class LeaseKeeper:
    """One node's part in the fleet. All methods on one thread but ``lease``.

    ``new_session`` gives a name that was never used. ``is_ready``: whether a camera that is warm
    gives frames; ``is_stopped``: whether one that was to stop has delivered its last.
    """

    def __init__(
        self,
        node: Node,
        *,
        new_session: Callable[[], str],
        is_ready: Callable[[str], bool],
        is_stopped: Callable[[str], bool],
        ttl_s: float = TTL_S,
        facts: Value | None = None,
        planner: Callable[[Sequence[Camera], Sequence[Node]], dict[str, str]] = assign,
    ) -> None:
        self.node, self.ttl_s, self._facts = node, ttl_s, dict(facts or {})
        self._planner = planner
        self._new_session, self._is_ready, self._is_stopped = new_session, is_ready, is_stopped
        self._key = _NODE + node.name
        self.cameras: dict[str, Camera] = {}
        self._drained: frozenset[str] = frozenset()
        self.members: dict[str, Entry] = {}  # by key
        self.claims: dict[str, Entry] = {}  # by camera
        self.session = ""
        self._session_since = self._returned = self._sent = self._plan_since = float("-inf")
        self._own: set[str] = set()  # cameras whose claim names this node
        self._planned: list[str] = []  # cameras that are to be here
        self.deadline = float("-inf")  # this node's cameras end then
        self._busy: set[tuple[str, str]] = set()
        self._next_look: dict[str, float] = {}
        self._releasing: dict[str, _Release] = {}
        self._move: _Move | None = None
        self._avoid: dict[str, float] = {}
        self._leaving, self.unwell = False, ""
        self.plan: dict[str, str] = {}  # camera to node
        self._is_new = True  # who is there, or what there is to run

    # What comes in

    def connected(self, now: float) -> None:
        """The server is there, or there again."""
        self._returned = now
        self._busy.clear()
        self._sent = float("-inf")

    def saw(self, bucket: str, key: str, value: Value | None, revision: int, now: float) -> None:
        """A key has this value, or is deleted (None); revision 0: it is not there at all."""
        entries = self.members if bucket == MEMBERS else self.claims
        known = entries.get(key)
        if not revision:
            entries.pop(key, None)
        elif known is None or revision > known.revision:
            entries[key] = Entry(value, revision, now)
        else:
            return
        if bucket == LEASES:
            mine = value is not None and value.get("node") == self.node.name
            (self._own.add if mine else self._own.discard)(key)
        elif known is None or value is None or known.value != value:
            self._is_new = True

    def set_camera(self, name: str, camera: Camera | None) -> None:
        """A camera was added or changed, or removed (None)."""
        if camera is None:
            self.cameras.pop(name, None)
        else:
            self.cameras[name] = camera
        self._is_new = True

    def set_drained(self, node: str, drained: bool) -> None:
        """People want this node to keep nothing, or no longer so."""
        self._drained = self._drained | {node} if drained else self._drained - {node}
        self._is_new = True

    def set_unwell(self, why: str) -> None:
        """This node cannot do its work ("" for: it can): it gives all cameras up at once."""
        if why != self.unwell:
            self.unwell = why
            self._sent = float("-inf")  # all are to know now

    def leave(self) -> None:
        """Give everything up; ``has_left`` when that is done."""
        self._leaving = True

    @property
    def has_left(self) -> bool:
        """Whether nothing is held any more."""
        return self._leaving and not self.session

    def asked(self, camera: str, revision: int, to: str, session: str, now: float) -> None:
        """Another node, which has the camera open, wants it."""
        claim = self.claims.get(camera)
        if claim is not None and claim.revision == revision and self._is_mine(claim):
            self._releasing.setdefault(camera, _Release((to, session), now))

    # What goes out

    def lease(self, camera: str, now: float) -> int | None:
        """The number of the lease by which this node may run the camera now; any thread."""
        claim, release = self.claims.get(camera), self._releasing.get(camera)
        if claim is None or not claim.value or claim.value.get("node") != self.node.name:
            return None
        if release is not None and release.is_closed:
            return None
        known = self.cameras.get(camera)
        if known is not None and known.only == self.node.name:  # nobody else ever runs it
            return claim.revision
        return claim.revision if self._is_mine(claim) and now < self.deadline else None

    def wanted(self, now: float) -> dict[str, Literal["run", "warm"]]:
        """The cameras that are to be open here, and how: warm ones deliver nothing yet."""
        wanted: dict[str, Literal["run", "warm"]] = {
            name: "run"
            for name in self._own
            if name in self.cameras
            and name not in self._releasing
            and self.lease(name, now) is not None
        }
        if self._move is not None and self._move.has_lock and now < self.deadline:
            camera = self.cameras.get(self._move.camera)
            if camera is not None and camera.readers > 1:
                wanted.setdefault(camera.name, "warm")
        return wanted

    def tick(self, now: float) -> list[Operation]:
        """What is to be done now. Call it often; nothing is asked for twice at a time."""
        if self._is_new:
            self._make_plan(now)
        operations = [*self._renew(now), *self._suspect(now)]
        if self.session and now < self.deadline:
            operations += [*self._release(now), *self._take(now), *self._rebalance(now)]
        started: list[Operation] = []
        for each in operations:
            if isinstance(each, Ask):
                started.append(each)
            elif (each.bucket, each.key) not in self._busy:
                self._busy.add((each.bucket, each.key))
                started.append(each)
        return started

    def done(self, operation: Write, revision: int, now: float) -> None:
        """The server has written it."""
        bucket, key = operation.bucket, operation.key
        self._busy.discard((bucket, key))
        if bucket == LEASES:
            self._releasing.pop(key, None)
        elif key == self._key:
            if operation.value is None:
                self._lose()
            elif operation.value["session"] == self.session:
                self.deadline = operation.sent + self.ttl_s - MARGIN_S
        elif key == LOCK and self._move is not None:
            self._move.has_lock = operation.value is not None
        self.saw(bucket, key, operation.value, revision, now)

    def failed(self, operation: Operation) -> None:
        """No answer came: whether it was done is not known, and shows."""
        if not isinstance(operation, Ask):
            self._busy.discard((operation.bucket, operation.key))

    def looked(self, look: Look, value: Value | None, revision: int, now: float) -> None:
        """What the server says of a key, also after it refused a write; 0 and None: not there."""
        self._busy.discard((look.bucket, look.key))
        entries = self.members if look.bucket == MEMBERS else self.claims
        known = entries.get(look.key)
        if look.key == self._key and self.session:
            if value is None or value.get("session") != self.session:
                self._lose()
            else:
                self._sent = float("-inf")
        if known is None or not revision or revision > known.revision:
            self.saw(look.bucket, look.key, value, revision, now)
        elif look.bucket == MEMBERS and revision == known.revision:
            self._next_look[look.key] = now + LOOK_S

    # How

    def _make_plan(self, now: float) -> None:
        self._is_new = False
        nodes = [
            replace(
                node_of(key, entry.value),
                drained="unwell" in entry.value or key[len(_NODE) :] in self._drained,
            )
            for key, entry in sorted(self.members.items())
            if entry.value is not None and key.startswith(_NODE)
        ]
        plan = self._planner(list(self.cameras.values()), nodes)
        if plan != self.plan:
            self.plan, self._plan_since = plan, now
            self._planned = [name for name, node in plan.items() if node == self.node.name]

    def _is_mine(self, claim: Entry) -> bool:
        return (
            claim.value is not None
            and bool(self.session)
            and claim.value.get("node") == self.node.name
            and claim.value.get("session") == self.session
        )

    def _is_valid(self, claim: Entry | None) -> bool:
        """Whether whoever has it may still be at work."""
        if claim is None or not claim.value:
            return False
        if claim.value.get("node") == self.node.name:
            return self._is_mine(claim)
        member = self.members.get(f"{_NODE}{claim.value.get('node')}")
        if member is None or not member.value:
            return False
        return bool(member.value.get("session") == claim.value.get("session"))

    def _lose(self) -> None:
        """The session is over: nothing is held."""
        self.session, self.deadline = "", float("-inf")
        self._move = None
        self._releasing.clear()

    def _renew(self, now: float) -> list[Operation]:
        me = self.members.get(self._key)
        if not self.session:
            if self._leaving:
                return []
            if me is not None and me.value is not None:
                return []  # the session before this one; it is looked at until it is gone
            self.session, self._session_since = self._new_session(), now
        elif me is not None and me.value and me.value.get("session") not in (None, self.session):
            self._lose()
            return []
        held = any(self._is_mine(self.claims[name]) for name in self._own)
        if self._leaving and not held:
            if me is None or me.value is None:
                self._lose()
                return []
            return [Write(MEMBERS, self._key, None, me.revision, now)]
        if now - self._sent < self.ttl_s / RENEWALS:
            return []
        if (MEMBERS, self._key) not in self._busy:
            self._sent = now
        value = {
            **self._facts,
            "session": self.session,
            "capacity": self.node.capacity,
            "labels": sorted(self.node.labels),
            **({"unwell": self.unwell or "leaving"} if self.unwell or self._leaving else {}),
        }
        return [Write(MEMBERS, self._key, value, 0 if me is None else me.revision, now)]

    def _suspect(self, now: float) -> list[Operation]:
        """Look whether those that are silent are gone; the lock of a move, too."""
        if now < self._returned + SETTLE_S:
            return []
        return [
            Look(MEMBERS, key)
            for key, entry in self.members.items()
            if now - entry.seen > self.ttl_s
            and now >= self._next_look.get(key, now)
            and not (key == self._key and self.session)
        ]

    def _release(self, now: float) -> list[Operation]:
        writes: list[Operation] = []
        for name in self._releasing.keys() - self._own:
            self._releasing.pop(name)
        for name in sorted(self._own):
            claim = self.claims[name]
            if not self._is_mine(claim):
                continue
            if name not in self.cameras or self.unwell or self._leaving:
                self._releasing.setdefault(name, _Release(None, now))
            release = self._releasing.get(name)
            if release is not None and (self._is_stopped(name) or now - release.since > STOP_S):
                to = release.to and {"node": release.to[0], "session": release.to[1]}
                release.is_closed = True
                writes.append(Write(LEASES, name, to, claim.revision, now))
        return writes

    def _take(self, now: float) -> list[Operation]:
        """Leases of this node's cameras that nobody has."""
        settled = max(self._session_since, self._returned) + SETTLE_S
        if self.unwell or self._leaving or now < settled:
            return []
        mine = {"node": self.node.name, "session": self.session}
        return [
            Write(LEASES, name, mine, self.claims[name].revision if name in self.claims else 0, now)
            for name in self._planned
            if not self._is_valid(self.claims.get(name))
        ]

    def _rebalance(self, now: float) -> list[Operation]:
        """Move one camera of another node that is this one's by the plan, if nobody moves any."""
        lock, move = self.members.get(LOCK), self._move
        if move is None:
            if lock is not None and self._owns(lock):
                return [Write(MEMBERS, LOCK, None, lock.revision, now)]
            is_free = lock is None or lock.value is None
            if not is_free or now < self._plan_since + CALM_S or self.unwell or self._leaving:
                return []
            name = next((each for each in self._planned if self._may_move(each, now)), None)
            if name is None:
                return []
            self._move = _Move(name, now)
            return [Write(MEMBERS, LOCK, self._lock(name), lock.revision if lock else 0, now)]
        claim, camera = self.claims.get(move.camera), self.cameras.get(move.camera)
        if not move.has_lock:
            if (MEMBERS, LOCK) not in self._busy:  # another node was first
                self._move = None
        elif (
            (claim is None or claim.value is None or camera is None)
            or (self._is_mine(claim) or not self._is_valid(claim))
            or (self.plan.get(camera.name) != self.node.name or lock is None)
            or not self._owns(lock)
        ):
            self._move = None
        elif now - move.since > MOVE_S:
            self._avoid[camera.name], self._move = now + AVOID_S, None
        elif now - lock.seen > self.ttl_s / RENEWALS:
            return [Write(MEMBERS, LOCK, self._lock(camera.name), lock.revision, now)]
        elif now - move.asked > STOP_S + SETTLE_S and (
            camera.readers < 2 or self._is_ready(camera.name)
        ):
            move.asked = now
            return [Ask(str(claim.value["node"]), camera.name, claim.revision, self.session)]
        return []

    def _may_move(self, name: str, now: float) -> bool:
        claim = self.claims.get(name)
        if claim is None or self._is_mine(claim) or not self._is_valid(claim):
            return False
        return now >= self._avoid.get(name, now)

    def _owns(self, lock: Entry) -> bool:
        return lock.value is not None and lock.value.get("session") == self.session

    def _lock(self, camera: str) -> Value:
        return {"session": self.session, "node": self.node.name, "camera": camera}


def node_of(key: str, value: Value) -> Node:
    """A member's entry as a node."""
    labels = frozenset(map(str, value.get("labels", ())))
    return Node(key[len(_NODE) :], float(value.get("capacity", 8.0)), labels)
