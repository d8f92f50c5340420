"""What the journal gets, and what a terminal gets."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.ops.systemd import JournalFormatter, into_journal, journal_line

ROOT = Path(__file__).parents[2]


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
    words = [sys.executable, "-m", "app", "replay", "none.mp4"]
    with (tmp_path / "log").open("w") as file:
        stat = os.fstat(file.fileno())
        env = {**os.environ, "JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
        done = subprocess.run(words, cwd=ROOT, stderr=file, env=env, timeout=60)
    assert done.returncode == 3
    assert (tmp_path / "log").read_text().startswith("<3>kestrel: error: there is no file")
