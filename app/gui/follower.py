"""How does the window keep up with the run behind it?"""

from __future__ import annotations

from time import monotonic, monotonic_ns
from typing import TYPE_CHECKING

from app.gui import texts
from app.gui.hud import figures_of
from app.gui.messages import hint, messages
from app.session_state import SessionState

if TYPE_CHECKING:
    from app.gui.main_window import MainWindow

SLOW_S = 0.25  # figures and lists: slow enough to be read


class Follower:
    """Asked at every tick: the newest result at once, everything else four times a second."""

    def __init__(self, window: MainWindow) -> None:
        self._window = window
        self._next_slow_s = 0.0
        self._result_ns = 0

    def follow(self) -> bool:
        """Show what is new; True once the run has ended."""
        window = self._window
        state = window.desk.state()  # asked first, so that a last result is not missed
        shown = window.desk.take()
        if shown is not None:
            self._result_ns = monotonic_ns()
            window.view.set_result(*shown)
        now_s = monotonic()
        if now_s >= self._next_slow_s or state.ended:
            self._next_slow_s = now_s + SLOW_S
            self._slow(state)
        if window.docks["instruments"].isVisible():
            window.instruments.tick(state)
        return state.ended

    def _slow(self, state: SessionState) -> None:
        self._picture(state)
        self._figures(state)
        self._controls(state)
        self._first_words(state)
        self._window.run.follow(state)

    def _picture(self, state: SessionState) -> None:
        """What is said over it."""
        window, now_ns = self._window, monotonic_ns()
        said = messages(state, now_ns=now_ns, result_ns=self._result_ns)
        window.banners.show_messages(said)
        window.banners.show_notice(state.notice)
        window.view.set_dimmed(said.dimmed)
        window.view.set_hint(hint(state, now_ns))

    def _figures(self, state: SessionState) -> None:
        window = self._window
        badges = [texts.RECORDING] if state.recording_to else []
        window.hud.set_figures(figures_of(state), [*badges, *([texts.PAUSED] * state.feed.paused)])
        covers = state.machine.power_covers
        window.hud.setToolTip(texts.POWER_COVERS.format(covers=covers) if covers else "")
        if window.docks["instruments"].isVisible():
            window.instruments.show_result(window.view.newest, window.run.hidden)

    def _controls(self, state: SessionState) -> None:
        window = self._window
        window.timeline.show_feed(state.feed)
        window.tools.show_state(state, window.desk.catalogue())
        window.controls.show_thresholds(state.score, state.iou)
        window.controls.show_classes(state.labels, window.run.hidden)
        self._show_checked("pause", state.feed.paused)
        self._show_checked("record", bool(state.recording_to))
        for name in ("back", "forward"):
            window.actions_[name].setEnabled(state.feed.seekable)
        title = f"{window.tools.source.text()} — {texts.TITLE}"
        if title != window.windowTitle():
            window.setWindowTitle(title)

    def _show_checked(self, name: str, on: bool) -> None:
        """What holds now, without asking for it."""
        action = self._window.actions_[name]
        if action.isChecked() != on:
            action.blockSignals(True)
            action.setChecked(on)
            action.blockSignals(False)
            self._window.tools.sync(action)
            self._window.actions_.show_face(name)

    def _first_words(self, state: SessionState) -> None:
        """The hint of the first run, for as long as nobody has chosen a source."""
        settings = self._window.settings
        wanted = state.feed.uri == "sample:" and not settings.flag("hint_seen")
        self._window.banners.show_hint(
            texts.SAMPLE_HINT if wanted else "", lambda: settings.set("hint_seen", True)
        )
