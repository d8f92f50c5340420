"""CUDA graphs: a frame's launches captured once and replayed, with a bounded cache of them.

PyCUDA has no calls for graphs; NVIDIA's cuda-bindings have, and share its context. Without them the
same work is put on the stream call by call.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable
from typing import Any

from ..core.errors import DeviceError
from .context import GpuContext

Mark = Callable[[int], None]  # notes when the stream's work has come to mark number i
Work = Callable[[Mark], None]
_EXTERNAL = 1  # CU_EVENT_RECORD_EXTERNAL: the event is marked anew at each launch


class CudaGraph:
    """Work on one stream, captured once and launched many times, with events between its parts.

    ``marks``: how many events; with 0 the work's marks are passed over. Not all work can become a
    graph: without ``capture``, and without NVIDIA's bindings, the work is called anew for each
    launch.
    """

    def __init__(
        self, context: GpuContext, stream: Any, work: Work, *, marks: int, capture: bool = True
    ) -> None:
        """Capture ``work``; nothing runs yet."""
        self._name, self._stream = context.name, stream
        self._work: Work | None = work
        self._bindings: Any = context.graph_calls if capture else None
        self._elapsed: Any = context.elapsed if self._bindings is not None else None
        self._graph: Any = None
        self._events: list[Any] = []
        self.timed = marks > 0
        self._at_exit = context.at_exit
        self._at_exit.add(self.close)
        try:
            for _ in range(marks):
                if self._bindings is None:
                    self._events.append(context.driver.Event())
                else:
                    self._events.append(self._call(self._bindings.cuEventCreate, 0))
            if self._bindings is not None:
                self._graph = self._captured(work)
        except BaseException:
            self.close()
            raise

    def _captured(self, work: Work) -> Any:
        d, stream = self._bindings, self._stream.handle

        # other threads of the process may go on using CUDA meanwhile
        mode = d.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call(d.cuStreamBeginCapture, stream, mode)
        # freeing something on the device would spoil the capture, and the collector may want to
        collecting = gc.isenabled()
        gc.disable()
        try:
            work(self._mark)
        except BaseException:
            _, graph = d.cuStreamEndCapture(stream)
            if graph:
                d.cuGraphDestroy(graph)
            raise
        finally:
            if collecting:
                gc.enable()
        graph = self._call(d.cuStreamEndCapture, stream)
        try:
            return self._call(d.cuGraphInstantiate, graph, 0)
        finally:
            d.cuGraphDestroy(graph)

    def _mark(self, index: int) -> None:
        if not self.timed:
            return
        if self._bindings is None:
            self._events[index].record(self._stream)
        else:
            record, stream = self._bindings.cuEventRecordWithFlags, self._stream.handle
            self._call(record, self._events[index], stream, _EXTERNAL)

    def launch(self) -> None:
        """Put the work on the stream."""
        if self._bindings is None:
            assert self._work is not None
            self._work(self._mark)
        else:
            self._call(self._bindings.cuGraphLaunch, self._graph, self._stream.handle)

    def after_ns(self, origin: CudaGraph) -> list[int]:
        """When each mark was reached, after the first mark of ``origin``; of launches that are
        done."""
        return [self._apart_ns(origin._events[0], event) for event in self._events]

    def between_ns(self, first: int, second: int) -> int:
        """Time from one mark to another, of a launch that is done."""
        return self._apart_ns(self._events[first], self._events[second])

    def _apart_ns(self, a: Any, b: Any) -> int:
        if self._bindings is None:
            return int(a.time_till(b) * 1e6)
        return int(self._call(self._elapsed, a, b) * 1e6)

    def wait(self) -> None:
        """Until the stream has nothing to do."""
        self._stream.synchronize()

    def close(self) -> None:
        """Free everything; it must not be running. May be called again."""
        self._at_exit.discard(self.close)  # nothing but the caller holds us from now on
        if self._bindings is not None:
            if self._graph is not None:
                self._bindings.cuGraphExecDestroy(self._graph)
            for event in self._events:
                self._bindings.cuEventDestroy(event)
        self._events.clear()
        self._graph = self._work = None

    def _call(self, function: Any, *arguments: Any) -> Any:
        """A call of cuda-bindings: its result, or DeviceError."""
        code, *result = function(*arguments)
        if int(code):
            what = f"{function.__name__}: {code.name}"
            raise DeviceError(f"{self._name} failed: {what}; the process ends, start it anew")
        return result[0] if result else None


class CudaGraphCache:
    """Up to ``most`` graphs, found by what they are for; the latest used are kept."""

    def __init__(self, make: Callable[[Work], CudaGraph], most: int) -> None:
        self._make, self._most = make, most
        self._kept: dict[Hashable, CudaGraph] = {}  # the latest used is last

    def of(self, key: Hashable, work: Work) -> CudaGraph:
        """The graph for ``key``, made of ``work`` where there is none; none may be running."""
        graph = self._kept.pop(key, None)
        if graph is None:
            if len(self._kept) >= self._most:
                self._kept.pop(next(iter(self._kept))).close()
            graph = self._make(work)
        self._kept[key] = graph
        return graph

    def clear(self) -> None:
        """Free all graphs, as when an address or a number in them is no longer true."""
        while self._kept:
            self._kept.popitem()[1].close()
