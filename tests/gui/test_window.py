"""Does the window live and end with the run, whatever happens in between?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from time import monotonic

import pytest
from PyQt5.QtCore import Qt, QTimer
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import QApplication

from app.errors import ConfigError
from app.gui.window import run_window
from app.sinks.latest import LatestSink
from tests.sinks.kit import LABELS, ROOT, found, gray, result

LIMIT_S = 10.0  # a run that nobody ends is a failed test, not a hung one


class Run:
    """What the window sees of a run; ends when ``stop`` is called."""

    def __init__(self) -> None:
        self.latest = LatestSink()
        self.running, self.stops = True, 0
        self._until_s = monotonic() + LIMIT_S

    def is_running(self) -> bool:
        assert monotonic() < self._until_s, "the window did not end"
        return self.running

    def stop(self) -> None:
        self.running = False
        self.stops += 1

    def show(self, hud: Callable[[], str] = lambda: "30.0 FPS", labels=LABELS) -> None:
        run_window(
            self.latest,
            labels=labels,
            title="Kestrel",
            hud=hud,
            is_running=self.is_running,
            request_stop=self.stop,
        )


def window():
    (shown,) = [w for w in QApplication.topLevelWidgets() if w.isVisible()]
    return shown


def later(ms: int, action: Callable[[], object]) -> None:
    QTimer.singleShot(ms, action)


def test_window_closes_itself_after_showing_the_last_result() -> None:
    run, shown = Run(), []

    def end() -> None:
        run.latest.emit(result(0, pixels=gray(level=200)))
        run.running = False
        shown.append(window())

    later(100, end)
    run.show()
    assert run.stops >= 1
    assert not shown[0].isVisible()
    assert shown[0].grab().toImage().pixelColor(100, 100).red() == 200
    assert run.latest.take() is None


def test_run_that_ended_before_the_window_opened_returns() -> None:
    run = Run()
    run.latest.emit(result())
    run.running = False
    run.show()


@pytest.mark.parametrize("key", [Qt.Key.Key_Escape, Qt.Key.Key_Q])
def test_key_stops_the_run(key) -> None:
    run = Run()
    later(100, lambda: QTest.keyClick(window(), key))
    run.show()
    assert run.stops == 1


def test_closing_the_window_stops_the_run() -> None:
    run = Run()
    later(100, lambda: window().close())
    run.show()
    assert run.stops == 1


def test_f11_is_full_screen_and_back() -> None:
    run, states = Run(), []

    def press() -> None:
        QTest.keyClick(window(), Qt.Key.Key_F11)
        states.append(window().isFullScreen())

    for ms in (100, 200):
        later(ms, press)
    later(300, lambda: QTest.keyClick(window(), Qt.Key.Key_Escape))
    run.show()
    assert states == [True, False]


def test_window_takes_the_first_frames_size() -> None:
    run, sizes = Run(), []
    run.latest.emit(result(pixels=gray(400, 300)))
    later(200, lambda: sizes.append((window().width(), window().height() - window().hud_height)))
    later(250, run.stop)
    run.show()
    assert sizes == [(400, 300)]


def test_frame_larger_than_the_screen_is_scaled_into_it() -> None:
    run, fits = Run(), []
    run.latest.emit(result(pixels=gray(4000, 3000)))
    later(200, lambda: fits.append(window().height() < window().screen().size().height()))
    later(250, run.stop)
    run.show()
    assert fits == [True]


def test_nothing_new_repaints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.gui.view import ResultView

    run, paints = Run(), []
    original = ResultView.paintEvent
    monkeypatch.setattr(
        ResultView, "paintEvent", lambda self, event: (paints.append(1), original(self, event))[0]
    )
    run.latest.emit(result())
    before: list[int] = []
    later(200, lambda: before.append(len(paints)))
    later(600, lambda: before.append(len(paints)))
    later(650, run.stop)
    run.show()
    assert before[0] == before[1]


def test_status_line_goes_on_while_no_frames_come() -> None:
    run, calls = Run(), []
    later(800, run.stop)
    run.show(hud=lambda: calls.append(1) or f"{len(calls)}")
    assert 3 <= len(calls) <= 6


def test_exception_in_a_callback_stops_the_run_and_comes_out() -> None:
    run = Run()

    def broken() -> str:
        raise RuntimeError("no status")

    with pytest.raises(RuntimeError, match="no status"):
        run.show(hud=broken)
    assert run.stops == 1 and sys.excepthook is not None


def test_exception_while_painting_stops_the_run_and_comes_out() -> None:
    class Broken(tuple):
        __slots__ = ()

        def __getitem__(self, index):
            raise LookupError("no labels")

    run = Run()
    run.latest.emit(result(0, found((0, 0.9, 100, 80, 200, 180))))
    with pytest.raises(LookupError, match="no labels"):
        run.show(labels=Broken(LABELS))
    assert run.stops == 1


def test_several_windows_one_after_another() -> None:
    for _ in range(3):
        run = Run()
        run.latest.emit(result())
        later(50, run.stop)
        run.show()


def test_no_display_is_an_error_message_not_an_abort(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QT_QPA_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=r"cannot open a window: .* use --headless"):
        Run().show()


INTERRUPTED = """
import os, signal, sys, threading
from app.gui.window import run_window
from app.sinks.latest import LatestSink
stopped = threading.Event()
if sys.argv[1] == "handler":
    signal.signal(signal.SIGINT, lambda number, frame: stopped.set())
def hud():
    print("up", flush=True)
    return ""
run_window(LatestSink(), labels=[], title="t", hud=hud, is_running=lambda: not stopped.is_set(),
           request_stop=stopped.set)
print("returned", stopped.is_set())
"""


@pytest.mark.parametrize("kind", ["handler", "default"])
def test_sigint_ends_the_window(kind: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, kind],
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
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "returned True"
    assert "Traceback" not in err
