"""How are credentials in URIs kept out of everything that is written or shown?"""

from __future__ import annotations

import logging
import re

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
