"""The spool keeps everything, in order, within its bounds, and survives its disk."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from app.sinks.spool import RETRY_S, SAVE_AFTER_S, Spool, SpooledMessage


class Bench:
    """A spool on a clock that is set by hand, and what it dropped."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.now_s, self.dropped = 100.0, Counter[str]()
        self.path, self._options = path, {"max_bytes": 10**6} | options
        self.spool = self.reopen()

    def reopen(self) -> Spool:
        self.spool = Spool(
            self.path,
            on_drop=lambda why: self.dropped.update([why]),
            clock_s=lambda: self.now_s,
            **self._options,
        )
        self.spool.open()
        return self.spool

    def append(self, *texts: str) -> None:
        for text in texts:
            self.spool.append("t", text)

    def wait_and_save(self) -> None:
        self.now_s += SAVE_AFTER_S + 0.1
        self.spool.save()

    def texts(self, count: int = 1000) -> list[str]:
        return [message.text for message in self.spool.hand_out(count)]


def test_what_arrives_quickly_never_touches_the_disk(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "s.sqlite")
    written = bench.path.stat().st_size, bench.path.with_name("s.sqlite-wal").stat().st_size
    for i in range(100):
        bench.append(str(i))
        (message,) = bench.spool.hand_out(20)
        bench.spool.remove(message.seq)
        bench.now_s += 0.1
        bench.spool.save()
    assert len(bench.spool) == 0
    assert written == (
        bench.path.stat().st_size,
        bench.path.with_name("s.sqlite-wal").stat().st_size,
    )


def test_what_waits_survives_the_process_and_keeps_its_order(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "deep" / "er" / "s.sqlite")
    bench.append("a", "b")
    bench.wait_and_save()
    bench.append("c")
    bench.spool.close()  # saves the rest
    bench.reopen()
    bench.append("d")
    assert len(bench.spool) == 4
    assert bench.texts(2) == ["a", "b"] and bench.texts() == ["c", "d"] and bench.texts() == []
    assert not bench.dropped


def test_what_was_acknowledged_does_not_come_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "s.sqlite")
    bench.append("a", "b", "c")
    bench.wait_and_save()
    for message in bench.spool.hand_out(2):
        bench.spool.remove(message.seq)
    assert len(bench.spool) == 1
    bench.spool.close()
    assert len(bench.reopen()) == 1 and bench.texts() == ["c"]


def test_a_crash_loses_at_most_the_last_second(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "s.sqlite")
    bench.append("a")
    bench.wait_and_save()
    bench.append("b")
    bench.spool._db.close()  # no close(): the process is gone
    assert bench.reopen() and bench.texts() == ["a"]


def test_the_oldest_go_when_the_disk_share_is_used_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "s.sqlite", max_bytes=60_000)
    bench.append(*(f"{i:04}" + "x" * 200 for i in range(1000)))
    bench.wait_and_save()
    left = [int(text[:4]) for text in bench.texts()]
    assert 100 < len(left) < 300 and left == list(range(1000 - len(left), 1000))
    assert bench.dropped == {"spool full": 1000 - len(left)}


def test_what_was_handed_out_is_not_dropped(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "s.sqlite", max_bytes=10_000)
    bench.append(*("x" * 200 for _ in range(20)))
    handed = bench.spool.hand_out(20)
    bench.append(*("y" * 200 for _ in range(200)))
    bench.wait_and_save()
    for message in handed:
        bench.spool.remove(message.seq)
    bench.spool.save()
    assert bench.dropped["spool full"] == 200 - len(bench.texts())


