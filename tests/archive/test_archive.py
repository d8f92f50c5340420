"""Archives on one machine: the same files however they are cut, stopped or hurt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from app.archive.clips import Clip, Row, find_clips, parts_of
from app.commands.cli import main
from app.config import Config
from app.core.errors import ConfigError
from app.sinks.store_read import EventQuery, StoreReader
from tests.archive.kit import (
    ROOT,
    archive,
    blob_model,
    command,
    contents,
    film,
    is_complete,
    make_films,
    rows,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blob_model(tmp_path_factory.mktemp("model") / "shelf")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_films(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def whole(films: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of clips that are not cut."""
    out = tmp_path_factory.mktemp("whole")
    assert archive(films, out, model).returncode == 3
    return out


def test_each_clip_has_its_files_and_one_is_set_aside(whole: Path, films: Path) -> None:
    names = ["long.mp4", *(f"cam 1/{number}.mkv" for number in range(4))]
    assert all(is_complete(whole, name) for name in names)
    (aside,) = rows(whole / "aside.jsonl")
    assert aside["clip"] == "bad.mp4" and "no video" in aside["reason"]
    lines = rows(whole / "clips" / "long.mp4" / "detections.jsonl")
    assert [line["frame"] for line in lines] == list(range(120))
    assert {line["name"] for line in lines} == {"long.mp4"}
    assert {d["track_id"] for line in lines for d in line["detections"] if "track_id" in d}


def test_a_clip_that_is_cut_gives_the_bytes_of_the_whole(
    whole: Path, films: Path, model: Path, tmp_path: Path
) -> None:
    clip = next(each for each in find_clips(str(films)) if each.name == "long.mp4")
    assert len(parts_of(clip, Config(), 1.0)) > 3
    assert archive(films, tmp_path / "out", model, "--part-s", "1").returncode == 3
    assert contents(tmp_path / "out") == contents(whole)
    assert not list((tmp_path / "out" / "parts").iterdir())


def test_detections_are_those_of_a_replay(
    whole: Path, films: Path, model: Path, tmp_path: Path
) -> None:
    lines = tmp_path / "replay.jsonl"
    clip = str(films / "long.mp4")
    how = ["--model", str(model), "--json", str(lines), "--track"]
    assert main(["replay", clip, *how]) == 0

    def told(path: Path) -> list[dict[str, object]]:
        moments = ("time", "age_ms", "name", "source")
        return [{k: v for k, v in row.items() if k not in moments} for row in rows(path)]

    assert told(lines) == told(whole / "clips" / "long.mp4" / "detections.jsonl")


