"""Frames cross from a decoding process through shared memory.

A memory file holds them; JSON messages over a socket say which part holds what. The decoder owns
the layout: it places each frame at an offset and may use that place again once it was given back.

It opens the one source it is told of, and sends frames until it is told to stop, by the other end
of its socket being closed. It never outlives the process that started it. Standard library only: it
also runs in the system's Python, which may have no NumPy.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import logging
import mmap
import os
import resource
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ..core.errors import KestrelError, SourceEnded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..core.frame import Frame, SourceInfo


SLOTS = 4
Message = dict[str, Any]


class Closed(Exception):
    """The other process has gone, or closed its end."""


class Channel:
    """Whole JSON messages, each way, over a SOCK_SEQPACKET socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def send(self, message: Message) -> None:
        """Raises Closed."""
        try:
            self._sock.send(json.dumps(message).encode())
        except OSError as error:
            raise Closed from error

    def receive(self, timeout_s: float | None) -> Message | None:
        """The next message, None after ``timeout_s`` (None: wait for ever). Raises Closed."""
        timeout_ms = None if timeout_s is None else max(0, round(timeout_s * 1000))
        if not self._poll.poll(timeout_ms):
            return None
        try:
            data = self._sock.recv(1 << 16)
        except OSError as error:
            raise Closed from error
        if not data:
            raise Closed
        message: Message = json.loads(data)
        return message

    def close(self) -> None:
        """Idempotent."""
        self._sock.close()


