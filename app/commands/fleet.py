"""``fleet``: a server for several machines, their nodes, and which of them runs which camera."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.credentials import mask_credentials
from ..core.errors import ConfigError, SourceError
from ..core.package import pip_install
from . import columns

if TYPE_CHECKING:
    from ..fleet.connection import Credentials, Link

ASK_S = 0.7  # that nodes have to answer
Act = Callable[["Link"], Awaitable[Any]]


def default_folder() -> Path:
    """Of the server, where none is named."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home).resolve() / "kestrel" / "fleet"


def register(parser: argparse.ArgumentParser) -> None:
    """The sub-commands of ``fleet``."""
    try:
        importlib.import_module("nats")
    except ImportError as error:
        raise ConfigError(f"a fleet needs nats-py ({error}); {pip_install('fleet')}") from error
    kinds = parser.add_subparsers(dest="fleet_command", metavar="COMMAND", required=True)

    def add(name: str, func: Callable[[argparse.Namespace], int], text: str) -> Any:
        made = kinds.add_parser(name, help=text)
        made.set_defaults(func=func)
        return made

    folder = {"type": Path, "default": default_folder(), "metavar": "DIR"}
    serve = add("serve", _serve, "run the server that the nodes meet at")
    text = (
        "where it listens; 127.0.0.1:PORT: this machine alone, without TLS (default: %(default)s)"
    )
    serve.add_argument("--listen", default="0.0.0.0:4222", metavar="HOST:PORT", help=text)
    text = "how nodes reach it, for their tokens (default: this machine's name)"
    serve.add_argument("--url", default="", metavar="tls://HOST:PORT", help=text)
    serve.add_argument("--folder", help="what the server keeps (default: %(default)s)", **folder)
    text = "seconds after which another node takes over (default: 3)"
    serve.add_argument("--ttl", type=float, default=3.0, metavar="S", help=text)
    text = "NODE,NODE,…: write their tokens, as `fleet token` does"
    serve.add_argument("--nodes", default="", metavar="NODES", help=text)
    text = "keep the events and snapshots of all nodes there, to be reviewed"
    serve.add_argument("--store", metavar="DIR", help=text)
    text = "a page with all cameras; outside 127.0.0.1 with a token (KESTREL_HTTP_TOKEN)"
    serve.add_argument("--http", metavar="[ADDRESS:]PORT", help=text)
    text = "settings in TOML, of which [store] and [http] are taken"
    serve.add_argument("--config", type=Path, metavar="FILE", help=text)
    text = "prepare this NATS server, which runs already, and end"
    serve.add_argument("--existing", metavar="URL", help=text)
    serve.add_argument("--token", type=Path, metavar="FILE", help="with --existing: who may do so")

    token = add("token", _token, "write the token files with which nodes join")
    token.add_argument("nodes", nargs="+", metavar="NODE", help="writes NODE.token")
    token.add_argument("--to", type=Path, default=Path(), metavar="DIR", help="where to")
    token.add_argument("--folder", help="of the server", **folder)

    from .cli import add_flags

    join = add("join", _join, "run cameras of the fleet on this machine")
    join.add_argument("url", nargs="?", metavar="URL", help="of the server (default: the token's)")
    join.add_argument("--token", type=Path, metavar="FILE", help="as `fleet token` wrote it")
    text = "of this node (default: the token's, or this machine's)"
    join.add_argument("--node", metavar="NAME", help=text)
    text = "how many cameras it runs well, or the report of `bench --cameras --json` (default: 8)"
    join.add_argument("--capacity", default="8", metavar="N_OR_FILE", help=text)
    text = "what it has, such as gpu, site=north or net=10.0.5.0/24; cameras may ask for it"
    join.add_argument("--label", action="append", default=[], metavar="LABEL", help=text)
    add_flags(join, "run")

    def connected(made: argparse.ArgumentParser) -> None:
        made.add_argument("--server", metavar="URL", help="of the fleet (default: the token's)")
        text = "who asks (default: the admin token of `fleet serve` on this machine)"
        made.add_argument("--token", type=Path, metavar="FILE", help=text)

    def online(name: str, func: Callable[[argparse.Namespace], int], text: str) -> Any:
        made = add(name, func, text)
        connected(made)
        return made

    added = online("add", _add, "add a camera, or change it")
    added.add_argument(
        "camera",
        metavar="NAME=URI",
        help="as --source takes it; URI - reads it from standard input",
    )
    text = "that its node must have (repeatable)"
    added.add_argument("--label", action="append", default=[], metavar="LABEL", help=text)
    text = "no other node ever runs it; it goes on without the server"
    added.add_argument("--only", default="", metavar="NODE", help=text)
    text = "how many may read it at a time; 1: a move stops it first (default: 2)"
    added.add_argument("--readers", type=int, default=2, metavar="N", help=text)
    removed = online("remove", _remove, "remove a camera")
    removed.add_argument("camera", metavar="CAMERA")
    online("list", _list, "the cameras, and what they need")
    moved = online("move", _move, "give a camera to a node for as long as that is there")
    moved.add_argument("camera", metavar="CAMERA")
    moved.add_argument("node", metavar="NODE", help='"" leaves the choice to the fleet again')
    drained = online("drain", _drain, "move all cameras away from a node")
    drained.add_argument("node", metavar="NODE")
    drained.add_argument("--undo", action="store_true", help="it may have cameras again")
    status = online("status", _status, "nodes and cameras, and what is wrong")
    status.add_argument("--watch", action="store_true", help="again every second")
    status.add_argument("--json", action="store_true", dest="as_json", help="for machines")

    from .fleet_data import add_parsers

    add_parsers(kinds, _online, connected)


