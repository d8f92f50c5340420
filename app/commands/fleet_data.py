"""``fleet config`` and ``fleet models``: the cameras and models of a fleet."""

from __future__ import annotations

import argparse
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..config import make_config
from ..core.errors import ConfigError, ModelError
from ..core.stats import Meter, OutputMeter
from ..fleet.configuration import CameraBucket, cameras_of, entries
from ..fleet.connection import MEMBERS, Link
from ..fleet.duties import ServeData, on_thread
from ..fleet.models import push, pushed, roll_out, states
from ..fleet.roll import members_of
from ..fleet.server import TOKENS, FleetServer
from ..models.store import find_model
from ..runtime.outputs import http_address
from ..runtime.service import known_boxes, known_pixels
from ..sinks.store import EventStore
from . import columns

Act = Callable[["Link"], Awaitable[Any]]
Work = Callable[["Link", argparse.Namespace], Awaitable[None]]
Online = Callable[[argparse.Namespace, Act], Any]


def add_parsers(
    commands: Any, online: Online, connected: Callable[[argparse.ArgumentParser], None]
) -> None:
    """``config`` and ``models`` among the sub-commands of ``fleet``.

    ``online`` runs what is to be done with a connection; ``connected`` adds the flags for that.
    """

    def group(name: str, text: str) -> Callable[..., argparse.ArgumentParser]:
        kinds = commands.add_parser(name, help=text).add_subparsers(
            metavar="COMMAND", required=True
        )

        def add(kind: str, work: Work, text: str) -> argparse.ArgumentParser:
            made: argparse.ArgumentParser = kinds.add_parser(kind, help=text)
            connected(made)
            made.set_defaults(func=lambda args: online(args, lambda link: work(link, args)) or 0)
            return made

        return add

    add = group("config", "what a camera is, and was: show, history, revert, import")
    add("show", _show, "a camera as it is, passwords masked").add_argument("camera")
    add("history", _history, "what was changed and when").add_argument("camera")
    revert = add("revert", _revert, "go back to an earlier revision")
    revert.add_argument("camera")
    text = "number of the history (default: the one before)"
    revert.add_argument("revision", nargs="?", type=int, help=text)
    text = "all sources of a configuration file, with zones, lines, masks, rules and filters"
    add("import", _import, text).add_argument("file", type=Path, metavar="FILE")

    add = group("models", "push, roll out, status")
    add("push", _push, "put a model into the fleet's store").add_argument("model", metavar="MODEL")
    roll = add("roll-out", _roll_out, "node by node; back where one fails")
    roll.add_argument("model", metavar="NAME")
    text = "this one only; repeat it for more (default: all that are there)"
    roll.add_argument("--to", action="append", default=[], metavar="NODE", help=text)
    text = "seconds that a node may take to fetch and prove it"
    roll.add_argument("--timeout", type=float, default=300.0, metavar="S", help=text)
    add("status", _status, "what was pushed, and what each node runs")


@contextmanager
def serving(server: FleetServer, args: argparse.Namespace) -> Iterator[None]:
    """Store and page of ``fleet serve``, and what it does for the nodes, around its run."""
    flags = {"store.path": args.store, "http.address": args.http}
    config = make_config({key: value for key, value in flags.items() if value}, args.config)
    with ExitStack() as stack:
        store = None
        if config.store.path is not None:
            folder = Path(config.store.path)
            folders = {"snapshot": folder / "snapshots", "clip": folder / "clips"}
            store = EventStore(config.store, OutputMeter("store"), folders=folders)
            store.start()
            stack.callback(store.stop)
        tokens = server.folder / TOKENS if server.is_secure else None
        data = ServeData(args.folder, store=store, tokens=tokens)
        if config.http.address is not None:
            address = http_address(config.http.address, config.http)
            from ..sinks.http.server import HttpService

            page = HttpService(
                *(address, config.http, OutputMeter("http")),
                stats=Meter().snapshot,
                outputs=data.meters,
                engine=str,
                names=(),
                store=store,
                fleet=data.view,
            )
            page.start()
            stack.callback(page.stop)
        stack.enter_context(on_thread(server.local_url, server.credentials, "serve", data.run))
        yield


async def _show(link: Link, args: argparse.Namespace) -> None:
    cameras = await CameraBucket(link).all()
    if args.camera not in cameras:
        raise ConfigError(
            f"there is no camera {args.camera!r}; there are {', '.join(cameras) or 'none'}"
        )
    print(json.dumps(cameras[args.camera], indent=2, ensure_ascii=False))


async def _history(link: Link, args: argparse.Namespace) -> None:
    before: dict[str, Any] = {}
    for each in await CameraBucket(link).history(args.camera):
        now = each.camera or {}
        differ = [
            key for key in sorted(now.keys() | before.keys()) if now.get(key) != before.get(key)
        ]
        time = each.time.astimezone().isoformat(" ", "seconds")
        print(f"{each.number:>6}  {time}  {', '.join(differ) if each.camera else 'deleted'}")
        before = now


async def _revert(link: Link, args: argparse.Namespace) -> None:
    number = await CameraBucket(link).revert(args.camera, args.revision)
    print(f"{args.camera}: revision {number}")


async def _import(link: Link, args: argparse.Namespace) -> None:
    cameras = CameraBucket(link)
    for name, camera in cameras_of(make_config({}, args.file)).items():
        print(f"{name}: revision {await cameras.set(name, camera)}")


async def _push(link: Link, args: argparse.Namespace) -> None:
    model = find_model(args.model)
    found = known_boxes(model, known_pixels())
    if found is None:
        raise ModelError(f"{model.spec.name} does not run on the CPU, so nothing can prove it")
    number = await push(link, model, found)
    print(f"{model.spec.name}: revision {number}, {len(found)} boxes in the known picture")


async def _roll_out(link: Link, args: argparse.Namespace) -> None:
    await roll_out(link, args.model, args.to, timeout_s=args.timeout, say=print)


async def _status(link: Link, args: argparse.Namespace) -> None:
    rows = [
        (name, str(each["revision"]), f"{each['bytes'] / 1e6:.1f} MB", str(each["sha256"])[:12])
        for name, each in (await pushed(link)).items()
    ]
    print("\n".join(columns(("MODEL", "REVISION", "SIZE", "SHA256"), rows)), end="\n\n")
    here = members_of(await entries(link.js, MEMBERS))
    ran = [
        (
            *(node, str(each.get("name", "its own")), str(each.get("revision", "–"))),
            *(str(each["state"]) if node in here else "gone", str(each.get("kestrel", ""))),
            str(each.get("why", "")),
        )
        for node, each in (await states(link)).items()
    ]
    print("\n".join(columns(("NODE", "MODEL", "REVISION", "STATE", "KESTREL", ""), ran)))
