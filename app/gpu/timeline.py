"""When did what happen on the device? The marks of all slots on one clock."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any

from app.gpu.context import GpuContext
from app.gpu.overlap import Overlap, Span
from app.gpu.recording import Recorder

RENEW_S = 5.0  # the driver tells distances as float ms: after so long they are good to half a µs


class Timeline:
    """An event that is marked now and then, and what the slots' marks say after it."""

    def __init__(self) -> None:
        self.overlap = Overlap()
        self._origin: Recorder | None = None
        self._stream: Any = None
        self._marked_s = 0.0

    def open(self, context: GpuContext, *, capture: bool) -> None:
        """``capture``: as the slots' recorders have it, for events of one kind."""
        self._stream = context.driver.Stream()
        self._origin = Recorder(context, self._stream, 1, capture=capture)
        self._origin.record(lambda mark: mark(0))
        self._mark()

    def tick(self) -> None:
        """Renew the origin when it is old."""
        if monotonic() - self._marked_s > RENEW_S:
            self._mark()

    def marks_ns(self, recorder: Recorder) -> list[int]:
        """When a slot's launch, which is done, came to each of its marks."""
        assert self._origin is not None
        return recorder.after_ns(self._origin)

    def add(self, marks_ns: Sequence[int], *, frames: int) -> None:
        """Those around upload, preprocess … download of frames that went together."""
        up, start, *_, end, down = marks_ns
        self.overlap.add([Span(up, start), Span(end, down)], Span(start, end), frames=frames)

    def close(self) -> None:
        """Free everything; nothing may be pending."""
        if self._origin is not None:
            self._origin.close()
        self._origin = self._stream = None

    def _mark(self) -> None:
        assert self._origin is not None
        self._origin.launch()
        self._origin.wait()
        self._marked_s = monotonic()
        self.overlap.forget()
