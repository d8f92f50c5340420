"""Models of a fleet: by hash in the object store, proved by each node before it runs them.

In the bucket ``kestrel_rollout``: ``model.NAME``, what was pushed, with the boxes that it must find
in the known picture; ``want.NODE``, which revision of which model a node is to run; ``have.NODE``,
what it runs, or why it does not. A node keeps what it runs until the next one is proved.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

from nats.js import JetStreamContext
from nats.js.errors import (
    BucketNotFoundError,
    DigestMismatchError,
    KeyNotFoundError,
    NotFoundError,
    ObjectNotFoundError,
)
from nats.js.kv import KeyValue
from nats.js.object_store import ObjectStore

from ..core.errors import KestrelError, ModelError, VerdictError
from ..models.cache import write_whole
from ..models.importer import install
from ..models.manifest import Model, read_manifest
from ..models.store import digest_of, weights_fault
from ..ops.selftest import SCORE, KnownAnswer, difference
from .configuration import HISTORY, entries, sequence
from .connection import MEMBERS, MODELS, Link, bucket
from .events import FAULTS, TICK_S

log = logging.getLogger(__name__)

ROLLOUT = "kestrel_rollout"
FETCH_S, SLOWEST_BPS = 30.0, 100_000
NODE_S = 300.0  # for a node to fetch and prove a model
FOLLOW_S = 1.0
Find = Callable[[Model], Sequence[KnownAnswer]]


async def push(link: Link, model: Model, found: Sequence[KnownAnswer]) -> int:
    """Put a model, whose weights are here and right, into the store; the number of its revision.

    ``found``: what it finds in the known picture on the reference engine. Raises VerdictError where
    that says nothing, ConfigError for a name that cannot be.
    """
    name = model.spec.name
    if not any(one.score >= model.spec.score + SCORE for one in found):
        raise VerdictError(
            f"{name} finds nothing it is sure of in the known picture, so that no node could prove "
            "it; push a model that detects people"
        )
    with tempfile.TemporaryDirectory() as folder:
        spec = replace(model.spec, default=False, url=None)
        plain = await asyncio.to_thread(
            install, spec, model.weights, shelf_dir=Path(folder), force=True
        )
        assert plain.manifest is not None
        told = {
            **{"name": name, "file": plain.weights.name, "sha256": plain.spec.sha256},
            "bytes": plain.weights.stat().st_size,
            "manifest": plain.manifest.read_text("utf-8"),
            "known": [[one.class_id, one.score, list(one.box)] for one in found],
        }
        store = await objects(link.js)
        with plain.weights.open("rb") as file:
            await store.put(str(plain.spec.sha256), file)
    kv = await bucket(link.js, ROLLOUT, history=HISTORY)
    return await kv.put(f"model.{name}", json.dumps(told).encode())


async def pushed(link: Link) -> dict[str, dict[str, Any]]:
    """The newest revision of each model, by name, with its number under ``revision``."""
    await bucket(link.js, ROLLOUT, history=HISTORY)
    return {
        key.partition(".")[2]: {**entry.table, "revision": entry.revision}
        for key, entry in (await entries(link.js, ROLLOUT)).items()
        if key.startswith("model.")
    }


async def states(link: Link) -> dict[str, dict[str, Any]]:
    """By node: name and revision of its model, ``state`` ("running", "failed") and ``why``."""
    await bucket(link.js, ROLLOUT, history=HISTORY)
    return {
        key.partition(".")[2]: entry.table
        for key, entry in (await entries(link.js, ROLLOUT)).items()
        if key.startswith("have.")
    }


async def roll_out(
    link: Link,
    name: str,
    nodes: Sequence[str] = (),
    *,
    timeout_s: float = NODE_S,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Node by node, by default all that are there; the next when the one before runs the model.

    Where a node fails, all that had it get back what they ran, and VerdictError is raised.
    """
    kv = await bucket(link.js, ROLLOUT, history=HISTORY)
    known = await pushed(link)
    if name not in known:
        raise ModelError(f"no model {name!r} was pushed; there are {', '.join(known) or 'none'}")
    nodes = nodes or await _members(link)
    if not nodes:
        raise ModelError("there is no node to roll a model out to; start one")
    want = {"name": name, "revision": known[name]["revision"]}
    before: dict[str, bytes] = {}
    for node in nodes:
        before[node] = await _value(kv, f"want.{node}") or b"{}"
        fault = await _given(kv, node, json.dumps(want).encode(), timeout_s)
        if fault is None:
            say(f"{node}: runs {name}, revision {want['revision']}")
            continue
        say(f"{node}: {fault}; rolling back")
        for each, old in reversed(before.items()):
            left = await _given(
                kv, each, old, timeout_s if each != node else min(timeout_s, FETCH_S)
            )
            say(f"{each}: {'has what it had before' if left is None else left}")
        raise VerdictError(f"{name} was rolled back on {len(before)} nodes: {node}: {fault}")


