"""Decoding no more of a stream than a look at it now and then needs.

While nothing moves, a picture in so long is enough: a key frame, which needs none before it, or
the last of what has come. Packets since the last key frame looked at are kept, so that, once
something moves, nothing in between is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .base import load_av

LOOK_S = 0.4  # between two looks at least
MOST_BYTES = 64_000_000  # that are kept
LEARNING = 0.05  # share of the newest packet in what is usual
AGAIN, FORGET = 1.3, 0.999  # times the size of one looked at in vain; kept from packet to packet
UNUSUAL = 6.0  # a packet above the mean by so many mean deviations is worth a look


class IdleDecoder:
    """Between a demuxer and its decoder. ``resting``: whether only looks are decoded.

    ``skipped``: by how many the index of the next picture is ahead (or, after ``wake``, behind) of
    one more than the last one's. ``looked``: the last picture was a look; others come in a row.
    ``live``: there is no way back later, so that a packet of unusual size is worth a look at once.
    """

    def __init__(
        self, stream: Any, codec: Any, decode: Callable[[Any], list[Any]], *, wake_s: float
    ) -> None:
        """``codec`` is emptied, ``decode`` uses it; ``wake_s``: the longest between two looks."""
        self._codec, self._time_base = codec, stream.time_base
        self._decode, self._wake_s = decode, wake_s
        self.live = False
        self.resting = self.looked = False
        self.skipped = 0
        self._kept: list[Any] = []  # packets from the key frame of the last look, or before, on
        self._bytes = 0
        self._fed = 0  # of these the decoder has had so many; 0: it must begin with the first
        self._seen: list[int | None] = []  # times of the last two pictures looked at
        self._shown = 0  # of these pictures so many were decoded
        self._at = 0  # the last look, counted from the first of these pictures
        self._before = 0  # from the look before to the last one
        self._wakes = False
        self._usual, self._deviation, self._in_vain = 0.0, 0.0, 0.0

    def rest(self) -> None:
        """Only looks from the next key frame on."""
        self.resting = True

    def wake(self, *, back: bool) -> None:
        """All pictures from the last look on; ``back``: with those since the look before, and so
        with the last look a second time."""
        if not self._kept:  # it has not begun to rest
            self.resting = False
            return
        self._wakes = True
        if not back:
            self._seen[0], self._before = self._seen[-1], 0

    def reset(self) -> None:
        """The stream goes on elsewhere, and its decoder was emptied."""
        self.resting = self.looked = self._wakes = False
        self.skipped = 0
        self._forget()

    def pictures(self, packet: Any) -> Iterator[Any]:
        """What there is to see once this packet has come; an empty one ends the stream."""
        if not self.resting:
            yield from self._decode(packet)
            return
        if not self._kept:
            yield from self._begin(packet)
            return
        if self._wakes:  # since the look that was taken last
            yield from self._catch_up()
            yield from self._decode(packet)
            return
        self._kept.append(packet)
        self._bytes += packet.size
        if not packet.size or self._bytes > MOST_BYTES:  # the end: what came last is shown whole
            self._seen, self._before = [self._seen[-1], None], 0
            yield from self._catch_up()
            return
        wait_s = self._waited_s(packet)
        if packet.is_keyframe and wait_s >= LOOK_S:
            self._kept.pop()
            yield from self._look(self._alone(packet), len(self._kept), key=[packet])
        elif wait_s >= self._wake_s or (
            self.live and self._is_unusual(packet) and wait_s >= LOOK_S
        ):
            pictures = self._feed()
            yield from self._look(pictures, self._shown - 1, key=[])

    def _begin(self, packet: Any) -> Iterator[Any]:
        """Decode on to the next key frame, the first that is looked at."""
        if not packet.is_keyframe or packet.pts is None:
            yield from self._decode(packet)
            return
        yield from self._drain()
        self._kept, self._bytes, self._seen = [packet], packet.size, [packet.pts, packet.pts]
        yield from self._alone(packet)

    def _look(self, pictures: list[Any], at: int, key: list[Any]) -> Iterator[Any]:
        """The last of ``pictures``, which is at ``at``; ``key``: its packet, if one is enough."""
        seen = self._seen[-1]
        # the decoder may hold back the newest to put them in order
        if pictures and (seen is None or (pictures[-1].pts or 0) > seen):
            self._before, self._at = at - self._at, at
            self._seen = [seen, pictures[-1].pts]
            self.skipped += self._before - 1
            self.looked = True
            yield pictures[-1]
            self.looked = False
            if self._wakes:
                self._kept += key
                yield from self._catch_up()
            elif key:
                self._kept, self._bytes, self._fed, self._at = key, key[0].size, 0, 0
            return
        self._kept += key  # damaged

    def _catch_up(self) -> Iterator[Any]:
        """All since the look before the last one, and no rest any more."""
        after, kept = self._seen[0], self._kept
        self.skipped -= self._before
        self.resting = self._wakes = False
        self._forget()
        self._codec.flush_buffers()
        for packet in kept:
            for picture in self._decode(packet):
                if after is None or picture.pts is None or picture.pts > after:
                    yield picture

    def _alone(self, packet: Any) -> list[Any]:
        """A key frame's picture, after which the decoder is empty."""
        self._codec.flush_buffers()
        pictures = self._decode(packet)
        pictures += self._drain()
        self._fed = 0
        return pictures[:1]

    def _feed(self) -> list[Any]:
        """What the decoder gives for all that is kept; it has had ``_fed`` of it."""
        if not self._fed:
            self._codec.flush_buffers()
            self._shown = 0
        pictures: list[Any] = []
        for packet in self._kept[self._fed :]:
            decoded = self._decode(packet)
            self._shown += len(decoded)
            pictures = decoded or pictures
        self._fed = len(self._kept)
        return pictures

    def _drain(self) -> list[Any]:
        try:
            pictures: list[Any] = self._codec.decode(None)
        except load_av().error.FFmpegError:
            pictures = []
        self._codec.flush_buffers()
        for picture in pictures:
            picture.time_base = self._time_base  # which PyAV takes from a packet
        return pictures

    def _waited_s(self, packet: Any) -> float:
        """Since the last look, by the clock of the stream."""
        seen, now = self._seen[-1], packet.pts if packet.pts is not None else packet.dts
        if seen is None or now is None:
            return self._wake_s
        return float((now - seen) * self._time_base)

    def _is_unusual(self, packet: Any) -> bool:
        """Whether it is much larger than packets were while nothing moved: something does now."""
        if packet.is_keyframe:
            return False
        size, usual = float(packet.size), self._usual
        unusual = usual > 0 and size > max(2 * usual, usual + UNUSUAL * self._deviation)
        # what has been looked at in vain, such as the clock in the picture, must be exceeded
        unusual = unusual and size > self._in_vain
        self._in_vain = AGAIN * size if unusual else self._in_vain * FORGET
        if not usual:
            self._usual, self._deviation = size, size
        elif not unusual:
            self._usual += LEARNING * (size - usual)
            self._deviation += LEARNING * (abs(size - usual) - self._deviation)
        return unusual

    def _forget(self) -> None:
        self._kept, self._bytes, self._fed, self._seen = [], 0, 0, []
        self._shown = self._at = self._before = 0
