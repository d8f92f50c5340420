"""Events, states and snapshots of a fleet's cameras: to JetStream once each, and into one store.

A node puts what happens into a spool and sends it from there in order; a message leaves the spool
when the server has acknowledged it. What is sent again after a lost acknowledgement has the same
``Nats-Msg-Id``, the event's id, and is kept once; where it comes later than the server remembers
ids, the store knows them.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import APIError, BadRequestError, Error as JetStreamError

from ..core.detections import Result
from ..core.errors import SinkError
from ..core.events import Event, Fired
from ..core.frame import SourceInfo
from ..core.stats import OutputMeter
from ..models.cache import write_whole
from ..sinks.json_lines import quoted
from ..sinks.spool import Spool, SpooledMessage
from ..sinks.store import EventStore
from .connection import EVENT_SUBJECT, EVENTS, STATE_SUBJECT, STATES, Link

log = logging.getLogger(__name__)

SNAPSHOTS, SNAPSHOT_SUBJECT = "KESTREL_SNAPSHOTS", "kestrel.snapshot"
DAY_S = 86_400.0
STREAMS = (  # what is more or older goes, oldest first; ids are remembered for duplicate_window
    StreamConfig(
        name=EVENTS,
        subjects=[f"{EVENT_SUBJECT}.*"],
        max_age=30 * DAY_S,
        max_bytes=512_000_000,
        max_msg_size=65_536,
        duplicate_window=3600,
    ),
    StreamConfig(
        name=STATES,
        subjects=[f"{STATE_SUBJECT}.*"],
        max_age=30 * DAY_S,
        max_bytes=16_000_000,
        max_msg_size=65_536,
        max_msgs_per_subject=1,
        duplicate_window=120,
    ),
    StreamConfig(
        name=SNAPSHOTS,
        subjects=[f"{SNAPSHOT_SUBJECT}.*"],
        max_age=7 * DAY_S,
        max_bytes=512_000_000,
        max_msg_size=512_000,
        duplicate_window=3600,
    ),
)
WINDOW = 20  # messages under way at once
LOOK_S = 0.05  # between two looks for events that wait
TICK_S = 0.5
STATE_S = 2.0  # between two looks at the states
STATE_AGAIN_S = 30.0  # an unchanged one is told again, so that a silent node can be told
SNAPSHOT_S = 2.0  # after an event: its picture is on the disk by then
MOST_SNAPSHOTS = 1000  # that wait
ACK_S, FETCH_S, STORE_S = 30.0, 5.0, 20.0
FAULTS = (nats.errors.Error, JetStreamError, OSError, asyncio.TimeoutError)


async def make_streams(js: JetStreamContext) -> None:
    """Make the streams of a fleet, or bring their limits up to date; ``fleet serve`` does so."""
    for config in STREAMS:
        config = replace(config, storage=StorageType.FILE, discard=DiscardPolicy.OLD)
        try:
            await js.add_stream(config)
        except BadRequestError as error:
            if error.err_code != 10058:  # the name is in use, with other limits
                raise
            await js.update_stream(config)


async def messages(
    js: JetStreamContext,
    stream: str,
    subject: str,
    *,
    policy: DeliverPolicy = DeliverPolicy.LAST_PER_SUBJECT,
    start: int | None = None,
) -> list[Msg]:
    """What a stream holds of a subject at this moment, by default the newest of each.

    ``start``: the first number, with BY_START_SEQUENCE. The client's watchers are not asked for
    this: they may say that there is no more before the first has come.
    """
    config = ConsumerConfig(
        deliver_policy=policy,
        opt_start_seq=start,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=30.0,
        mem_storage=True,
    )
    pulled = await js.pull_subscribe(subject, stream=stream, config=config)
    try:
        found: list[Msg] = []
        count = (await pulled.consumer_info()).num_pending or 0
        while len(found) < count:
            found += await pulled.fetch(min(count - len(found), 500), timeout=FETCH_S)
        return found
    finally:
        with suppress(*FAULTS):
            await pulled.unsubscribe()


class EventPublisher:
    """What a node tells of its cameras. ``sink`` gives each camera's; ``run`` sends.

    ``states``: by camera, what its state message is to say. ``snapshots``: the folder of the
    pictures that events name. The spool keeps at most ``spool_mb`` on the disk; beyond, the oldest
    is dropped and counted.
    """

    def __init__(
        self,
        node: str,
        spool: Path,
        meter: OutputMeter,
        *,
        states: Callable[[], Mapping[str, Mapping[str, Any]]] = dict,
        snapshots: Path | None = None,
        spool_mb: float = 64.0,
    ) -> None:
        self.node, self._meter = node, meter
        self._states, self._snapshots = states, snapshots
        self._spool = Spool(
            spool,
            max_bytes=int(spool_mb * 1e6),
            on_drop=meter.dropped,
            sound=_is_event,
            name="fleet",
            cure="name another folder for the node",
        )
        self._spool.open()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._under_way: list[SpooledMessage] = []  # handed out, and not acknowledged yet
        self._told: dict[str, tuple[str, float]] = {}  # by camera: its state, and when
        self._due: dict[tuple[str, str], float] = {}  # camera and snapshot: when to send it

    def sink(self, camera: str) -> CameraSink:
        """For the results of a camera."""
        return CameraSink(self, camera)

    def put(self, camera: str, event: Event) -> None:
        """Any thread; never waits."""
        event = replace(event, node=self.node)
        self._spool.append(f"{EVENT_SUBJECT}.{camera}", quoted(event.as_json()))
        if self._loop is not None and event.snapshot and self._snapshots:
            with suppress(RuntimeError):  # the loop has been closed
                self._loop.call_soon_threadsafe(self._noted, camera, event)

    def __len__(self) -> int:
        """How many events wait."""
        return len(self._spool)

    async def run(self, link: Link) -> None:
        """Send until cancelled; while the server is away the spool fills."""
        self._loop = asyncio.get_running_loop()
        next_state_s = next_save_s = 0.0
        while True:
            await asyncio.sleep(LOOK_S)
            if link.client.is_connected:
                await self._send(link.js)
            else:
                self._away(nats.errors.ConnectionClosedError())
            self._meter.waiting = len(self._spool)
            if (now_s := self._loop.time()) >= next_save_s:
                next_save_s = now_s + TICK_S
                await asyncio.to_thread(self._spool.save)
            if not self._meter.trouble and now_s >= next_state_s:
                next_state_s = now_s + STATE_S
                await self._tell(link.js, now_s)

    def close(self) -> None:
        """Keep what waits on the disk; after ``run`` has ended."""
        self._spool.close()

    def _noted(self, camera: str, event: Event) -> None:
        """On the loop: the picture is sent once it is good."""
        if event.snapshot and self._loop and len(self._due) < MOST_SNAPSHOTS:
            self._due[camera, event.snapshot] = self._loop.time() + SNAPSHOT_S

    async def _send(self, js: JetStreamContext) -> None:
        """All that waits, in order."""
        waiting = self._under_way
        while True:
            waiting += self._spool.hand_out(WINDOW - len(waiting))
            if not waiting:
                return
            answers = await asyncio.gather(
                *(
                    js.publish(
                        each.topic,
                        each.text.encode(),
                        headers={"Nats-Msg-Id": json.loads(each.text)["id"]},
                    )
                    for each in waiting
                ),
                return_exceptions=True,
            )
            for answer in answers:  # of the first that failed on, all go again, in order
                lasting = isinstance(answer, APIError) and answer.code == 400
                if lasting or isinstance(answer, nats.errors.MaxPayloadError):  # of this message
                    log.warning("the fleet's server refuses an event: %s", answer)
                    self._meter.dropped("refused")
                elif isinstance(answer, BaseException):
                    self._away(answer)
                    return
                else:
                    self._meter.delivered()
                self._spool.remove(waiting.pop(0).seq)
            self._meter.trouble = ""

    async def _tell(self, js: JetStreamContext, now_s: float) -> None:
        """States that have changed, and snapshots that are due."""
        try:
            for camera, state in self._states().items():
                text = quoted({"camera": camera, "node": self.node, **state})
                before, told_s = self._told.get(camera, ("", 0.0))
                if text != before or now_s - told_s > STATE_AGAIN_S:
                    await js.publish(f"{STATE_SUBJECT}.{camera}", text.encode())
                    self._told[camera] = text, now_s
            for camera, name in [key for key, due_s in self._due.items() if due_s <= now_s]:
                await self._send_snapshot(js, camera, name)
                del self._due[camera, name]
        except FAULTS as error:
            self._away(error)

    async def _send_snapshot(self, js: JetStreamContext, camera: str, name: str) -> None:
        path = Path(self._snapshots or "", name)
        try:
            jpeg = await asyncio.to_thread(path.read_bytes)
            written_ns = path.stat().st_mtime_ns
        except OSError as error:
            log.debug("no snapshot: %s", error)
            return
        headers = {"Nats-Msg-Id": f"{name} {written_ns}", "Kestrel-File": name}
        await js.publish(f"{SNAPSHOT_SUBJECT}.{camera}", jpeg, headers=headers)

    def _away(self, error: BaseException) -> None:
        if not self._meter.trouble:
            log.debug("events wait: %s", type(error).__name__)
        self._meter.trouble = f"fleet: {type(error).__name__}"
        self._told.clear()  # it may come back without them


class CameraSink:
    """The results of one camera: events to the publisher, the newest kept for who asks."""

    def __init__(self, publisher: EventPublisher, camera: str) -> None:
        self._publisher, self.camera = publisher, camera
        self.latest: Result | None = None
        self.labels: Sequence[str] = ()

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Take the names."""
        self.labels = labels

    update = open  # see interfaces.Updatable

    def emit(self, result: Result) -> None:
        """Keep the frame; pass on what it brought."""
        self.latest = result
        self.happened(result.events, ())

    def happened(self, events: Sequence[Event], fired: Sequence[Fired]) -> None:
        """See interfaces.TakesEvents."""
        for event in events:
            self._publisher.put(self.camera, event)

    def close(self) -> None:
        """Let go of the frame."""
        self.latest = None


