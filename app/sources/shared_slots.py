"""How do frames cross from the decoder's process to ours without a pipe in between?

A memory file holds them; JSON messages over a socket say which part holds what. The decoder owns
the layout: it places each frame at an offset and may use that place again once it was given back.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
