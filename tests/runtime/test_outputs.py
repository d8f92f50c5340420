"""From flags to files, brokers and pages: each output is there, or it is told why it cannot be."""

from __future__ import annotations

import builtins
import http.client
import json
import re
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import av
import pytest

from app.commands.cli import main
from app.config import make_config
from app.core.stats import Meter
from app.pipeline.handoff import Policy
from app.runtime.outputs import Outputs, has_outputs
from tests.processes import start
from tests.sinks.kit import CAMERA, LABELS, event, result
from tests.sinks.mqtt.broker import free_port, until

ROOT = Path(__file__).parents[2]


def frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return len(list(container.decode(video=0)))


def test_a_replay_fills_a_folder_and_cuts_clips(tiny_model: Path, tmp_path: Path) -> None:
    config = tmp_path / "k.toml"
    config.write_text(f'[record]\npath = "{tmp_path}/all/"\nsegment_minutes = 5\n')
    words = ["replay", "pattern:?frames=60&fps=20&size=128x96", "--model", str(tiny_model)]
    assert main([*words, "--config", str(config), "--clips", str(tmp_path / "clips")]) == 0
    (whole,) = (tmp_path / "all").glob("*.mp4")
    (clip,) = (tmp_path / "clips").glob("*.mp4")
    assert frames(whole) == 60 and 50 <= frames(clip) <= 60


@pytest.mark.parametrize(
    ("flag", "value", "module"),
    [
        ("--mqtt", "mqtt://localhost/x", "paho.mqtt.client"),
        ("--http", "0", "aiohttp"),
        ("--http", "0", "prometheus_client"),
    ],
)
def test_a_library_that_is_absent_is_told_with_the_cure(
    flag: str,
    value: str,
    module: str,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import app.runtime.outputs as outputs

    def absent(name: str) -> object:
        if name == module:
            raise ImportError(f"No module named {name!r}")
        return builtins.__import__(name)

    monkeypatch.setattr(outputs.importlib, "import_module", absent)
    words = ["run", "--headless", "--source", "pattern:", "--model", str(tiny_model)]
    assert main([*words, flag, value]) == 2
    told = capsys.readouterr().err
    assert flag in told and "scripts/setup --full" in told


def ask(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Authorization": "Bearer from-the-environment"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def inferences(metrics: str) -> float:
    found = re.search(r"^kestrel_frames_processed_total (\S+)$", metrics, re.MULTILINE)
    return float(found[1]) if found else 0


def test_health_is_told_while_the_source_opens_and_the_outputs_never_slow_the_pipeline(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Broker and webhook are away, a client of the stream reads nothing: nothing is dropped."""
    port = free_port()
    words = ["run", "--headless", "--source", "pattern:?fps=20", "--model", str(tiny_model)]
    words += ["--http", f"0.0.0.0:{port}", "--record", f"{tmp_path}/r/"]
    words += ["--mqtt", f"mqtt://127.0.0.1:{free_port()}", "--webhook", "http://127.0.0.1:1/x"]
    env = {"XDG_STATE_HOME": str(tmp_path), "KESTREL_HTTP_TOKEN": "from-the-environment"}
    process = start(*words, more=env, stderr=subprocess.STDOUT)
    try:
        until(lambda: process.poll() is not None or ask(port, "/healthz")[0] == 200, 60)
        health = json.loads(ask(port, "/healthz")[1])
        assert health["status"] == "ok"
        until(lambda: len(json.loads(ask(port, "/healthz")[1])["warnings"]) == 2, 60)
        until(lambda: inferences(ask(port, "/metrics")[1].decode()) > 10, 60)
        metrics = ask(port, "/metrics")[1].decode()
        assert 'kestrel_output_trouble{output="mqtt"} 1.0' in metrics
        assert 'kestrel_output_dropped_total{output="record"' not in metrics
    finally:
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "events wait in the spool" in said and "webhook: " in said
    (recording,) = (tmp_path / "r").glob("*.mp4")
    assert frames(recording) > 3
    assert list((tmp_path / "kestrel").glob("mqtt-*.sqlite")), "what waits is kept for the next run"


def test_a_port_that_is_taken_and_a_token_that_is_missing_are_told(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--headless", "--source", "pattern:", "--model", str(tiny_model)]
    assert main([*words, "--http", "0.0.0.0:8080"]) == 2
    assert "needs a token" in capsys.readouterr().err
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main([*words, "--http", str(taken.getsockname()[1])]) == 2
    assert "cannot listen" in capsys.readouterr().err


@pytest.mark.parametrize(
    "given",
    [
        {"json": "-"},
        {"trace": "t.jsonl"},
        {"events": "e.jsonl"},
        {"record": "r.mp4"},
        {"clips": "clips"},
        {"mqtt": "mqtt://broker/k"},
        {"http": "8080"},
        {"store": "store"},
        {"webhook": "http://host/"},
    ],
)
def test_a_run_with_any_output_is_a_job(given: dict[str, str]) -> None:
    assert has_outputs(make_config(given))
    assert not has_outputs(make_config({}))


def test_other_limits_reach_what_is_recorded(tmp_path: Path) -> None:
    folders = {"record.path": f"{tmp_path / 'r'}/", "clips.path": str(tmp_path / "c")}
    config = make_config(folders)
    outputs = Outputs(config, Policy.LOSSLESS, stats=Meter().snapshot, engine=str)
    old = [
        tmp_path / each
        for each in ("r/kestrel-20260101T000000Z.mp4", "c/clip-20260101T000000Z.mp4")
    ]
    for each in old:
        each.parent.mkdir()
        each.write_bytes(bytes(300_000))
    for sink in outputs.of(""):
        sink.open(CAMERA, LABELS)
    for each in (replace(result(), events=[event("appear")]), result(1)):
        for sink in outputs.of(""):
            sink.emit(each)
    outputs.keep(make_config({**folders, "record.budget_mb": 0.1, "clips.budget_mb": 0.1}))
    assert all(each.exists() for each in old)
    for sink in outputs.of(""):
        sink.close()
    assert not any(each.exists() for each in old)
