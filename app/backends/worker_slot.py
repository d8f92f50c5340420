"""How does a slot hand its work to a worker thread, and get the answer or the error back?"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

Job = TypeVar("Job")
Answer = TypeVar("Answer")


class WorkerSlot(Generic[Job, Answer]):
    """One job at a time: ``put`` and ``get`` on the pipeline thread, ``work`` on a worker's."""

    def __init__(
        self,
        *,
        queue: SimpleQueue[WorkerSlot[Job, Answer] | None],
        wake: Callable[[], None],
    ) -> None:
        self._queue, self._wake = queue, wake
        self._job: Job | None = None
        self._answer: Answer | BaseException | None = None
        self._busy = threading.Lock()  # held until it is done; an Event costs three of it

    @abstractmethod
    def process(self, job: Job) -> Answer:
        """The work itself."""

    def put(self, job: Job) -> None:
        """Start; the slot must be idle."""
        assert self._job is None, "the slot is busy"
        self._job = job
        self._busy.acquire()
        self._queue.put(self)

    def ready(self) -> bool:
        """See interfaces.Slot."""
        return not self._busy.locked()

    def get(self) -> Answer:
        """Wait for the answer, or raise what went wrong."""
        assert self._job is not None, "nothing was enqueued"
        with self._busy:
            pass
        answer, self._answer, self._job = self._answer, None, None
        if isinstance(answer, BaseException):
            raise answer
        assert answer is not None
        return answer

    def work(self) -> None:
        """The whole job, on a worker thread; an error is kept for ``get``."""
        assert self._job is not None
        try:
            self._answer = self.process(self._job)
        except BaseException as error:
            self._answer = error
        self._busy.release()
        self._wake()
