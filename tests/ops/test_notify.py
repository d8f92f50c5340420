"""What systemd hears, on a socket of its kind: readiness, life signs, and silence when it hangs."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.config import Config
from app.core.detections import Detections, Result
from app.core.frame import Frame
from app.core.stats import Meter, PipelineStats
from app.ops.systemd import (
    BUILDING_S,
    EXTENSION,
    JournalFormatter,
    Notifier,
    Supervised,
    into_journal,
    journal_line,
    plan_reload,
    status_line,
)
from tests.processes import start

RESULT = Result(Frame(np.zeros((2, 2, 3), np.uint8), 0, 0), Detections.empty(), 1)


class Systemd:
    """The receiving end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.settimeout(20)

    def environ(self, **more: str) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.address, **more}

    def next(self) -> list[str]:
        return self._socket.recv(4096).decode().split("\n")

    def heard(self) -> list[str]:
        """All that has come, without waiting."""
        lines: list[str] = []
        self._socket.setblocking(False)
        while True:
            try:
                lines += self._socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                self._socket.settimeout(20)
                return lines

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    path = str(tmp_path / "notify")
    named = path if request.param == "path" else f"@kestrel-{os.getpid()}-{tmp_path.name}"
    with closing(Systemd(named)) as receiver:
        yield receiver


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Systemd]:
    with closing(Systemd(str(tmp_path / "notify"))) as receiver:
        yield receiver


# --- the protocol --------------------------------------------------------------------------------


def test_a_message_is_one_datagram_of_lines(systemd: Systemd) -> None:
    notifier = Notifier(systemd.environ())
    assert notifier.listening
    notifier.send("READY=1", "STATUS=so")
    assert systemd.next() == ["READY=1", "STATUS=so"]
    notifier.reloading()
    first, second = systemd.next()
    assert first == "RELOADING=1"
    now_us = time.monotonic_ns() // 1000
    assert now_us - 20_000_000 < int(second.removeprefix("MONOTONIC_USEC=")) <= now_us
    notifier.close()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "nonsense"}])
def test_without_a_supervisor_nothing_is_sent(environ: dict[str, str]) -> None:
    notifier = Notifier(environ)
    assert not notifier.listening
    notifier.send("READY=1")
    notifier.close()


def test_a_supervisor_that_went_away_or_does_not_read_stops_nothing(tmp_path: Path) -> None:
    receiver = Systemd(str(tmp_path / "notify"))
    notifier = Notifier(receiver.environ())
    for _ in range(5000):  # more than a socket holds
        notifier.send("STATUS=" + "x" * 200)
    receiver.close()
    notifier.send("READY=1")
    notifier.close()
    notifier.send("READY=1")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_that_of_this_process(
    environ: dict[str, str], seconds: float | None
) -> None:
    assert Notifier(environ).watchdog_s == seconds


# --- when what is said ---------------------------------------------------------------------------


