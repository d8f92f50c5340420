"""A node's part in the fleet: the leases' decisions carried out, on a thread with its own loop."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import APIError, KeyNotFoundError
from nats.js.kv import KeyValue

from ..core.errors import ConfigError, KestrelError, SourceError
from .assignment import Camera, Node
from .connection import (
    CAMERAS,
    LEASES,
    MEMBERS,
    NODE_SUBJECT,
    Credentials,
    Link,
    connect,
)
from .leases import STOP_S, TTL_S, Ask, LeaseKeeper, Look, Operation, Value, Write
from .server import make_buckets

log = logging.getLogger(__name__)

LOOK_S = 0.1  # between two looks at the clock
DEAF_S = 2.0  # what this node itself wrote is not shown to it: the watch is made anew
LEAVE_S = 3.0
PLACE = ("labels", "node", "only", "readers")  # of a camera's table: no matter of how it runs
WRONG_REVISION = (10071, 10164)  # of JetStream's errors


class Wanted(NamedTuple):
    """How a camera is to be open here, and its table as in TOML."""

    how: Literal["run", "warm"]
    table: Mapping[str, Any]


class Runner(Protocol):
    """What runs the cameras. All methods may be called on any thread."""

    def is_ready(self, camera: str) -> bool:
        """Whether frames of it come."""

    def is_stopped(self, camera: str) -> bool:
        """Whether it is closed, with all that it gave delivered."""

    def fault(self) -> str:
        """Why nothing can be delivered at the moment; "" if it can."""

    def status(self) -> Mapping[str, Any]:
        """Figures of this machine and its cameras, for people."""


def boot_clock() -> float:
    """Seconds that run forward only, also while the machine sleeps."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class FleetNode(threading.Thread):
    """Keeps this node's leases. ``changed`` is set when ``wanted`` is other than before.

    ``kept``: a file with the last configuration; a node that starts without its broker runs the
    cameras from it that no other node ever runs. ``error`` is what ended it. ``beside`` is run with
    the connection, as long as there is one to be kept.
    """

    def __init__(
        self,
        node: Node,
        runner: Runner,
        *,
        url: str,
        credentials: Credentials | None,
        kept: Path | None = None,
        clock: Callable[[], float] = boot_clock,
        facts: Value | None = None,
        beside: Callable[[Link], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(name="fleet", daemon=True)
        self._runner, self._clock = runner, clock
        self._url, self._credentials, self._kept = url, credentials, kept
        self._beside = beside
        self.keeper = LeaseKeeper(
            node,
            new_session=lambda: uuid.uuid4().hex[:12],
            is_ready=runner.is_ready,
            is_stopped=runner.is_stopped,
            facts=facts,
        )
        self.name_of_node = node.name
        self.wanted: dict[str, Wanted] = {}
        self.changed, self._stopping = threading.Event(), threading.Event()
        self.error: BaseException | None = None
        self._tables: dict[str, Mapping[str, Any]] = {}
        self._runs: dict[str, Mapping[str, Any]] = {}  # the same without PLACE
        self._buckets: dict[str, KeyValue] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._heard_self = 0.0
        self._awake: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.counts = {"written": 0, "refused": 0, "looked": 0}

    def lease(self, camera: str) -> int | None:
        """By which the camera may be delivered now; any thread, cheap."""
        return self.keeper.lease(camera, self._clock())

    def stop(self) -> None:
        """Give everything up, bounded by LEAVE_S; returns at once."""
        self._stopping.set()

    def run(self) -> None:
        """Until it is stopped."""
        try:
            asyncio.run(self._main())
        except BaseException as error:
            if self._stopping.is_set() and not isinstance(error, KestrelError):
                log.debug("the connection ended while the node stopped", exc_info=True)
            else:
                self.error = error
        finally:
            self.wanted = {}
            self.changed.set()

    async def _main(self) -> None:
        self._loop, self._awake = asyncio.get_running_loop(), asyncio.Event()
        has_kept = self._read_kept()
        link = await self._connect(patient=has_kept)
        if link is None:
            return
        try:
            await self._serve(link)
        finally:
            for task in self._tasks:
                task.cancel()
            with suppress(NatsError, OSError, asyncio.TimeoutError):
                await asyncio.wait_for(link.client.close(), 1.0)

    async def _connect(self, *, patient: bool) -> Link | None:
        told = False
        while not self._stopping.is_set():
            self._publish()  # cameras of its own need no server
            try:
                return await connect(
                    self._url,
                    self._credentials,
                    name=f"node {self.name_of_node}",
                    on_change=self._link_changed,
                )
            except SourceError as fault:
                if not patient:
                    raise
                if not told:
                    log.warning("%s; running cameras that are this node's alone", fault)
                told = True
                await asyncio.sleep(1.0)
        return None

    async def _serve(self, link: Link) -> None:
        self._buckets = await make_buckets(link)
        status = await self._buckets[MEMBERS].status()
        self.keeper.ttl_s = status.ttl or TTL_S
        me = f"{NODE_SUBJECT}.{self.name_of_node}"
        await link.client.subscribe(me, cb=self._asked)
        await link.client.subscribe(f"{NODE_SUBJECT}s", cb=self._tell_status)
        await self._watch_all()
        self.keeper.connected(self._clock())
        log.info("node %s is part of the fleet at %s", self.name_of_node, self._url)
        if self._beside is not None:
            self._task(self._beside(link))
        left_s = None
        while not self.keeper.has_left:
            if self._stopping.is_set():
                left_s = left_s or time.monotonic() + LEAVE_S
                self.keeper.leave()
                if time.monotonic() > left_s:
                    break
            self.keeper.set_unwell(self._runner.fault())
            for operation in self.keeper.tick(self._clock()):
                self._task(self._execute(link, operation))
            self._publish()
            self._check_hearing()
            assert self._awake is not None
            self._awake.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._awake.wait(), LOOK_S)

    def _publish(self) -> None:
        now = self._clock()
        wanted = {
            name: Wanted(how, self._runs[name])
            for name, how in self.keeper.wanted(now).items()
            if name in self._runs
        }
        if wanted == self.wanted:
            return
        runs, ran = (
            {name for name, each in several.items() if each.how == "run"}
            for several in (wanted, self.wanted)
        )
        for name in sorted(runs - ran):
            log.info("camera %s: taken, lease %s", name, self.keeper.lease(name, now))
        for name in sorted(ran - runs):
            log.info("camera %s: given up", name)
        self.wanted = wanted
        self.changed.set()

    def _task(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _wake(self) -> None:
        if self._awake is not None:
            self._awake.set()

    def _link_changed(self, connected: bool) -> None:
        if connected:
            log.info("the fleet's server is back")
            self.keeper.connected(self._clock())
            self._task(self._watch_all())
        elif not self._stopping.is_set():
            log.warning("the fleet's server is away")
        self._wake()

    async def _execute(self, link: Link, operation: Operation) -> None:
        keeper = self.keeper
        try:
            if isinstance(operation, Ask):
                told = {
                    "camera": operation.camera,
                    "revision": operation.revision,
                    "node": self.name_of_node,
                    "session": operation.session,
                }
                subject = f"{NODE_SUBJECT}.{operation.node}"
                await link.client.publish(subject, json.dumps(told).encode())
            elif isinstance(operation, Look):
                await self._look(operation)
            else:
                await self._write(link, operation)
        except (NatsError, OSError, asyncio.TimeoutError) as fault:
            log.debug("fleet: %s: %s", operation, type(fault).__name__)
            keeper.failed(operation)
        self._wake()

    async def _write(self, link: Link, write: Write) -> None:
        headers = {"Nats-Expected-Last-Subject-Sequence": str(write.last)}
        if write.value is None:
            headers["KV-Operation"] = "DEL"
        data = b"" if write.value is None else json.dumps(write.value).encode()
        subject = f"$KV.{write.bucket}.{write.key}"
        try:
            ack = await link.js.publish(subject, data, headers=headers)
        except APIError as error:
            if error.err_code not in WRONG_REVISION:
                raise
            self.counts["refused"] += 1
            await self._look(Look(write.bucket, write.key))
            return
        self.counts["written"] += 1
        self.keeper.done(write, ack.seq, self._clock())

    async def _look(self, look: Look) -> None:
        self.counts["looked"] += 1
        value: Value | None = None
        revision = 0
        try:
            entry = await self._buckets[look.bucket].get(look.key)
            value, revision = _value(entry), entry.revision or 0
        except KeyNotFoundError as gone:  # never there, expired, or deleted
            revision = (gone.entry.revision or 0) if gone.entry is not None else 0
        self.keeper.looked(look, value, revision, self._clock())

    # What the server tells

    async def _watch_all(self) -> None:
        self._heard_self = self._clock()
        for task in [each for each in self._tasks if each.get_name().startswith("watch ")]:
            task.cancel()
        ready = {name: asyncio.Event() for name in self._buckets}
        for name, kv in self._buckets.items():
            task = asyncio.create_task(self._watch(name, kv, ready[name]), name=f"watch {name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(each.wait() for each in ready.values())), 2.0)

    async def _watch(self, name: str, kv: KeyValue, ready: asyncio.Event) -> None:
        """All keys as they are, then each change; begun anew whatever happens."""
        while True:
            try:
                watcher = await kv.watchall()
                try:
                    here: set[str] | None = set()
                    async for entry in watcher:
                        if entry is not None:
                            if here is not None:
                                here.add(entry.key)
                            self._heard(name, entry.key, _value(entry), entry.revision or 0)
                        elif here is not None:
                            for key in self._known(name) - here:
                                self._heard(name, key, None, 0)
                            here = None
                            ready.set()
                finally:
                    with suppress(NatsError, OSError, asyncio.TimeoutError):
                        await watcher.stop()  # type: ignore[no-untyped-call]
            except (NatsError, OSError, asyncio.TimeoutError) as fault:
                log.debug("fleet: watch of %s: %s", name, type(fault).__name__)
                await asyncio.sleep(0.2)

    def _known(self, name: str) -> set[str]:
        known: dict[str, Mapping[str, Any]] = {
            MEMBERS: self.keeper.members,
            LEASES: self.keeper.claims,
            CAMERAS: self._tables,
        }
        return set(known.get(name, ()))

    def _heard(self, name: str, key: str, value: Value | None, revision: int) -> None:
        now = self._clock()
        if name in (MEMBERS, LEASES):
            if key == f"node.{self.name_of_node}":
                self._heard_self = now
            self.keeper.saw(name, key, value, revision, now)
        elif name == CAMERAS:
            self._define(key, value)
            self._keep()
        else:
            self.keeper.set_drained(key, bool(value and value.get("drain")))
        self._wake()

    def _define(self, name: str, table: Value | None) -> None:
        try:
            camera = None if table is None else Camera.of(name, table)
        except (TypeError, ValueError) as fault:
            log.error("camera %s: its table cannot be read, it stays as it was: %s", name, fault)
            return
        if camera is None:
            self._tables.pop(name, None)
            self._runs.pop(name, None)
        elif table is not None:
            self._tables[name] = table
            self._runs[name] = {key: table[key] for key in table if key not in PLACE}
        self.keeper.set_camera(name, camera)

    def _check_hearing(self) -> None:
        """A watch may end without a word; then this node does not hear of its own renewals."""
        now = self._clock()
        if now < self.keeper.deadline and now - self._heard_self > DEAF_S:
            log.debug("fleet: the watch is deaf, made anew")
            self._heard_self = now
            self._task(self._watch_all())  # beside: renewals do not wait for it

    async def _asked(self, message: Msg) -> None:
        with suppress(ValueError, KeyError, TypeError):
            told = json.loads(message.data)
            revision, to = int(told["revision"]), str(told["node"])
            camera, session = str(told["camera"]), str(told["session"])
            self.keeper.asked(camera, revision, to, session, self._clock())
            self._wake()
            self._task(self._wake_when_stopped(camera))

    async def _wake_when_stopped(self, camera: str) -> None:
        """So that a lease is passed on as soon as its last event is out."""
        for _ in range(int(STOP_S / 0.02)):
            await asyncio.sleep(0.02)
            if self._runner.is_stopped(camera):
                break
        self._wake()

    async def _tell_status(self, message: Msg) -> None:
        if not message.reply:
            return
        now = self._clock()
        told = {
            "node": self.name_of_node,
            "leases": {name: self.keeper.lease(name, now) for name in self.keeper.wanted(now)},
            **self._runner.status(),
        }
        with suppress(NatsError, OSError):
            await message.respond(json.dumps(told).encode())

    # The last configuration

    def _keep(self) -> None:
        if self._kept is None:
            return
        own = [name for name, camera in self.keeper.cameras.items() if self._is_own(camera)]
        leases = {name: claim.revision for name in own if (claim := self.keeper.claims.get(name))}
        told = {"cameras": self._tables, "leases": leases}
        try:
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            part = self._kept.with_name(f"{self._kept.name}.part")
            part.touch(mode=0o600)
            part.write_text(json.dumps(told), "utf-8")
            part.replace(self._kept)
        except OSError as error:
            log.debug("the configuration cannot be kept in %s: %s", self._kept, error)

    def _is_own(self, camera: Camera) -> bool:
        return camera.only == self.name_of_node

    def _read_kept(self) -> bool:
        """Whether there are cameras that may run without a word from the server."""
        if self._kept is None or not self._kept.exists():
            return False
        try:
            told = json.loads(self._kept.read_text("utf-8"))
            for name, table in told["cameras"].items():
                self._define(name, table)
            now = self._clock()
            for name, revision in told["leases"].items():
                self.keeper.saw(LEASES, name, {"node": self.name_of_node}, int(revision), now)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("what is kept in %s cannot be read: %s", self._kept, error)
            return False
        return any(map(self._is_own, self.keeper.cameras.values()))


def _value(entry: KeyValue.Entry) -> Value | None:
    """What is in the entry; None where it is deleted, or holds no object."""
    if entry.operation is not None or not entry.value:
        return None
    with suppress(ValueError):
        value = json.loads(entry.value)
        return value if isinstance(value, dict) else None
    return None


def as_told(error: BaseException) -> KestrelError:
    """What ended a node, in words."""
    if isinstance(error, KestrelError):
        return error
    return ConfigError(
        f"the fleet's server refused: {type(error).__name__}: {error}; does the token have the "
        "right, and does the server run JetStream?"
    )
