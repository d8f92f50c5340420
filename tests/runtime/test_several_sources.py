"""`run` with --source repeated, as a user sees it: lines, folders, page, metrics, exit codes."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path

import pytest

from app.commands.cli import main
from tests.processes import start
from tests.runtime.test_outputs import ask
from tests.sinks.mqtt.broker import free_port, until

SOURCES = ("front=pattern:?fps=20&frames=25", "pattern:?fps=20&frames=30&seed=3")


def words(model: Path, *more: str) -> list[str]:
    sources = [word for source in SOURCES for word in ("--source", source)]
    return ["run", "--headless", "--model", str(model), *sources, *more]


def test_lines_are_tagged_and_videos_lie_apart(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, folder = tmp_path / "out.jsonl", tmp_path / "videos"
    assert main(words(tiny_model, "--json", str(out), "--record", f"{folder}/")) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    counts = Counter(line["name"] for line in lines)
    assert set(counts) == {"front", "2"}
    for name, uri in (("front", SOURCES[0][6:]), ("2", SOURCES[1])):
        own = [line for line in lines if line["name"] == name]
        assert {line["source"] for line in own} == {uri}
        assert [line["frame"] for line in own] == sorted({line["frame"] for line in own})
        assert len(list((folder / name).glob("*.mp4"))) == 1
    told = capsys.readouterr().out
    assert "source   front (" in told and "front: thing in" in told and "2: thing in" in told


def test_batches_of_several_sources_give_the_same_lines(tmp_path: Path) -> None:
    """The default model, of which several frames go through at once."""
    out = tmp_path / "out.jsonl"
    sources = ["--source", "a=sample:", "--source", "b=sample:", "--max-frames", "60"]
    assert main(["run", "--headless", *sources, "--batch", "2", "--json", str(out)]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert Counter(line["name"] for line in lines).keys() == {"a", "b"} and len(lines) == 60
    seen: dict[int, list[object]] = {}
    for line in lines:
        found = [(d["label"], [round(v) for v in d["box"]]) for d in line["detections"]]
        assert seen.setdefault(line["frame"], found) == found, "the same frame, the same boxes"


def test_one_video_for_several_sources_is_refused(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tiny_model, "--record", str(tmp_path / "all.mp4"))) == 2
    assert "name a folder" in capsys.readouterr().err


def test_a_source_that_is_not_there_costs_the_exit_code_and_nothing_else(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "clip.mp4"
    missing.write_bytes(b"no video")
    out = tmp_path / "out.jsonl"
    more = ["--source", f"broken={missing}", "--json", str(out)]
    assert main(words(tiny_model, *more)) == 3
    names = {json.loads(line)["name"] for line in out.read_text().splitlines()}
    assert names == {"front", "2"}, "the others ran to their end"
    assert str(missing) in capsys.readouterr().err


def test_the_page_and_the_metrics_know_each_source(tiny_model: Path, tmp_path: Path) -> None:
    port = free_port()
    sources = ["--source", "front=pattern:?fps=20", "--source", "back=pattern:?fps=10&size=320x240"]
    more = ["--headless", "--model", str(tiny_model), "--http", str(port)]
    state = {"XDG_STATE_HOME": str(tmp_path)}
    process = start("run", *sources, *more, more=state, stdout=None, stderr=None)

    try:
        until(
            lambda: process.poll() is not None or ask(port, "/snapshot.jpg?source=back")[0] == 200,
            60,
        )
        until(lambda: ask(port, "/snapshot.jpg?source=front")[0] == 200, 60)
        import cv2
        import numpy as np

        sizes = {}
        for name in ("front", "back"):
            jpeg = np.frombuffer(ask(port, f"/snapshot.jpg?source={name}")[1], np.uint8)
            picture = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
            assert picture is not None
            sizes[name] = picture.shape[:2]
        assert sizes == {"front": (360, 640), "back": (240, 320)}
        status, said = ask(port, "/snapshot.jpg?source=side")
        assert status == 404 and b"front, back" in said
        metrics = ask(port, "/metrics")[1].decode()
        assert 'kestrel_source_state{source="back",state="live"} 1.0' in metrics
        assert 'kestrel_source_frames_processed_total{source="front"}' in metrics
        assert json.loads(ask(port, "/healthz")[1])["warnings"] == []
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
