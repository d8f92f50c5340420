"""A source made to do everything that sources do wrong (chaos:SCRIPT:URI, chaos:SEED:URI).

A script is a list of events, ``KIND@START+LENGTH`` in seconds, and may repeat:
``freeze@5+3,disconnect@12+4/20`` does both every 20 s. A seed makes up such events for ever, one
in a minute; ``7*20`` the same seed's, twenty times as often.
"""

from __future__ import annotations

import enum
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..core.errors import ConfigError, SourceError
from ..core.frame import Frame, SourceInfo, bgr_pixels
from ..core.interfaces import FrameSource

MEAN_GAP_S, LENGTHS_S = 60.0, (1.0, 20.0)
MOST_HELD = 64  # frames of a burst
BURST_S, JITTER_S = 0.5, 0.2
CLOCK_STEP_NS = 3_600_000_000_000
HANG_STEP_S = 0.05
_NUMBER = r"[0-9]{1,6}(?:\.[0-9]{1,3})?"


class Kind(enum.Enum):
    """What happens."""

    FREEZE = "freeze"  # the same picture again and again
    BLACK = "black"
    SILENT = "silent"  # no frames
    HANG = "hang"  # a read that does not return
    DISCONNECT = "disconnect"  # a fault, and openings that fail
    CORRUPT = "corrupt"  # noise in place of a part of the picture
    JITTER = "jitter"  # frames late by a random time
    BURST = "burst"  # half a second of frames at once
    CLOCK = "clock"  # stamps an hour off, one way or the other
    SIZE = "size"  # frames of half the size


@dataclass(frozen=True, slots=True)
class ChaosEvent:
    """One thing that happens, in seconds since the first opening."""

    kind: Kind
    start_s: float
    end_s: float