class Clock:
    """Seconds that move when told."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def supervised(listener: Systemd, clock: Clock) -> Iterator[Supervised]:
    notifier = Notifier(listener.environ(WATCHDOG_USEC="10000000"))
    yield Supervised(notifier, clock=clock)
    notifier.close()


def stats(**changed: Any) -> PipelineStats:
    return replace(Meter().snapshot(), **changed)


def test_ready_comes_once_and_only_after_the_first_result(
    supervised: Supervised, listener: Systemd
) -> None:
    supervised.tick()
    supervised.inferred()  # the canary alone is no result
    supervised.tick()
    assert "READY=1" not in listener.heard()
    supervised.emit(RESULT)
    supervised.tick()
    supervised.tick()
    assert listener.heard().count("READY=1") == 1


def test_the_watchdog_is_fed_every_half_period_and_only_after_inferences(
    supervised: Supervised, listener: Systemd, clock: Clock
) -> None:
    fed = []
    for second in range(40):
        if second < 16:
            supervised.emit(RESULT)  # then it hangs
        clock.now_s = 1000.0 + second
        supervised.tick()
        if "WATCHDOG=1" in listener.heard():
            fed.append(second)
    # the last may still tell of results that came since the one before
    assert fed == [5, 10, 15]


def test_the_canarys_inferences_feed_the_watchdog_while_the_source_is_away(
    supervised: Supervised, listener: Systemd, clock: Clock
) -> None:
    supervised.emit(RESULT)
    clock.now_s += 6
    supervised.tick()
    listener.heard()
    supervised.inferred()
    clock.now_s += 6
    supervised.tick()
    assert listener.heard() == ["WATCHDOG=1"]


def test_an_engine_that_is_built_gets_time_but_not_for_ever(
    supervised: Supervised, listener: Systemd, clock: Clock
) -> None:
    supervised.watch(lambda: stats(state="building"))
    supervised.tick()
    assert EXTENSION in listener.heard()
    clock.now_s += BUILDING_S + 1
    supervised.tick()
    assert EXTENSION not in listener.heard()


def test_status_is_told_now_and_then(
    supervised: Supervised, listener: Systemd, clock: Clock
) -> None:
    supervised.watch(lambda: stats(state="live", processed=7, fps=24.96, age_ms=(9.6, 1, 1)))
    for _ in range(11):
        supervised.tick()
        clock.now_s += 1
    told = [line for line in listener.heard() if line.startswith("STATUS=")]
    assert told == ["STATUS=live: 25.0 FPS, age 10 ms, 7 processed, 0 dropped"] * 3


def test_status_before_the_first_result_has_no_figures() -> None:
    assert status_line(stats(state="opening")) == "opening, no result yet"
    assert "42 %" in status_line(stats(state="building", cause="building an engine: 42 %"))


def test_a_reload_is_told_before_and_after_also_when_it_fails(
    supervised: Supervised, listener: Systemd
) -> None:
    def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        supervised.reloading(fail)
    assert listener.heard() == []  # not ready, so it must not seem to be
    supervised.emit(RESULT)
    supervised.tick()
    listener.heard()
    with pytest.raises(ValueError):
        supervised.reloading(fail)
    heard = listener.heard()
    assert heard[0] == "RELOADING=1" and heard[-1] == "READY=1"


# --- the application -----------------------------------------------------------------------------


def configured(settings: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """A run by that file, its output and log to be read."""
    return start("run", "--config", str(settings), more=env)


def test_a_run_tells_its_life_its_reload_and_its_end(
    listener: Systemd, tiny_model: Path, tmp_path: Path
) -> None:
    settings = tmp_path / "kestrel.toml"
    settings.write_text(
        f'source = "pattern:?size=128x96&fps=50"\nmodel = "{tiny_model}"\nheadless = true\n'
        'score = 0.5\njson = "-"\ncanary_s = 1\n'
    )
    process = configured(settings, listener.environ(WATCHDOG_USEC="1000000"))
    assert process.stdout is not None
    try:
        heard: list[str] = []
        while heard.count("WATCHDOG=1") < 2 or not any("FPS" in line for line in heard):
            heard += listener.next()
            assert len(heard) < 500
        assert heard.index("READY=1") >= 0 and process.stdout.readline()

        settings.write_text(settings.read_text().replace("0.5", "0.95").replace("fps=50", "fps=40"))
        process.send_signal(signal.SIGHUP)
        line = process.stdout.readline()
        while '"detections": []' not in line:  # the one thing has 0.9
            assert line, "the new threshold never came"
            line = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    rest = listener.heard()
    assert "RELOADING=1" in rest and "STOPPING=1" in rest
    assert rest.index("READY=1") > rest.index("RELOADING=1")
    assert re.search(r"changed score = 0.95; after a restart only: source", told), told


@pytest.mark.slow
def test_an_output_that_hangs_starves_the_watchdog(listener: Systemd, tiny_model: Path) -> None:
    words = ["--source", "pattern:?size=64x64&fps=1000", "--model", str(tiny_model), "--json", "-"]
    # its output is never read: it is full after some hundred frames
    env = listener.environ(WATCHDOG_USEC="1000000")
    words = ["run", "--headless", "--canary-s", "1", *words]
    process = start(*words, more=env, stderr=subprocess.DEVNULL)
    try:
        stuck = ""
        while " 0.0 FPS" not in stuck:  # so it is two seconds after the last result
            stuck = listener.next()[0]
        heard = []
        while not any(line.startswith("STATUS=") for line in heard):  # five seconds later
            heard += listener.next()
        assert "WATCHDOG=1" not in heard
        process.send_signal(signal.SIGABRT)  # as systemd does now
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGABRT


def test_a_wrong_file_changes_nothing_and_the_run_goes_on(tiny_model: Path, tmp_path: Path) -> None:
    settings = tmp_path / "kestrel.toml"
    settings.write_text(
        f'source = "pattern:?size=128x96&fps=50"\nmodel = "{tiny_model}"\nheadless = true\n'
        'json = "-"\n'
    )
    process = configured(settings)
    assert process.stdout is not None and process.stderr is not None
    try:
        process.stdout.readline()
        settings.write_text("score = 7\n")
        process.send_signal(signal.SIGHUP)
        lines = [process.stdout.readline() for _ in range(100)]
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and '"thing"' in lines[-1]
    assert "nothing changed" in told and "score is 7" in told


@pytest.mark.skipif(shutil.which("systemd-notify") is None, reason="there is no systemd-notify")
def test_our_receiver_is_like_systemds(listener: Systemd) -> None:
    """The real tool speaks to the same socket: what the tests receive is the real protocol."""
    done = subprocess.run(
        ["systemd-notify", "--no-block", "--ready", "--status=so"],
        env={**os.environ, **listener.environ()},
        timeout=30,
    )
    assert done.returncode == 0
    heard = listener.next()
    assert "READY=1" in heard and "STATUS=so" in heard


OLD = Config(source="camera:0", score=0.5)


def test_thresholds_are_taken_up_and_the_rest_waits() -> None:
    plan = plan_reload(OLD, replace(OLD, score=0.7, max_age_ms=100, source="camera:1"))
    assert plan.config == replace(OLD, score=0.7, max_age_ms=100)
    assert plan.needs_restart == ("source",)
    assert plan.line() == (
        "configuration read again: changed max_age_ms = 100, score = 0.7; "
        "after a restart only: source"
    )


def test_what_waits_is_told_again_at_the_next_reload() -> None:
    new = replace(OLD, source="camera:1")
    assert plan_reload(plan_reload(OLD, new).config, new).needs_restart == ("source",)


def test_a_setting_that_is_gone_from_the_file_is_the_default_again() -> None:
    assert plan_reload(OLD, replace(OLD, score=None)).config.score is None


def test_no_change_is_told() -> None:
    assert plan_reload(OLD, OLD).line().endswith("nothing has changed")


def test_of_a_table_what_can_be_is_taken_up() -> None:
    store = replace(OLD.store, path="s", keep_hours=5, budget_mb=7)
    plan = plan_reload(OLD, replace(OLD, store=store))
    assert plan.config.store == replace(OLD.store, keep_hours=5, budget_mb=7)
    assert set(plan.changed) == {"store.keep_hours", "store.budget_mb"}
    assert plan.needs_restart == ("store.path",)
    assert "store.keep_hours = 5" in plan.line()


def test_filters_are_taken_up() -> None:
    row = {"source": "door", "min_box": "5%"}
    new = replace(OLD, classes=("face",), class_scores=("face=0.3",), filter=(row,))
    plan = plan_reload(OLD, new)
    assert plan.config == new and plan.needs_restart == ()


def test_no_password_of_a_source_is_told() -> None:
    old = Config(sources=("a=pattern:",))
    new = replace(old, sources=("a=rtsp://anna:secret@camera/1", "b=rtsp://u:hush@camera/2"))
    line = plan_reload(old, new).line()
    assert "camera/1" in line and "secret" not in line and "hush" not in line


@pytest.mark.parametrize(
    ("level", "number"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.CRITICAL, 3), (5, 7)],
)
def test_levels_are_syslogs(level: int, number: int) -> None:
    assert journal_line("so", level) == f"<{number}>so"


def test_every_line_has_its_level() -> None:
    assert journal_line("one\ntwo", logging.ERROR) == "<3>one\n<3>two"


def test_a_message_cannot_begin_a_line_of_its_own() -> None:
    record = logging.LogRecord("k", logging.ERROR, "f", 1, "one\n<1>two\x1b[2J", None, None)
    assert JournalFormatter("%(message)s").format(record) == "<3>one <1>two?[2J"


def test_only_the_very_stream_is_the_journal(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        stat = os.fstat(file.fileno())
        named = {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
        assert into_journal(named, file.fileno())
        assert not into_journal({"JOURNAL_STREAM": "8:1"}, file.fileno())
        assert not into_journal({}, file.fileno())
    with (tmp_path / "other").open("w") as redirected:
        assert not into_journal(named, redirected.fileno())
    assert not into_journal(named, 999)


def test_a_run_under_systemd_logs_with_levels(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        stat = os.fstat(file.fileno())
        journal = {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
        run = start("replay", "none.mp4", more=journal, stdout=None, stderr=file)
        assert run.wait(60) == 3
    assert (tmp_path / "log").read_text().startswith("<3>kestrel: error: there is no file")
