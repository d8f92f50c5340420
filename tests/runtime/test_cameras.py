"""Sources, and what is private in them, are changed over HTTP while a run goes on."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.processes import half_red, start
from tests.runtime.test_outputs import ask
from tests.runtime.test_privacy import pictures, red
from tests.sinks.mqtt.broker import free_port, until

AREA = {"name": "garden", "points": [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]}


def uri(width: int) -> str:
    return f"pattern:?fps=20&size={width}x96"


@contextlib.contextmanager
def running(text: str, model: Path, folder: Path, *words: str) -> Iterator[int]:
    """A run of this file; gives the port of its page. It ends well at a signal, and not before."""
    file, port = folder / "k.toml", free_port()
    file.write_text(text)
    words = ("run", "--headless", "--config", str(file), "--model", str(model), *words)
    process = start(*words, "--http", str(port), stdout=None, stderr=None)
    try:
        until(lambda: bool(cameras(port)), 60)
        yield port
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def cameras(port: int) -> dict[str, Any]:
    """Those with a picture, by name."""
    try:
        status, body = ask(port, "/api/v1/cameras")[:2]
    except OSError:
        return {}
    found = json.loads(body)["cameras"] if status == 200 else []
    return {each["name"]: each for each in found if each["frame"]}


def patch(port: int, **changes: Any) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        headers = {"Content-Type": "application/json", "If-Match": "*"}
        connection.request("PATCH", "/api/v1/settings", json.dumps(changes), headers)
        answer = connection.getresponse()
        told = json.loads(answer.read())
        assert answer.status == 200, told
        return told


@pytest.mark.timeout(120)
def test_sources_come_go_and_change_while_the_run_goes_on(tiny_model: Path, tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"

    def names() -> list[str]:
        return [json.loads(line)["name"] for line in lines.read_text().splitlines()]

    text = f'sources = ["a={uri(64)}", "b={uri(64)}"]\n[record]\npath = "{tmp_path}/rec/"\n'
    zone = {"name": "door", "points": [[0, 0], [1, 0], [1, 1]], "source": "c"}
    with running(text, tiny_model, tmp_path, "--json", str(lines)) as port:
        until(lambda: cameras(port).keys() == {"a", "b"})
        told = patch(port, sources=[f"a={uri(64)}", f"c={uri(80)}"], zone=[zone])
        assert told["after_restart"] == [] and told["in_force"]["sources"][1] == f"c={uri(80)}"
        until(lambda: cameras(port).keys() == {"a", "c"})
        assert ask(port, "/snapshot.jpg?source=c")[0] == 200
        assert ask(port, "/snapshot.jpg?source=b")[0] == 404
        assert json.loads(ask(port, "/api/v1/zones?source=c")[1])["zone"][0]["name"] == "door"
        before = names()
        until(lambda: names()[len(before) :].count("c") > 3)
        assert set(names()[len(before) :]) == {"a", "c"} and "b" in before

        patch(port, sources=[f"a={uri(64)}", f"c={uri(96)}"])
        until(lambda: cameras(port).get("c", {}).get("size") == [96, 96])
        patch(port, sources=[f"c={uri(96)}"], zone=None)
        assert patch(port, sources=[f"c={uri(112)}"])["after_restart"] == []  # the only one
        until(lambda: cameras(port).get("c", {}).get("size") == [112, 96])
        assert cameras(port).keys() == {"c"}
        before = names()
        until(lambda: names()[len(before) :].count("c") > 3)
        assert json.loads(ask(port, "/healthz")[1])["warnings"] == []
    assert names()[0] in "ab", "lines of before are still there"
    recorded = {path.parent.name for path in (tmp_path / "rec").rglob("*.mp4")}
    assert recorded == {"a", "b", "c"}


def test_a_source_without_a_name_is_changed_by_a_restart(tiny_model: Path, tmp_path: Path) -> None:
    with running(f'source = "{uri(64)}"\n', tiny_model, tmp_path) as port:
        assert patch(port, source=uri(80))["after_restart"] == ["source"]


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A minute."""
    return half_red(tmp_path / "film.mp4", frames=1200)


@pytest.mark.parametrize("key", ["source = '%s'", "sources = ['a=%s', 'b=pattern:']"])
def test_no_output_after_the_answer_shows_a_new_private_area(
    film: Path, tiny_model: Path, tmp_path: Path, key: str
) -> None:
    folder = tmp_path / "rec"
    folder.mkdir()

    def shown(path: str = "/snapshot.jpg") -> np.ndarray | None:
        status, body = ask(port, path)[:2]
        return cv2.imdecode(np.frombuffer(body, np.uint8), 1) if status == 200 else None

    text = f'{key % film}\n[record]\npath = "{folder}/"\n[store]\npath = "{tmp_path}/store"\n'
    with running(text, tiny_model, tmp_path) as port:
        until(lambda: shown() is not None)
        assert red(shown())
        until(lambda: any(path.stat().st_size for path in folder.rglob("*.mp4")))
        told = patch(port, privacy=[AREA])
        files = {*folder.rglob("*.mp4"), *(tmp_path / "store").rglob("*.*")}
        assert told["after_restart"] == [] and told["in_force"]["privacy"] == [AREA]
        seen = [
            shown(path)
            for path in ["/snapshot.jpg", "/api/v1/cameras/still.jpg"] * 20
            if not time.sleep(0.05)
        ]
    assert any(each is not None for each in seen)
    assert not any(red(each) for each in seen if each is not None)
    made = {*folder.rglob("*.mp4"), *(tmp_path / "store").rglob("*.*")} - files
    made = {path for path in made if path.suffix in (".mp4", ".jpg")}
    own = folder / "a" if "sources" in key else folder
    recorded = sorted(own.glob("*.mp4"), key=lambda path: path.stat().st_mtime_ns)
    assert len(recorded) > 1 and any(red(each) for each in pictures(recorded[0]))
    for path in {*made, recorded[-1]}:
        shows = pictures(path)
        assert shows and not any(red(each) for each in shows), path


def test_one_video_of_the_whole_run_waits_for_a_restart(
    film: Path, tiny_model: Path, tmp_path: Path
) -> None:
    words = ("--record", str(tmp_path / "whole.mp4"))
    with running(f'source = "{film}"\n', tiny_model, tmp_path, *words) as port:
        assert patch(port, privacy=[AREA])["after_restart"] == ["privacy"]
