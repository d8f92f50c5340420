"""A clock that moves only when somebody sleeps."""

from __future__ import annotations


class FakeClock:
    def __init__(self) -> None:
        self._ns = 1_000_000_000

    def now_ns(self) -> int:
        return self._ns

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self._ns += round(seconds * 1e9)
