"""The same recording gives the same ids and events; a trace those of its run; and what-if."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.commands.cli import main
from app.ops.flight import read_trace
from tests.processes import json_lines as lines

PATTERN = "pattern:?fps=20&frames=60&size=320x240"
TABLES = """
[[zone]]
name = "left"
points = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
inertia_s = 0.2
"""
RULE = """
[[rule]]
name = "night"
when = "enter"
zone = "left"
between = "{}"
then = ["mqtt"]
"""


def of_objects(path: Path) -> list[str]:
    """The lines of events that the frames bring about."""
    return [line for line in path.read_text().splitlines() if json.loads(line)["type"] != "ended"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "now.toml").write_text(TABLES)
    return tmp_path


@pytest.fixture
def replay(tiny_model: Path, folder: Path, clip: Path, capsys: pytest.CaptureFixture[str]):
    """``replay(WORDS…)``: the exit code, and what it printed."""

    def run(*words: str, config: str = "now.toml", source: Path | None = None) -> tuple[int, str]:
        capsys.readouterr()
        fixed = [str(source or clip), "--model", str(tiny_model)]
        code = main(["replay", *fixed, "--config", str(folder / config), *words])
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def clip(tiny_model: Path, tmp_path: Path) -> Path:
    """The pattern as a file, so that a live run of it drops frames by its own clock."""
    made = tmp_path / "clip.mp4"
    words = ["replay", PATTERN, "--model", str(tiny_model), "--record", str(made)]
    assert main(words) == 0
    return made


def test_a_replay_gives_the_same_ids_and_events_byte_for_byte(replay, folder: Path) -> None:
    for name in ("a", "b"):
        assert replay("--events", str(folder / name))[0] == 0
    first = (folder / "a").read_bytes()
    assert first == (folder / "b").read_bytes() and b'"enter"' in first and b'"ended"' in first
    ids = [row["id"] for row in lines(folder / "a")]
    assert ids == sorted(ids) and len(set(ids)) == len(ids)


@pytest.fixture
def trace(tiny_model: Path, folder: Path, clip: Path) -> Path:
    """Of a live run that has dropped frames."""
    made = folder / "trace.jsonl"
    words = ["run", "--headless", "--source", str(clip), "--model", str(tiny_model)]
    words += ["--config", str(folder / "now.toml"), "--events", str(folder / "live.jsonl")]
    assert main([*words, "--trace", str(made), "--max-age-ms", "1000"]) == 0
    return made


def test_a_trace_gives_the_ids_and_events_of_its_run(replay, folder: Path, trace: Path) -> None:
    again = folder / "again.jsonl"
    assert replay("--trace", str(trace), "--events", str(again))[0] == 0
    live = of_objects(folder / "live.jsonl")
    assert of_objects(again) == live and any('"enter"' in line for line in live)
    assert not live[0].startswith('{"time": "1970')


def test_the_same_configuration_changes_nothing(replay, trace: Path) -> None:
    code, told = replay("--trace", str(trace), "--what-if")
    assert code == 0
    (summary,) = told.splitlines()
    assert summary.startswith("0 new, 0 gone, 0 different; ")


def test_other_zones_are_told_of(replay, folder: Path, trace: Path) -> None:
    other = TABLES.replace("inertia_s", "dwell_s = [0.3]\ninertia_s")
    (folder / "other.toml").write_text(other + TABLES.replace("left", "door"))
    code, told = replay("--trace", str(trace), "--what-if", config="other.toml")
    *rows, summary = told.splitlines()
    assert code == 0 and all(row.startswith("new") for row in rows) and ", 0 gone" in summary
    said = [" ".join(row.split()[2:4]) for row in rows]
    assert sorted(said) == ["dwell left", "enter door", "leave door"]


def test_a_threshold_that_nothing_reaches_takes_all_events_away(replay, trace: Path) -> None:
    code, told = replay("--trace", str(trace), "--what-if", "--score", "0.99")
    *rows, summary = told.splitlines()
    assert code == 0 and rows and all(row.startswith("gone") for row in rows)
    assert summary.startswith("0 new") and summary.endswith("; 0 as before")


def test_the_hours_of_rules_are_those_of_the_run(
    replay, folder: Path, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header, *rest = trace.read_text().splitlines()
    at = json.loads(header)
    entered = next(
        e for e in read_trace(trace).events if e[0] == "event" and e[3]["type"] == "enter"
    )
    wall_s = (entered[1] + at["wall_offset_ns"]) / 1e9
    at["utc_offset_s"] = round((3 * 3600 + 1800) - wall_s % 86_400)  # half past three there
    at["utc_offset_s"] -= 86_400 if at["utc_offset_s"] > 43_200 else 0
    trace.write_text("\n".join([json.dumps(at), *rest]) + "\n")
    for hours, fires in (("03:00-04:00", True), ("04:00-03:00", False)):
        (folder / "rule.toml").write_text(TABLES + RULE.format(hours))
        _, told = replay("--trace", str(trace), "--what-if", config="rule.toml")
        assert ("rule night by enter left" in told) == fires, hours


def test_clips_in_a_folder_are_compared_with_an_earlier_replay(
    replay, folder: Path, clip: Path
) -> None:
    night = folder / "night"
    night.mkdir()
    for hour in ("01", "02"):
        (night / f"{hour}.mp4").write_bytes(clip.read_bytes())
    before = folder / "before.jsonl"
    assert replay("--events", str(before), source=night)[0] == 0
    same = replay("--what-if", "--before", str(before), source=night)
    assert same[0] == 0 and same[1].startswith("0 new, 0 gone, 0 different; ")
    (folder / "other.toml").write_text(TABLES.replace("left", "door"))
    _, told = replay("--what-if", "--before", str(before), source=night, config="other.toml")
    assert told.count("enter door") == told.count("enter left") == 1


def test_what_cannot_be_compared_is_told_with_its_cure(
    replay, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay("--what-if")[0] == 2
    (folder / "odd").write_text("[1]\n")
    assert replay("--what-if", "--before", str(folder / "odd"))[0] == 2
    assert replay("--before", str(folder / "odd"))[0] == 2
    (folder / "old").write_text('{"trace": 1}\n["take", 1, 1]\n')
    assert replay("--what-if", "--trace", str(folder / "old"))[0] == 2


def test_a_what_if_writes_and_sends_nothing_but_events(replay, folder: Path, trace: Path) -> None:
    config = 'json = "frames.jsonl"\nsource = "x"\n[clips]\npath = "clips"\n' + TABLES
    (folder / "all.toml").write_text(config)
    assert replay("--trace", str(trace), "--what-if", config="all.toml")[0] == 0
    assert not Path("frames.jsonl").exists() and not Path("clips").exists()
