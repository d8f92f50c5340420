"""When does a slot that takes several frames start with fewer?"""

from __future__ import annotations

PATIENCE_NS = 10_000_000  # a camera's frame may come so much later than its neighbour's
LEARNING = 0.2  # share of the newest measurement


class Gather:
    """Waits for the frames of other sources, but never so long that the oldest grows too old.

    ``budget_ns``: the age that frames may have when their boxes are ready, None for no limit.
    Pipeline thread only.
    """

    def __init__(self, size: int, *, budget_ns: int | None, patience_ns: int = PATIENCE_NS) -> None:
        self.size, self.budget_ns, self._patience_ns = size, budget_ns, patience_ns
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
        end_ns = self._since_ns + self._patience_ns
        if self.budget_ns is not None:
            end_ns = min(end_ns, oldest_ns + self.budget_ns - round(2 * self._service_ns))
        return end_ns - now_ns if end_ns > now_ns else self._start()

    def _start(self) -> int:
        self._since_ns = None
        return 0
