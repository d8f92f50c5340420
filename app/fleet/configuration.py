"""The fleet's cameras in a bucket with history, and their passwords, sealed for the nodes.

A camera's entry is a JSON object: ``uri`` as in ``--source``; ``labels``, ``node``, ``only`` and
``readers`` for its place; ``zones``, ``lines``, ``masks``, ``rules``, ``privacy`` and ``filters``,
arrays of what is a table each in the configuration file. A URI that holds a password is there
masked; whole it is in a bucket of its own, sealed for each node (libsodium's sealed boxes: X25519
and XSalsa20-Poly1305), under the entry's ``secret``.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import DeliverPolicy
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

from ..analytics.analytics import AnalyticsOptions
from ..config import Config, nearest, parse_sources
from ..core.credentials import mask_credentials
from ..core.errors import ConfigError
from ..core.filters import Filters
from ..core.package import pip_install
from ..models.cache import write_whole
from .connection import CAMERAS, Link, bucket
from .events import FAULTS, messages

log = logging.getLogger(__name__)

KEYS, SECRETS = "kestrel_keys", "kestrel_secrets"  # public keys by node; CAMERA.SECRET.NODE
SERVER_KEY = "_serve"  # of the process that seals for nodes that come later
HISTORY = 16
FOLLOW_S = 1.0  # between two looks at the buckets
_TABLES = {  # of an entry, and its table in the configuration file
    "zones": "zone",
    "lines": "line",
    "masks": "mask",
    "rules": "rule",
    "privacy": "privacy",
    "filters": "filter",
}
_TYPES: dict[str, type] = {
    **{"uri": str, "node": str, "only": str, "secret": str, "readers": int, "labels": list},
    **dict.fromkeys(_TABLES, list),
}
Camera = Mapping[str, Any]


def check_camera(name: str, camera: Any) -> None:
    """Raise ConfigError, naming key and cure, for what is no camera."""
    if not isinstance(camera, Mapping) or not isinstance(camera.get("uri"), str):
        raise ConfigError(f'camera {name}: write {{"uri": "rtsp://…"}} and what else it takes')
    if parse_sources([f"{name}={camera['uri']}"])[0].name != name:
        raise ConfigError(f"{name!r} is no name for a camera: use letters, digits, _ and -")
    for key, value in camera.items():
        if key not in _TYPES:
            meant = nearest(key, _TYPES) or f"it takes {', '.join(_TYPES)}"
            raise ConfigError(f"camera {name}: unknown key {key!r}; {meant}")
        if not isinstance(value, _TYPES[key]) or isinstance(value, bool):
            raise ConfigError(f"camera {name}: {key} must be a {_TYPES[key].__name__}")
    settings = settings_of({name: camera})
    AnalyticsOptions.from_tables(
        {
            kind: [_without_source(row) for row in settings[kind]]
            for kind in ("zone", "line", "mask", "rule")
        }
    )
    for row in settings["filter"]:
        Filters().changed(_without_source(row), f"camera {name}: filters: ")


def settings_of(cameras: Mapping[str, Camera]) -> dict[str, Any]:
    """What these cameras are in a ``Config``: sources, zones, lines, masks, rules and filters."""
    made: dict[str, list[Any]] = {kind: [] for kind in ("sources", *_TABLES.values())}
    for name, camera in cameras.items():
        made["sources"].append(f"{name}={camera['uri']}")
        for key, kind in _TABLES.items():
            made[kind] += [{**row, "source": name} for row in camera.get(key, ())]
    return {kind: tuple(rows) for kind, rows in made.items()}


def cameras_of(config: Config) -> dict[str, dict[str, Any]]:
    """The sources of a configuration as cameras; a table that names none is about each of them."""
    named = parse_sources(config.sources)
    if not named:
        raise ConfigError('the file has no named sources; write sources = ["NAME=URI"]')
    cameras: dict[str, dict[str, Any]] = {}
    for name, uri in named:
        camera = cameras[name] = {"uri": uri}
        for key, kind in _TABLES.items():
            rows = [row for row in getattr(config, kind) if row.get("source", name) == name]
            if rows:
                camera[key] = [_without_source(row) for row in rows]
    return cameras


def _without_source(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "source"}


@dataclass(frozen=True, slots=True)
class Revision:
    """One state of a camera's entry; ``camera`` None: it was deleted then."""

    number: int
    time: datetime
    camera: dict[str, Any] | None


class NotSealedYet(ConfigError):
    """Somebody has to seal the address for this node first; `fleet serve` does so in seconds."""


