"""A node of a fleet: one pipeline whose cameras come and go as leases do.

One process and one engine for all cameras of a node, not a process for each: a camera that is taken
over is live as soon as its source is open, without a second's start of an interpreter and of a
model, and the memory of both is paid once. What a node may not deliver is stopped in one place, by
the number of the lease that each result gets on its way to the sinks.
"""

from __future__ import annotations

import logging
import resource
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..config import Config
from ..core.errors import ConfigError, KestrelError, ModelError, SinkError
from ..fleet.assignment import Node
from ..fleet.configuration import NotSealedYet
from ..fleet.connection import Credentials
from ..fleet.duties import NodeData
from ..fleet.node import LEAVE_S, FleetNode, Wanted, as_told, boot_clock
from ..models.manifest import Model
from ..ops.signals import noting
from ..pipeline.capture import SourceStream, StreamSpec
from ..pipeline.engine import EngineSpec
from ..pipeline.handoff import Policy
from ..pipeline.pipeline import Pipeline
from ..sinks.spool import state_folder
from .cameras import checked
from .degradation import with_ladder
from .engines import choose_model, thresholds
from .filters import RunFilters
from .inputs import make_inputs, privacy_of
from .outputs import Outputs
from .service import boxes_on, known_pixels
from .zones import RunShapes

log = logging.getLogger(__name__)

LEAST_FREE = 16_000_000  # bytes: a disk with less is taken for full, before an event is lost
FULL_S = 1.0  # between two looks at the disks
PAUSE_S = 20.0  # after a fault of an output
TABLES = {  # of a camera's table, and what they are in a configuration
    **{"zones": "zone", "lines": "line", "masks": "mask", "rules": "rule"},
    **{"filters": "filter", "privacy": "privacy"},
}


def config_of_camera(config: Config, name: str, table: Mapping[str, Any]) -> Config:
    """The node's configuration with this one camera; raises ConfigError."""
    uri = table.get("uri")
    if not isinstance(uri, str) or not uri:
        raise ConfigError(f"camera {name} has no uri; add one with `kestrel fleet add {name}=URI`")
    own: dict[str, Any] = {key: tuple(table[word]) for word, key in TABLES.items() if word in table}
    return replace(config, sources=(f"{name}={uri}",), **own)


