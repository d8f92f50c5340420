"""What any machine's page shows of the fleet's cameras; pictures only when somebody asks.

A picture is asked of the node that runs the camera, as a request to ``kestrel.node.NODE.picture``
with ``{"camera": NAME}`` or ``{"snapshot": FILE}``; the answer is the JPEG, or nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic, time
from typing import Any, TypeVar

from nats.aio.msg import Msg
from nats.js.api import DeliverPolicy

from ..core.detections import Result
from ..core.errors import SinkError
from ..core.frame import bgr_pixels
from ..sinks.drawing import draw_result
from ..sinks.snapshots import bounded
from ..sinks.video import encode_jpeg
from .configuration import HISTORY, entries, sequence
from .connection import (
    CAMERAS,
    EVENT_SUBJECT,
    EVENTS,
    MEMBERS,
    NODE_SUBJECT,
    STATE_SUBJECT,
    STATES,
    Link,
    bucket,
)
from .events import FAULTS, STATE_AGAIN_S, TICK_S, CameraSink, messages
from .roll import away, members_of

log = logging.getLogger(__name__)

LONGEST_PX, QUALITY = 1280, 75
PICTURE_BYTES = 900_000  # of an answer; a server takes a megabyte
ANSWER_S = 3.0
SILENT_S = 3 * STATE_AGAIN_S  # a node that has told nothing for so long
FOLLOW_S = 1.0
LOOK_BACK = 5000  # newest events of the fleet among which those of a camera are sought
MOST = 60
Answer = TypeVar("Answer")


class PictureServer:
    """A node's answers. ``sinks``: of the cameras that it runs; ``snapshots``: their folder."""

    def __init__(
        self,
        node: str,
        sinks: Mapping[str, CameraSink],
        *,
        snapshots: Path | None = None,
    ) -> None:
        self._node, self._sinks, self._snapshots = node, sinks, snapshots
        self._turn = asyncio.Lock()
        self._encoded: dict[str, tuple[Result, bytes]] = {}

    async def run(self, link: Link) -> None:
        """Answer until cancelled."""
        subject = f"{NODE_SUBJECT}.{self._node}.picture"
        asked = await link.client.subscribe(subject, cb=self._answer)
        try:
            await asyncio.Event().wait()
        finally:
            with suppress(*FAULTS):
                await asked.unsubscribe()

    async def _answer(self, request: Msg) -> None:
        try:
            told = json.loads(request.data)
            name = str(told.get("snapshot", ""))
            jpeg = await (self._snapshot(name) if name else self._picture(str(told["camera"])))
        except (ValueError, KeyError, AttributeError, OSError, SinkError) as error:
            log.debug("no picture: %s", error)
            jpeg = b""
        with suppress(*FAULTS):
            await request.respond(jpeg if len(jpeg) <= PICTURE_BYTES else b"")

    async def _picture(self, camera: str) -> bytes:
        async with self._turn:
            sink = self._sinks[camera]
            result = sink.latest
            if result is None:
                return b""
            held = self._encoded.get(camera)
            if held is None or held[0] is not result:
                jpeg = await asyncio.to_thread(_encode, result, sink)
                held = self._encoded[camera] = result, jpeg
            return held[1]

    async def _snapshot(self, name: str) -> bytes:
        path = Path(self._snapshots or "", name)
        if self._snapshots is None or path.suffix != ".jpg" or ".." in path.parts:
            return b""
        if not path.is_relative_to(self._snapshots):
            return b""
        return await asyncio.to_thread(path.read_bytes)


def _encode(result: Result, sink: CameraSink) -> bytes:
    pixels = bgr_pixels(result.frame).copy()
    draw_result(pixels, result, sink.labels)
    return encode_jpeg(bounded(pixels, LONGEST_PX), QUALITY).tobytes()