class Collector:
    """Brings the events of a fleet into the event store, and the snapshots into its folder.

    A message is acknowledged when its event is on the disk; what is not comes again. Two collectors
    of one ``name`` share the work; each store has a name of its own.
    """

    def __init__(
        self, store: EventStore, meter: OutputMeter, *, snapshots: Path, name: str = "store"
    ) -> None:
        self._store, self.meter, self._snapshots, self._name = store, meter, snapshots, name

    async def run(self, link: Link) -> None:
        """Collect until cancelled; while the server is away nothing is lost."""
        await asyncio.gather(
            self._follow(link.js, EVENTS, self._keep),
            self._follow(link.js, SNAPSHOTS, self._keep_picture),
        )

    async def _follow(self, js: JetStreamContext, stream: str, keep: Callable[[Msg], Any]) -> None:
        config = ConsumerConfig(
            durable_name=self._name,
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_S,
            max_ack_pending=1000,
        )
        while True:
            try:
                pulled = await js.pull_subscribe("", self._name, stream=stream, config=config)
                try:
                    while True:
                        await self._pull(pulled, keep)
                finally:
                    with suppress(nats.errors.Error):
                        await pulled.unsubscribe()
            except FAULTS as error:
                log.debug("collecting from %s: %s", stream, error)
                await asyncio.sleep(TICK_S)

    async def _pull(self, pulled: Any, keep: Callable[[Msg], Any]) -> None:
        try:
            messages = await pulled.fetch(100, timeout=FETCH_S)
        except (nats.errors.TimeoutError, asyncio.TimeoutError):
            return
        await asyncio.gather(*map(keep, messages))

    async def _keep(self, message: Msg) -> None:
        camera = message.subject.rpartition(".")[2]
        try:
            event = Event.from_json(json.loads(message.data))
        except (ValueError, TypeError, AttributeError) as error:
            log.warning("what a node sent for %s is no event: %s", camera, error)
            self.meter.dropped("no event")
            await message.term()
            return
        try:
            future = asyncio.wrap_future(self._store.take(camera, event))
            fate = await asyncio.wait_for(future, STORE_S)
        except (SinkError, asyncio.TimeoutError) as error:
            log.debug("not stored yet: %s", error)
            with suppress(*FAULTS):
                await message.nak(delay=TICK_S)
            return
        await message.ack()
        if fate == "kept":
            self.meter.delivered()
        elif fate == "stale":
            log.info("%s of %s is refused: %s held it no more", event.id, camera, event.node)
            self.meter.dropped("older lease")

    async def _keep_picture(self, message: Msg) -> None:
        name = (message.headers or {}).get("Kestrel-File", "")
        path = Path(self._snapshots, name)
        if (
            path.suffix == ".jpg"
            and ".." not in path.parts
            and path.is_relative_to(self._snapshots)
        ):
            try:
                await asyncio.to_thread(write_whole, path, message.data)
            except OSError as error:
                log.warning("cannot keep the snapshot %s: %s", path, error.strerror or error)
                self.meter.dropped("disk")
        await message.ack()


def _is_event(topic: str, text: str) -> bool:
    """Whether what lay on a disk can be sent."""
    try:
        Event.from_json(json.loads(text))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return False
    return topic.startswith(f"{EVENT_SUBJECT}.") and topic.count(".") == 2
