"""Faults that end a run, with their exit codes.

Every message says what happened, the value seen, and what to do about it; the command line prints
it as one line. The exit codes are a contract (README, "Exit codes").
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class KestrelError(Exception):
    """Root of all faults that are told to the user as one line, without a traceback."""

    exit_code = 2

    @property
    def each(self) -> Sequence[KestrelError]:
        """Itself, or the several faults that it stands for."""
        return (self,)


class ConfigError(KestrelError):
    """A flag, a configuration file or a path is wrong."""


class ConfigErrors(ConfigError):
    """Several faults of one configuration, so that all of them are told at once."""

    def __init__(self, faults: Sequence[KestrelError]) -> None:
        super().__init__("; also: ".join(map(str, faults)))
        self._faults = tuple(faults)

    @property
    def each(self) -> Sequence[KestrelError]:
        """See KestrelError."""
        return self._faults


class Faults:
    """Gathers what is wrong, step by step; ``tell`` raises it."""

    def __init__(self) -> None:
        self.found: list[KestrelError] = []

    @contextmanager
    def step(self) -> Iterator[None]:
        """A fault in the block is kept, and the next step follows."""
        try:
            yield
        except ConfigError as fault:
            self.found += fault.each

    def tell(self) -> None:
        """Raise ConfigError where anything was wrong."""
        found = list({str(each): each for each in self.found}.values())
        if found:
            raise found[0] if len(found) == 1 else ConfigErrors(found)


class SinkError(ConfigError):
    """An output cannot be written (no permission, disk full).

    ``disk_full``: removing files may help.
    """

    def __init__(self, message: str, *, disk_full: bool = False) -> None:
        super().__init__(message)
        self.disk_full = disk_full


class SourceError(KestrelError):
    """A camera, stream or file cannot be opened or read."""

    exit_code = 3


class ModelError(KestrelError):
    """Weights or manifest are missing, damaged or no detector."""

    exit_code = 4


class DeviceError(KestrelError):
    """The GPU, its driver or its toolkit failed."""

    exit_code = 5


class VerdictError(KestrelError):
    """A check ran to its end and the answer is no (golden comparison, soak, accuracy gate)."""

    exit_code = 6


NO_MEMORY = (
    "there is not enough memory: raise the limit (ulimit -v, or MemoryMax of a service), end other "
    "programs, or take a smaller model, fewer sources or fewer workers"
)


def exhausted(error: BaseException) -> ConfigError | None:
    """The fault in words where this machine, or a limit of it, has run out; else None."""
    number = error.errno if isinstance(error, OSError) else None
    # OpenCV has a code of its own; how an import fails that cannot be mapped says only its text
    unmapped = isinstance(error, ImportError) and "failed to map" in str(error)
    if (
        isinstance(error, MemoryError)
        or number == errno.ENOMEM
        or getattr(error, "code", None) == -4
        or unmapped
    ):
        return ConfigError(NO_MEMORY)
    if number in (errno.EMFILE, errno.ENFILE):
        return ConfigError(
            "too many files are open at once: raise the limit (ulimit -n, or LimitNOFILE of a "
            "service), or run fewer sources and outputs"
        )
    if number == errno.EAGAIN or (
        isinstance(error, RuntimeError) and "start new thread" in str(error)  # it has no type
    ):
        return ConfigError(
            "no thread or process can be started: raise the limits (ulimit -u and -v, or TasksMax "
            "and MemoryMax of a service), or end other programs"
        )
    return None


class SourceEnded(Exception):
    """Raised by ``FrameSource.read`` after the last frame of a recording."""


class ReaderGone(Exception):
    """Raised by a sink whose reader went away (``--json - | head``): stop cleanly."""