@pytest.mark.parametrize("kind", ["folder", "file", "full"])
def test_a_disk_that_cannot_be_used_is_told_and_memory_serves(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.sqlite"
    if kind == "folder":
        path.mkdir()
    elif kind == "file":
        (tmp_path / "file").touch()
        path = tmp_path / "file" / "s.sqlite"
    bench = Bench(path, memory_bytes=10_000)
    if kind == "full":
        bench.spool._db.execute("PRAGMA max_page_count = 3")  # SQLite's own "disk is full"
    bench.append(*(f"{i:04}" + "x" * 100 for i in range(200)))
    bench.wait_and_save()
    bench.append("last")
    bench.wait_and_save()
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1 and "wait in memory instead" in warnings[0]
    assert bench.spool.trouble
    left = bench.texts()
    assert left[-1] == "last" and 20 < len(left) < 80, "bounded, newest kept"
    assert sum(bench.dropped.values()) == 201 - len(left), "every loss is counted"


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here (it needs root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_keeps_what_it_has_and_is_used_again(tiny_disk: Path) -> None:
    bench = Bench(tiny_disk / "s.sqlite", max_bytes=10**7, memory_bytes=50_000)
    for i in range(5000):
        bench.append(f"{i:04}" + "x" * 300)
        bench.now_s += 0.1
        if i % 10 == 0:
            bench.spool.save()
    assert "full" in bench.spool.trouble and bench.dropped["memory full"] > 1000
    handed = bench.spool.hand_out(10**6)
    numbers = [int(message.text[:4]) for message in handed]
    assert numbers == sorted(set(numbers)) and numbers[0] == 0 and numbers[-1] == 4999
    assert len(numbers) == 5000 - bench.dropped["memory full"], "every loss is counted"
    for message in handed:
        bench.spool.remove(message.seq)
    bench.append("after")
    bench.now_s += RETRY_S
    bench.wait_and_save()  # finds the disk full still, and all on it delivered
    bench.now_s += RETRY_S
    bench.wait_and_save()
    assert not bench.spool.trouble and len(bench.spool) == 1
    bench.spool.close()
    assert bench.reopen() and bench.texts() == ["after"]
    bench.spool.close()


def test_a_disk_that_is_back_is_used_again(tmp_path: Path) -> None:
    blocked = tmp_path / "s.sqlite"
    blocked.mkdir()
    bench = Bench(blocked)
    bench.append("a")
    bench.wait_and_save()
    blocked.rmdir()
    bench.wait_and_save()
    assert bench.spool.trouble, "not tried all the time"
    bench.now_s += RETRY_S
    bench.wait_and_save()
    assert not bench.spool.trouble
    bench.append("b")
    bench.spool.close()
    assert bench.reopen() and bench.texts() == ["a", "b"]


def test_a_damaged_file_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "s.sqlite"
    path.write_bytes(b"this is no database at all, " * 100)
    bench = Bench(path)
    assert (tmp_path / "s.sqlite.damaged").exists() and "damaged" in caplog.text
    bench.append("a")
    bench.spool.close()
    assert bench.reopen() and bench.texts() == ["a"]


def spooled(path: Path, count: int = 20) -> sqlite3.Connection:
    """A file with so many messages, as an earlier run left it."""
    bench = Bench(path)
    bench.append(*(json.dumps({"id": n, "note": "x" * 200}) for n in range(1, count + 1)))
    bench.spool.close()
    return sqlite3.connect(path)


def is_json(topic: str, text: str) -> bool:
    with suppress(ValueError):
        return topic == "t" and bool(json.loads(text))
    return False


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE message SET text = x'fffe' WHERE seq = 7",
        "UPDATE message SET text = CAST(x'7bff7d' AS TEXT) WHERE seq = 7",
        "UPDATE message SET topic = CAST(x'ff' AS TEXT) WHERE seq = 7",
        "UPDATE message SET topic = 'k/#' WHERE seq = 7",
        "UPDATE message SET text = '{\"id\": ' WHERE seq = 7",
    ],
)
@pytest.mark.parametrize("at_a_time", [1, 3, 1000])
def test_a_damaged_message_is_lost_alone(tmp_path: Path, damage: str, at_a_time: int) -> None:
    with closing(spooled(tmp_path / "s.sqlite")) as db, db:
        db.execute(damage)
    bench = Bench(tmp_path / "s.sqlite", sound=is_json)
    handed: list[SpooledMessage] = []
    for _ in range(21):
        handed += bench.spool.hand_out(at_a_time)
    assert [json.loads(each.text)["id"] for each in handed] == [*range(1, 7), *range(8, 21)]
    assert bench.dropped == {"damaged": 1}
    for message in handed:
        bench.spool.remove(message.seq)
    bench.spool.close()
    assert len(bench.reopen()) == 0 and bench.dropped == {"damaged": 1}
    bench.spool.close()