async def _given(kv: KeyValue, node: str, want: bytes, timeout_s: float) -> str | None:
    """Tell the node, and wait for what it says: None, or why it does not run that."""
    number = await kv.put(f"want.{node}", want)
    end_s = monotonic() + timeout_s
    while monotonic() < end_s:
        with suppress(*FAULTS):
            told = json.loads(await _value(kv, f"have.{node}") or b"{}")
            if told.get("asked", 0) >= number:
                return None if told["state"] == "running" else str(told["why"])
        await asyncio.sleep(TICK_S)
    return f"no answer within {timeout_s:g} s"


async def _members(link: Link) -> list[str]:
    try:
        found = await entries(link.js, MEMBERS)
    except NotFoundError:  # the bucket is for nodes to make
        return []
    return sorted(key.removeprefix("node.") for key in found if key.startswith("node."))


async def _value(kv: KeyValue, key: str) -> bytes | None:
    try:
        return (await kv.get(key)).value
    except KeyNotFoundError:
        return None


async def objects(js: JetStreamContext) -> ObjectStore:
    """The weights, by their sha256."""
    try:
        return await js.object_store(MODELS)
    except (BucketNotFoundError, NotFoundError):
        return await js.create_object_store(MODELS)


async def fetch(link: Link, told: Mapping[str, Any], folder: Path) -> Model:
    """A pushed model into a folder of its own; refused unless its sha256 is right. ModelError."""
    name, sha256 = str(told["name"]), str(told["sha256"])
    place = folder / f"{name}-{sha256[:12]}"
    weights, manifest = place / Path(told["file"]).name, place / f"{name}.toml"
    place.mkdir(parents=True, exist_ok=True)
    if not weights.is_file() or await asyncio.to_thread(digest_of, weights, "sha256") != sha256:
        part = weights.with_name(f"{weights.name}.part")
        try:
            with part.open("wb") as out:
                got = (await objects(link.js)).get(sha256, writeinto=out)
                await asyncio.wait_for(got, FETCH_S + int(told["bytes"]) / SLOWEST_BPS)
            seen = await asyncio.to_thread(digest_of, part, "sha256")
            if seen != sha256:
                raise ModelError(
                    f"the weights of {name} in the fleet's store have the sha256 {seen}, not "
                    f"{sha256}: push the model again"
                )
            part.replace(weights)
        except (DigestMismatchError, ObjectNotFoundError) as error:
            raise ModelError(
                f"the weights of {name} in the fleet's store are damaged or gone: push it again"
            ) from error
        finally:
            part.unlink(missing_ok=True)
    write_whole(manifest, str(told["manifest"]).encode())
    model = read_manifest(manifest)
    if fault := weights_fault(model):
        raise ModelError(f"the weights of {name} are not those of its manifest: {fault}")
    return model