class SlotWriter:
    """The decoder's side of the memory file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._map: mmap.mmap | None = None
        self._slot_bytes = 0
        self._end = 0  # of the region in use; older, smaller regions lie before it
        self._free: set[int] = set()
        self._offsets: set[int] = set()

    def put(self, pixels: memoryview) -> int | None:
        """Copy pixels into a free slot and tell its offset; None when there is none."""
        flat = pixels.cast("B")
        if flat.nbytes > self._slot_bytes:
            self._grow(flat.nbytes)
        if not self._free or self._map is None:
            return None
        offset = self._free.pop()
        self._map[offset : offset + flat.nbytes] = flat
        return offset

    def give_back(self, offset: int) -> None:
        """The reader is done with it. Offsets of a region that was outgrown are forgotten."""
        if offset in self._offsets:
            self._free.add(offset)

    def _grow(self, frame_bytes: int) -> None:
        # The new slots lie behind the old ones: a frame may still be waiting there to be read.
        self._slot_bytes = 1 << (frame_bytes - 1).bit_length()  # so that growing stays rare
        start, self._end = self._end, self._end + SLOTS * self._slot_bytes
        os.ftruncate(self._fd, self._end)
        self._map = mmap.mmap(self._fd, self._end)
        self._offsets = {start + i * self._slot_bytes for i in range(SLOTS)}
        self._free = set(self._offsets)


class SlotReader:
    """Our side of the memory file: it reads only."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._map: mmap.mmap | None = None

    def copy_to(self, pixels: NDArray[np.uint8], offset: int) -> None:
        """Fill pixels with the bytes at the offset."""
        import numpy as np  # not at the top: the other end may run where there is none

        if self._map is None or offset + pixels.nbytes > len(self._map):
            self.close()
            self._map = mmap.mmap(self._fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
        place = np.frombuffer(self._map, np.uint8, pixels.nbytes, offset)
        np.copyto(pixels.reshape(-1), place)

    def close(self) -> None:
        """Let go of the mapping; the file descriptor belongs to the caller."""
        if self._map is not None:
            self._map.close()
            self._map = None


READ_S = 0.2
GOODBYE_S = 0.6  # for the source to close politely (an RTSP camera counts its sessions)
PR_SET_PDEATHSIG = 1


# of a frame, besides its pixels
FIELDS = (
    *("index", "captured_ns", "media_ns", "format", "colour", "pixel_aspect", "stream_ns"),
    *("still", "still_ns", "regions"),
)


@dataclasses.dataclass(frozen=True)
class PlainFrame:
    """A Frame of a process without NumPy; ``pixels`` has the shape and is C-contiguous."""

    pixels: memoryview
    index: int
    captured_ns: int
    media_ns: int | None = None
    format: str = "bgr8"
    colour: tuple[str, bool] = ("bt601", False)  # as Colour
    pixel_aspect: float = 1.0
    stream_ns: int | None = None
    still: int = 0
    still_ns: int = 0
    regions: None = None


class ChildSource(Protocol):
    """A FrameSource, or one that can do without NumPy."""

    def open(self) -> SourceInfo | Mapping[str, Any]:
        """SourceInfo, or its fields."""

    def read(self, timeout_s: float) -> Frame | PlainFrame | None:
        """As FrameSource.read."""

    def close(self) -> None:
        """As FrameSource.close."""


def serve(
    argv: list[str], make: Callable[[dict[str, Any]], ChildSource], load: Callable[[], object]
) -> int:
    """Serve one source; ``argv`` holds two inherited file descriptors: socket and memory.

    ``load`` runs before the process says that it is ready; ``make`` gets the request:
    ``{"uri": …, "options": …}``.
    """
    sock = socket.socket(fileno=int(argv[0]))
    _be_a_good_child()
    threading.Thread(target=_leave_when_closed, args=(sock.fileno(),), daemon=True).start()
    channel = Channel(sock)
    with contextlib.suppress(Closed):
        try:
            load()
            _serve(channel, SlotWriter(int(argv[1])), make)
        except KestrelError as error:
            channel.send({"kind": "error", "text": str(error)})
        except SourceEnded:
            channel.send({"kind": "end"})
        except Closed:
            raise
        except Exception as error:
            channel.send({"kind": "bug", "text": f"{type(error).__name__}: {error}"})
        while True:  # stay until the reader has seen everything
            channel.receive(None)
    return 0


def _be_a_good_child() -> None:
    # Ctrl-C, a supervisor's SIGTERM and a lost terminal reach the whole group: the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, AttributeError):
        # Also when this process hangs, or is stopped. It fires when the parent's *thread* ends,
        # which is the thread that opened the source and closes it.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _leave_when_closed(fd: int) -> None:
    hangup = select.poll()
    hangup.register(fd, 0)
    hangup.poll()
    time.sleep(GOODBYE_S)
    os._exit(0)  # the source is stuck in a read


class _ToParent(logging.Handler):
    """What is logged here is said by the parent, which has the log."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        text = record.getMessage()[:2000]
        with contextlib.suppress(Closed):
            self._channel.send({"kind": "log", "level": record.levelno, "text": text})


def _serve(
    channel: Channel, slots: SlotWriter, make: Callable[[dict[str, Any]], ChildSource]
) -> None:
    channel.send({"kind": "ready"})
    request = channel.receive(None) or {}
    logging.basicConfig(handlers=[_ToParent(channel)], level=logging.INFO, force=True)
    source = make(request)
    try:
        opened = source.open()
        info = opened if isinstance(opened, Mapping) else dataclasses.asdict(opened)
        channel.send({"kind": "opened", "info": info})
        while True:
            _take_back(channel, slots, timeout_s=0)
            frame = source.read(READ_S)
            if frame is not None:
                _send_frame(channel, slots, frame, live=info["live"])
    finally:
        source.close()


def _send_frame(
    channel: Channel, slots: SlotWriter, frame: Frame | PlainFrame, *, live: bool
) -> None:
    array: Any = frame.pixels  # or a memoryview already
    pixels = memoryview(array)
    while (offset := slots.put(pixels)) is None:
        if live:
            return  # nobody keeps up: this frame is worthless by the time there is room
        _take_back(channel, slots, timeout_s=None)
    fields = {name: getattr(frame, name) for name in FIELDS}
    channel.send({"kind": "frame", "offset": offset, "shape": pixels.shape, **fields})


def _take_back(channel: Channel, slots: SlotWriter, *, timeout_s: float | None) -> None:
    while (message := channel.receive(timeout_s)) is not None:
        slots.give_back(message["offset"])
        timeout_s = 0
