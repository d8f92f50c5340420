"""What is to be said over the picture, given how things are? Nothing in here touches Qt."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from app.gui import texts
from app.session_state import Choice, FeedState, SessionState, Severity

STUCK_S = 3.0  # an engine that gives nothing for so long is said to be stuck
OPENING_SHOWN_S = 0.7  # a source that opens quicker needs no banner
BUILD_SHOWN_S = 0.7  # a switch that is quicker needs no banner

Deed = Literal["reopen", "retry_engine", "cancel"]


@dataclass(frozen=True, slots=True)
class Message:
    """One banner; ``deed`` is what its button does."""

    text: str
    severity: Severity
    deed: Deed | None = None
    button: str = ""


@dataclass(frozen=True, slots=True)
class Messages:
    """What the source and the engine have to say, and whether the picture is an old one."""

    source: Message | None = None
    engine: Message | None = None
    dimmed: bool = False


def messages(state: SessionState, *, now_ns: int, result_ns: int) -> Messages:
    """``result_ns`` is when the newest result came; all times are monotonic."""
    source = _of_source(state.feed, now_ns)
    if source is None and result_ns and _opens_long(state.feed, now_ns):
        # until the first picture the hint in the middle says so
        source = Message(texts.OPENING.format(label=state.feed.label), "info")
    engine = _of_engine(state, now_ns)
    dimmed = source is not None or bool(state.failure)
    if source is None and engine is None and _is_stuck(state, now_ns, result_ns):
        engine = Message(_since(texts.STUCK, result_ns, now_ns), "warning")
        dimmed = True
    return Messages(source, engine, dimmed)


def hint(state: SessionState, now_ns: int) -> str:
    """What is said in the middle while there is no picture yet."""
    if state.failure or state.feed.error:
        return ""
    if state.running is None and state.building_text:
        seconds = (now_ns - state.building_since_ns) // 1_000_000_000
        return f"{texts.NO_ENGINE} ({seconds} s)\n{state.building_text}"
    if state.feed.label and state.feed.phase == "opening":
        return texts.OPENING.format(label=state.feed.label)
    return texts.WAITING


def _of_source(feed: FeedState, now_ns: int) -> Message | None:
    if feed.phase == "failed":
        return Message(feed.error, "error", "reopen", texts.OPEN_AGAIN)
    if feed.phase == "reconnecting":
        form = texts.LOST if feed.last_frame_ns else texts.LOST_NEVER
        since_ns = feed.last_frame_ns or feed.since_ns
        return Message(_since(form, since_ns, now_ns, error=feed.error), "error")
    if feed.phase == "stalled":
        text = _since(texts.SILENT, feed.last_frame_ns, now_ns, label=feed.label)
        return Message(text, "warning")
    return None


def _opens_long(feed: FeedState, now_ns: int) -> bool:
    return feed.phase == "opening" and now_ns - feed.since_ns > OPENING_SHOWN_S * 1e9


def _of_engine(state: SessionState, now_ns: int) -> Message | None:
    seconds = (now_ns - state.building_since_ns) // 1_000_000_000
    if state.building is not None:
        if now_ns - state.building_since_ns < BUILD_SHOWN_S * 1e9:
            return None
        if state.running is None:
            text = texts.BUILDING.format(what=_what(state.building), seconds=seconds)
            return Message(_with_detail(text, state), "info")
        text = texts.BUILDING_BESIDE.format(
            what=_what(state.building), seconds=seconds, now=state.model_name
        )
        return Message(_with_detail(text, state), "info", "cancel", texts.CANCEL)
    if state.failure:
        text = texts.FAILURE.format(error=state.failure)
        return Message(text, "error", "retry_engine", texts.TRY_NOW)
    return None


def _is_stuck(state: SessionState, now_ns: int, result_ns: int) -> bool:
    feed = state.feed
    flows = feed.phase == "live" and not feed.paused and now_ns - feed.last_frame_ns < 1e9
    return flows and bool(result_ns) and now_ns - result_ns > STUCK_S * 1e9


def _what(choice: Choice) -> str:
    return f"{choice.model or texts.DEFAULT_MODEL} ({choice.engine})"


def _with_detail(text: str, state: SessionState) -> str:
    return f"{text}\n{state.building_text}" if state.building_text else text


def _since(form: str, since_ns: int, now_ns: int, **more: str) -> str:
    ago_s = max(0.0, (now_ns - since_ns) / 1e9)
    clock = time.strftime("%H:%M:%S", time.localtime(time.time() - ago_s))
    return form.format(clock=clock, seconds=round(ago_s), **more)