class Schedule:
    """What happens when. It outlives the source, so that a new opening does not start over."""

    def __init__(self, text: str, *, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.now_ns = now_ns
        self._lock = threading.Lock()
        self._began_ns: int | None = None
        self._repeat_s: float | None = None
        seed = re.fullmatch(rf"([0-9]{{1,9}})(?:\*({_NUMBER}))?", text)
        if seed:
            self.rng = random.Random(int(seed[1]))
            self._rate = max(0.001, float(seed[2] or 1))
            self._events: list[ChaosEvent] | None = None
            self._next = self._made_up(0.0)
        else:
            self.rng = random.Random(0)
            self._events = self._parsed(text)

    def begin(self) -> None:
        """The source is opened; the first time starts the clock."""
        if self._began_ns is None:
            self._began_ns = self.now_ns()

    def now(self) -> ChaosEvent | None:
        """What happens at this moment."""
        now_s = (self.now_ns() - (self._began_ns or self.now_ns())) / 1e9
        if self._events is None:
            with self._lock:  # a reader that was left behind may ask while the next one does
                while now_s >= self._next.end_s:
                    self._next = self._made_up(self._next.end_s)
                return self._next if now_s >= self._next.start_s else None
        if self._repeat_s:
            now_s %= self._repeat_s
        return next((each for each in self._events if each.start_s <= now_s < each.end_s), None)

    def _made_up(self, after_s: float) -> ChaosEvent:
        start_s = after_s + self.rng.expovariate(self._rate / MEAN_GAP_S)
        shortest_s, longest_s = (length / max(1.0, self._rate**0.5) for length in LENGTHS_S)
        kind = self.rng.choice(list(Kind))
        return ChaosEvent(kind, start_s, start_s + self.rng.uniform(shortest_s, longest_s))

    def _parsed(self, text: str) -> list[ChaosEvent]:
        script, slash, repeat = text.partition("/")
        events = []
        for word in script.split(","):
            match = re.fullmatch(rf"([a-z]+)@({_NUMBER})\+({_NUMBER})", word)
            known = [kind.value for kind in Kind]
            if match is None or match[1] not in known:
                raise ConfigError(
                    f"chaos: cannot read {word!r}; write a seed, or KIND@START+LENGTH in seconds "
                    f"such as freeze@5+3, with KIND one of {', '.join(known)}"
                )
            start_s = float(match[2])
            events.append(ChaosEvent(Kind(match[1]), start_s, start_s + float(match[3])))
        if slash:
            if not re.fullmatch(_NUMBER, repeat) or not float(repeat):
                raise ConfigError(f"chaos: {repeat!r} is no number of seconds to repeat after")
            self._repeat_s = float(repeat)
        return events


class ChaosSource:
    """A live source to which the schedule happens. Every frame is BGR."""

    def __init__(
        self,
        inner: FrameSource,
        schedule: Schedule,
        *,
        label: str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._inner, self._schedule, self._label, self._sleep = inner, schedule, label, sleep
        self._rng = np.random.default_rng(schedule.rng.getrandbits(32))
        self._frozen: Frame | None = None
        self._held: list[Frame] = []
        self._held_since_ns, self._releasing = 0, False
        self._index = 0
        self._closed = False

    def open(self) -> SourceInfo:
        """Open it, unless it is disconnected just now."""
        self._schedule.begin()
        self._raise_if_disconnected()
        info = self._inner.open()
        detail = f"{info.detail}, chaos" if info.detail else "chaos"
        return replace(info, uri=self._label, live=True, frame_count=None, detail=detail)

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, and what has happened to it."""
        self._raise_if_disconnected()
        event = self._schedule.now()
        kind = event.kind if event else None
        if self._held and (self._releasing or kind is not Kind.BURST):
            frame = self._held.pop(0)  # stamped on arrival, as a decoder does
            return self._numbered(replace(frame, captured_ns=self._schedule.now_ns()))
        if kind is Kind.HANG:
            while self._schedule.now() is event and not self._closed:
                self._sleep(HANG_STEP_S)
            return None
        fresh = self._inner.read(timeout_s)  # also when it is not used: a camera goes on
        if fresh is None or kind is Kind.SILENT:
            return None
        frame = replace(fresh, media_ns=None)
        if kind is Kind.FREEZE:
            self._frozen = self._frozen or frame
            return self._numbered(replace(self._frozen, captured_ns=frame.captured_ns))
        self._frozen = None
        if kind is Kind.BURST:
            self._hold(frame)
            return None
        return self._numbered(self._spoilt(frame, event))

    def close(self) -> None:
        """Close it."""
        self._closed = True
        self._held.clear()
        self._inner.close()

    def _numbered(self, frame: Frame) -> Frame:
        self._index += 1
        return replace(frame, index=self._index - 1)

    def _hold(self, frame: Frame) -> None:
        """Keep it for half a second, then let all go at once."""
        now_ns = self._schedule.now_ns()
        if not self._held:
            self._held_since_ns = now_ns
        if len(self._held) < MOST_HELD:
            self._held.append(replace(frame, pixels=frame.pixels.copy()))
        self._releasing = now_ns - self._held_since_ns > BURST_S * 1e9

    def _spoilt(self, frame: Frame, event: ChaosEvent | None) -> Frame:
        pixels, kind = frame.pixels, event.kind if event else None
        if kind is Kind.BLACK:
            black = np.zeros((*frame.wh_px[::-1], 3), np.uint8)  # in YUV nothing but 0 is green
            return replace(frame, pixels=black, format="bgr8")
        if kind is Kind.SIZE:
            pixels = np.ascontiguousarray(bgr_pixels(frame)[::2, ::2])
            return replace(frame, pixels=pixels, format="bgr8")
        if event is not None and kind is Kind.CLOCK:
            way = 1 if int(event.start_s) % 2 else -1
            return replace(frame, captured_ns=frame.captured_ns + way * CLOCK_STEP_NS)
        if kind is Kind.JITTER:
            self._sleep(JITTER_S * self._rng.random())
        if kind is Kind.CORRUPT:
            first, last = sorted(self._rng.integers(0, pixels.shape[0], 2))
            pixels = pixels.copy()
            pixels[first:last] = self._rng.integers(0, 256, pixels[first:last].shape, np.uint8)
            return replace(frame, pixels=pixels)
        return frame

    def _raise_if_disconnected(self) -> None:
        event = self._schedule.now()
        if event is not None and event.kind is Kind.DISCONNECT:
            raise SourceError(f"{self._label} is disconnected, as its chaos script says; wait")
