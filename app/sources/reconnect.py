"""A live source that comes back after it was lost, stalled or frozen.

Each opening of the source runs on a thread of its own (Reader): it opens, reads and closes there.
ReconnectingSource keeps the deadlines: an opening that is silent, frozen or broken is closed, or
left behind where it hangs in its driver (it cannot be ended, only counted, and a camera has one
owner at a time), and the source is opened anew, with back-off and jitter (Retry), until it is live
again. Nothing ever takes the place of a missing frame.

    opening -> live <-> stalled -> reconnecting -> live …       failed: its first opening failed
    opening -> offline -> live, and reconnecting -> offline after OFFLINE_NS     (core/states.py)
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..core.errors import SourceEnded, SourceError
from ..core.frame import Frame, SourceInfo, describe
from ..core.interfaces import FrameSource, SourceListener
from ..core.states import LOST
from .diagnose import no_frame
from .health import BacklogFilter, FreezeDetector, PictureFault

log = logging.getLogger(__name__)


READ_S = 0.2  # how soon a reader that nobody wants any more notices


class Reader(threading.Thread):
    """One opening of a source, which keeps the newest frame.

    A daemon: a driver that hangs must not keep the process alive.
    """

    def __init__(self, make: Callable[[], FrameSource]) -> None:
        super().__init__(name="source reader", daemon=True)
        self._make = make
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._error: BaseException | None = None
        self._left = False
        self.info: SourceInfo | None = None  # set once the source is open
        self.start()

    def take(self, timeout_s: float) -> Frame | None:
        """The newest frame not taken yet; None when there is none in time, or on opening.

        Raises what the source raised, once, after its last frame was taken.
        """
        with self._changed:
            was_open = self.info is not None
            self._changed.wait_for(
                lambda: self._frame or self._error or (self.info and not was_open), timeout_s
            )
            frame, self._frame = self._frame, None
            if frame is not None or self._error is None:
                return frame
            error, self._error = self._error, None
        try:
            raise error
        finally:
            del error  # its traceback holds this very frame of the stack

    def leave(self) -> None:
        """Nobody wants it any more: it closes its source as soon as the driver lets it."""
        with self._changed:
            self._left = True
            self._frame = None

    def gone(self, timeout_s: float = 0.0) -> bool:
        """True once the source is closed; waits for it at most so long."""
        self.join(timeout_s)
        return not self.is_alive()

    def run(self) -> None:
        """Until the source ends or fails, or nobody wants it."""
        try:
            source = self._make()
            try:
                info = source.open()
                with self._changed:
                    self.info = info
                    self._changed.notify()
                while not self._left:
                    self._keep(source.read(READ_S))
            finally:
                source.close()
        except BaseException as error:
            if not isinstance(error, SourceEnded):
                log.debug("source reader: %s", error)
            with self._changed:
                # without the traceback, whose frames would keep the source and its memory until
                # the garbage collector comes by, which counts objects and not megabytes
                self._error = error.with_traceback(None)
                self._changed.notify()

    def _keep(self, frame: Frame | None) -> None:
        if frame is not None:
            with self._changed:
                if not self._left:
                    self._frame = frame
                    self._changed.notify()


FIRST_WAIT_S = 0.2  # before the first attempt to open it again; doubles up to the longest wait
JITTER = 0.5  # a wait is shortened by up to this part: many clients must not come back as one
STEADY_NS = 5_000_000_000  # live for so long: the next loss is a new one, tried again at once
MOST_LEFT_BEHIND = 3  # readers that hang in a driver; more are not started until one returns
GOODBYE_S = 1.2  # what a driver may take to let go of its camera
_LOOK_AGAIN_NS = 50_000_000
OFFLINE_NS = 30_000_000_000  # lost for so long it is no longer told as coming back any moment


class Retry:
    """The clock between two openings. Times in ns of the clock that it is given."""

    def __init__(self, longest_s: float, now_ns: Callable[[], int], rng: random.Random) -> None:
        self.due_ns = 0  # not before then
        self._longest_s, self._now_ns, self._rng = longest_s, now_ns, rng
        self._failures = 0  # openings that failed, or were live only for a moment, in a row
        self._left_behind: list[Reader] = []
        self._left_ns = 0

    def leave(self, attempt: Reader) -> None:
        """Ask an opening to close; its driver may take its time, or never return."""
        attempt.leave()
        self._left_behind.append(attempt)
        self._left_ns = self._now_ns()

    def forgive(self, live_since_ns: int) -> None:
        """A source that was live for long enough begins with the shortest wait again."""
        if self._now_ns() - live_since_ns > STEADY_NS:
            self._failures = 0

    def back_off(self) -> None:
        """Wait, longer after each failure in a row, for the longest wait at most."""
        wait_s = min(FIRST_WAIT_S * 2.0**self._failures, self._longest_s)
        self._failures = min(self._failures + 1, 30)
        self._wait(wait_s * (1 - JITTER * self._rng.random()))

    def start_over(self) -> None:
        """Wait for the shortest time: nothing failed, but the next opening may be as short."""
        self._wait(FIRST_WAIT_S)

    def allows(self) -> bool:
        """Whether it may be opened now; where not, ``due_ns`` says when to ask again."""
        now_ns = self._now_ns()
        if now_ns < self.due_ns:
            return False
        self._left_behind = [each for each in self._left_behind if not each.gone()]
        if self._left_behind and now_ns - self._left_ns < GOODBYE_S * 1e9:
            self.due_ns = now_ns + _LOOK_AGAIN_NS
            return False
        if len(self._left_behind) >= MOST_LEFT_BEHIND:
            self._wait(self._longest_s)
            return False
        return True

    def _wait(self, wait_s: float) -> None:
        self.due_ns = self._now_ns() + round(wait_s * 1e9)


SLEPT_NS = 2_000_000_000  # nobody has read for so long: this process was stopped, not the source


@dataclass(frozen=True, slots=True)
class Endurance:
    """How long a source may take, be silent, frozen or black, in seconds; None: for ever."""

    open_s: float = 12.0  # an opening that takes longer is given up; a back-stop behind its own
    stall_s: float = 2.0  # no frame for so long is told
    silent_s: float = 10.0  # and for so long it ends this opening
    freeze_s: float | None = 30.0  # the same picture, byte for byte
    black_s: float | None = 5.0
    retry_s: float = 1.0  # longest wait between two attempts
    wait: bool = False  # also wait for a source that is not there at the start
    loop: bool = False  # a recording that ends starts again


class ReconnectingSource:
    """A live source that is opened again whenever it is lost.

    Frames are numbered on across openings. Only an error of the first opening (without
    ``Endurance.wait``), the end of a recording, and what is no SourceError end it.
    """

    def __init__(
        self,
        make: Callable[[], FrameSource],
        *,
        label: str,
        endurance: Endurance | None = None,
        begin: Callable[[Callable[[], FrameSource]], Reader] = Reader,
        now_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._make, self._label = make, label
        self._endurance = endurance or Endurance()
        self._begin_attempt, self._now_ns, self._sleep = begin, now_ns, sleep
        self._retry = Retry(self._endurance.retry_s, now_ns, rng or random.Random())
        self._listener: SourceListener | None = None
        self._attempt: Reader | None = None
        self._freeze = FreezeDetector(
            freeze_s=self._endurance.freeze_s, black_s=self._endurance.black_s
        )
        self.state, self._cause = "opening", ""
        self._attempts = 0  # openings since it was last live
        self._alive_ns = 0  # when it last gave a frame, or this attempt began
        self._lost_ns = self._live_ns = 0
        self._was_live = False
        self._looked_ns = now_ns()
        self._next_index = self._base = 0
        self._recording = False
        self._info: SourceInfo | None = None
        self._wh_px: tuple[int, int] | None = None
        self._backlog = BacklogFilter()

    def listen(self, listener: SourceListener) -> None:
        """Tell it of every change of state and every event from now on."""
        self._listener = listener

    def open(self) -> SourceInfo:
        """Open for the first time. With ``wait`` a source that is not there is no error."""
        self._start()
        while self._attempt is not None and self._attempt.info is None:
            try:
                self._attempt.take(0.2)
                self._check_deadlines()
            except SourceEnded:
                raise
            except SourceError as error:
                if not self._endurance.wait:
                    self._to("failed", "")  # who catches the error tells it
                    raise
                self._lose(str(error))
        if self._attempt is None or self._attempt.info is None:
            return SourceInfo(self._label, live=True, detail="waiting for it")
        self._opened(self._attempt.info)
        return self._attempt.info

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame of whichever opening gives one, None if none came in time."""
        now_ns = self._now_ns()
        deadline_ns = now_ns + round(timeout_s * 1e9)
        if now_ns - self._looked_ns > SLEPT_NS:
            self._alive_ns = now_ns
            self._freeze.restart(now_ns)
        try:
            while True:
                self._looked_ns = now_ns
                if self.state == "reconnecting" and now_ns - self._lost_ns > OFFLINE_NS:
                    self._to("offline", self._cause)
                if self._attempt is None:
                    self._wait_to_retry(deadline_ns)
                else:
                    frame = self._next(self._attempt, max(0, deadline_ns - now_ns) / 1e9)
                    if frame is not None:
                        return frame
                now_ns = self._now_ns()
                if now_ns >= deadline_ns:
                    return None
        finally:
            self._looked_ns = self._now_ns()

    def close(self) -> None:
        """Close the source, or leave it behind when its driver does not return."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.leave()
            if not attempt.gone(GOODBYE_S):
                log.warning("%s does not return from its driver; leaving it behind", self._label)

    def _start(self) -> None:
        self._attempt = self._begin_attempt(self._make)
        self._attempts += 1
        self._alive_ns = self._now_ns()
        self._base = self._next_index

    def _wait_to_retry(self, deadline_ns: int) -> None:
        wait_ns = min(deadline_ns, self._retry.due_ns) - self._now_ns()
        if wait_ns > 0:
            self._sleep(wait_ns / 1e9)
        if self._retry.allows():
            self._start()

    def _next(self, attempt: Reader, timeout_s: float) -> Frame | None:
        """A frame to hand on, or None: nothing came, it is not worth it, or the source is lost."""
        was_open = attempt.info is not None
        try:
            frame = attempt.take(timeout_s)
            if not was_open and attempt.info is not None:
                self._opened(attempt.info)
            if frame is None:
                self._check_deadlines()
        except SourceEnded:
            if not self._endurance.loop:
                raise
            self._leave_attempt()
            self._retry.start_over()  # after a while: it may hold no frame
            return None
        except SourceError as error:
            if self._recording and not self._endurance.loop:
                raise
            self._lose(str(error))
            return None
        return None if frame is None else self._examined(frame)

    def _opened(self, info: SourceInfo) -> None:
        self._alive_ns = now_ns = self._now_ns()
        self._recording = info.frame_count is not None
        self._backlog.restart(now_ns, info.fps)
        self._freeze.restart(now_ns)
        known = self._info
        first = self.state == "opening"  # then who opened it tells
        if not first and (known is None or (info.wh_px, info.fps) != (known.wh_px, known.fps)):
            log.info("source %s: %s", self._label, describe(info))
        self._info = info

    def _check_deadlines(self) -> None:
        """Raises SourceError when this opening is to be given up."""
        assert self._attempt is not None
        silent_s = (self._now_ns() - self._alive_ns) / 1e9
        patience = self._endurance
        if self._attempt.info is None:
            if silent_s > patience.open_s:
                raise SourceError(
                    f"{self._label} did not open within {patience.open_s:g} s: check the device, "
                    "its cable and the network"
                )
        elif silent_s > patience.silent_s:
            raise no_frame(self._label, patience.silent_s)
        elif silent_s > patience.stall_s and self.state == "live":
            self._count("stalls")
            self._to("stalled", f"no frame for {patience.stall_s:g} s")

    def _examined(self, frame: Frame) -> Frame | None:
        self._alive_ns = now_ns = self._now_ns()
        was_off = self._backlog.clock_is_off
        captured_ns = self._backlog.captured_ns(frame, now_ns)
        if self._backlog.clock_is_off and not was_off:
            self._count("clock steps")
            log.warning("source %s: its clock is off; frames count from arrival", self._label)
        frame = replace(frame, index=self._base + frame.index, captured_ns=captured_ns)
        self._next_index = frame.index + 1
        if self.state == "stalled":
            self._backlog.restart(now_ns, self._info.fps if self._info else None)
        if self.state != "live":
            if self.state != "stalled":
                self._live_ns = now_ns
            if self._was_live and self.state in LOST:
                self._count("reconnects")
            self._to("live", self._how_it_came_back(now_ns))
            self._was_live = True
        if frame.media_ns is not None:  # a recording: its end is its own, and stills are no fault
            return frame
        if self._wh_px is not None and frame.wh_px != self._wh_px:
            self._count("size changes")
            log.info("source %s: frames are %dx%d from here on", self._label, *frame.wh_px)
        self._wh_px = frame.wh_px
        seen = self._freeze.look(frame, now_ns)
        if seen is PictureFault.FROZEN:
            self._count("freezes")
            self._lose("it shows the very same picture for too long")
            return None
        if seen is not None:
            self._tell_black(seen)
        return None if self._backlog.is_backlog(frame, now_ns) else frame

    def _lose(self, why: str) -> None:
        """Give this opening up, and open again after a while."""
        self._cause = why
        if self.state in LOST:
            log.debug("source %s: %s", self._label, why)
        else:
            self._lost_ns, self._attempts = self._now_ns(), 0
            self._retry.forgive(self._live_ns)
            if self._was_live:
                self._count("losses")
            self._to("reconnecting" if self._was_live else "offline", why)
        self._leave_attempt()
        self._retry.back_off()

    def _leave_attempt(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            self._retry.leave(attempt)

    def _how_it_came_back(self, now_ns: int) -> str:
        if self.state == "stalled":
            return "frames come again"
        if self.state in LOST:
            away_s = (now_ns - self._lost_ns) / 1e9
            return f"again after {away_s:.1f} s, at attempt {self._attempts}"
        return ""

    def _tell_black(self, seen: PictureFault) -> None:
        if seen is PictureFault.BLACK:
            self._count("black")
            log.warning("source %s shows a black picture: check lens and light", self._label)
        else:
            log.info("source %s is no longer black", self._label)

    def _to(self, state: str, why: str) -> None:
        """The one place that changes the state; one log line each."""
        self.state = state
        if self._listener is not None:
            self._listener.state_changed(state, why)
        if why:
            level = logging.INFO if state == "live" else logging.WARNING
            log.log(level, "source %s %s: %s", self._label, state, why)

    def _count(self, event: str) -> None:
        if self._listener is not None:
            self._listener.noticed(event)