class NodeKey:
    """A node's pair of keys; the private one is in a file that only its owner may read."""

    def __init__(self, file: Path) -> None:
        public = _nacl()
        try:
            seed = base64.b64decode(file.read_bytes(), validate=True)
        except FileNotFoundError:
            seed = bytes(public.PrivateKey.generate())
            file.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as out:
                out.write(base64.b64encode(seed))
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read the key {file}: {error}; remove it") from error
        self._private = public.PrivateKey(seed)

    @property
    def public(self) -> str:
        """For the bucket of keys."""
        return base64.b64encode(bytes(self._private.public_key)).decode()

    def unseal(self, sealed: str) -> str:
        """Raises ConfigError for what was sealed for another."""
        try:
            opened: bytes = _nacl().SealedBox(self._private).decrypt(base64.b64decode(sealed))
            return opened.decode()
        except Exception as error:  # of the library, of base64, of UTF-8
            raise ConfigError(
                "the address of a camera cannot be unsealed with this node's key: "
                "write it again with `kestrel fleet add`"
            ) from error


def seal(text: str, public_key: str) -> str:
    """Only the holder of the private key reads it."""
    public = _nacl()
    box = public.SealedBox(public.PublicKey(base64.b64decode(public_key)))
    return base64.b64encode(box.encrypt(text.encode())).decode()


def _nacl() -> Any:
    try:
        import nacl.public
    except ImportError as error:
        raise ConfigError(
            f"an address with a password needs PyNaCl to be sealed; {pip_install('fleet')}"
        ) from error
    return nacl.public


class BucketEntry(NamedTuple):
    """A revision of a key; ``value`` None: it was deleted."""

    value: str | None
    revision: int
    time: datetime

    @classmethod
    def of(cls, message: Msg) -> BucketEntry:
        """Of the bucket's stream."""
        deleted = (message.headers or {}).get("KV-Operation") is not None
        place = message.metadata
        value = None if deleted else message.data.decode(errors="replace")
        return cls(value, place.sequence.stream, place.timestamp)

    @property
    def table(self) -> dict[str, Any]:
        """Its JSON object; {} for anything else."""
        with suppress(ValueError):
            told = json.loads(self.value or "")
            return told if isinstance(told, dict) else {}
        return {}


async def entries(js: JetStreamContext, name: str) -> dict[str, BucketEntry]:
    """The newest entry of each key of the bucket ``name``, without deleted ones."""
    start = f"$KV.{name}."
    found = {
        each.subject.removeprefix(start): BucketEntry.of(each)
        for each in await messages(js, f"KV_{name}", f"{start}>")
    }
    return {key: found[key] for key in sorted(found) if found[key].value is not None}


async def sequence(js: JetStreamContext, name: str) -> int:
    """A number that changes when anything in the bucket does."""
    return (await js.stream_info(f"KV_{name}")).state.last_seq


class CameraBucket:
    """What people do with the cameras of a fleet. All methods raise ConfigError."""

    def __init__(self, link: Link) -> None:
        self._js = link.js

    async def all(self) -> dict[str, dict[str, Any]]:
        """All cameras, addresses masked."""
        await bucket(self._js, CAMERAS, history=HISTORY)
        return {key: entry.table for key, entry in (await entries(self._js, CAMERAS)).items()}

    async def set(self, name: str, camera: Camera) -> int:
        """Add or replace a camera; the number of its revision. ``uri`` may hold a password."""
        camera = {key: value for key, value in camera.items() if key != "secret"}
        check_camera(name, camera)
        kv = await bucket(self._js, CAMERAS, history=HISTORY)
        uri, masked = camera["uri"], mask_credentials(camera["uri"])
        if masked != uri:
            camera = {**camera, "uri": masked, "secret": secrets.token_hex(8)}
            await self._seal(name, camera["secret"], uri)
        return await kv.put(name, json.dumps(camera).encode())

    async def edit(self, name: str, changes: Mapping[str, Any]) -> int:
        """Change some keys of a camera (None removes one) and keep the others, and its secret.

        One that is not there is added where ``uri`` is among them.
        """
        kv = await bucket(self._js, CAMERAS, history=HISTORY)
        try:
            entry = await kv.get(name)
            camera = {**json.loads(entry.value or b"{}"), **changes}
        except KeyNotFoundError:
            if "uri" not in changes:
                raise ConfigError(
                    f"there is no camera {name}; `kestrel fleet list` names them"
                ) from None
            camera = dict(changes)
        camera = {key: value for key, value in camera.items() if value is not None}
        if "uri" in changes:
            return await self.set(name, camera)
        check_camera(name, camera)
        return await kv.update(name, json.dumps(camera).encode(), last=entry.revision)

    async def delete(self, name: str) -> None:
        """It is run no more; its history stays."""
        kv = await bucket(self._js, CAMERAS, history=HISTORY)
        await kv.delete(name)

    async def history(self, name: str) -> list[Revision]:
        """Oldest first."""
        await bucket(self._js, CAMERAS, history=HISTORY)
        if not re.fullmatch(r"[\w-]+", name, re.ASCII):
            raise ConfigError(f"{name!r} is no name of a camera")
        found = await messages(
            self._js, f"KV_{CAMERAS}", f"$KV.{CAMERAS}.{name}", policy=DeliverPolicy.ALL
        )
        if not found:
            raise ConfigError(f"there has been no camera {name!r}")
        past = map(BucketEntry.of, found)
        return [Revision(e.revision, e.time, e.table if e.value else None) for e in past]

    async def revert(self, name: str, number: int | None = None) -> int:
        """Make an earlier revision, by default the one before, the newest; its new number."""
        past = await self.history(name)
        if number is None:
            found = next((each for each in reversed(past[:-1]) if each.camera), None)
        else:
            found = next((each for each in past if each.number == number), None)
        if found is None or found.camera is None:
            known = ", ".join(str(each.number) for each in past if each.camera)
            raise ConfigError(f"{name} has no such revision to go back to; there are {known}")
        kv = await bucket(self._js, CAMERAS, history=HISTORY)
        return await kv.update(name, json.dumps(found.camera).encode(), last=past[-1].number)

    async def _seal(self, name: str, secret: str, uri: str) -> None:
        await bucket(self._js, KEYS)
        keys = await entries(self._js, KEYS)
        if not keys:
            raise ConfigError(
                f"{name} has a password, and no node has told its key yet: start "
                "`fleet serve` or a node first"
            )
        sealed = await bucket(self._js, SECRETS)
        for node, entry in keys.items():
            text = seal(uri, entry.value or "")
            await sealed.put(f"{name}.{secret}.{node}", text.encode())


