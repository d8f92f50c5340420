"""What happens to objects and sources, from the command line to files, broker and rules."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from app import Line, Tracker, Zone, stream
from app.commands.cli import main
from tests.processes import json_lines as lines
from tests.sinks.mqtt.broker import Broker, Subscriber, find_mosquitto, until

PATTERN = "pattern:?fps=20&frames=40"
RULES = """
[[zone]]
name = "left"
points = [[0, 0], [0.75, 0], [0.75, 1], [0, 1]]
[[rule]]
name = "night"
when = "enter"
zone = "left"
then = ["webhook", "clip", "notify", "snapshot", "mqtt"]
[[rule]]
name = "never"
when = "dwell"
then = ["mqtt"]
"""


def test_a_source_that_is_lost_and_comes_back_is_told_with_the_cause(
    tiny_model: Path, tmp_path: Path
) -> None:
    told = tmp_path / "events.jsonl"
    source = "chaos:disconnect@1+1/300:pattern:?fps=20"
    words = ["run", "--headless", "--source", source, "--model", str(tiny_model)]
    assert main([*words, "--events", str(told), "--max-frames", "60"]) == 0
    events = lines(told)
    of_source = [each for each in events if each.get("track_id") is None]
    assert [each["type"] for each in of_source] == ["source_lost", "source_back", "ended"]
    assert of_source[0]["cause"] and "cause" not in of_source[1]
    times = [each["time"] for each in events]
    assert times == sorted(times)


def test_a_replay_writes_a_picture_of_each_object_and_names_it(
    tiny_model: Path, tmp_path: Path
) -> None:
    told, folder = tmp_path / "events.jsonl", tmp_path / "pictures"
    words = ["replay", PATTERN, "--model", str(tiny_model), "--events", str(told)]
    assert main([*words, "--snapshots", str(folder), "--clips", str(tmp_path / "clips")]) == 0
    appear, gone, ended = lines(told)
    assert appear["snapshot"] == gone["snapshot"] and "snapshot" not in ended
    assert cv2.imread(str(folder / appear["snapshot"])) is not None
    assert appear["clip"] == gone["clip"] and appear["id"] in appear["clip"]


@pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto here (apt install mosquitto)")
@pytest.mark.timeout(120)
def test_a_broker_keeps_counts_and_state_and_what_remains_at_the_end_is_true(
    tiny_model: Path, tmp_path: Path
) -> None:
    broker = Broker(tmp_path / "broker")
    broker.start()
    config = tmp_path / "k.toml"
    config.write_text(
        '[[zone]]\nname = "all"\npoints = [[0, 0], [1, 0], [1, 1], [0, 1]]\n'
        '[[line]]\nname = "gate"\npoints = [[0.5, 1.0], [0.5, 0.0]]\n'
        f'[mqtt]\nurl = "mqtt://127.0.0.1:{broker.port}/k"\nspool = "{tmp_path}/s.sqlite"\n'
    )
    reader = Subscriber(broker.port)
    try:
        words = ["run", "--headless", "--source", "pattern:?fps=20&frames=80"]
        assert main([*words, "--model", str(tiny_model), "--config", str(config)]) == 0
        until(lambda: reader.texts("k/status") == ["online", "offline"])
        assert {"thing": 1} in [json.loads(t) for t in reader.texts("k/objects") if t]
        assert {"thing": 1} in [json.loads(t) for t in reader.texts("k/zones/all") if t]
        assert {"in": {}, "out": {}} in [json.loads(t) for t in reader.texts("k/lines/gate") if t]
        states = [each["state"] for each in reader.lines("k/source")]
        assert states[-1] == "ended" and "live" in states
        assert [e["type"] for e in reader.lines("k/zones/all/events")] == ["enter", "leave"]
        every = [e["type"] for e in reader.lines("k/events")]
        assert every[0] == "appear" and every[-1] == "ended"
        assert len(reader.texts("k/objects")) < 10, "not one for each frame"
    finally:
        reader.stop()
    late = Subscriber(broker.port)
    try:
        until(lambda: len(late.messages) >= 2)
        kept = {topic: text for topic, text, _ in late.messages}
        assert set(kept) == {"k/status", "k/source"}
        assert json.loads(kept["k/source"])["state"] == "ended"
    finally:
        late.stop()
        broker.stop()


def test_rules_are_tried_on_a_recording(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "k.toml"
    config.write_text(RULES)
    words = ["rules", "test", PATTERN, "--config", str(config), "--model", str(tiny_model)]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counts"] == {"night": 1, "never": 0}
    (fired,) = told["fired"]
    assert (fired["rule"], fired["track_id"], fired["zone"]) == ("night", 1, "left")
    assert fired["media_ms"] > 0 and "notify" in fired["then"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "night" in text and "track 1" in text and "never: fired 0 times" in text
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".mp4"] == []


def test_a_file_without_rules_has_nothing_to_try(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "k.toml"
    config.write_text("score = 0.5\n")
    words = ["rules", "test", PATTERN, "--config", str(config), "--model", str(tiny_model)]
    assert main(words) == 2
    assert "[[rule]]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("action", "flag"),
    [("notify", "--notify"), ("snapshot", "--snapshots"), ("clip", "--clips"), ("mqtt", "--mqtt")],
)
def test_a_rule_needs_what_it_calls_for(
    action: str,
    flag: str,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tmp_path / "k.toml"
    config.write_text(f'[[rule]]\nname = "a"\nwhen = "appear"\nthen = ["{action}"]\n')
    words = ["replay", PATTERN, "--config", str(config), "--model", str(tiny_model)]
    assert main(words) == 2
    assert flag in capsys.readouterr().err


def test_without_tracks_there_are_no_objects_but_the_source_is_told(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["replay", PATTERN, "--model", str(tiny_model), "--no-track"]
    assert main([*words, "--clips", str(tmp_path / "clips")]) == 2
    assert "--no-track" in capsys.readouterr().err


def test_the_api_has_zones_and_lines(tiny_model: Path) -> None:
    zone = Zone(name="all", points=((0, 0), (1, 0), (1, 1), (0, 1)))
    line = Line(name="gate", points=((0.5, 1.0), (0.5, 0.0)))
    source = stream(PATTERN, model=str(tiny_model), zones=[zone], lines=[line])
    events = [event for result in source for event in result.events]
    assert [event.type for event in events] == ["appear", "enter"]
    assert Tracker().update.__doc__ and Zone.__doc__ and Line.__doc__
