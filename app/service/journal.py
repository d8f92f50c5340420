"""How does the log reach journald with its levels? A prefix that it takes off (man sd-daemon)."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

from app.credentials import MaskingFormatter

FORMAT = "kestrel: %(message)s"
_LEVELS = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7))


def into_journal(environ: Mapping[str, str] | None = None, fd: int = 2) -> bool:
    """Whether the stream is the journal's; one that was redirected since is not."""
    named = (os.environ if environ is None else environ).get("JOURNAL_STREAM", "")
    try:
        stat = os.fstat(fd)
    except OSError:
        return False
    return named == f"{stat.st_dev}:{stat.st_ino}"


def journal_line(text: str, level: int) -> str:
    """Every line with its level in front, as the journal has one entry a line."""
    number = next(number for least, number in (*_LEVELS, (0, 7)) if level >= least)
    return "\n".join(f"<{number}>{line}" for line in text.splitlines() or [""])


class JournalFormatter(MaskingFormatter):
    """Log records for the journal."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        return journal_line(super().format(record), record.levelno)


def configure_logging(environ: Mapping[str, str] | None = None) -> None:
    """Log to standard error; with levels where that is the journal."""
    handler = logging.StreamHandler(sys.stderr)
    kind = JournalFormatter if into_journal(environ) else MaskingFormatter
    handler.setFormatter(kind(FORMAT))
    logging.basicConfig(handlers=[handler])
