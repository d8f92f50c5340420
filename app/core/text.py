"""Text that others wrote (servers, libraries, files), made fit for a log or a terminal."""

from __future__ import annotations

import logging
import re
from typing import Any

from .credentials import mask_text

MOST = 200  # characters of what another side says
LONGEST = 4000  # of a line of log
_BLANKS = re.compile(r"\s+")


def printable(text: str) -> str:
    """Without control characters: labels come from files and must not steer a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def foreign(text: object, most: int = MOST) -> str:
    """What another side says, as part of a message: one printable line of at most ``most``.

    Credentials are masked before it is cut, as half an address could not be told from a word.
    """
    line = printable(_BLANKS.sub(" ", mask_text(str(text))).strip())
    return line if len(line) <= most else f"{line[: most - 1]}…"


class ForeignFormatter(logging.Formatter):
    """Makes what is logged one printable line without credentials, whoever wrote it.

    Only a traceback, at the level DEBUG, has more lines.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return foreign(super().formatMessage(record), LONGEST)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        lines = mask_text(super().formatException(ei)).split("\n")
        return "\n".join(printable(line[:LONGEST]) for line in lines)
