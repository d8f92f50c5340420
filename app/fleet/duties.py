"""What a node, and the machine that serves, do with the fleet's data; each is one task to run."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from nats.js import JetStreamContext

from ..core.errors import ConfigError, KestrelError
from ..core.stats import OutputMeter
from ..models.manifest import Model
from ..sinks.store import EventStore
from .configuration import HISTORY, KEYS, SECRETS, NodeKey, SecretBook, seal_for_new
from .connection import CAMERAS, Credentials, Link, bucket, connect
from .events import FAULTS, CameraSink, Collector, EventPublisher, make_streams
from .models import ROLLOUT, Find, ModelAgent, objects
from .pictures import FleetView, PictureServer
from .roll import Roll

log = logging.getLogger(__name__)

BUCKETS = ((CAMERAS, HISTORY), (KEYS, 1), (SECRETS, 1), (ROLLOUT, HISTORY))
STOP_S = 3.0
AGAIN_S = 2.0  # before a duty that failed is begun again
Part = TypeVar("Part")


def node_key(folder: Path) -> NodeKey | None:
    """The pair of keys of this machine; None, told in the log, where PyNaCl is absent."""
    try:
        return NodeKey(folder / "node.key")
    except ConfigError as error:
        log.warning("%s", error)
        return None


class NodeData:
    """Of the node: spool, sealed addresses, models, and answers. All below ``folder``.

    Results of a camera go into its ``sink``; ``secrets`` has whole addresses; ``models.current`` is
    the manifest to run; ``view`` is for the node's page. For the arguments see EventPublisher and
    ModelAgent.
    """

    def __init__(
        self,
        node: str,
        folder: Path,
        *,
        states: Callable[[], Mapping[str, Mapping[str, Any]]],
        find: Find,
        change: Callable[[Model | None], None],
        snapshots: Path | None = None,
        spool_mb: float = 64.0,
        version: str = "",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.meter = OutputMeter("fleet")
        self.events = EventPublisher(
            node,
            folder / "events.sqlite",
            self.meter,
            states=states,
            snapshots=snapshots,
            spool_mb=spool_mb,
        )
        self.secrets = SecretBook(node, folder / "sealed.json", node_key(folder))
        self.models = ModelAgent(node, folder / "models", find=find, change=change, version=version)
        self.view = FleetView()
        self._sinks: dict[str, CameraSink] = {}
        self._pictures = PictureServer(node, self._sinks, snapshots=snapshots)
        self._collector: Collector | None = None
        self._node = node

    def sink(self, camera: str) -> CameraSink:
        """For the results of a camera that this node runs from now on."""
        self._sinks[camera] = self.events.sink(camera)
        return self._sinks[camera]

    def collect(self, store: EventStore | None) -> None:
        """Bring what all nodes see into this store, too; before ``run``."""
        self._collector = None if store is None else _collector(store, f"store-{self._node}")

    def drop(self, camera: str) -> None:
        """This node runs the camera no more."""
        self._sinks.pop(camera, None)

    async def run(self, link: Link) -> None:
        """All of it until cancelled; what is away is tried again."""
        await _lasting(
            lambda: self.events.run(link),
            lambda: self._pictures.run(link),
            lambda: self.secrets.follow(link),
            lambda: self.models.follow(link),
            lambda: self.view.run(link),
            *_of(self._collector, lambda collector: collector.run(link)),
        )

    def close(self) -> None:
        """Keep what waits; after ``run`` has ended."""
        self.events.close()


class ServeData:
    """Of ``fleet serve``: notes who comes and goes, seals secrets, fills the store, has the page.

    ``tokens``: see Roll.
    """

    def __init__(
        self, folder: Path, *, store: EventStore | None = None, tokens: Path | None = None
    ) -> None:
        self.view, self._key, self._roll = FleetView(), node_key(folder), Roll(tokens)
        self._collector = None if store is None else _collector(store, "store")
        self.meters = [] if self._collector is None else [self._collector.meter]

    async def run(self, link: Link) -> None:
        """All of it until cancelled."""
        await _lasting(
            lambda: self.view.run(link),
            lambda: self._roll.run(link),
            *_of(self._collector, lambda collector: collector.run(link)),
            *_of(self._key, lambda key: seal_for_new(link, key)),
        )


async def make_data(js: JetStreamContext) -> None:
    """Streams, buckets and the store of models, where they are not there yet."""
    await make_streams(js)
    for name, history in BUCKETS:
        await bucket(js, name, history=history)
    await objects(js)


@contextmanager
def on_thread(
    url: str,
    credentials: Credentials | None,
    name: str,
    duty: Callable[[Link], Coroutine[Any, Any, None]],
) -> Iterator[None]:
    """Connect, and do a duty, on a thread with a loop of its own, until the block ends."""
    stopping = threading.Event()

    async def work() -> None:
        link = await connect(url, credentials, name=name)
        task = asyncio.ensure_future(duty(link))
        while not stopping.is_set():
            await asyncio.sleep(0.1)
        task.cancel()
        with suppress(*FAULTS):
            await asyncio.wait_for(link.client.close(), 1.0)

    def run() -> None:
        try:
            asyncio.run(work())
        except KestrelError as error:
            log.error("%s", error)

    thread = threading.Thread(target=run, name="fleet", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(STOP_S)


async def _lasting(*duties: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Until cancelled; an error of ours in one ends none of them."""

    async def last(duty: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                await duty()
            except Exception as error:
                log.error("fleet: internal error: %s: %s", type(error).__name__, error)
                log.debug("internal error", exc_info=True)
            await asyncio.sleep(AGAIN_S)

    await asyncio.gather(*map(last, duties))


def _of(
    part: Part | None, duty: Callable[[Part], Coroutine[Any, Any, None]]
) -> list[Callable[[], Coroutine[Any, Any, None]]]:
    return [] if part is None else [lambda: duty(part)]


def _collector(store: EventStore, name: str) -> Collector:
    snapshots = store.folder / "snapshots"
    return Collector(store, OutputMeter("fleet"), snapshots=snapshots, name=name)
