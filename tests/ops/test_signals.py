"""Signals that come at a moment when Python can only ignore what they raise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.ops.signals import interrupting, noting

ROOT = Path(__file__).parents[2]


def strike(number: int = signal.SIGTERM) -> None:
    """At once, on this thread: any other that is left could take it, and this one hear it late."""
    signal.raise_signal(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_before_a_run_a_signal_interrupts(number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interrupting():
        strike(number)
    assert signal.getsignal(number) is before


def test_during_a_run_it_is_noted() -> None:
    with noting() as heard:
        assert not heard.stop
        strike()
        assert heard.stop


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_ignored_stops_the_run_that_follows() -> None:
    class Finalised:
        def __del__(self) -> None:
            strike()
            time.sleep(0)  # where the interrupt strikes

    with interrupting():
        Finalised()
        with noting() as heard:
            assert heard.stop
    with interrupting(), noting() as heard:
        assert not heard.stop, "the next command knows nothing of it"


def test_a_hang_up_stops_unless_it_is_a_services_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda fd: False)
    before = signal.getsignal(signal.SIGHUP)
    with noting() as heard:
        strike(signal.SIGHUP)
        assert heard.stop and not heard.hang_up
        strike(signal.SIGHUP)  # the shell and the kernel both tell; the process goes on to its end
    with noting(hang_ups=True) as heard:
        strike(signal.SIGHUP)
        assert heard.hang_up and not heard.stop
    monkeypatch.setattr(os, "isatty", lambda fd: True)
    with noting(hang_ups=True) as heard:
        strike(signal.SIGHUP)
        assert heard.stop, "the terminal has gone"
    assert signal.getsignal(signal.SIGHUP) is before


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupting(), noting() as heard:
            strike(signal.SIGHUP)
            assert not heard.stop
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_second_stop_ends_the_process_at_once() -> None:
    text = (
        "import os, signal, time; from app.ops import signals\n"
        "signals.time = type('Clock', (), {'monotonic': lambda: now})\n"
        "with signals.noting() as heard:\n"
        "    now = 10.0; os.kill(os.getpid(), signal.SIGTERM); assert heard.stop\n"
        "    now = 10.1; os.kill(os.getpid(), signal.SIGTERM); print('one stop', flush=True)\n"
        "    now = 11.0; os.kill(os.getpid(), signal.SIGTERM); print('still here', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, b"one stop\n")


@pytest.mark.parametrize("forgotten", [True, False])
def test_an_interrupt_caught_after_leaving_executed_text(forgotten: bool, tmp_path: Path) -> None:
    """What Python makes of it is asserted too, so that the day it is mended is noticed."""
    text = (
        "import sys; from app.ops.signals import forget_interrupt\n"
        "try: exec('raise KeyboardInterrupt')\n"
        f"except KeyboardInterrupt: {'forget_interrupt()' if forgotten else 'pass'}\n"
        "sys.exit(3)\n"
    )
    (tmp_path / "caught.py").write_text(text)
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    done = subprocess.run([sys.executable, "-m", "caught"], env=env, check=False)
    assert done.returncode == (3 if forgotten else -signal.SIGINT)
