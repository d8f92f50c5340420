"""``fleet config`` and ``fleet models``: the cameras and models of a fleet."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ..config import make_config
from ..core.errors import ConfigError, ModelError
from ..fleet.configuration import CameraBucket, cameras_of
from ..fleet.connection import Credentials, Link, connect
from ..fleet.models import push, pushed, roll_out, states
from ..models.store import find_model
from ..runtime.service import known_boxes, known_pixels
from . import columns

LOCAL = "nats://127.0.0.1:4222"
Work = Callable[[Link, argparse.Namespace], Awaitable[None]]


def add_parsers(commands: Any) -> None:
    """``config`` and ``models`` among the sub-commands of ``fleet``."""
    text = "the cameras: show, change, history, revert"
    add = _group(commands, "config", text)
    add("list", _list, "all cameras")
    add("show", _show, "one camera as it is, passwords masked").add_argument("camera")
    add("history", _history, "what was changed and when").add_argument("camera")
    revert = add("revert", _revert, "go back to an earlier revision")
    revert.add_argument("camera")
    text = "number of the history (default: the one before)"
    revert.add_argument("revision", nargs="?", type=int, help=text)
    change = add("set", _set, "add a camera, or change its address or place")
    change.add_argument("camera")
    text = "as for --source; - reads it from standard input, where a password is not seen"
    change.add_argument("uri", nargs="?", metavar="URI", help=text)
    text = "a label that its node must have; repeat it, or give none at all by --label ''"
    change.add_argument("--label", action="append", metavar="LABEL", help=text)
    change.add_argument("--node", metavar="NODE", help="runs it whenever it is there")
    change.add_argument("--only", metavar="NODE", help="no other node ever runs it")
    text = "all sources of a configuration file, with zones, lines, masks, rules and filters"
    add("import", _import, text).add_argument("file", type=Path, metavar="FILE")
    add("delete", _delete, "run a camera no more; its history stays").add_argument("camera")

    add = _group(commands, "models", "the models: push, roll out, status")
    add("push", _push, "put a model into the fleet's store").add_argument("model", metavar="MODEL")
    roll = add("roll-out", _roll_out, "node by node; back where one fails")
    roll.add_argument("model", metavar="NAME")
    text = "this one only; repeat it for more (default: all that are there)"
    roll.add_argument("--to", action="append", default=[], metavar="NODE", help=text)
    text = "seconds that a node may take to fetch and prove it"
    roll.add_argument("--timeout", type=float, default=300.0, metavar="S", help=text)
    add("status", _status, "what was pushed, and what each node runs")


def _group(commands: Any, name: str, text: str) -> Callable[..., argparse.ArgumentParser]:
    group = commands.add_parser(name, help=text)
    kinds = group.add_subparsers(metavar="COMMAND", required=True)

    def add(kind: str, work: Work, text: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = kinds.add_parser(kind, help=text)
        made.add_argument("--server", metavar="URL", help=f"(default: the token's, or {LOCAL})")
        made.add_argument("--token", type=Path, metavar="FILE", help="of `fleet token`")
        made.set_defaults(func=lambda args: asyncio.run(_linked(work, args)))
        return made

    return add


async def _linked(work: Work, args: argparse.Namespace) -> int:
    credentials = None if args.token is None else Credentials.load(args.token)
    url = args.server or (credentials.url if credentials else "") or LOCAL
    link = await connect(url, credentials, name="kestrel fleet")
    try:
        await work(link, args)
    finally:
        await link.client.close()
    return 0


async def _list(link: Link, args: argparse.Namespace) -> None:
    rows = [
        (name, str(each.get("uri", "")), ",".join(each.get("labels", ())), _place(each))
        for name, each in (await CameraBucket(link).all()).items()
    ]
    print("\n".join(columns(("CAMERA", "URI", "LABELS", "PLACE"), rows)))


def _place(camera: dict[str, Any]) -> str:
    if camera.get("only"):
        return f"only on {camera['only']}"
    return f"on {camera['node']} if it is there" if camera.get("node") else "any node"


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


async def _set(link: Link, args: argparse.Namespace) -> None:
    uri = sys.stdin.readline().strip() if args.uri == "-" else args.uri
    labels = None if args.label is None else [each for each in args.label if each]
    given = {"uri": uri, "labels": labels, "node": args.node, "only": args.only}
    changes = {key: value for key, value in given.items() if value is not None}
    cameras = CameraBucket(link)
    if args.camera in await cameras.all():
        number = await cameras.edit(args.camera, {k: v or None for k, v in changes.items()})
    elif uri is None:
        raise ConfigError(f"{args.camera} is new: give its URI, too")
    else:
        number = await cameras.set(args.camera, {k: v for k, v in changes.items() if v})
    print(f"{args.camera}: revision {number}")


async def _import(link: Link, args: argparse.Namespace) -> None:
    cameras = CameraBucket(link)
    for name, camera in cameras_of(make_config({}, args.file)).items():
        print(f"{name}: revision {await cameras.set(name, camera)}")


async def _delete(link: Link, args: argparse.Namespace) -> None:
    await CameraBucket(link).delete(args.camera)


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
    ran = [
        (
            *(node, str(each.get("name", "its own")), str(each.get("revision", "-"))),
            *(str(each["state"]), str(each.get("kestrel", "")), str(each.get("why", ""))),
        )
        for node, each in (await states(link)).items()
    ]
    print("\n".join(columns(("NODE", "MODEL", "REVISION", "STATE", "KESTREL", ""), ran)))
