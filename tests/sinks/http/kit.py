"""A real server on a free port, fed by hand, and raw requests to it."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from app.config import Config, ConfigFile, HttpOptions
from app.core.stats import Meter, OutputMeter
from app.ops.systemd import Notifier, Supervised
from app.pipeline.handoff import Policy
from app.runtime.engines import choose_model
from app.runtime.filters import RunFilters
from app.runtime.service import Reloader
from app.runtime.settings import RunSettings
from app.runtime.zones import RunShapes
from app.sinks.http.guard import parse_address
from app.sinks.http.server import HttpService
from app.sinks.http.users import UserFile
from app.sinks.objects import ObjectTally
from app.sinks.store import EventStore
from tests.sinks.kit import CAMERA, LABELS, found, result, textured

BOX = (0, 0.9, 10, 20, 110, 140)


def shapes(file: Path | None = None, **config) -> RunShapes:
    """Of a run whose source is open."""
    made = RunShapes(Config(**config), Policy.LATEST, file=file, always=True)
    analyser = made.analyser()
    assert analyser is not None
    analyser.open(CAMERA, LABELS)
    return made


def filters(**config) -> RunFilters:
    """Of a run whose model has LABELS."""
    made = RunFilters(Config(**config), lambda: None)
    made.make().labels = LABELS
    return made


class Limits:
    """What a pipeline is asked for; ``up``: whether its engine runs."""

    def __init__(self, *, up: bool = True) -> None:
        self.up, self.score = up, 0.0

    def tune(self, *, score: float, iou: float, max_age_ms: float | None) -> bool:
        self.score = score if self.up else self.score
        return self.up


def run_of(path: Path, *, up: bool = True, **flags: Any) -> SimpleNamespace:
    """The settings of a run of this file and these flags, and what they reach."""
    file = ConfigFile(path, flags)
    config = file.read()
    spec = choose_model(config).spec
    live, limits = RunShapes(config, Policy.LATEST, file=path, always=True), Limits(up=up)
    stage = live.analyser()
    assert stage is not None
    stage.open(CAMERA, spec.labels)
    kept = RunFilters(config, lambda: None)
    kept.make().labels = spec.labels
    settings, supervised = RunSettings(file, config, live), Supervised(Notifier({}))
    limited: list[Config] = []
    settings.reloader = Reloader(
        config, limits, spec, supervised, filters=kept, shapes=live, keep=limited.append
    )
    return SimpleNamespace(
        settings=settings,
        path=path,
        limits=limits,
        limited=limited,
        filters=kept,
        shapes=live,
        labels=spec.labels,
        reloader=settings.reloader,
        file=file,
    )


class Site:
    """The service, what it is fed with, and its address."""

    def __init__(
        self,
        address: str = "0",
        token: str | None = None,
        shapes=None,
        store: EventStore | None = None,
        view_token: str | None = None,
        filters=None,
        settings=None,
        users: UserFile | None = None,
        stats=None,
        names=("",),
        **options,
    ) -> None:
        self.stats = Meter()
        self.tally = ObjectTally(["door"], ["gate"])
        self.meter, self.other = OutputMeter("http"), OutputMeter("mqtt")
        self.service = HttpService(
            parse_address(address, token, view_token=view_token, users=users),
            HttpOptions(**options),
            self.meter,
            stats=stats or self.stats.snapshot,
            names=names,
            outputs=[self.other, self.meter],
            engine=lambda: "cpu, a model",
            tallies={"": self.tally},
            shapes=shapes,
            filters=filters,
            settings=settings,
            store=store,
        )
        self._next = 0
        self.found, self.picture = found(BOX), textured

    @property
    def port(self) -> int:
        return int(self.service.url.rsplit(":", 1)[1].strip("/"))

    def feed(self, count: int = 1, name: str = "") -> None:
        for _ in range(count):
            self.stats.captured(1000)
            self.stats.processed(9_000_000, {"network": 7_000_000})
            self.service.feed(name).emit(
                result(self._next, self.found, self.picture(self._next), live=True)
            )
            self._next += 1

    def get(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes, dict]:
        return self._ask(method, path, body, headers)

    def post(
        self, path: str, body: bytes, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, dict]:
        form = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        return self._ask("POST", path, body, form)

    def _ask(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes, dict]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, answer.read(), told

    def connect(self, request: str = "", *, buffer: int | None = None) -> socket.socket:
        made = socket.socket()
        made.settimeout(20)
        if buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        made.connect(("127.0.0.1", self.port))
        made.sendall(request.encode())
        return made


def ask(path: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextlib.contextmanager
def site(address: str = "0", token: str | None = None, **options) -> Iterator[Site]:
    made = Site(address, token, **options)
    made.service.start()
    for name in options.get("names", ("",)):
        made.service.feed(name).open(CAMERA, LABELS)
    made.stats.state = "live"
    try:
        yield made
    finally:
        made.service.stop()