def _serve(args: argparse.Namespace) -> int:
    from ..fleet.leases import MARGIN_S
    from ..fleet.server import ADMIN_TOKEN, FleetServer, make_all
    from ..ops.signals import noting
    from .fleet_data import serving

    if not 4 * MARGIN_S <= args.ttl <= 3600:
        raise ConfigError(f"--ttl must lie between {4 * MARGIN_S:g} and 3600 s, is {args.ttl:g}")
    if args.existing:
        args.server = args.existing
        _online(args, lambda link: make_all(link, ttl_s=args.ttl))
        return 0
    server = FleetServer(args.folder, listen=args.listen, url=args.url)
    if args.nodes and not server.is_secure:
        raise ConfigError(
            f"--nodes writes tokens, and at {args.listen} no node needs one: leave it out, or "
            "listen on an address that other machines reach"
        )
    with noting() as heard, ExitStack() as stack:
        server.start()
        stack.callback(server.stop)
        asyncio.run(server.prepare(ttl_s=args.ttl))
        with serving(server, args):
            if args.nodes:
                args.nodes, args.to = args.nodes.split(","), Path()
                _token(args)
            if server.is_secure:
                print(f"fleet at {server.url}; tokens of nodes: kestrel fleet token NODE")
                print(f"admin token: {args.folder / ADMIN_TOKEN}", flush=True)
            else:
                print(f"fleet at {server.url}, for this machine alone", flush=True)
            while not heard.stop:
                if (code := server.poll()) is not None:
                    raise SourceError(
                        f"nats-server has ended with exit code {code}; "
                        f"{args.folder / 'server.log'} says why"
                    )
                time.sleep(0.1)
    return 0


def _token(args: argparse.Namespace) -> int:
    from ..fleet.security import checked_name
    from ..fleet.server import add_nodes

    names = [checked_name(name, "node") for name in args.nodes]
    for credentials in add_nodes(args.folder, names):
        file = args.to / f"{credentials.user}.token"
        credentials.save(file)
        print(f"{file}: take it to {credentials.user}, then there: kestrel fleet join --token FILE")
    return 0


def _join(args: argparse.Namespace) -> int:
    from ..fleet.assignment import Node
    from ..fleet.security import checked_name
    from ..runtime.fleet import run_node
    from .cli import config_of

    credentials = _credentials(args.token)
    url = args.url or (credentials.url if credentials else "")
    if not url:
        raise ConfigError("name the server: kestrel fleet join URL, or --token FILE")
    name = args.node or (credentials.user if credentials else socket.gethostname().split(".")[0])
    node = Node(checked_name(name, "node"), _capacity(args.capacity), frozenset(args.label))
    return run_node(config_of(args), node, url=url, credentials=credentials)


def _capacity(text: str) -> float:
    try:
        if Path(text).is_file():
            modes = json.loads(Path(text).read_text("utf-8"))["modes"].values()
            number = float(min(mode["cameras"] for mode in modes if mode))
        else:
            number = float(text)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--capacity {text!r} is neither a number nor a report of `bench --cameras --json FILE`"
        ) from error
    if not 0 < number <= 10_000:
        raise ConfigError(f"--capacity must be above 0 and at most 10000 cameras, is {number:g}")
    return number


def _credentials(file: Path | None) -> Credentials | None:
    from ..fleet.connection import Credentials

    return None if file is None else Credentials.load(file)


