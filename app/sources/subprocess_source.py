"""A source whose decoder runs in a child process, which may abort or hang alone."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..config import MotionOptions
from ..core.errors import SourceEnded, SourceError
from ..core.frame import Colour, Frame, FramePool, SourceInfo
from ..core.interfaces import FrameSource
from ..core.package import child_command
from .base import SourceOptions, load_av, load_cv2
from .diagnose import no_frame
from .frame_ipc import FIELDS, Channel, Closed, Message, SlotReader, serve
from .packets import PipeReader, PipeTap, TakesPackets

log = logging.getLogger(__name__)

START_S = 30.0  # for Python and FFmpeg to load, on a slow device under load
GRACE_S = 1.0  # for the decoder to notice by itself, and to say better what is wrong
GOODBYE_S = 0.8
# The most that a decoder may allocate. With 64 megapixels, 2 GB; H.265 of 3840x2160 in 10 bits by
# four threads takes 0.9 GB.
BASE_BYTES, BYTES_PER_PIXEL = 512 << 20, 24


def decoder_command() -> list[str]:
    """The process that decodes; it gets two file descriptors as arguments."""
    return child_command("sources.subprocess_source:main")


class IsolatedSource:
    """A source that lives in a child process. Its frames are the same, bit for bit.

    The child's death, silence or refusal becomes a SourceError here. Open, read and close on one
    thread, which must stay until ``close``: the child dies with it.
    """

    def __init__(
        self,
        uri: str,
        *,
        label: str,
        options: SourceOptions,
        packets: TakesPackets | None = None,
        command: Callable[[], Sequence[str]] = decoder_command,
    ) -> None:
        self._uri, self._command = uri, command
        self._label = label
        self._options = options
        self._packets = packets
        self._pipe: PipeReader | None = None
        self._packets_fd: int | None = None
        self._pool = FramePool()
        self._child: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._slots: SlotReader | None = None
        self._memory_fd = -1
        self._live = False
        self._silent_s = 0.0  # how long ``read`` has waited since the last frame
        self._pending: Message | None = None
        self._ended = False

    @property
    def pid(self) -> int | None:
        """The decoder's process, for who wants to look at it."""
        return self._child.pid if self._child else None

    def open(self) -> SourceInfo:
        """Start the child and let it open the source; raises SourceError with the cure."""
        try:
            self._start()
            self._expect("ready", START_S, f"the decoder of {self._label} did not start")
            # The URI goes this way because every user of the machine can read a command line.
            request = {"uri": self._uri, "options": dataclasses.asdict(self._options)}
            self._send({**request, "packets_fd": self._packets_fd})
            limit_s = self._options.open_timeout_s
            message = self._expect(
                "opened",
                limit_s + GRACE_S,
                f"{self._label} did not open within {limit_s:g} s: check the device and the "
                "network, or raise the open timeout",
            )
        except BaseException:
            self.close()
            raise
        if self._pipe is not None:
            self._pipe.drain()
        info = SourceInfo(**message["info"])
        self._live = info.live
        return dataclasses.replace(
            info,
            uri=self._label,
            wh_px=info.wh_px and (info.wh_px[0], info.wh_px[1]),  # JSON made it a list
            detail=f"{info.detail}, in its own process",
        )

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame; of a live source the newest one that waits."""
        if self._ended:
            raise SourceEnded
        started_s = time.monotonic()
        message, self._pending = self._pending or self._receive(timeout_s), None
        if self._pipe is not None:
            self._pipe.drain()  # the packets of a frame are sent before it
        if message is None:
            self._silent_s += time.monotonic() - started_s
            limit_s = self._options.read_timeout_s
            if self._silent_s > limit_s + GRACE_S:
                self.close()
                raise no_frame(self._label, limit_s)
            return None
        if message["kind"] != "frame":
            self._finish(message)
        self._silent_s = 0.0
        while self._live and (newer := self._receive(0)) is not None:
            if newer["kind"] != "frame":
                self._pending = newer
                break
            self._send({"offset": message["offset"]})
            message = newer
        return self._take(message)

    def close(self) -> None:
        """End the child, within a second, and let go of the shared memory."""
        self._ended = True
        channel, self._channel = self._channel, None
        slots, self._slots = self._slots, None
        child, self._child = self._child, None
        if channel:
            channel.close()  # the child closes its source and leaves
        if slots:
            slots.close()
        pipe, self._pipe = self._pipe, None
        if pipe:
            pipe.drain()
            pipe.close()
        if self._memory_fd >= 0:
            os.close(self._memory_fd)
            self._memory_fd = -1
        if child:
            try:
                child.wait(GOODBYE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _start(self) -> None:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._channel = Channel(ours)
            with theirs:
                self._start_child(theirs.fileno())
        except OSError as error:  # what is open by now, open() closes
            raise SourceError(
                f"cannot start the decoder of {self._label}: {error.strerror or error}; close "
                "other programs, or raise the limits on files and processes (ulimit -n, ulimit -u)"
            ) from error

    def _start_child(self, channel_fd: int) -> None:
        self._memory_fd = os.memfd_create("kestrel-frames")
        self._slots = SlotReader(self._memory_fd)
        fds = (channel_fd, self._memory_fd)
        with contextlib.ExitStack() as stack:
            if self._packets is not None:
                ours, theirs = os.pipe()
                stack.callback(os.close, theirs)
                self._pipe, self._packets_fd = PipeReader(ours, self._packets), theirs
            self._run_child(fds)

    def _run_child(self, fds: tuple[int, ...]) -> None:
        noisy = log.isEnabledFor(logging.DEBUG)
        self._child = subprocess.Popen(
            [*self._command(), *map(str, fds)],
            pass_fds=fds if self._packets_fd is None else (*fds, self._packets_fd),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if noisy else subprocess.DEVNULL,
        )

    def _send(self, message: Message) -> None:
        with contextlib.suppress(Closed):  # the next receive tells how it died
            if self._channel:
                self._channel.send(message)

    def _receive(self, timeout_s: float) -> Message | None:
        try:
            while self._channel:
                message = self._channel.receive(timeout_s)
                if message is None or message["kind"] != "log":
                    return message
                log.log(message["level"], "%s", message["text"])
        except Closed:
            return {"kind": "gone"}
        return None

    def _expect(self, kind: str, limit_s: float, otherwise: str) -> Message:
        message = self._receive(limit_s)
        if message is None:
            raise SourceError(otherwise)
        if message["kind"] != kind:
            self._finish(message)
        return message

    def _take(self, message: Message) -> Frame:
        pixels = self._pool.acquire(tuple(message["shape"]))
        assert self._slots is not None
        self._slots.copy_to(pixels, message["offset"])
        self._send({"offset": message["offset"]})
        fields = {name: message[name] for name in FIELDS}
        return Frame(pixels, **{**fields, "colour": Colour(*fields["colour"])})

    def _finish(self, message: Message) -> NoReturn:
        """Raise what the last message of the child means."""
        child = self._child
        kind = message["kind"]
        if kind == "gone" and child:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(GOODBYE_S)
        self.close()
        if kind == "end":
            raise SourceEnded
        if kind == "error":
            raise SourceError(message["text"])
        if kind == "bug":
            raise SourceError(f"the decoder of {self._label} failed: {message['text']}")
        raise SourceError(
            f"the decoder of {self._label} died ({_cause(child)}); the file or stream is broken: "
            "play it with 'ffplay' to see, then convert or record it again"
        )


def _cause(child: subprocess.Popen[bytes] | None) -> str:
    code = child.returncode if child else None
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _make_decoder(request: dict[str, Any]) -> FrameSource:
    from .uri import make_source  # which knows this file

    given = dict(request["options"])
    if (motion := given.pop("motion")) is not None:
        given["motion"] = MotionOptions(**motion)
    options = SourceOptions(**given)
    _limit_memory(options.max_pixels)
    fd = request["packets_fd"]
    return make_source(
        request["uri"],
        realtime=False,
        isolate=False,
        options=options,
        packets=None if fd is None else PipeTap(fd),
    )


def _limit_memory(max_pixels: int) -> None:
    """What a source sends must not take the machine's memory: this process fails before."""
    own_kb = 0  # that it has by now: code and stacks of threads, by the number of cores
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            own_kb = int(line.split()[1])
    limit = own_kb * 1024 + BASE_BYTES + BYTES_PER_PIXEL * max_pixels
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _load() -> None:
    """Import what a source may need, before the time for its opening runs."""
    from . import uri  # noqa: F401 - which knows this file

    load_av()
    load_cv2()


def main() -> int:
    """The child process: serve one source through the two file descriptors in sys.argv."""
    return serve(sys.argv[1:], _make_decoder, _load)
