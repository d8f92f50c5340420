"""The frame loop: through the slots to the sinks, in order, with no slot idle.

All of it on the pipeline thread, but what says so. Where slots take several frames at once it waits
a little for the frames of other sources.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import monotonic_ns
from typing import NamedTuple

from ..core.detections import Result
from ..core.frame import Frame
from ..core.interfaces import Canary, Slot
from .capture import OnFail, SourceGroup, SourceStream
from .degrade import DegradationPolicy
from .handoff import is_stale

PATIENCE_NS = 10_000_000  # a camera's frame may come so much later than its neighbour's
LEARNING = 0.2  # share of the newest measurement


class DynamicBatcher:
    """Waits for the frames of other sources, but never so long that the oldest grows too old.

    ``budget_ns``: the age that frames may have when their boxes are ready, None for no limit.
    Pipeline thread only.
    """

    def __init__(self, size: int, *, budget_ns: int | None) -> None:
        self.size, self.budget_ns = size, budget_ns
        self._service_ns = 0.0
        self._since_ns: int | None = None  # when the first frame of this batch was seen

    def served(self, service_ns: int) -> None:
        """A batch took so long, from its start to its boxes."""
        old = self._service_ns or service_ns
        self._service_ns = old + LEARNING * (service_ns - old)

    def wait_ns(self, *, waiting: int, going: int, oldest_ns: int, now_ns: int) -> int:
        """How much longer to wait for more frames; 0: start with what there is.

        ``waiting``: sources with a frame, of ``going`` from which one may come any moment.
        """
        if waiting == 0:
            self._since_ns = None
            return 0
        if waiting >= min(self.size, max(going, 1)):
            return self._start()
        self._since_ns = now_ns if self._since_ns is None else self._since_ns
        end_ns = self._since_ns + PATIENCE_NS
        if self.budget_ns is not None:
            end_ns = min(end_ns, oldest_ns + self.budget_ns - round(2 * self._service_ns))
        return end_ns - now_ns if end_ns > now_ns else self._start()

    def _start(self) -> int:
        self._since_ns = None
        return 0


WAIT_S = 0.2  # longest sleep of the pipeline thread; it is woken earlier by frames and slots


class Loop:
    """One engine's processing. ``taken``: frames that went in."""

    def __init__(
        self,
        intake: SourceGroup,
        *,
        labels: Sequence[str],
        stopped: Callable[[], bool],
        max_age_ns: int | None,
        max_frames: int | None,
        canary: Canary | None,
        ladder: DegradationPolicy | None,
        fail: OnFail,
    ) -> None:
        self._intake, self._labels, self._stopped = intake, labels, stopped
        self._max_age_ns, self._max_frames = max_age_ns, max_frames
        self._canary, self._ladder, self._fail = canary, ladder, fail
        self._batcher = DynamicBatcher(1, budget_ns=max_age_ns)
        self.taken = 0

    def set_max_age(self, max_age_ns: int | None) -> None:
        """Another limit from the next frame on; any thread."""
        self._max_age_ns = self._batcher.budget_ns = max_age_ns

    def open_sinks(self) -> None:
        for stream in self._intake.streams:
            if stream.info is not None and not stream.sinks.is_open:
                stream.sinks.open(stream.info, self._labels)

    def run(self, slots: Sequence[Slot]) -> None:
        """Keep every slot busy, deliver in order, until the sources are drained or a stop."""
        self._batcher.size = slots[0].capacity
        idle: deque[Slot] = deque(slots)
        busy: deque[_Work] = deque()
        try:
            self._keep_busy(idle, busy)
        finally:
            for _, frames, _ in busy:  # an error or a reader that left: never to reach the sinks
                for frame in frames:
                    if frame.index >= 0:
                        self._of(frame).meter.dropped("stopped")

    def _keep_busy(self, idle: deque[Slot], busy: deque[_Work]) -> None:
        while True:
            if busy and busy[0].slot.ready():
                results = self._collect(busy[0])
                idle.append(busy.popleft().slot)
                for result in results:
                    self._emit(result)
                self._intake.retire(_lanes(busy), self._fail)
                continue
            closed = self._stopped() or self.taken == self._max_frames
            wants_frame = bool(idle) and not closed
            hold_ns = self._hold_ns() if wants_frame else 0
            frames = self._next_frames() if wants_frame and not hold_ns else ()
            if frames:
                slot = idle.popleft()
                busy.append(_Work(slot, frames, monotonic_ns()))
                slot.enqueue(frames)
                if frames[0].index >= 0:  # the canary's comes alone
                    self.taken += len(frames)
                continue
            if wants_frame and self._intake.drained():  # asked only where no frame was left
                closed, wants_frame = True, False
            if closed and not busy:
                return
            self._intake.wait(
                frames=0 if not wants_frame else self._batcher.size if hold_ns else 1,
                until=busy[0].slot.ready if busy else self._stopped,
                timeout_s=hold_ns / 1e9 if hold_ns else WAIT_S,
            )
            under_way = _lanes(busy)
            self._follow(under_way)
            self._intake.retire(under_way, self._fail)

    def _of(self, frame: Frame) -> SourceStream:
        return self._intake.by_number[frame.lane]

    def _follow(self, under_way: set[int]) -> None:
        """Tell the analysers how their sources are."""
        for stream in self._intake.streams:
            if stream.sinks.analyser is not None:
                seen_all = stream.number not in under_way and stream.handoff.first is None
                stream.sinks.follow(seen_all=seen_all)

    def _hold_ns(self) -> int:
        """How long to wait for more frames; 0: as many as there are will do."""
        if self._batcher.size == 1:
            return 0
        waiting, going, oldest_ns = self._intake.waiting()
        now_ns = monotonic_ns()
        return self._batcher.wait_ns(
            waiting=waiting, going=going, oldest_ns=oldest_ns, now_ns=now_ns
        )

    def _next_frames(self) -> Sequence[Frame]:
        """The canary's frame when it is time for that, else the sources', which also are the first:
        by them an engine measures what suits it.
        """
        known = None if self._canary is None or not self.taken else self._canary.due()
        if known is not None:
            return (known,)
        room = self._batcher.size
        if self._max_frames is not None:
            room = min(room, self._max_frames - self.taken)
        if room == 1:
            fresh = self._take_fresh()
            return () if fresh is None else (fresh,)
        frames: list[Frame] = []
        while len(frames) < room and self._intake.waiting()[0]:
            fresh = self._take_fresh()
            if fresh is not None:
                frames.append(fresh)
        return frames

    def _take_fresh(self) -> Frame | None:
        frame = self._intake.take()
        if frame is None:
            return None
        meter, note = self._of(frame).meter, self._of(frame).note
        if self._ladder and frame.index >= 0 and not self._ladder.wants(frame.lane):
            meter.dropped("ladder")
            return None
        now_ns = monotonic_ns()
        if not is_stale(frame.captured_ns, now_ns, self._max_age_ns):
            note("kept", frame.index, now_ns)
            return frame
        note("stale", frame.index, now_ns)
        meter.dropped("stale")
        if self._ladder:
            self._ladder.took(now_ns - frame.captured_ns)
        return None

    def _collect(self, work: _Work) -> list[Result]:
        """The results, without the canary's, which is judged and neither counted nor told."""
        answers = work.slot.collect()
        self._batcher.served(monotonic_ns() - work.since_ns)
        results = []
        for frame, (detections, stages_ns) in zip(work.frames, answers, strict=True):
            if frame.index < 0 and self._canary is not None:
                self._canary.judge(detections)
                continue
            result = Result(frame, detections, monotonic_ns() - frame.captured_ns, stages_ns)
            self._of(frame).meter.processed(result.age_ns, stages_ns)
            if self._ladder:
                self._ladder.took(result.age_ns)
            results.append(result)
        return results

    def _emit(self, result: Result) -> None:
        sinks = self._of(result.frame).sinks
        if not sinks.is_open:
            self.open_sinks()
        sinks.emit(result)


class _Work(NamedTuple):
    """What a slot is doing."""

    slot: Slot
    frames: Sequence[Frame]
    since_ns: int


def _lanes(busy: Iterable[_Work]) -> set[int]:
    return {frame.lane for work in busy for frame in work.frames}
