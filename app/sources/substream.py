"""The stream of a camera that is recorded, beside the one of it that is looked at.

It is demuxed, and copied as it comes; nothing of it is decoded but the pictures that somebody asks
for. What belongs together is found by time: of each stream the clock of its packets is laid beside
this machine's by the packets that came with the least delay. So moments differ by no more than the
two streams differ in their least delay, plus a frame's decoding. Two recordings begin at once.
"""

from __future__ import annotations

import io
import logging
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Any

import numpy as np

from ..core.credentials import mask_credentials
from ..core.detections import Result, scaled
from ..core.errors import ConfigError, KestrelError, SourceEnded
from ..core.frame import Frame, describe
from ..core.interfaces import FrameSource, TellsItsState
from ..core.packets import EncodedPacket, PacketFan, StreamHead
from ..core.schemes import is_network, scheme_of
from ..core.states import LOST
from ..core.stats import OutputMeter
from .base import load_av
from .decode import PictureCopier
from .packets import TakesPackets

log = logging.getLogger(__name__)

READ_S = 0.2
KEPT_NS, MOST_BYTES = 15_000_000_000, 32_000_000  # for pictures: whole groups of them
TIMES_KEPT = 2048
SPAN_NS, JUMP_NS = 5_000_000_000, 2_000_000_000
LATE_S = 0.5  # it may be behind the other stream by so much
HEADLESS = 250  # so many frames of which none can be copied are told
STOP_S = 1.0


class ArrivalClock:
    """From a stream's times to monotonic ones: the least delay within 5 to 10 s counts."""

    def __init__(self) -> None:
        self.offset_ns: int | None = None
        self._newest = self._before = 0  # least of this span and of the one before
        self._since_ns = 0

    def note(self, stream_ns: int, arrived_ns: int) -> None:
        """What has this time in the stream came now."""
        offset_ns = arrived_ns - stream_ns
        if self.offset_ns is None or abs(offset_ns - self.offset_ns) > JUMP_NS:  # it begins anew
            self._newest = self._before = offset_ns
            self._since_ns = arrived_ns
        elif arrived_ns - self._since_ns > SPAN_NS:
            self._newest, self._before, self._since_ns = offset_ns, self._newest, arrived_ns
        self._newest = min(self._newest, offset_ns)
        self.offset_ns = min(self._newest, self._before)


