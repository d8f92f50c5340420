"""CUDA graphs: a frame's launches captured once and replayed, with a bounded cache of them.

PyCUDA has no calls for graphs; NVIDIA's cuda-bindings have, and share its context. Without them the
same work is put on the stream call by call.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Hashable
from typing import Any

from ..core.errors import DeviceError
from .context import GpuContext

log = logging.getLogger(__name__)


Mark = Callable[[int], None]  # notes when the stream's work has come to mark number i
Work = Callable[[Mark], None]
_EXTERNAL = 1  # CU_EVENT_RECORD_EXTERNAL: the event is marked anew at each launch


class Recorder:
    """Makes recordings of work on one stream, with ``marks`` events between its parts.

    Without ``capture`` the work is called anew each time: not all work can become a graph.
    """

    def __init__(
        self, context: GpuContext, stream: Any, marks: int, *, capture: bool = True
    ) -> None:
        self._name, self._stream = context.name, stream
        self._bindings: Any = None
        self._graph: Any = None
        self._work: Work | None = None
        self._events: list[Any] = []
        self._at_exit = context.at_exit
        self._at_exit.add(self.close)
        if capture:
            self._bindings = _graph_calls()
        self._make_events(context, marks)

    def another(self, context: GpuContext) -> Recorder:
        """For other work on the same stream."""
        other = Recorder(context, self._stream, 0, capture=False)
        other._bindings = self._bindings
        other._make_events(context, len(self._events))
        return other

    def _make_events(self, context: GpuContext, marks: int) -> None:
        for _ in range(marks):
            if self._bindings is None:
                self._events.append(context.driver.Event())
            else:
                self._events.append(self._call(self._bindings.cuEventCreate, 0))

    def record(self, work: Work) -> None:
        """Keep what ``work`` puts on the stream, instead of what was kept; nothing runs yet."""
        self.forget()
        self._work = work
        d = self._bindings
        if d is None:
            return

        def mark(index: int) -> None:
            event, stream = self._events[index], self._stream.handle
            self._call(d.cuEventRecordWithFlags, event, stream, _EXTERNAL)

        # other threads of the process may go on using CUDA meanwhile
        mode = d.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call(d.cuStreamBeginCapture, self._stream.handle, mode)
        # freeing something on the device would spoil the capture, and the collector may want to
        collecting = gc.isenabled()
        gc.disable()
        try:
            work(mark)
        except BaseException:
            _, graph = d.cuStreamEndCapture(self._stream.handle)
            if graph:
                d.cuGraphDestroy(graph)
            raise
        finally:
            if collecting:
                gc.enable()
        graph = self._call(d.cuStreamEndCapture, self._stream.handle)
        try:
            self._graph = self._call(d.cuGraphInstantiate, graph, 0)
        finally:
            d.cuGraphDestroy(graph)

    def launch(self) -> None:
        """Put what was recorded on the stream."""
        assert self._work is not None
        if self._bindings is None:
            self._work(lambda index: self._events[index].record(self._stream))
        else:
            self._call(self._bindings.cuGraphLaunch, self._graph, self._stream.handle)

    def after_ns(self, origin: Recorder) -> list[int]:
        """When each mark was reached, after the first mark of ``origin``; of launches that are
        done."""
        return [self._apart_ns(origin._events[0], event) for event in self._events]

    def between_ns(self, first: int, second: int) -> int:
        """Time from one mark to another, of a launch that is done."""
        return self._apart_ns(self._events[first], self._events[second])

    def _apart_ns(self, a: Any, b: Any) -> int:
        if self._bindings is None:
            return int(a.time_till(b) * 1e6)
        return int(self._call(self._bindings.cuEventElapsedTime, a, b) * 1e6)

    def wait(self) -> None:
        """Until the stream has nothing to do."""
        self._stream.synchronize()

    def forget(self) -> None:
        """Free the recording; it must not be running."""
        if self._graph is not None:
            self._bindings.cuGraphExecDestroy(self._graph)
        self._graph = self._work = None

    def close(self) -> None:
        """Free everything; may be called again."""
        self._at_exit.discard(self.close)  # nothing but the caller holds us from now on
        self.forget()
        if self._bindings is not None:
            for event in self._events:
                self._bindings.cuEventDestroy(event)
        self._events.clear()

    def _call(self, function: Any, *arguments: Any) -> Any:
        """A call of cuda-bindings: its result, or DeviceError."""
        code, *result = function(*arguments)
        if int(code):
            what = f"{function.__name__}: {code.name}"
            raise DeviceError(f"{self._name} failed: {what}; the process ends, start it anew")
        return result[0] if result else None


def _graph_calls() -> Any:
    """NVIDIA's bindings, where they are here and fit this driver; needs a current context."""
    try:
        from cuda.bindings import driver
    except ImportError:
        log.info("no cuda-bindings: frames are launched call by call, not as one graph")
        return None
    _, event = driver.cuEventCreate(0)
    try:
        driver.cuEventElapsedTime(event, event)  # an error is fine, a missing symbol is not
    except RuntimeError as fault:
        # the text alone: the fault would keep alive what its frames see
        told = str(fault)
        log.warning("cuda-bindings do not fit this driver (%s): frames go call by call", told)
        return None
    finally:
        driver.cuEventDestroy(event)
    return driver


class Recordings:
    """Up to ``most`` recordings on one stream, found by what they are for."""

    def __init__(self, context: GpuContext, first: Recorder, most: int) -> None:
        self._context, self._most = context, most
        self._kept: dict[Hashable, Recorder] = {}  # that used last is last
        self._spare = [first]

    def of(self, key: Hashable, work: Work) -> Recorder:
        """The recording for ``key``, made of ``work`` where there is none; none may be running."""
        recorder = self._kept.pop(key, None)
        if recorder is None:
            recorder = self._vacant()
            self._spare.append(recorder)  # should the next line fail, it can be closed
            recorder.record(work)
            self._spare.pop()
        self._kept[key] = recorder
        return recorder

    def _vacant(self) -> Recorder:
        if self._spare:
            return self._spare.pop()
        oldest = next(iter(self._kept))
        if len(self._kept) < self._most:
            return self._kept[oldest].another(self._context)
        return self._kept.pop(oldest)

    def forget(self) -> None:
        """Free all recordings: an address or a number in them is no longer true."""
        for recorder in self._kept.values():
            recorder.forget()
        self._spare += self._kept.values()
        self._kept.clear()

    def close(self) -> None:
        """Free everything; nothing may be pending."""
        self.forget()
        for recorder in self._spare:
            recorder.close()
        self._spare.clear()
