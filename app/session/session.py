"""What runs behind a window?

One thread, ``session``: it lets engines take over from each other, follows the switch of the
recording, and sees when the run is over. The window calls methods that return at once, and reads
``state``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import monotonic

from ..config import Config
from ..core.errors import SourceError
from ..core.interfaces import Sink
from ..core.package import NAME
from ..core.stats import PipelineStats
from ..pipeline.handoff import Note, note_nothing
from .engine_switch import Engines, Prepare
from .figures import Draw, MachineGauge, Tally, UnknownDraw
from .outputs import KeptSink, Outlets, RecordingSink
from .source_player import Feed
from .state import Board, Choice, LastWord, SessionState

log = logging.getLogger(__name__)

TICK_S = 0.05
FIGURES_S = 0.25
MACHINE_S = 1.0


class Session:
    """``start``, then anything, then ``stop`` and ``join``.

    ``stay``: a recording's end is not the end of the run. ``sinks`` get every result for as long
    as the session lives; ``kept`` are those that were asked for on the command line. ``note`` hears
    what becomes of each frame; ``power`` tells what the machine draws.
    """

    def __init__(
        self,
        feed: Feed,
        prepare: Prepare,
        *,
        choice: Choice,
        config: Config,
        sinks: Sequence[Sink],
        kept: Sequence[KeptSink],
        recording: RecordingSink,
        stay: bool,
        note: Note = note_nothing,
        power: Callable[[], Draw] = UnknownDraw,
    ) -> None:
        self._feed, self._kept, self._recording, self._stay = feed, kept, recording, stay
        self._board = Board(SessionState(score=config.score, iou=config.iou))
        self._tally = Tally()
        self._engines = Engines(
            prepare,
            first=choice,
            config=config,
            note=note,
            feed=feed,
            sink=Outlets([*sinks, self._tally.recent, recording, *kept], feed.info_of),
            board=self._board,
            tally=self._tally,
        )
        self._power = power
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="session", daemon=True)
        self._error: BaseException | None = None
        self.choose, self.cancel = self._engines.choose, self._engines.cancel
        self.set_thresholds = self._engines.set_thresholds
        self.tell = self._board.tell

    def start(self, uri: str) -> None:
        """Open the source and build the engine, beside each other."""
        self._feed.show(uri)
        self._thread.start()

    def stop(self) -> None:
        """Ask for the end; returns at once."""
        self._stop.set()
        self._feed.stop()

    def join(self, timeout_s: float) -> bool:
        """True if everything was ended in time; what was not is left behind."""
        until_s = monotonic() + timeout_s
        self._thread.join(timeout_s)
        closed = self._feed.join(max(0.0, min(0.5, until_s - monotonic())))
        return closed and not self._thread.is_alive()

    @property
    def error(self) -> BaseException | None:
        """Why it ended, or why nothing is being detected."""
        return self._error or self._engines.error

    @property
    def remarks(self) -> Sequence[str]:
        """What the engine chose and measured, for the report at the end."""
        return self._tally.remarks

    def state(self) -> SessionState:
        """Everything at this moment; any thread, never waits."""
        recording_to = self._recording.wanted
        return replace(self._board.state, feed=self._feed.state(), recording_to=recording_to)

    def run_state(self) -> str:
        """In the words of a pipeline's state; any thread."""
        state = self._board.state
        if state.failure:
            return "failed"
        return "building" if state.running is None else self._feed.state().phase

    def stats(self) -> PipelineStats:
        """Figures of the whole run: counts of all engines, the rest of the last; any thread."""
        return self._tally.stats(self.run_state(), self._feed.events())

    def has_run(self) -> bool:
        """Whether an engine ever came up."""
        return self._tally.has_begun

    def tune(self, *, score: float, iou: float, max_age_ms: float | None) -> bool:
        """Other limits from the next frame on; any thread. False: no engine runs yet."""
        self._engines.set_max_age(max_age_ms)
        self._engines.set_thresholds(score, iou)
        return self._board.state.running is not None

    def _run(self) -> None:
        handler = LastWord(self._board)
        logging.getLogger(NAME).addHandler(handler)
        gauge = MachineGauge(power=self._power)
        next_figures_s = next_machine_s = 0.0
        try:
            while not (self._stop.wait(TICK_S) or self._engines.is_over):
                self._engines.follow()
                self._feed.return_if_failed()
                self._recording.follow()
                self._watch_end()
                now_s = monotonic()
                if now_s >= next_figures_s:
                    next_figures_s = now_s + FIGURES_S
                    self._board.note(figures=self._tally.figures())
                if now_s >= next_machine_s:
                    next_machine_s = now_s + MACHINE_S
                    self._board.note(machine=gauge.read())
        except BaseException as error:
            log.debug("session failed", exc_info=True)
            self._error = error
        finally:
            logging.getLogger(NAME).removeHandler(handler)
            self._end()

    def _watch_end(self) -> None:
        """Without ``stay`` the run is over when its recording is."""
        feed = self._feed.state()
        if self._stay or feed.phase not in ("ended", "failed"):
            return
        if feed.phase == "failed":
            self._error = self._error or SourceError(feed.error)
        self._engines.run_out()

    def _end(self) -> None:
        self._feed.stop()
        self._engines.end()
        self._recording.finish()
        for sink in self._kept:
            sink.finish()
        errors = (self._error, self._engines.error, *(sink.error for sink in self._kept))
        self._error = next((each for each in errors if each is not None), None)
        self._board.note(ended=True)
