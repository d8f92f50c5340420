"""A run with a window has all that a headless run has. The real window, off screen."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest

pytest.importorskip("PyQt5.QtWidgets", reason="PyQt5 is not installed")

from app.ops.flight import read_trace
from tests.gui.x11 import x_display
from tests.ops.test_notify import Systemd
from tests.processes import start as start_app
from tests.sinks.mqtt.broker import Broker, Subscriber, find_mosquitto, free_port, until

PATTERN = "pattern:?size=128x96&fps=40"

DISPLAYS = ("QT_QPA_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY")


@pytest.fixture
def start(tiny_model: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """``start(WORDS…)``: plain ``python -m app`` with a window that nobody sees."""
    running: list[subprocess.Popen[str]] = []

    def run(*words: str, display: dict[str, str] | None = None, **env: str):
        own = {k: v for k, v in os.environ.items() if k not in DISPLAYS}
        own |= {"QT_QPA_PLATFORM": "offscreen"} if display is None else display
        own |= {"XDG_CONFIG_HOME": str(tmp_path), "KESTREL_CACHE": str(tmp_path / "cache"), **env}
        running.append(start_app("--model", str(tiny_model), *words, env=own))
        return running[-1]

    yield run
    for process in running:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str], *, code: int = 0) -> tuple[str, str]:
    out, told = process.communicate(timeout=90)
    assert process.returncode == code, told
    assert "Traceback" not in told
    return out, told


def test_recorder_canary_energy_and_outputs(start, tmp_path: Path) -> None:
    trace, clip, lines = tmp_path / "t.jsonl", tmp_path / "clip.mp4", tmp_path / "out.jsonl"
    port = free_port()
    process = start(
        *("--window", "--source", PATTERN, "--canary-s", "1", "--trace", str(trace)),
        *("--record", str(clip), "--json", str(lines), "--http", str(port)),
    )

    def asked(path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, OSError):
            return ""

    until(lambda: "ok" in asked("/healthz"), 60)
    until(lambda: 'kestrel_state{state="live"} 1.0' in asked("/metrics"), 60)
    until(lambda: lines.exists() and len(lines.read_text().splitlines()) > 60, 60)
    process.send_signal(signal.SIGTERM)
    out, told = ended(process)
    assert "canary: the known picture gives 1 boxes" in told
    assert re.search(r"^energy   ", out, re.MULTILINE), out
    kinds = {event[0] for event in read_trace(trace).events}
    assert {"put", "take", "kept", "result", "state"} <= kinds
    with av.open(str(clip)) as container:
        assert len(list(container.decode(video=0))) > 10
    first = json.loads(lines.read_text().splitlines()[0])
    assert first["detections"][0]["label"] == "thing"


@pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto here (apt install mosquitto)")
def test_mqtt(start, tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker")
    broker.start()
    try:
        subscriber = Subscriber(broker.port)
        try:
            process = start(
                *("--window", "--source", PATTERN, "--max-frames", "60"),
                *("--mqtt", f"mqtt://127.0.0.1:{broker.port}/desk"),
            )
            ended(process)
            until(lambda: bool(subscriber.texts("desk/detections")))
            until(lambda: "offline" in subscriber.texts("desk/status")[-1])
        finally:
            subscriber.stop()
    finally:
        broker.stop()


def test_ladder(start, tmp_path: Path) -> None:
    config = tmp_path / "k.toml"
    config.write_text('ladder = ["every 2nd frame"]\nmax_age_ms = 1\n')
    process = start(
        "--window", "--source", "pattern:?fps=100&size=960x540", "--config", str(config)
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "ladder: a step down" in line:
            break
    process.send_signal(signal.SIGTERM)
    out, _ = ended(process)
    assert re.search(r"^events .*ladder steps down", out, re.MULTILINE), out


def test_source_that_is_lost_comes_back_and_is_counted(start) -> None:
    process = start("--window", "--source", f"chaos:disconnect@1+1/300:{PATTERN}")
    assert process.stderr is not None
    told = ""
    for line in process.stderr:
        told += line
        if "live: again after" in line:
            break
    process.send_signal(signal.SIGINT)
    out, _ = ended(process)
    assert "reconnecting" in told
    assert re.search(r"^events .*1 losses.*1 reconnects", out, re.MULTILINE), out


def test_supervisor_is_told_and_thresholds_are_read_again(start, tmp_path: Path) -> None:
    listener = Systemd(str(tmp_path / "notify"))
    config, lines = tmp_path / "k.toml", tmp_path / "out.jsonl"
    config.write_text(f'source = "{PATTERN}"\nwindow = true\nscore = 0.5\njson = "{lines}"\n')
    try:
        process = start("--config", str(config), **listener.environ(WATCHDOG_USEC="1000000"))
        heard: list[str] = []
        while "WATCHDOG=1" not in heard:
            heard += listener.next()
        assert "READY=1" in heard
        config.write_text(config.read_text().replace("0.5", "0.95"))
        process.send_signal(signal.SIGHUP)  # the one thing has 0.9
        until(lambda: '"detections": []' in lines.read_text())
        process.send_signal(signal.SIGTERM)
        _, told = ended(process)
        assert "changed score = 0.95" in told
        rest = listener.heard()
        assert "RELOADING=1" in rest and "STOPPING=1" in rest
    finally:
        listener.close()


def test_camera_that_is_not_there_ends_a_job_but_not_a_window(start, tmp_path: Path) -> None:
    uri = f"http://127.0.0.1:{free_port()}/none"
    process = start("--window", "--source", uri, "--json", str(tmp_path / "out.jsonl"))
    _, told = ended(process, code=3)
    assert "connection refused" in told
    process = start("--window", "--source", uri)
    assert process.stderr is not None
    for line in process.stderr:
        if "offline" in line:
            break
    process.send_signal(signal.SIGTERM)
    ended(process)


# --- closing -------------------------------------------------------------------------------------


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(each) for task in tasks for each in (task / "children").read_text().split()]


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/live"


@pytest.mark.parametrize("state", ["opening", "lost", "recording", "playing"])
def test_closing_ends_every_process_soon(start, state: str, silent_server, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    words = {
        "opening": ("--source", silent_server),
        "lost": ("--source", f"chaos:disconnect@1+600/900:{PATTERN}"),
        "recording": ("--source", PATTERN, "--record", str(clip)),
        "playing": ("--source", "sample:", "--isolate"),
    }[state]
    process = start("--window", *words)
    if state == "opening":
        until(lambda: bool(children_of(process.pid)), 60)  # the decoder, which waits
    elif state == "recording":
        until(lambda: clip.exists() and clip.stat().st_size > 5000, 60)
    else:
        wanted = "reconnecting" if state == "lost" else "engine cpu"
        assert any(wanted in line for line in process.stderr)
    helpers = children_of(process.pid)
    assert bool(helpers) == (state in ("opening", "playing"))
    began_s = time.monotonic()
    process.send_signal(signal.SIGTERM)
    ended(process)
    took_s = time.monotonic() - began_s
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in helpers), 30)
    assert took_s < 30, "a bound for a busy machine; scripts/measure_gui.py measures it"
    if state == "recording":
        with av.open(str(clip)) as container:
            assert len(list(container.decode(video=0))) > 10


def test_display_that_goes_away_ends_the_run_in_order(start, tmp_path: Path) -> None:
    """Qt's own way is exit(1), which crashes in the midst of the threads."""
    clip = tmp_path / "clip.mp4"
    with x_display() as name:
        process = start(
            "--window", "--source", PATTERN, "--record", str(clip), display={"DISPLAY": name}
        )
        until(lambda: clip.exists() and clip.stat().st_size > 5000, 60)
    _, told = ended(process, code=2)
    assert "Did the X11 server die?" in told and "use --headless" in told
    with av.open(str(clip)) as container:
        assert len(list(container.decode(video=0))) > 10


# --- which display -------------------------------------------------------------------------------


def test_without_any_display_a_plain_run_is_headless(start) -> None:
    out, told = ended(start("--source", PATTERN, "--max-frames", "5", display={}))
    assert "headless, as there is no display" in told and "5 processed" in out


@pytest.mark.parametrize("flags", [(), ("--window",)])
@pytest.mark.parametrize("display", [{"DISPLAY": ":9876"}, {"WAYLAND_DISPLAY": "wayland-9876"}])
def test_display_that_does_not_answer_is_exit_code_2_with_the_cure(start, flags, display) -> None:
    process = start(*flags, "--source", PATTERN, "--max-frames", "5", display=display)
    _, told = ended(process, code=2)
    assert "cannot open a window" in told and "9876" in told and "use --headless" in told


def test_window_without_any_display_is_exit_code_2(start) -> None:
    _, told = ended(start("--window", "--source", PATTERN, display={}), code=2)
    assert "cannot open a window" in told and "use --headless" in told


def test_headless_asks_no_display(start) -> None:
    words = ("--headless", "--source", PATTERN, "--max-frames", "5")
    out, _ = ended(start(*words, display={"DISPLAY": ":9876"}))
    assert "5 processed" in out
