"""The window lives and ends with the run, whatever happens in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest
from PyQt5.QtCore import Qt, QTimer
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import QApplication

from app.core.errors import ConfigError
from app.gui.window import run_window
from tests.gui.kit import FakeController
from tests.sinks.kit import LABELS, ROOT, found, gray, result

LIMIT_S = 60.0  # a run that nobody ends is a failed test, not a hung one


class Run(FakeController):
    """Ends by ``stop``."""

    def __init__(self) -> None:
        super().__init__()
        self.interrupted = False
        self._until_s = monotonic() + LIMIT_S

    def state(self):
        assert monotonic() < self._until_s, "the window did not end"
        return super().state()

    def stop(self) -> None:
        self.set(ended=True)

    def show(self, settings: Path) -> None:
        run_window([self], interrupted=lambda: self.interrupted, settings_file=settings)


@pytest.fixture
def ini(tmp_path: Path) -> Path:
    return tmp_path / "settings.ini"


def window():
    (shown,) = [w for w in QApplication.topLevelWidgets() if w.isVisible() and w.isWindow()]
    return shown


def in_turn(*actions: Callable[[], object]) -> QTimer:
    """One after the other, once the window is there and has the keyboard."""
    todo, timer = list(actions), QTimer()

    def act() -> None:
        if QApplication.activeWindow() is not None and todo:
            todo.pop(0)()

    timer.timeout.connect(act)
    timer.start(50)
    return timer


def later(ms: int, action: Callable[[], object]) -> None:
    QTimer.singleShot(ms, action)


def test_window_closes_itself_after_showing_the_last_result(
    ini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.gui.main_window import MainWindow

    run, shown = Run(), []
    original = MainWindow.closeEvent

    def close(self, event) -> None:
        picture = self.view.grab().toImage()
        shown.append(picture.pixelColor(picture.width() // 2, picture.height() // 2).red())
        original(self, event)

    def end() -> None:
        run.latest.emit(result(0, pixels=gray(level=200)))
        run.stop()

    monkeypatch.setattr(MainWindow, "closeEvent", close)
    kept = in_turn(end)
    run.show(ini)
    kept.stop()
    assert shown[0] == 200
    assert run.latest.take() is None


def test_run_that_ended_before_the_window_opened_returns(ini: Path) -> None:
    run = Run()
    run.latest.emit(result())
    run.stop()
    run.show(ini)


def test_q_closes_the_window_and_escape_does_not(ini: Path) -> None:
    run, open_after = Run(), []

    def escape() -> None:
        QTest.keyClick(window(), Qt.Key.Key_Escape)
        open_after.append(window().isVisible())

    kept = in_turn(escape, lambda: QTest.keyClick(window(), Qt.Key.Key_Q))
    run.show(ini)
    kept.stop()
    assert open_after == [True]


def test_a_signal_ends_a_run_with_outputs_without_a_question(ini: Path) -> None:
    run = Run()
    run.has_outputs = True
    later(100, lambda: setattr(run, "interrupted", True))
    run.show(ini)


def test_closing_the_window_returns(ini: Path) -> None:
    kept = in_turn(lambda: window().close())
    Run().show(ini)
    kept.stop()


def test_interrupt_returns(ini: Path) -> None:
    run = Run()
    later(100, lambda: setattr(run, "interrupted", True))
    run.show(ini)


def test_f11_is_full_screen_and_escape_leaves_it(ini: Path) -> None:
    run, states = Run(), []

    def press(key) -> Callable[[], None]:
        def action() -> None:
            QTest.keyClick(window(), key)
            states.append(window().isFullScreen())

        return action

    kept = in_turn(
        press(Qt.Key.Key_F11),
        press(Qt.Key.Key_Escape),
        press(Qt.Key.Key_F11),
        press(Qt.Key.Key_F11),
        run.stop,
    )
    run.show(ini)
    kept.stop()
    assert states == [True, False, True, False]


def test_nothing_new_repaints_nothing(ini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.gui.view import ResultView

    run, paints = Run(), []
    original = ResultView.paintEvent
    monkeypatch.setattr(
        ResultView, "paintEvent", lambda self, event: (paints.append(1), original(self, event))[0]
    )
    run.latest.emit(result())
    before: list[int] = []

    def note() -> None:
        before.append(len(paints))

    idle = [lambda: None] * 12  # 50 ms each: what start-up paints is painted by then
    kept = in_turn(*idle, note, *idle, note, run.stop)
    run.show(ini)
    kept.stop()
    assert before[0] == before[1] and before[0] >= 1


def test_slow_painting_builds_no_queue(ini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A paint of 200 ms: what is shown is still the newest, and nothing waits."""
    import time

    from app.gui.view import ResultView

    run, shown, waiting = Run(), [], []
    original = ResultView.paintEvent

    def slow(self, event) -> None:
        if self.newest is not None:
            shown.append((self.newest[0].frame.index, emitted[-1]))
            time.sleep(0.2)
        original(self, event)

    monkeypatch.setattr(ResultView, "paintEvent", slow)
    emitted, pixels = [0], gray()

    def emit() -> None:
        emitted.append(emitted[-1] + 1)
        run.latest.emit(result(emitted[-1], pixels=pixels))
        waiting.append(sys.getrefcount(pixels))

    import threading

    ended = threading.Event()

    def feed() -> None:
        while not ended.wait(0.01):
            emit()

    thread = threading.Thread(target=feed)
    thread.start()
    later(2500, run.stop)
    try:
        run.show(ini)
    finally:
        ended.set()
        thread.join()
    late = [now - index for index, now in shown]
    assert len(shown) >= 2 and emitted[-1] > len(shown)
    assert max(waiting) <= waiting[0] + 6, "frames are being kept"
    # one paint and one tick behind: about 22 frames of 10 ms; a queue would grow by 20 a paint
    assert min(late[len(late) // 2 :]) <= max(late[:3]) + 30, late


def test_exception_in_the_desk_comes_out(ini: Path) -> None:
    run = Run()

    def broken():
        raise RuntimeError("no state")

    run.state = broken
    with pytest.raises(RuntimeError, match="no state"):
        run.show(ini)


def test_exception_while_painting_comes_out(ini: Path) -> None:
    class Broken(tuple):
        __slots__ = ()

        def __getitem__(self, index):
            raise LookupError("no labels")

    run = Run()
    run.latest.open(run.now.source.info, Broken(LABELS))
    run.latest.emit(result(0, found((0, 0.9, 100, 80, 200, 180))))
    with pytest.raises(LookupError, match="no labels"):
        run.show(ini)


def test_several_windows_one_after_another(ini: Path) -> None:
    for _ in range(3):
        run = Run()
        run.latest.emit(result())
        later(50, run.stop)
        run.show(ini)


def test_no_display_is_an_error_message_not_an_abort(
    ini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("QT_QPA_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=r"cannot open a window: .* use --headless"):
        Run().show(ini)


INTERRUPTED = """
import signal, sys, threading
from pathlib import Path
from app.gui.window import run_window
from tests.gui.kit import FakeController
stopped = threading.Event()
if sys.argv[1] == "handler":
    signal.signal(signal.SIGINT, lambda number, frame: stopped.set())
else:  # a shell's background job inherits it ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
class OwnController(FakeController):
    def state(self):
        print("up", flush=True)
        return super().state()
run_window([OwnController()], interrupted=stopped.is_set, settings_file=Path(sys.argv[2]))
print("returned")
"""


@pytest.mark.parametrize("kind", ["handler", "default"])
def test_sigint_ends_the_window(ini: Path, kind: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, kind, str(ini)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"QT_QPA_PLATFORM": "offscreen"},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "returned"
    assert "Traceback" not in err
