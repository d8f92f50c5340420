"""Where do Qt's own words go, and what if they are that the display has gone?"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger(__name__)

LAST_WORDS = ("Did the X11 server die?", "Did the Wayland compositor die?")  # then Qt calls exit(1)


@contextmanager
def heard_qt(on_display_lost: Callable[[str], None]) -> Iterator[None]:
    """Qt's messages go to the log; the one by which it is about to end the process is told first.

    ``on_display_lost`` is called inside Qt, on the GUI thread. C's ``exit`` would run while our
    threads still compute, and crash: what is to be ended in order must be ended in there.
    """
    from PyQt5.QtCore import QtMsgType, qInstallMessageHandler

    def hear(kind: Any, context: Any, text: str | None) -> None:
        told = text or ""
        if told.endswith(LAST_WORDS):
            on_display_lost(told)
        level = (
            logging.ERROR
            if kind in (QtMsgType.QtCriticalMsg, QtMsgType.QtFatalMsg)
            else logging.DEBUG
        )
        log.log(level, "Qt: %s", told)

    before = qInstallMessageHandler(hear)
    try:
        yield
    finally:
        qInstallMessageHandler(before)