async def tell_key(js: JetStreamContext, node: str, key: NodeKey) -> None:
    """Let others seal for this node."""
    kv = await bucket(js, KEYS)
    with suppress(KeyNotFoundError):
        if ((await kv.get(node)).value or b"").decode() == key.public:
            return
    await kv.put(node, key.public.encode())


async def seal_for_new(link: Link, key: NodeKey) -> None:
    """Until cancelled: what nodes cannot read yet is sealed for them, too (``fleet serve``)."""
    seen: Sequence[int] = ()
    while True:
        try:
            await tell_key(link.js, SERVER_KEY, key)
            kv = await bucket(link.js, SECRETS)
            now = [await sequence(link.js, each) for each in (KEYS, SECRETS)]
            if seen != now:
                await _seal_all(link.js, kv, key)
                seen = now
        except (*FAULTS, ConfigError) as error:
            log.debug("nothing sealed: %s", error)
        await asyncio.sleep(FOLLOW_S)


async def _seal_all(js: JetStreamContext, kv: KeyValue, key: NodeKey) -> None:
    keys, sealed = await entries(js, KEYS), await entries(js, SECRETS)
    for place, entry in sealed.items():
        start, _, reader = place.rpartition(".")
        for node, public in keys.items() if reader == SERVER_KEY else ():
            known = sealed.get(f"{start}.{node}")
            if known is None or known.time < public.time:  # it has another key since
                uri = key.unseal(entry.value or "")
                await kv.put(f"{start}.{node}", seal(uri, public.value or "").encode())


class SecretBook:
    """The addresses that are sealed for this node; on disk in ``file``, sealed there, too.

    So a node runs cameras with passwords also without its server. ``key`` None: none of them.
    """

    def __init__(self, node: str, file: Path, key: NodeKey | None) -> None:
        self._node, self._file, self._key = node, file, key
        self._sealed: dict[str, str] = {}  # by CAMERA.SECRET
        try:
            told = json.loads(file.read_text("utf-8"))
            self._sealed = {str(place): str(text) for place, text in told.items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, AttributeError) as error:
            log.warning("the node's sealed addresses, %s, are damaged: %s", file, error)

    def opened(self, name: str, camera: Camera) -> dict[str, Any]:
        """The camera with its whole address; ConfigError where this node cannot read it (yet)."""
        if (secret := camera.get("secret")) is None:
            return dict(camera)
        sealed = self._sealed.get(f"{name}.{secret}")
        if self._key is None or sealed is None:
            raise NotSealedYet(f"its address is not sealed for this node yet (camera {name})")
        plain = {key: value for key, value in camera.items() if key != "secret"}
        return {**plain, "uri": self._key.unseal(sealed)}

    async def follow(self, link: Link) -> None:
        """Until cancelled: tell the own key, and keep what others seal for it."""
        seen = -1
        while self._key is not None:
            try:
                await bucket(link.js, SECRETS)
                if seen != (now := await sequence(link.js, SECRETS)):
                    await tell_key(link.js, self._node, self._key)
                    await self._read(link.js)
                    seen = now
            except FAULTS as error:
                log.debug("sealed addresses: %s", error)
            await asyncio.sleep(FOLLOW_S)

    async def _read(self, js: JetStreamContext) -> None:
        sealed = {
            place.rpartition(".")[0]: entry.value or ""
            for place, entry in (await entries(js, SECRETS)).items()
            if place.rpartition(".")[2] == self._node
        }
        if sealed != self._sealed:
            self._sealed = sealed
            try:
                write_whole(self._file, json.dumps(sealed, indent=1).encode())
            except OSError as error:
                log.warning("cannot keep %s: %s", self._file, error.strerror or error)
