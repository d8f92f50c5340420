"""Sources spread over devices: one process each, their lines in one stream, and how it ends.

Without a GPU the processes run on the CPU; that each is shown one device is told by its variable.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from app.commands.cli import main
from app.config import Config, parse_sources
from app.core.errors import ConfigError
from app.runtime.multi_gpu import shares_of, tables_of
from tests.processes import start
from tests.sinks.mqtt.broker import until


def words(model: Path, *more: str, frames: str = "&frames=40") -> list[str]:
    sources = [f"{name}=pattern:?fps=20{frames}" for name in ("a", "b", "c")]
    named = [word for source in sources for word in ("--source", source)]
    return ["run", "--model", str(model), "--engine", "cpu", "--devices", "0,1", *named, *more]


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def shown_to(pids: list[int]) -> set[str]:
    """The devices that these processes are shown; between fork and exec still its parent's."""
    name = b"CUDA_VISIBLE_DEVICES="
    variables = [
        each for pid in pids for each in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    ]
    return {each.removeprefix(name).decode() for each in variables if each.startswith(name)}


def test_shares_go_round_and_nobody_is_left_out() -> None:
    sources = parse_sources(["a=x:", "b=x:", "c=x:", "d=x:", "e=x:"])
    shares = shares_of(sources, (0, 3))
    assert {d: [s.name for s in share] for d, share in shares.items()} == {
        0: ["a", "c", "e"],
        3: ["b", "d"],
    }
    assert list(shares_of(sources[:1], (0, 1))) == [0], "no process without a source"


def test_a_share_gets_the_zones_of_its_own_sources_and_of_all() -> None:
    zones = ({"name": "everywhere"}, {"name": "a", "source": "a"}, {"name": "b", "source": "b"})
    config = Config(sources=("a=x:", "b=x:"), zone=zones)
    share = parse_sources(["b=x:"])
    assert [zone["name"] for zone in tables_of(config, share)["zone"]] == ["everywhere", "b"]


def test_the_lines_of_all_processes_come_together_whole(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.jsonl"
    assert main(words(tiny_model, "--json", str(out))) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    counts = Counter(line["name"] for line in lines)
    assert set(counts) == {"a", "b", "c"}
    for name in counts:
        frames = [line["frame"] for line in lines if line["name"] == name]
        assert frames == sorted(frames)


def test_each_process_is_shown_one_device(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aaa, GPU-bbb")
    process = start(*words(tiny_model, frames=""))
    try:
        until(lambda: shown_to(children(process.pid)) == {"GPU-aaa", "GPU-bbb"}, 30)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_of_them_in_order(tiny_model: Path, number: int) -> None:
    process = start(*words(tiny_model, "--json", "-", frames=""))
    assert process.stdout is not None
    awaited = {"a", "b", "c"}  # one process may start long before the other
    while awaited:
        awaited.discard(json.loads(process.stdout.readline())["name"])
    pids = children(process.pid)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert all(json.loads(line) for line in out.splitlines())
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_reader_that_leaves_ends_all_of_them_and_a_signal_then_is_only_the_first(
    tiny_model: Path,
) -> None:
    process = start(*words(tiny_model, "--json", "-", frames=""))
    assert process.stdout is not None
    process.stdout.readline()
    pids = children(process.pid)
    process.stdout.close()
    until(lambda: len(children(process.pid)) < len(pids) or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, "a reader that has left is no fault, and nothing was killed"
    assert process.stderr is not None
    process.stderr.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_one_process_that_dies_is_told_and_leaves_the_other_running(tiny_model: Path) -> None:
    process = start(*words(tiny_model, "--json", "-", frames="&frames=60"))
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    victim = children(process.pid)[1]
    os.kill(victim, signal.SIGKILL)
    out, told = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGKILL
    assert "exit code -9" in told
    last = [json.loads(line) for line in out.splitlines() if '"a"' in line or '"c"' in line]
    assert max(line["frame"] for line in last) > 40, "its share ran to its end"


def test_no_process_outlives_the_one_that_spreads(tiny_model: Path) -> None:
    process = start(*words(tiny_model, frames=""))
    until(lambda: len(children(process.pid)) == 2, 30)
    pids = children(process.pid)
    process.kill()
    process.communicate(timeout=30)
    until(lambda: not any(_runs(pid) for pid in pids), 30)


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"devices": (0, 1)}, "for several sources"),
        ({"devices": (1, 1), "sources": ("a=x:", "b=x:")}, "number once"),
        ({"devices": (0, -1), "sources": ("a=x:", "b=x:")}, "number once"),
        ({"devices": (0,), "sources": ("a=x:",), "window": True}, "headless"),
    ],
)
def test_what_cannot_be_spread_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Config(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "flag", [("--http", "0"), ("--max-frames", "3"), ("--events", "events.jsonl")]
)
def test_what_belongs_to_one_process_is_refused(
    flag: tuple[str, str], tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words(tiny_model), *flag]) == 2
    assert flag[0] in capsys.readouterr().err