def _online(args: argparse.Namespace, act: Act) -> Any:
    """Connect, act, and close."""
    from nats.errors import Error as NatsError
    from nats.js.errors import APIError

    from ..fleet.connection import connect
    from ..fleet.server import ADMIN_TOKEN

    file, url = args.token, args.server
    here = default_folder() / ADMIN_TOKEN
    if file is None and url is None and here.exists():
        file = here
    credentials = _credentials(file)
    url = url or (credentials.url if credentials else "nats://127.0.0.1:4222")

    async def run() -> Any:
        link = await connect(url, credentials, name="command")
        try:
            return await act(link)
        except APIError as error:
            told = f"{error.description or error}"
            raise ConfigError(
                f"the fleet's server refused: {told}; prepare it by fleet serve"
            ) from error
        except (NatsError, asyncio.TimeoutError) as error:
            raise SourceError(
                f"the fleet's server does not answer: {type(error).__name__}; has the token the "
                "right to this?"
            ) from error
        finally:
            await link.client.close()

    return asyncio.run(run())


async def read_all(link: Link, name: str) -> dict[str, dict[str, Any]]:
    """All that is in a bucket, by key."""
    from ..fleet.configuration import entries
    from ..fleet.server import make_buckets

    await make_buckets(link)  # as a node makes them: members with their time to live
    found = await entries(link.js, name)
    return {key: {**each.table, "revision": each.revision} for key, each in found.items()}


def _add(args: argparse.Namespace) -> int:
    from ..config import parse_sources
    from ..fleet.configuration import CameraBucket
    from ..fleet.security import checked_name
    from ..sources.uri import make_source

    name, _, uri = args.camera.partition("=")
    if not uri:
        raise ConfigError(f"a camera is NAME=URI, is {mask_credentials(args.camera)!r}")
    checked_name(name, "camera")
    if uri == "-":
        uri = sys.stdin.readline().strip()
    parse_sources([f"{name}={uri}"])
    make_source(uri, realtime=True)  # refuses what no node could open
    if args.readers < 1:
        raise ConfigError(f"--readers must be at least 1, is {args.readers}")
    only = checked_name(args.only, "node") if args.only else None
    told = {"uri": uri, "labels": sorted(args.label), "readers": args.readers, "only": only}
    _online(args, lambda link: CameraBucket(link).edit(name, told))
    return 0


def _known(value: Any, camera: str) -> dict[str, Any]:
    if value is None:
        raise ConfigError(f"there is no camera {camera}; `kestrel fleet list` names them")
    return dict(value)


def _remove(args: argparse.Namespace) -> int:
    from ..fleet.connection import CAMERAS, bucket

    async def act(link: Link) -> None:
        _known((await read_all(link, CAMERAS)).get(args.camera), args.camera)
        await (await bucket(link.js, CAMERAS)).delete(args.camera)

    _online(args, act)
    return 0


def _move(args: argparse.Namespace) -> int:
    from ..fleet.configuration import CameraBucket

    node = args.node or None
    _online(args, lambda link: CameraBucket(link).edit(args.camera, {"node": node}))
    return _tell_if_away(args)


def _tell_if_away(args: argparse.Namespace) -> int:
    """Say so where nothing happens yet as the node is not there."""
    from ..fleet.connection import MEMBERS
    from ..fleet.roll import members_of

    here = members_of(_online(args, lambda link: read_all(link, MEMBERS)))
    if args.node and args.node not in here:
        there = f"there are {', '.join(here)}" if here else "there is none"
        print(f"{args.node} is not in the fleet now ({there}); this holds once it joins")
    return 0


def _drain(args: argparse.Namespace) -> int:
    from ..fleet.roll import note_node

    def change(value: Any) -> Any:
        return {**(value or {}), "drain": not args.undo}

    _online(args, lambda link: note_node(link.js, args.node, change))
    return _tell_if_away(args)


def _list(args: argparse.Namespace) -> int:
    from ..fleet.connection import CAMERAS

    found = _online(args, lambda link: read_all(link, CAMERAS))
    rows = []
    for name, table in sorted(found.items()):
        place = (table.get("only") and f"only {table['only']}") or table.get("node", "")
        labels = " ".join(table.get("labels", ()))
        rows.append((name, mask_credentials(str(table.get("uri", ""))), labels, place))
    print("\n".join(columns(("camera", "source", "needs", "node"), rows)))
    return 0


