"""Faults that end a run with their exit codes, and the masking of credentials in what is told.

Every message says what happened, the value seen, and what to do about it; the command line prints
it as one line. The exit codes are a contract (README, "Exit codes").
"""

from __future__ import annotations

import errno
import logging
import re

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_SECRET = (
    r"(?i)([?&\s](?:user(?:name)?|user-(?:id|pw)|pass(?:word|wd)?|pwd|token|secret|api_?key|key)=)"
)


def mask_credentials(uri: str) -> str:
    """The URI with ``user:password@`` as ``***@``, also inside of a pipeline or a chaos script.

    Passwords are often written with raw "@" or "/" in them, so everything up to the last "@" is
    hidden: rather a part of the path too much than a part of the password.
    """
    if uri[:7].lower() == "file://":
        return uri
    wrapped = re.match(r"(?i)chaos:[^:]*:", uri)
    if wrapped:
        return wrapped[0] + mask_credentials(uri[wrapped.end() :])
    if uri[:4].lower() == "gst:":  # words, any of them an address
        masked = re.sub(r"([A-Za-z][A-Za-z0-9+.-]*://)[^!]*@", r"\1***@", uri)
    else:
        masked = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://).*@", r"\1***@", uri, flags=re.DOTALL)
    return re.sub(_SECRET + r"[^&#\s]*", r"\1***", masked)


def mask_text(text: str) -> str:
    """Any text with every URI in it masked; for what libraries say."""
    return re.sub(r"[A-Za-z][A-Za-z0-9+.-]*://\S+", lambda found: mask_credentials(found[0]), text)


class MaskingFormatter(logging.Formatter):
    """Masks what is about to be logged, whoever wrote it."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line or lines."""
        return mask_text(super().format(record))


class KestrelError(Exception):
    """Root of all faults that are told to the user as one line, without a traceback."""

    exit_code = 2


class ConfigError(KestrelError):
    """A flag, a configuration file or a path is wrong."""


class SinkError(ConfigError):
    """An output cannot be written (no permission, disk full)."""

    @property
    def disk_full(self) -> bool:
        """Whether its cause is a disk or a quota without room."""
        return isinstance(self.__cause__, OSError) and self.__cause__.errno in DISK_FULL


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


class SourceEnded(Exception):
    """Raised by ``FrameSource.read`` after the last frame of a recording."""


class ReaderGone(Exception):
    """Raised by a sink whose reader went away (``--json - | head``): stop cleanly."""
