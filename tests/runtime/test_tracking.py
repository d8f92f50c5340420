"""Tracks, zones and events of a run: written, the same in each replay, refused where wrong."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from app.commands.cli import main
from app.core.events import Event, Fired
from app.sinks.events import EventMessage, TrackEventSink
from tests.processes import json_lines as lines

SOURCE = "pattern:?fps=40&frames=20"
TABLES = """
[[zone]]
name = "left"
points = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
[[line]]
name = "middle"
points = [[0.5, 1], [0.5, 0]]
"""


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_two_replays_give_the_same_ids_and_events_byte_for_byte(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(tmp_path / "k.toml", TABLES)
    events, ids = [], []
    for n in range(2):
        out, told = tmp_path / f"{n}.jsonl", tmp_path / f"{n}.events"
        words = ["replay", "sample:", "--config", config, "--json", str(out)]
        assert main([*words, "--events", str(told), "--max-frames", "120"]) == 0
        events.append(told.read_bytes())
        found = [d for line in lines(out) for d in line["detections"]]
        ids.append([(d.get("track_id"), d.get("zones")) for d in found])
    assert events[0] == events[1] and ids[0] == ids[1]
    kinds = [event["type"] for event in lines(told)]
    assert {"appear", "enter", "gone"} <= set(kinds) and kinds[-1] == "ended"
    assert all(event["time"].startswith("1970-01-01T00:00:0") for event in lines(told))
    assert any(zones == ["left"] for _, zones in ids[0])
    assert "people" in capsys.readouterr().out


def test_a_live_run_tells_times_of_this_day(tiny_model: Path, tmp_path: Path) -> None:
    told = tmp_path / "events.jsonl"
    words = ["run", "--headless", "--source", SOURCE, "--model", str(tiny_model)]
    assert main([*words, "--events", str(told)]) == 0
    events = lines(told)
    assert [event["type"] for event in events] == ["appear", "gone", "ended"]
    assert not any(event["time"].startswith("1970") for event in events)
    assert len({event["id"] for event in events}) == 3


def test_without_tracks_lines_have_no_ids(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    words = ["replay", "pattern:?frames=5", "--model", str(tiny_model), "--json", str(out)]
    assert main(words) == 0
    assert not any("track_id" in d for line in lines(out) for d in line["detections"])
    assert main([*words, "--track", "--overwrite"]) == 0
    assert [d["track_id"] for line in lines(out)[1:] for d in line["detections"]] == [1] * 4


def test_the_webhook_gets_the_events_of_tracks(tiny_model: Path, tmp_path: Path) -> None:
    posted: list[dict[str, Any]] = []

    class Taker(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Silent."""

    with HTTPServer(("127.0.0.1", 0), Taker) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        hook = ["--webhook", f"http://127.0.0.1:{server.server_port}/"]
        words = ["run", "--headless", "--source", SOURCE, "--model", str(tiny_model)]
        assert main([*words, "--track", *hook]) == 0
        server.shutdown()
    assert [each["type"] for each in posted] == ["appear", "gone", "ended"]


def test_an_output_that_a_rule_names_gets_what_the_rules_send() -> None:
    event = Event(type="appear", id="1", time="", source="clip", track_id=7)
    told: dict[str, list[EventMessage]] = {"mqtt": [], "webhook": []}
    sink = TrackEventSink({name: each.append for name, each in told.items()}, {"mqtt"})
    sink.happened([event], [])
    sink.happened([], [Fired("night", ("mqtt",), event)])
    assert [json.loads(each.text).get("rule") for each in told["webhook"]] == [None]
    assert [json.loads(each.text).get("rule") for each in told["mqtt"]] == ["night"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[[zone]]\nname = "a"\npoints = [[0, 0], [1, 0]]', "points"),
        ('[[line]]\nname = "a"\npoints = [[0, 0], [1, 0]]\nlabels = ["thng"]', "'thing'"),
        ('[[rule]]\nname = "a"\nwhen = "appear"\nthen = ["mail"]', "then"),
        ('[[rule]]\nname = "a"\nwhen = "appear"\nthen = ["webhook"]', "--webhook"),
        ('[[line]]\nname = "a"\nsource = "b"\npoints = [[0, 0], [1, 0]]', "source"),
        ("[track]\nlost = 1", "lost_s"),
        ("zone = 1", "tables"),
        ('[track]\non = false\n[events]\npath = "x"', "--no-track"),
        ('[events]\nlabels = ["thng"]\n[track]\non = true', "'thing'"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_the_run(
    text: str,
    named: str,
    tiny_model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["replay", "pattern:?frames=3", "--model", str(tiny_model)]
    config = ["--config", written(tmp_path / "k.toml", text)]
    for more in (["--check"], []):
        assert main([*words, *config, *more]) == 2
        assert named in caplog.text + capsys.readouterr().err