class ModelAgent:
    """A node's part: fetches what it is to run, proves it on its own engine, then changes to it.

    ``find`` is asked, on a thread of its own, for the boxes that a model finds in the known picture
    on this node's engine. ``change`` makes the node run a model (None: the one of its own
    configuration); what it raises is a failure. ``current``, also after a restart without a
    server: the manifest to run, None for the node's own.
    """

    def __init__(
        self,
        node: str,
        folder: Path,
        *,
        find: Find,
        change: Callable[[Model | None], None],
        version: str = "",
    ) -> None:
        self._node, self._folder, self._find, self._change = node, folder, find, change
        self._version, self._file = version, folder / "current.json"
        self._told: dict[str, Any] = {}
        self.current: Path | None = None
        try:
            self._told = json.loads(self._file.read_text("utf-8"))
            place = self._told.get("manifest")
            self.current = Path(place) if place and Path(place).is_file() else None
        except FileNotFoundError:
            pass
        except (OSError, ValueError, AttributeError) as error:
            log.warning("%s is damaged (%s): the node runs its own model", self._file, error)

    async def follow(self, link: Link) -> None:
        """Until cancelled: do what ``want.NODE`` says, and report."""
        seen = -1
        while True:
            try:
                kv = await bucket(link.js, ROLLOUT, history=HISTORY)
                if seen != (now := await sequence(link.js, ROLLOUT)):
                    await self._look(link, kv)
                    seen = now
            except FAULTS as error:
                log.debug("models of the fleet: %s", error)
            await asyncio.sleep(FOLLOW_S)

    async def _look(self, link: Link, kv: KeyValue) -> None:
        try:
            entry = await kv.get(f"want.{self._node}")
        except KeyNotFoundError:
            if await _value(kv, f"have.{self._node}") is None:
                await self._report(kv, {"asked": 0, "state": "running"})
            return
        told = json.loads(await _value(kv, f"have.{self._node}") or b"{}")
        if told.get("asked") == entry.revision:
            return
        want, number = json.loads(entry.value or b"{}"), entry.revision or 0
        try:
            model = await self._proved(link, kv, want) if want.get("name") else None
            manifest = None if model is None else model.manifest
            if manifest != self.current:
                await asyncio.to_thread(self._change, model)
        except (KestrelError, OSError) as error:
            log.error("model %s: %s; the node runs on as it did", want.get("name"), error)
            await self._report(kv, {"asked": number, "state": "failed", "why": str(error)})
            return
        self.current = manifest
        self._told = {**want, "manifest": None if manifest is None else str(manifest)}
        await asyncio.to_thread(write_whole, self._file, json.dumps(self._told).encode())
        await self._report(kv, {"asked": number, "state": "running"})

    async def _proved(self, link: Link, kv: KeyValue, want: Mapping[str, Any]) -> Model:
        try:
            entry = await kv.get(f"model.{want['name']}", revision=want["revision"])
        except KeyNotFoundError:
            raise ModelError(
                f"revision {want['revision']} of {want['name']} is forgotten: push it again"
            ) from None
        told = json.loads(entry.value or b"{}")
        model = await fetch(link, told, self._folder)
        expected = [KnownAnswer(i, score, tuple(box)) for i, score, box in told["known"]]
        found = await asyncio.to_thread(self._find, model)
        if fault := difference(expected, found, sure=model.spec.score + SCORE):
            raise ModelError(f"in the known picture {fault}")
        self._tidy(model)
        return model

    def _tidy(self, model: Model) -> None:
        """Keep the model that runs and the one to come; others can be fetched again."""
        kept = {model.weights.parent, self.current.parent if self.current else None}
        for path in self._folder.iterdir():
            if path.is_dir() and path not in kept:
                shutil.rmtree(path, ignore_errors=True)

    async def _report(self, kv: KeyValue, told: Mapping[str, Any]) -> None:
        runs = {key: self._told[key] for key in ("name", "revision") if key in self._told}
        text = json.dumps({**runs, **told, "kestrel": self._version})
        await kv.put(f"have.{self._node}", text.encode())
