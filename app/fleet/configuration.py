"""The fleet's cameras in a bucket with history, their secrets sealed, and a node's copy on disk.

A camera's entry is a JSON object: ``uri`` as in ``--source``; ``labels``, ``node``, ``only`` and
``readers`` for its place; ``zones``, ``lines``, ``masks``, ``rules`` and ``privacy``, arrays of
what is a table each in the configuration file; ``filter``, one such table. A URI that holds a
password is there masked; whole it is in a bucket of its own, sealed for each node (libsodium's
sealed boxes: X25519 and XSalsa20-Poly1305), under the entry's ``secret``.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError, NoKeysError
from nats.js.kv import KeyValue

from ..analytics.analytics import AnalyticsOptions
from ..config import nearest, parse_sources
from ..core.credentials import mask_credentials
from ..core.errors import ConfigError
from ..core.filters import Filters
from ..core.package import pip_install
from ..models.cache import write_whole
from .connection import CAMERAS, Link, bucket
from .events import FAULTS, TICK_S

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
}
_TYPES: dict[str, type] = {
    **{"uri": str, "node": str, "only": str, "secret": str, "readers": int, "labels": list},
    **{"filter": dict, **dict.fromkeys(_TABLES, list)},
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
    Filters().changed(camera.get("filter", {}), f"camera {name}: filter")


def settings_of(cameras: Mapping[str, Camera]) -> dict[str, Any]:
    """What these cameras are in a ``Config``: sources, zones, lines, masks, rules and filters."""
    made: dict[str, list[Any]] = {kind: [] for kind in ("sources", *_TABLES.values(), "filter")}
    for name, camera in cameras.items():
        made["sources"].append(f"{name}={camera['uri']}")
        for key, kind in _TABLES.items():
            made[kind] += [{**row, "source": name} for row in camera.get(key, ())]
        if camera.get("filter"):
            made["filter"].append({**camera["filter"], "source": name})
    return {kind: tuple(rows) for kind, rows in made.items()}


def _without_source(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "source"}


@dataclass(frozen=True, slots=True)
class Revision:
    """One state of a camera's entry; ``camera`` None: it was deleted then."""

    number: int
    time: datetime | None
    camera: dict[str, Any] | None


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
                "write it again with `fleet config set`"
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


async def entries(kv: KeyValue) -> dict[str, KeyValue.Entry]:
    """The newest entry of each key, without deleted ones."""
    found: dict[str, KeyValue.Entry] = {}
    watcher: Any = await kv.watchall(ignore_deletes=True)
    try:
        while (entry := await watcher.updates(timeout=5.0)) is not None:
            if not isinstance(entry, KeyValue.Entry):
                break
            found[entry.key] = entry
    finally:
        await watcher.stop()
    return found


class CameraBucket:
    """What people do with the cameras of a fleet. All methods raise ConfigError."""

    def __init__(self, link: Link) -> None:
        self._js = link.js

    async def all(self) -> dict[str, dict[str, Any]]:
        """All cameras, addresses masked."""
        found = await entries(await bucket(self._js, CAMERAS, history=HISTORY))
        return {key: json.loads(entry.value or b"{}") for key, entry in sorted(found.items())}

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
        """Change some keys of a camera (None removes one) and keep the others, and its secret."""
        kv = await bucket(self._js, CAMERAS, history=HISTORY)
        try:
            entry = await kv.get(name)
        except KeyNotFoundError:
            raise ConfigError(f"there is no camera {name!r}; `fleet config set` adds it") from None
        camera = {**json.loads(entry.value or b"{}"), **changes}
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
        kv = await bucket(self._js, CAMERAS, history=HISTORY)
        try:
            found = await kv.history(name)
        except NoKeysError:
            raise ConfigError(f"there has been no camera {name!r}") from None
        return [
            Revision(
                entry.revision or 0,
                _time(entry),
                None if entry.operation else json.loads(entry.value or b"{}"),
            )
            for entry in found
        ]

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
        keys = await entries(await bucket(self._js, KEYS))
        if not keys:
            raise ConfigError(
                f"{name} has a password, and no node has told its key yet: start "
                "`fleet serve` or a node first"
            )
        sealed = await bucket(self._js, SECRETS)
        for node, entry in keys.items():
            text = seal(uri, (entry.value or b"").decode())
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
            kvs = await bucket(link.js, KEYS), await bucket(link.js, SECRETS)
            if seen != (seen := await sequences(kvs)):
                await _seal_all(*kvs, key)
        except (*FAULTS, ConfigError) as error:
            log.debug("nothing sealed: %s", error)
            seen = ()
        await asyncio.sleep(FOLLOW_S)


async def _seal_all(key_kv: KeyValue, kv: KeyValue, key: NodeKey) -> None:
    keys, sealed = await entries(key_kv), await entries(kv)
    for place, entry in sealed.items():
        start, _, reader = place.rpartition(".")
        for node, public in keys.items() if reader == SERVER_KEY else ():
            known = sealed.get(f"{start}.{node}")
            if known is None or _is_older(known, public):
                uri = key.unseal((entry.value or b"").decode())
                await kv.put(f"{start}.{node}", seal(uri, (public.value or b"").decode()).encode())


