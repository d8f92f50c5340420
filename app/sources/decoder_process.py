"""What does the decoder's own process do? (python -m app.sources.decoder_process SOCKET MEMORY)

It opens the one source it is told of, and sends frames until it is told to stop, by the other end
of its socket being closed. It never outlives the process that started it.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import logging
import os
import resource
import select
import signal
import socket
import sys
import threading
import time

from app.errors import KestrelError, SourceEnded
from app.frame import Frame, SourceInfo
from app.sources._cv2 import load_cv2
from app.sources.options import SourceOptions
from app.sources.shared_slots import Channel, Closed, SlotWriter
from app.sources.uri import make_source

READ_S = 0.2
GOODBYE_S = 0.6  # for the source to close politely (an RTSP camera counts its sessions)
PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> int:
    """Serve one source; ``argv`` holds two inherited file descriptors."""
    sock = socket.socket(fileno=int(argv[0]))
    _be_a_good_child()
    threading.Thread(target=_leave_when_closed, args=(sock.fileno(),), daemon=True).start()
    channel = Channel(sock)
    with contextlib.suppress(Closed):
        try:
            _serve(channel, SlotWriter(int(argv[1])))
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


def _serve(channel: Channel, slots: SlotWriter) -> None:
    load_cv2()
    channel.send({"kind": "ready"})
    request = channel.receive(None) or {}
    logging.disable(logging.CRITICAL)  # the parent has the log
    source = make_source(
        request["uri"], realtime=False, isolate=False, options=SourceOptions(**request["options"])
    )
    try:
        info = source.open()
        channel.send({"kind": "opened", "info": dataclasses.asdict(info)})
        while True:
            _take_back(channel, slots, timeout_s=0)
            frame = source.read(READ_S)
            if frame is not None:
                _send_frame(channel, slots, frame, info)
    finally:
        source.close()


def _send_frame(channel: Channel, slots: SlotWriter, frame: Frame, info: SourceInfo) -> None:
    while (offset := slots.put(frame.pixels)) is None:
        if info.live:
            return  # nobody keeps up: this frame is worthless by the time there is room
        _take_back(channel, slots, timeout_s=None)
    channel.send(
        {
            "kind": "frame",
            "offset": offset,
            "shape": frame.pixels.shape,
            "format": frame.format,
            "index": frame.index,
            "captured_ns": frame.captured_ns,
            "media_ns": frame.media_ns,
        }
    )


def _take_back(channel: Channel, slots: SlotWriter, *, timeout_s: float | None) -> None:
    while (message := channel.receive(timeout_s)) is not None:
        slots.give_back(message["offset"])
        timeout_s = 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
