"""What does a process that decodes for another one do, whichever library it decodes with?

It opens the one source it is told of, and sends frames until it is told to stop, by the other end
of its socket being closed. It never outlives the process that started it. Standard library only: it
also runs in the system's Python, which may have no NumPy.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from app.errors import KestrelError, SourceEnded
from app.sources.shared_slots import Channel, Closed, SlotWriter

READ_S = 0.2
GOODBYE_S = 0.6  # for the source to close politely (an RTSP camera counts its sessions)
PR_SET_PDEATHSIG = 1


class Picture(NamedTuple):
    """One frame: its bytes, and the other fields of Frame with the shape."""

    pixels: memoryview  # C-contiguous
    about: Mapping[str, Any]


class ChildSource(Protocol):
    """A source whose words can be sent."""

    def open(self) -> Mapping[str, Any]:
        """The fields of SourceInfo."""

    def read(self, timeout_s: float) -> Picture | None:
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
    # Ctrl-C and a supervisor's SIGTERM reach the whole group: the parent decides when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
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


def _serve(
    channel: Channel, slots: SlotWriter, make: Callable[[dict[str, Any]], ChildSource]
) -> None:
    channel.send({"kind": "ready"})
    request = channel.receive(None) or {}
    logging.disable(logging.CRITICAL)  # the parent has the log
    source = make(request)
    try:
        info = source.open()
        channel.send({"kind": "opened", "info": dict(info)})
        while True:
            _take_back(channel, slots, timeout_s=0)
            picture = source.read(READ_S)
            if picture is not None:
                _send_frame(channel, slots, picture, live=info["live"])
    finally:
        source.close()


def _send_frame(channel: Channel, slots: SlotWriter, picture: Picture, *, live: bool) -> None:
    while (offset := slots.put(picture.pixels)) is None:
        if live:
            return  # nobody keeps up: this frame is worthless by the time there is room
        _take_back(channel, slots, timeout_s=None)
    channel.send({"kind": "frame", "offset": offset, **picture.about})


def _take_back(channel: Channel, slots: SlotWriter, *, timeout_s: float | None) -> None:
    while (message := channel.receive(timeout_s)) is not None:
        slots.give_back(message["offset"])
        timeout_s = 0