class FleetRun:
    """See fleet.node.Runner. The pipeline of a node; ``apply`` on one thread."""

    def __init__(
        self, config: Config, *, node: str, folder: Path, lease: Callable[[str], int | None]
    ) -> None:
        self._config, self._lease = config, lease
        self.data = NodeData(
            node,
            folder,
            states=self._states,
            find=lambda model: boxes_on(config, model, known_pixels()),
            change=self._change_model,
            snapshots=Path(config.events.snapshots or folder / "snapshots"),
            version=__version__,
        )
        if (given := self.data.models.current) is not None:
            config = replace(config, model=str(given))
        self._model = model = choose_model(config)
        make_backend, make_ladder = with_ladder(config, model, Policy.LATEST)
        self._streams: dict[str, tuple[SourceStream, Mapping[str, Any]]] = {}
        self._ending: dict[str, SourceStream] = {}
        self._unable: dict[str, float] = {}  # cameras whose table is wrong, and until when
        self._fault, self._fault_until, self._disk_s = "", 0.0, float("-inf")
        self._full = ""
        self.outputs = Outputs(
            config,
            Policy.LATEST,
            stats=lambda: self.pipeline.stats(),
            engine=lambda: self.pipeline.backend_description,
            status=lambda name: self.pipeline.status(name),
            names=(),
            append=True,
            fleet=self.data.view,
        )
        self.data.collect(self.outputs.store)
        self.pipeline = Pipeline(
            None,  # the first stream has no source: it keeps the run going without cameras
            make_backend,
            (),
            policy=Policy.LATEST,
            labels=model.spec.labels,
            thresholds=thresholds(config, model.spec),
            max_age_ms=config.max_age_ms,
            stall_s=config.read_timeout_s * 1.5,
            make_ladder=make_ladder,
            on_fault=self._sink_failed,
            grows=True,
        )

    def apply(self, wanted: Mapping[str, Wanted]) -> None:
        """Open what is wanted and close what is not."""
        for name, stream in list(self._ending.items()):
            if not self.pipeline.has(stream):
                del self._ending[name]
                self.outputs.drop(name)
                self.data.drop(name)
        for name, (stream, table) in list(self._streams.items()):
            failed = stream.error is not None
            if failed:
                self._unable[name] = time.monotonic() + PAUSE_S
            if failed or name not in wanted or wanted[name].table != table:
                self.pipeline.remove(stream)
                del self._streams[name]
                self._ending[name] = stream
        for name, each in wanted.items():
            if name in self._streams or name in self._ending:
                continue
            if time.monotonic() < self._unable.get(name, 0):
                continue
            try:
                self._streams[name] = self._start(name, each.table), each.table
            except KestrelError as fault:
                soon = isinstance(fault, NotSealedYet)
                log.log(logging.DEBUG if soon else logging.ERROR, "camera %s: %s", name, fault)
                self.outputs.drop(name)
                self._unable[name] = time.monotonic() + (FULL_S if soon else PAUSE_S)

    def _start(self, name: str, table: Mapping[str, Any]) -> SourceStream:
        table = self.data.secrets.opened(name, table)
        own, spec = config_of_camera(self._config, name, table), self._model.spec
        checked(own, spec)
        made = make_inputs(own, Policy.LATEST)[0]
        return self.pipeline.add(
            StreamSpec(
                made.source,
                [*self.outputs.add(name, own, made.packets), self.data.sink(name)],
                name,
                analyser=RunShapes(own, Policy.LATEST).analyser(name),
                privacy=privacy_of(own, name),
                filter=RunFilters(own, self.pipeline.refilter).make(name),
                lease=lambda: self._lease(name),
            )
        )

    def _change_model(self, model: Model | None) -> None:
        """Run this model, or the configuration's own, from a frame on; raises KestrelError."""
        model = model or choose_model(self._config)
        factory, make_ladder = with_ladder(self._config, model, Policy.LATEST)
        limits = thresholds(self._config, model.spec)
        made = EngineSpec(factory, model.spec.labels, *limits, None, make_ladder)
        runs = threading.Event()
        worker = self.pipeline.swap_engine(lambda: made, lambda worker: runs.set())
        while not runs.wait(0.1):
            if not worker.is_alive():
                raise ModelError(f"the engine does not run it: {worker.error}")
        self._model = model

    def _states(self) -> Mapping[str, Mapping[str, Any]]:
        """Of the cameras that this node speaks for."""
        told = self.status()["cameras"].items()
        return {
            name: {**state, "counts": self.outputs.counts(name)}
            for name, state in told
            if self._lease(name) is not None
        }

    def is_ready(self, camera: str) -> bool:
        """See fleet.node.Runner."""
        running = self._streams.get(camera)
        return running is not None and running[0].meter.counts().processed > 0

    def is_stopped(self, camera: str) -> bool:
        """See fleet.node.Runner."""
        stream = self._ending.get(camera)
        closed = camera not in self._streams and (stream is None or not self.pipeline.has(stream))
        return closed and not len(self.data.events)

    def fault(self) -> str:
        """See fleet.node.Runner."""
        now_s = time.monotonic()
        if now_s - self._disk_s >= FULL_S:
            self._disk_s = now_s
            self._full = self._find_full()
        return self._full or (self._fault if now_s < self._fault_until else "")

    def _find_full(self) -> str:
        config = self._config
        paths = (config.json, config.events.path, config.store.path, config.record.path)
        for text in (*paths, config.clips.path, config.events.snapshots):
            if text not in (None, "-"):
                folder = Path(str(text)).absolute()
                while not folder.is_dir():
                    folder = folder.parent
                if shutil.disk_usage(folder).free < LEAST_FREE:
                    return f"the disk of {folder} is full"
        return ""

    def _sink_failed(self, fault: KestrelError) -> None:
        log.error("an output has failed, this node gives its cameras up: %s", fault)
        full = isinstance(fault, SinkError) and fault.disk_full
        self._fault = "the disk is full" if full else "an output has failed"
        self._fault_until = time.monotonic() + PAUSE_S

    def status(self) -> Mapping[str, Any]:
        """See fleet.node.Runner."""
        cameras = {}
        for name, (stream, _) in list(self._streams.items()):
            stats = stream.meter.snapshot()
            cameras[name] = {
                "state": stats.status.state,
                "since": stats.status.since,
                "cause": stats.status.cause,
                "fps": round(stats.fps, 1),
                "age_ms": round(stats.age_ms[1]) if stats.processed else None,
                "dropped": sum(stats.dropped.values()),
            }
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "cameras": cameras,
            "engine": self.pipeline.backend_description,
            "cpu_s": round(used.ru_utime + used.ru_stime, 1),
            "memory_mb": used.ru_maxrss // 1000,
            "fault": self.fault(),
        }


def refuse_unfit(config: Config) -> None:
    """Raise ConfigError for what a node of a fleet does not have."""
    if config.source is not None or config.sources:
        raise ConfigError(
            "a node's cameras are the fleet's: leave --source out, and add them with "
            "`kestrel fleet add NAME=URI`"
        )
    for flag, value in (
        ("--devices", config.devices or None),
        ("--trace", config.trace),
        ("--max-frames", config.max_frames),
        ("--window", config.window or None),
    ):
        if value is not None:
            raise ConfigError(f"{flag} is not for a node of a fleet; leave it out")


def fleet_config(config: Config, folder: Path) -> Config:
    """With tracks, as a fleet is told of events, and a folder for their pictures."""
    if config.track.on is None:
        config = replace(config, track=replace(config.track, on=True))
    if config.events.snapshots is None:
        shots = replace(config.events, snapshots=str(folder / "snapshots"))
        config = replace(config, events=shots)
    return config


def run_node(
    config: Config,
    node: Node,
    *,
    url: str,
    credentials: Credentials | None,
    clock: Callable[[], float] = boot_clock,
) -> int:
    """Be a node until a signal comes; ``clock``: see FleetNode."""
    refuse_unfit(config)
    folder = state_folder() / f"fleet-{node.name}"
    run = FleetRun(
        fleet_config(config, folder),
        node=node.name,
        folder=folder,
        lease=lambda camera: agent.lease(camera),
    )
    agent = FleetNode(
        node,
        run,
        url=url,
        credentials=credentials,
        kept=folder / "cameras.json",
        clock=clock,
        beside=run.data.run,
    )
    pipeline = run.pipeline
    with noting() as heard, run.outputs.running():
        pipeline.start()
        agent.start()
        while agent.is_alive() and not pipeline.wait(0):
            if heard.stop:
                agent.stop()
            agent.changed.wait(0.02)
            agent.changed.clear()
            run.apply(agent.wanted)
        agent.stop()
        run.apply({})
        agent.join(LEAVE_S)
        pipeline.stop()
        try:
            pipeline.join()
        finally:
            run.apply({})
            run.data.close()
    if agent.error is not None:
        raise as_told(agent.error) from agent.error
    return 0