@dataclass(slots=True)
class FleetStatus:
    """What the server and the nodes say at one moment."""

    nodes: dict[str, dict[str, Any]]
    cameras: dict[str, dict[str, Any]]
    faults: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people."""
        nodes = [
            (
                *(name, _load(node), " ".join(node["labels"]), _state(node)),
                *(str(node.get("memory_mb", "–")), str(node.get("engine", "–"))),
            )
            for name, node in sorted(self.nodes.items())
        ]
        cameras = [
            (
                *(name, each["node"] or "–", each["state"], str(each.get("fps", "–"))),
                *(str(each.get("age_ms") or "–"), str(each["lease"] or "–")),
            )
            for name, each in sorted(self.cameras.items())
        ]
        return [
            *columns(("node", "cameras", "labels", "state", "MB", "engine"), nodes),
            "",
            *columns(("camera", "node", "state", "fps", "age p95 ms", "lease"), cameras),
            *([""] if self.faults else []),
            *self.faults,
        ]


def _load(node: Mapping[str, Any]) -> str:
    return "–" if node["capacity"] is None else f"{node['has']}/{node['capacity']:g}"


def _state(node: Mapping[str, Any]) -> str:
    """With since when; the day where that is not today."""
    if not node.get("since"):
        return str(node["state"])
    since = datetime.fromisoformat(node["since"]).astimezone()
    today = since.date() == datetime.now().astimezone().date()
    return f"{node['state']} since {since:%H:%M:%S}" + (
        f" on {since:%Y-%m-%d}" if not today else ""
    )


async def read_status(link: Link) -> FleetStatus:
    """Ask the server for what is written, and the nodes for how they are."""
    from ..fleet.connection import CAMERAS, LEASES, MEMBERS, NODE_SUBJECT, NODES
    from ..fleet.roll import away, members_of

    inbox, answers = link.client.new_inbox(), list[Mapping[str, Any]]()
    heard = await link.client.subscribe(inbox)
    await link.client.publish(f"{NODE_SUBJECT}s", b"", reply=inbox)
    members = members_of(await read_all(link, MEMBERS))
    until_s = time.monotonic() + ASK_S
    while len(answers) < len(members) and (left_s := until_s - time.monotonic()) > 0:
        try:
            answers.append(json.loads((await heard.next_msg(left_s)).data))
        except Exception:
            break
    await heard.unsubscribe()
    leases, tables = await read_all(link, LEASES), await read_all(link, CAMERAS)
    marks = await read_all(link, NODES)
    told = {str(answer.get("node")): answer for answer in answers}
    nodes: dict[str, dict[str, Any]] = {}
    for name, member in members.items():
        state = member.get("unwell") or ("drained" if marks.get(name, {}).get("drain") else "well")
        if name not in told:
            state = "no answer"
        nodes[name] = {
            **{key: told.get(name, {}).get(key, "–") for key in ("memory_mb", "cpu_s", "engine")},
            **{key: member[key] for key in ("capacity", "labels", "session")},
            **{"state": state, "has": 0},
        }
    gone = await away(link.js, members)
    for name, note in gone.items():
        nodes[name] = {
            **{"capacity": note.get("capacity"), "labels": note.get("labels") or []},
            **{"session": None, "state": note["state"], "since": note.get("gone"), "has": 0},
        }
    status = FleetStatus(dict(sorted(nodes.items())), {})
    for name in tables:
        lease = leases.get(name, {})
        holder = str(lease.get("node", ""))
        held = nodes.get(holder, {}).get("session") == lease.get("session") and bool(holder)
        figures = told.get(holder, {}).get("cameras", {}).get(name, {}) if held else {}
        if held:
            nodes[holder]["has"] += 1
        status.cameras[name] = {
            "node": holder if held else "",
            "lease": lease.get("revision") if held else None,
            "state": figures.get("state", "taken" if held else "nobody runs it"),
            **{key: figures[key] for key in ("fps", "age_ms", "dropped") if key in figures},
        }
        if not held:
            wants = " ".join(tables[name].get("labels", ())) or tables[name].get("only", "")
            status.faults.append(f"{name}: no node runs it{wants and f'; it needs {wants}'}")
    for name, note in gone.items():
        homes = {
            each: status.cameras[each]["node"] for each in note.get("had", ()) if each in tables
        }
        status.nodes[name]["had"] = homes
        if note["state"] == "gone":
            now = (f"{each} is on {home or 'no node'}" for each, home in homes.items())
            status.faults.append(f"{name}: {'; '.join([_state(status.nodes[name]), *now])}")
    for name, node in nodes.items():
        if node["state"] == "drained" and node["has"]:
            status.faults.append(f"{name}: drained, and no other node takes its {node['has']}")
        elif node["has"] > (node["capacity"] or 0):
            status.faults.append(f"{name}: {node['has']} cameras, {node['capacity']:g} are its own")
    return status


def _status(args: argparse.Namespace) -> int:
    while True:
        status: FleetStatus = _online(args, read_status)
        if args.as_json:
            told = {"nodes": status.nodes, "cameras": status.cameras, "faults": status.faults}
            print(json.dumps(told), flush=True)
        else:
            clear = "\x1b[2J\x1b[H" if args.watch and sys.stdout.isatty() else ""
            print(clear + "\n".join(status.lines()), flush=True)
        if not args.watch:
            return 0
        time.sleep(1.0)