def test_parquet_has_a_row_a_detection(whole: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    table = parquet.read_table(whole / "clips" / "long.mp4" / "detections.parquet").to_pylist()
    lines = rows(whole / "clips" / "long.mp4" / "detections.jsonl")
    told = [
        (line["frame"], line["media_ms"], each["label"], each.get("track_id"), each["box"])
        for line in lines
        for each in line["detections"]
    ]
    assert told == [
        (
            *(row["frame"], row["media_ms"], row["label"], row["track_id"]),
            [round(row[side], 2) for side in ("x0", "y0", "x1", "y1")],
        )
        for row in table
    ]


def test_the_store_has_each_event_once(
    whole: Path, films: Path, model: Path, tmp_path: Path
) -> None:
    told = [row for path in (whole / "clips").rglob("events.jsonl") for row in rows(path)]

    def stored() -> list[str]:
        page = StoreReader(whole / "store").page(EventQuery(limit=500))
        return sorted(event["id"] for event in page.events)

    before = contents(whole)
    assert stored() == sorted(row["id"] for row in told) and told
    assert archive(films, whole, model).returncode == 3  # again: nothing is left to do
    assert stored() == sorted(row["id"] for row in told)
    assert contents(whole) == before


@pytest.mark.slow
def test_a_run_goes_on_after_its_driver_was_killed(
    whole: Path, films: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("--processes", "1", "--part-s", "1")
    run = subprocess.Popen(command(films, out, model, *words), cwd=ROOT, stderr=subprocess.PIPE)
    _wait_for(lambda: (out / "clips").is_dir() or any((out / "parts").glob("long*[0-9]")))
    children = psutil.Process(run.pid).children(recursive=True)
    run.kill()
    run.communicate()
    _wait_for(lambda: not any(each.is_running() for each in children if each.pid))
    there = {path: path.stat().st_ino for path in out.rglob("*.jsonl") if "clips" in path.parts}
    assert archive(films, out, model, *words).returncode == 3
    assert contents(out) == contents(whole)
    assert all(path.stat().st_ino == inode for path, inode in there.items())


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing(
    whole: Path, films: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = subprocess.Popen(
        command(films, out, model, "--processes", "1"), cwd=ROOT, stderr=subprocess.DEVNULL
    )
    _wait_for(lambda: (out / "clips").is_dir())
    for child in psutil.Process(run.pid).children(recursive=True):
        if "spawn_main" in " ".join(child.cmdline()):
            child.kill()
    assert run.wait(120) == 3
    assert contents(out) == contents(whole)


POISONED = """
import os, sys
from app.archive import worker

plain = worker.Worker.__call__

def call(self, row):
    if row.clip.name == "poison.mkv":
        os.kill(os.getpid(), 9)
    return plain(self, row)

worker.Worker.__call__ = call  # in each process of the pool, too: it runs this file first
if __name__ == "__main__":
    from app.commands.cli import main
    sys.exit(main())
"""


@pytest.mark.slow
def test_a_clip_that_kills_its_workers_is_set_aside(model: Path, tmp_path: Path) -> None:
    films = tmp_path / "films"
    for name in ("a", "poison", "z"):
        film(films / f"{name}.mkv", frames=4)
    script = tmp_path / "poisoned.py"
    script.write_text(POISONED)
    words = command(films, tmp_path / "out", model, "--processes", "2")[3:]
    run = [sys.executable, str(script), *words]
    done = subprocess.run(run, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=150)
    assert done.returncode == 3
    (aside,) = rows(tmp_path / "out" / "aside.jsonl")
    assert aside["clip"] == "poison.mkv" and "died" in aside["reason"]
    assert all(is_complete(tmp_path / "out", name) for name in ("a.mkv", "z.mkv"))


def test_a_signal_stops_in_order(films: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = subprocess.Popen(command(films, out, model, "--processes", "1"), cwd=ROOT)
    _wait_for(lambda: (out / "clips").is_dir())
    os.kill(run.pid, signal.SIGTERM)
    assert run.wait(60) == 0


def test_passwords_are_nowhere_in_the_results(films: Path, model: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"# all\nhttp://me:geheim@127.0.0.1:9/a.mp4\n{films / 'cam 1' / '0.mkv'}\n")
    done = archive(listed, tmp_path / "out", model)
    assert done.returncode == 3
    assert len(rows(tmp_path / "out" / "aside.jsonl")) == 1
    told = done.stdout + done.stderr + "".join(map(str, (tmp_path / "out").rglob("*")))
    files = [each for each in (tmp_path / "out").rglob("*") if each.is_file()]
    assert "geheim" not in told
    assert not any(b"geheim" in each.read_bytes() for each in files)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("rtsp://host/live\n", "has no end"),
        ("camera:0\n", "has no end"),
        ("pattern:\n", "has no end"),
        ("a.mp4?loop=1\n", "has no end"),
        ("yard=pattern:?frames=5\n", r"write pattern:\?frames=5"),
        ("yard=http://me:geheim@h/a.mp4\n", r"write http://\*\*\*@h"),
        ("a\0b.mp4\n", "cannot read"),
        ("a.mp4\na.mp4\n", "twice"),
        ("# nothing\n", "no line"),
        (None, "cannot read"),
    ],
)
def test_lists_that_mean_nothing(lines: str | None, said: str, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    if lines is not None:
        listed.write_text(lines)
    with pytest.raises(ConfigError, match=said):
        find_clips(str(listed))


def test_a_single_recording_is_an_archive_too(films: Path, tmp_path: Path) -> None:
    one = films / "cam 1" / "0.mkv"
    assert [(each.name, each.uri) for each in find_clips(str(one))] == [("0.mkv", str(one))]
    named = tmp_path / "list.txt"
    named.write_text(f"{one}\npattern:?frames=5\na=b.mp4\n")
    assert len(find_clips(str(named))) == 3


def test_results_of_another_configuration_are_not_mixed(
    whole: Path, films: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--out", str(whole), "--model", str(model), "--score", "0.9"]
    assert main(["archive", str(films), *words]) == 2
    assert "configuration" in capfd.readouterr().err


def test_check_says_what_is_wrong_and_runs_nothing(
    films: Path,
    model: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    words = ["archive", str(films), "--out", str(tmp_path / "out"), "--model", str(model)]
    assert main([*words, "--check"]) == 0
    assert "6 clips" in capfd.readouterr().out
    listed = tmp_path / "list.txt"
    listed.write_text(f"{films / 'cam 1' / '0.mkv'}\nlost.mp4\n")
    assert main(["archive", str(listed), *words[2:], "--check"]) == 0
    assert "2 clips" in capfd.readouterr().out and str(tmp_path / "lost.mp4") in caplog.text
    assert main([*words, "--check", "--part-s", "0.1"]) == 2
    assert main([*words, "--check", "--cluster", "ray://host"]) == 2
    moving = tmp_path / "moving.toml"
    moving.write_text("[track]\ncamera_motion = true\n")
    assert main([*words, "--check", "--config", str(moving)]) == 2
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_cut_is_taken_whole(tmp_path: Path) -> None:
    cut_off = tmp_path / "cut.mp4"
    cut_off.write_bytes(film(tmp_path / "a.mp4", frames=120).read_bytes()[:-20_000])
    waves = film(tmp_path / "waves.mkv", frames=120, **{"intra-refresh": "1"})
    for path in (cut_off, waves):
        assert parts_of(Clip(path.name, str(path), 10**9), Config(), 1.0) == [
            Row(Clip(path.name, str(path), 10**9))
        ]


def _wait_for(there: object, limit_s: float = 60.0) -> None:
    until_s = time.monotonic() + limit_s
    while not there():  # type: ignore[operator]
        assert time.monotonic() < until_s, "it takes too long"
        time.sleep(0.05)