@pytest.mark.parametrize("seq", [2**63 - 1, -(2**63), 0, 2**60])
def test_numbers_that_leave_no_room_are_made_anew(tmp_path: Path, seq: int) -> None:
    with closing(spooled(tmp_path / "s.sqlite")) as db, db:
        db.execute("UPDATE message SET seq = ? WHERE seq = 20", (seq,))
    bench = Bench(tmp_path / "s.sqlite")
    bench.append("new")
    bench.spool.close()
    bench.reopen()
    bench.append("newer")
    told = bench.texts()
    assert len(told) == 22 and told[-2:] == ["new", "newer"] and not bench.dropped
    bench.spool.close()


def broken(path: Path) -> None:
    """Overwrite a page in the middle of the file."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 4096] = b"\xa5" * 4096
    path.write_bytes(data)


def test_what_can_be_read_of_a_damaged_file_is_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.sqlite"
    spooled(path, 500).close()
    broken(path)
    bench = Bench(path)
    found = [json.loads(text)["id"] for text in bench.texts()]
    assert 400 < len(found) < 500 and found == sorted(found) and found[-1] == 500
    assert "damaged" in caplog.text and path.with_name("s.sqlite.damaged").exists()
    bench.append("new")
    bench.spool.close()
    caplog.clear()
    assert len(bench.reopen()) == len(found) + 1 and not caplog.text
    bench.spool.close()


def test_a_file_that_breaks_during_a_run_is_read_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    spooled(path, 500).close()
    bench = Bench(path)
    assert len(bench.spool.hand_out(10)) == 10
    bench.append("during")
    bench.wait_and_save()
    bench.spool._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    broken(path)
    bench.texts()
    bench.now_s += RETRY_S
    bench.append("after")
    bench.spool.close()
    bench.reopen()
    told = bench.texts()
    assert len(told) > 400 and "during" in told and told[-1] == "after"
    bench.spool.close()


def test_a_message_that_the_file_does_not_take_is_lost_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "s.sqlite")
    bench.append("a", "\udcff", "b")
    bench.spool.close()
    assert bench.dropped == {"damaged": 1}
    assert bench.reopen() and bench.texts() == ["a", "b"]
    bench.spool.close()


def test_two_processes_never_share_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, two = Bench(tmp_path / "s.sqlite"), None
    one.append("mine")
    one.wait_and_save()
    two = Bench(tmp_path / "s.sqlite")
    assert "another process uses it" in caplog.text and two.texts() == []
    one.spool.close()


def test_the_file_stays_small_while_messages_come_and_go(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "s.sqlite")
    for _ in range(50):
        bench.append(*("x" * 500 for _ in range(100)))
        bench.wait_and_save()
        for message in bench.spool.hand_out(100):
            bench.spool.remove(message.seq)
        bench.spool.save()
    bench.spool.close()
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) < 1_500_000
    assert sqlite3.connect(bench.path).execute("SELECT count(*) FROM message").fetchone() == (0,)


@settings(max_examples=40)
@given(st.lists(st.sampled_from("appppphrsc"), max_size=60))
def test_whatever_happens_each_message_comes_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    """a, p: append; h: hand out and acknowledge some; s: save; c: stop and start again."""
    bench = Bench(tmp_path_factory.mktemp("spool") / "s.sqlite")
    sent, got, waiting = 0, [], []
    for step in [*steps, "c", "h", "h"]:
        if step in "ap":
            bench.append(str(sent))
            sent += 1
        elif step == "h":
            waiting += bench.spool.hand_out(5 if steps else 1000)
        elif step == "s":
            bench.wait_and_save()
        elif step in "rc":
            for message in waiting:
                bench.spool.remove(message.seq)
                got.append(int(message.text))
            waiting.clear()
            if step == "c":
                bench.spool.close()
                bench.reopen()
    while more := bench.spool.hand_out(7):
        waiting += more
    got += [int(message.text) for message in waiting]
    assert got == list(range(sent)) and not bench.dropped
    bench.spool.close()
