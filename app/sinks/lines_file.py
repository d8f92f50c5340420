"""How do whole lines get into a file, a pipe or standard output, at once and without loss?"""

from __future__ import annotations

import io
import os
import select
import stat
import sys
from contextlib import suppress
from pathlib import Path

from app.errors import ReaderGone, SinkError
from app.sinks.output_file import cure, open_output

STDOUT = "-"


class LinesFile:
    """``target`` is a path (replaced if it exists) or ``-``. One thread.

    Each line is one write past all buffers: a reader sees it at once, a crash loses none, and for
    a few hundred bytes a frame that costs less than keeping a buffer fresh would. Opened as often
    as it has users, and closed with the last of them.
    """

    def __init__(self, target: str) -> None:
        self._path = None if target == STDOUT else Path(target)
        self._out: io.FileIO | None = None
        self._users = 0

    def open(self) -> None:
        """Raises SinkError with the cure."""
        if self._out is None:
            self._out = (
                _open_stdout() if self._path is None else open_output(self._path, truncate=True)
            )
        self._users += 1

    def write(self, text: str) -> None:
        """One line; raises SinkError when the disk is full, ReaderGone when nobody reads."""
        if self._out is None:
            return
        line = f"{text}\n".encode()
        written = 0
        try:
            while written < len(line):
                n = self._out.write(line[written:])
                if n is None:  # somebody made the pipe or terminal non-blocking: wait for room
                    select.select([], [self._out], [], 1.0)
                else:
                    written += n
        except BrokenPipeError:
            self._leave()
            raise ReaderGone(f"nobody reads {self._name} any more") from None
        except OSError as error:
            _cut(self._out, written)
            self._leave()
            raise SinkError(
                f"cannot write JSON lines to {self._name}: {cure(error, self._path)}; "
                "the lines before are whole"
            ) from error

    def close(self) -> None:
        """Let go; every line has been written already. SinkError if a network disk lost some."""
        self._users -= 1
        if self._out is not None and self._users <= 0:
            out, self._out = self._out, None
            try:
                out.close()
            except OSError as error:
                raise SinkError(f"cannot finish {self._name}: {cure(error, self._path)}") from error

    @property
    def _name(self) -> str:
        return "standard output" if self._path is None else str(self._path)

    def _leave(self) -> None:
        """Let go after a fault, so that the interpreter's own flush at exit does not fail again."""
        if self._out is not None and self._path is None:
            with suppress(OSError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._out.fileno())
                os.close(nowhere)
        self._users = 0
        with suppress(SinkError):
            self.close()


def _open_stdout() -> io.FileIO:
    try:
        if sys.stdout is None:
            raise OSError("closed")
        sys.stdout.flush()
        return io.FileIO(sys.stdout.fileno(), "wb", closefd=False)
    except (OSError, ValueError) as error:
        raise SinkError(
            f"cannot write JSON lines to standard output ({error}); name a file instead of -"
        ) from error


def _cut(out: io.FileIO, extra: int) -> None:
    """Take back the ``extra`` bytes of half a line, unless somebody has written behind them."""
    with suppress(OSError):
        status = os.fstat(out.fileno())
        end = os.lseek(out.fileno(), 0, os.SEEK_CUR)
        if extra and stat.S_ISREG(status.st_mode) and status.st_size == end:
            os.ftruncate(out.fileno(), end - extra)
            os.lseek(out.fileno(), end - extra, os.SEEK_SET)