class FleetView:
    """The cameras with their states and last events; see sinks.http.fleet.FleetSource."""

    def __init__(self) -> None:
        self._link: Link | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._defined: set[str] = set()
        self._states: dict[str, tuple[dict[str, Any], float]] = {}  # and when it was told
        self._last: dict[str, dict[str, Any]] = {}

    async def run(self, link: Link) -> None:
        """Follow the fleet until cancelled."""
        self._link, self._loop = link, asyncio.get_running_loop()
        await asyncio.gather(
            self._follow(link, STATES, STATE_SUBJECT, self._saw_state),
            self._follow(link, EVENTS, EVENT_SUBJECT, self._saw_event),
            self._follow_cameras(link),
        )

    def cameras(self) -> list[dict[str, Any]]:
        """By name; any thread. Without a node that tells of it, a camera is "silent"."""
        told, now_s = [], monotonic()
        for name in sorted(self._defined | self._states.keys()):
            state, at_s = self._states.get(name, ({}, float("-inf")))
            if name not in self._defined and self._defined:
                continue  # it was removed
            row = {**state, "camera": name, "last_event": self._last.get(name)}
            if now_s - at_s > SILENT_S:
                row["state"] = "silent"
            told.append(row)
        return told

    async def gone(self) -> list[dict[str, Any]]:
        """By name: ``node``, ``since`` (None: not known), ``had``: where its cameras are now."""
        notes = await self._of_loop(self._away()) or {}
        homes = {each["camera"]: each.get("node", "") for each in self.cameras()}
        return [
            {
                **{"node": name, "since": note.get("gone")},
                "had": {
                    camera: homes[camera] if homes[camera] != name else ""
                    for camera in note.get("had", ())
                    if camera in homes
                },
            }
            for name, note in notes.items()
            if note["state"] == "gone"
        ]

    async def picture(self, camera: str) -> bytes | None:
        """The newest frame with its boxes; None: nobody has one."""
        return await self._of_loop(self._asked(self._node_of(camera), {"camera": camera}))

    async def snapshot(self, node: str, name: str) -> bytes | None:
        """The picture that an event of this node names."""
        return await self._of_loop(self._asked(node, {"snapshot": name}))

    async def events(self, camera: str) -> list[dict[str, Any]]:
        """The last events of a camera that the server still has, newest first."""
        return await self._of_loop(self._events(camera)) or []

    async def _of_loop(self, work: Coroutine[Any, Any, Answer]) -> Answer | None:
        """On the loop of the connection; None where there is no answer."""
        if self._loop is None:
            work.close()
            return None
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
            return await asyncio.wait_for(asyncio.wrap_future(future), 2 * ANSWER_S)
        except FAULTS as error:
            log.debug("the fleet does not answer: %s", error)
            return None

    async def _away(self) -> dict[str, dict[str, Any]]:
        if self._link is None:
            return {}
        js = self._link.js
        return await away(js, members_of(await entries(js, MEMBERS)))

    def _node_of(self, camera: str) -> str:
        return str(self._states.get(camera, ({}, 0.0))[0].get("node", ""))

    async def _asked(self, node: str, request: Mapping[str, str]) -> bytes | None:
        if self._link is None or not node or set(node) & set(".*> \t\r\n"):
            return None
        answer = await self._link.client.request(
            f"{NODE_SUBJECT}.{node}.picture", json.dumps(request).encode(), timeout=ANSWER_S
        )
        return answer.data or None

    async def _events(self, camera: str) -> list[dict[str, Any]]:
        if self._link is None or set(camera) & set(".*> \t\r\n"):
            return []
        js = self._link.js
        last = (await js.stream_info(EVENTS)).state.last_seq
        found = await messages(
            js,
            EVENTS,
            f"{EVENT_SUBJECT}.{camera}",
            policy=DeliverPolicy.BY_START_SEQUENCE,
            start=max(1, last - LOOK_BACK),
        )
        return [told for each in reversed(found[-MOST:]) if (told := _object(each.data))]

    async def _follow(
        self, link: Link, stream: str, subject: str, saw: Callable[[Msg], None]
    ) -> None:
        async def came(message: Msg) -> None:
            saw(message)

        while True:
            number = link.client.stats["reconnects"]
            with suppress(*FAULTS):
                followed = await link.js.subscribe(
                    f"{subject}.*",
                    stream=stream,
                    cb=came,
                    ordered_consumer=True,
                    deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
                )
                # a server that comes back has forgotten it, which the library notices after long
                while link.client.stats["reconnects"] == number:
                    await asyncio.sleep(TICK_S)
                await followed.unsubscribe()
            await asyncio.sleep(TICK_S)

    async def _follow_cameras(self, link: Link) -> None:
        seen = -1
        while True:
            with suppress(*FAULTS):
                await bucket(link.js, CAMERAS, history=HISTORY)
                if seen != (now := await sequence(link.js, CAMERAS)):
                    self._defined, seen = set(await entries(link.js, CAMERAS)), now
            await asyncio.sleep(FOLLOW_S)

    def _saw_state(self, message: Msg) -> None:
        age_s = max(0.0, time() - message.metadata.timestamp.timestamp())
        state = _object(message.data)
        if state:
            self._states[message.subject.rpartition(".")[2]] = state, monotonic() - age_s

    def _saw_event(self, message: Msg) -> None:
        if event := _object(message.data):
            self._last[message.subject.rpartition(".")[2]] = event


def _object(data: bytes) -> dict[str, Any]:
    """A JSON object; {} for anything else."""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