class Substream:
    """Takes the packets of ``make``'s source on a thread of its own: ``start``, ``stop``.

    ``fan`` gives them to recordings; without any for long, they are told that there are none.
    ``recorded``: it and the stream looked at are recordings. ``pictures``: somebody wants some.
    """

    def __init__(
        self,
        make: Callable[[TakesPackets], FrameSource],
        meter: OutputMeter,
        *,
        label: str,
        recorded: bool = False,
        pictures: bool = True,
    ) -> None:
        self.fan = PacketFan(self.placed)
        self._meter, self._label = meter, label
        self._recorded, self._keeps = recorded, pictures
        self._lock = threading.Condition()
        self._head: StreamHead | None = None
        self._ring: deque[EncodedPacket] = deque()
        self._times: deque[int] = deque(maxlen=TIMES_KEPT)
        self._bytes = self._headless = 0
        self._first_ns: int | None = None
        self._came_s = float("-inf")  # when the newest packet did
        self._ours, self._theirs = ArrivalClock(), ArrivalClock()
        self._last: tuple[int, Frame] | None = None  # a picture, and its time
        self._wh_px: tuple[int, int] | None = None
        self._stopped = threading.Event()
        self._source = make(self)  # what is wrong with its URI is told here
        self._thread = threading.Thread(target=self._run, name=f"{meter.name}", daemon=True)

    # -- for who starts it ------------------------------------------------------------------------

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End; one that hangs in its driver is left behind."""
        self._stopped.set()
        self._thread.join(STOP_S)

    def state_changed(self, state: str, why: str) -> None:
        """See SourceListener."""
        self._meter.trouble = f"{self._label} {state}: {why}" if state in LOST else ""
        if state == "offline":
            self.begin(None)

    def noticed(self, event: str) -> None:
        """See SourceListener."""

    def _run(self) -> None:
        source = self._source
        try:
            if isinstance(source, TellsItsState):
                source.listen(self)
            info = source.open()
            self._wh_px = info.wh_px
            log.info("recorded stream %s: %s", self._label, describe(info))
            while not self._stopped.is_set():
                if source.read(READ_S) is not None and self._head is None:
                    self._tell_headless()
        except SourceEnded:
            log.info("recorded stream %s ended", self._label)
        except KestrelError as error:
            self._meter.trouble = mask_credentials(str(error))
            log.warning("the recorded stream is lost, detection goes on: %s", error)
            self.begin(None)
        finally:
            source.close()

    def _tell_headless(self) -> None:
        self._headless += 1
        if self._headless == HEADLESS:
            self._meter.trouble = f"{self._label} gives no H.264 or H.265 that can be copied"
            log.warning("%s; the stream looked at is recorded instead", self._meter.trouble)

    # -- packets come, on the thread that reads ---------------------------------------------------

    def begin(self, head: StreamHead | None) -> None:
        """See PacketTap."""
        with self._lock:
            self._head, self._first_ns, self._last = head, None, None
            self._ring.clear()
            self._times.clear()
            self._bytes, self._theirs = 0, ArrivalClock()
        self.fan.begin(head)

    def put(self, packet: EncodedPacket) -> None:
        """See PacketTap."""
        head = self._head
        if head is not None:
            pts_ns = head.ns(packet.pts)
            with self._lock:
                self._came_s = monotonic()
                self._theirs.note(pts_ns, packet.captured_ns)
                if self._first_ns is None:
                    self._first_ns = max(0, pts_ns)  # what is before 0 is not shown
                self._times.append(pts_ns)
                if self._keeps:
                    self._keep(packet, pts_ns, head)
                self._lock.notify_all()
        self._meter.delivered()
        self.fan.put(packet)

    def _keep(self, packet: EncodedPacket, pts_ns: int, head: StreamHead) -> None:
        if not self._ring and not packet.key:
            return
        self._ring.append(packet)
        self._bytes += len(packet.data)
        while packet.key and len(self._ring) > 1:  # the oldest group, if there is another one
            second = next(i for i, each in enumerate(self._ring) if i and each.key)
            old = head.ns(self._ring[second].pts) < pts_ns - KEPT_NS
            if not (second < len(self._ring) - 1 and (old or self._bytes > MOST_BYTES)):
                break
            for _ in range(second):
                self._bytes -= len(self._ring.popleft().data)

    # -- what of it belongs to a frame of the other stream; any one thread ------------------------

    def place(self, frame: Frame) -> int | None:
        """Its time in this stream, that of a packet where one is near; None while unknown."""
        with self._lock:
            if frame.stream_ns is not None:
                self._ours.note(frame.stream_ns, frame.captured_ns)
            theirs, ours = self._theirs.offset_ns, self._ours.offset_ns
            if theirs is None or self._first_ns is None:
                return None
            if self._recorded and frame.media_ns is not None:
                at_ns = self._first_ns + frame.media_ns
            elif frame.stream_ns is None or ours is None:
                at_ns = frame.captured_ns - theirs
            else:
                at_ns = frame.stream_ns + ours - theirs
            times = sorted(self._times)
        i = bisect_left(times, at_ns)
        if i == len(times):
            return at_ns
        return min(times[max(0, i - 1) : i + 1], key=lambda each: abs(each - at_ns))

    def placed(self, result: Result) -> Result:
        """The result as one of this stream's: its time, its size, boxes in its pixels."""
        frame, wh_px = result.frame, self._wh_px or result.frame.wh_px
        bare = np.broadcast_to(np.uint8(0), (wh_px[1], wh_px[0], 3))  # of no memory
        moved = replace(frame, pixels=bare, format="bgr8", stream_ns=self.place(frame))
        found = scaled(result.detections, frame.wh_px, wh_px)
        return replace(result, frame=moved, detections=found)

    def picture(self, at_ns: int) -> Frame | None:
        """Decode the frame of this time; waits a moment for it. None where it is not there."""
        with self._lock:
            if self._last is not None and self._last[0] == at_ns:
                return self._last[1]
            if monotonic() - self._came_s < LATE_S:  # else it is away
                self._lock.wait_for(lambda: bool(self._times) and self._times[-1] >= at_ns, LATE_S)
            head, ring = self._head, list(self._ring)
        if head is None or not ring:
            return None
        wanted = min(range(len(ring)), key=lambda i: abs(head.ns(ring[i].pts) - at_ns))
        if not head.ns(ring[0].pts) <= at_ns <= head.ns(max(each.pts for each in ring)):
            return None
        key = max(i for i in range(wanted + 1) if ring[i].key)
        try:
            made = _decoded(head, ring[key : wanted + 1], ring[wanted].pts)
        except (load_av().error.FFmpegError, ValueError) as error:
            log.debug("no picture of %s: %s", self._label, error)
            return None
        if made is not None:
            self._last = (at_ns, made)
        return made


def _decoded(head: StreamHead, packets: list[EncodedPacket], pts: int) -> Frame | None:
    av = load_av()
    with av.open(io.BytesIO(head.init), format="nut") as template:
        given = template.streams.video[0].codec_context
        codec: Any = av.CodecContext.create(given.name, "r")
        codec.extradata = given.extradata
    pictures: list[Any] = []
    for each in packets:
        packet = av.Packet(each.data)
        packet.pts, packet.dts = each.pts, each.dts
        pictures += codec.decode(packet)
        if len(pictures) > 1:
            del pictures[:-1]
        if pictures and pictures[-1].pts == pts:
            break
    else:
        pictures += codec.decode(None)
    chosen = min(pictures, key=lambda each: abs((each.pts or 0) - pts), default=None)
    if chosen is None:
        return None
    made = PictureCopier()(chosen, codec.sample_aspect_ratio)
    return Frame(
        *(made.pixels, 0, 0),
        format=made.format,
        colour=made.colour,
        pixel_aspect=made.pixel_aspect,
        stream_ns=head.ns(pts),
    )


def refuse_unrecordable(uri: str) -> None:
    """Raise ConfigError for what has no packets."""
    scheme = scheme_of(uri)
    if not is_network(uri) and scheme is not None and scheme.name != "file":
        raise ConfigError(
            f"record_source {mask_credentials(uri)} has no stream that could be copied; name a "
            "network stream or a video file"
        )