async def sequences(kvs: Iterable[KeyValue]) -> tuple[int, ...]:
    """Numbers that change when anything in these buckets does."""
    return tuple([(await kv.status()).stream_info.state.last_seq for kv in kvs])


def _is_older(sealed: KeyValue.Entry, key: KeyValue.Entry) -> bool:
    """Whether it was sealed before the node had this key."""
    one, other = _time(sealed), _time(key)
    return one is not None and other is not None and one < other


def _time(entry: KeyValue.Entry) -> datetime | None:
    created: Any = entry.created  # declared as a number, and a datetime from a watcher
    return created if isinstance(created, datetime) else None


@dataclass
class CameraBook:
    """A node's copy of all cameras, on disk in ``file``: it runs on with them without a server.

    Secrets stay sealed there. ``held``: the cameras that this node ran last. ``key`` None: cameras
    with a password cannot be run here.
    """

    node: str
    file: Path
    key: NodeKey | None = None
    cameras: dict[str, dict[str, Any]] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)  # and the numbers of their leases
    _sealed: dict[str, str] = field(default_factory=dict)  # by CAMERA.SECRET

    def load(self) -> bool:
        """What the last run knew; False: nothing."""
        try:
            told = json.loads(self.file.read_text("utf-8"))
            self.cameras, self._sealed, self.held = told["cameras"], told["sealed"], told["held"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            if not isinstance(error, FileNotFoundError):
                log.warning("the node's copy of the cameras, %s, is damaged", self.file)
            return False
        return True

    def camera(self, name: str) -> dict[str, Any]:
        """With its whole address; raises ConfigError where this node cannot read it."""
        camera = self.cameras[name]
        if (secret := camera.get("secret")) is None:
            return dict(camera)
        sealed = self._sealed.get(f"{name}.{secret}")
        if self.key is None or sealed is None:
            raise ConfigError(f"the address of camera {name} is not sealed for this node yet")
        return {**_without_secret(camera), "uri": self.key.unseal(sealed)}

    def note_held(self, held: Mapping[str, int]) -> None:
        """Keep which cameras run here, and the numbers of their leases."""
        if held != self.held:
            self.held = dict(held)
            self._save()

    async def follow(self, link: Link, changed: Callable[[Iterable[str]], None]) -> None:
        """Until cancelled: keep up with the buckets; ``changed`` gets the names that differ."""
        seen: tuple[int, ...] = ()
        while True:
            with suppress(*FAULTS):
                if self.key is not None and not seen:
                    await tell_key(link.js, self.node, self.key)
                kvs = [
                    await bucket(link.js, CAMERAS, history=HISTORY),
                    await bucket(link.js, SECRETS),
                ]
                now = await sequences(kvs)
                if now != seen:
                    await self._read(kvs[0], kvs[1], changed)
                    seen = now
            await asyncio.sleep(FOLLOW_S if seen else TICK_S)

    async def _read(
        self, kv: KeyValue, secret_kv: KeyValue, changed: Callable[[Iterable[str]], None]
    ) -> None:
        sealed = {
            place.rpartition(".")[0]: (entry.value or b"").decode()
            for place, entry in (await entries(secret_kv)).items()
            if place.rpartition(".")[2] == self.node
        }
        cameras = {}
        for name, entry in (await entries(kv)).items():
            try:
                cameras[name] = json.loads(entry.value or b"{}")
                check_camera(name, cameras[name])
            except (ValueError, ConfigError) as error:
                log.warning("%s in the fleet's configuration is left as it was: %s", name, error)
                cameras.pop(name, None)
                if name in self.cameras:
                    cameras[name] = self.cameras[name]
        differ = [
            name
            for name in sorted(cameras.keys() | self.cameras.keys())
            if cameras.get(name) != self.cameras.get(name)
            or _sealed_of(name, cameras, sealed) != _sealed_of(name, self.cameras, self._sealed)
        ]
        if differ or sealed != self._sealed:
            self.cameras, self._sealed = cameras, sealed
            self._save()
        if differ:
            changed(differ)

    def _save(self) -> None:
        told = {"cameras": self.cameras, "sealed": self._sealed, "held": self.held}
        try:
            write_whole(self.file, json.dumps(told, indent=1).encode())
            self.file.chmod(0o600)
        except OSError as error:
            log.warning("cannot keep the cameras in %s: %s", self.file, error.strerror or error)


def _without_secret(camera: Camera) -> dict[str, Any]:
    return {key: value for key, value in camera.items() if key != "secret"}


def _sealed_of(name: str, cameras: Mapping[str, Camera], sealed: Mapping[str, str]) -> str | None:
    return sealed.get(f"{name}.{cameras.get(name, {}).get('secret')}")
