"""How is an output file opened, and what can be done when it cannot be written?"""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

from app.errors import SinkError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def open_output(path: Path, *, truncate: bool) -> io.FileIO:
    """Open for writing, unbuffered, made where missing; raises SinkError with the cure."""
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        return io.FileIO(os.open(path, flags | (os.O_TRUNC if truncate else 0), 0o666), "wb")
    except OSError as error:
        raise SinkError(f"cannot write {path}: {cure(error, path)}") from error


def cure(error: OSError, path: Path | None = None) -> str:
    """What went wrong and what to do, as the second half of a message. No path: stdout."""
    folder = path.parent if path is not None else Path()
    if error.errno in _FULL:
        return "the disk is full (or your quota is); free some space or write to another disk"
    if error.errno == errno.EFBIG:
        return "the file has reached the size limit; raise it (ulimit -f, or the file system's)"
    if error.errno == errno.ENOENT and path is not None:
        return f"the directory {folder} does not exist; create it or name another file"
    if error.errno == errno.ENOTDIR and path is not None:
        return f"{folder} is not a directory; name another file"
    if error.errno == errno.EISDIR and path is not None:
        return f"it is a directory; name a file in it, such as {path / 'kestrel.out'}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"no permission; choose a directory that you may write to, not {folder.absolute()}"
    if error.errno == errno.EROFS:
        return "the file system is mounted read-only; write to another one"
    return f"{error.strerror or error}; check the disk and the path, or name another file"
