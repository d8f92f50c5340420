"""One run with a secret in every URI: no output says it."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from app.commands.cli import main
from tests.processes import start
from tests.sinks.kit import textured
from tests.sinks.mqtt.broker import Broker, Subscriber, find_mosquitto, free_port, until
from tests.sinks.test_webhook import serving

ROOT = Path(__file__).parents[2]
SECRETS = ("S3CRET-src", "S3CRET-mqtt", "S3CRET-hook", "S3CRET-path", "S3CRET-token")


@contextlib.contextmanager
def camera() -> Iterator[int]:
    """An MJPEG stream as a network camera gives it; its port."""
    jpeg = bytes(cv2.imencode(".jpg", textured(0))[1])
    stop = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            with contextlib.suppress(ConnectionError):
                while not stop.wait(0.04):
                    self.wfile.write(head.encode() + jpeg + b"\r\n")

        def log_message(self, *_) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server.server_port
    stop.set()
    server.shutdown()
    server.server_close()
    thread.join()


def get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers={"Authorization": "Bearer S3CRET-token"})
    try:
        answer = connection.getresponse()
        head = str(answer.getheaders()).encode()
        return head + (answer.read(200_000) if path == "/detections" else answer.read())
    finally:
        connection.close()


@pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto (apt install mosquitto)")
def test_no_output_tells_a_secret(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "users").write_text("me:S3CRET-mqtt\n")
    subprocess.run(["mosquitto_passwd", "-U", str(tmp_path / "users")], check=True)
    broker = Broker(
        tmp_path / "broker",
        "allow_anonymous false",
        f"password_file {tmp_path}/users",
    )
    port = free_port()
    with camera() as source_port, serving(500) as hook:
        words = [
            *("run", "--headless", "--model", str(tiny_model), "--json", str(tmp_path / "o.jsonl")),
            *("--source", f"http://me:S3CRET-src@127.0.0.1:{source_port}/live?token=S3CRET-src"),
            *("--mqtt", f"mqtt://me:S3CRET-mqtt@127.0.0.1:{broker.port}/k"),
            *("--webhook", f"http://me:S3CRET-hook@127.0.0.1:{hook.server_port}/S3CRET-path"),
            *("--http", str(port), "--http-token", "S3CRET-token"),
            *("--record", f"{tmp_path}/records/", "--clips", f"{tmp_path}/clips"),
        ]
        env = {"KESTREL_LOG": "DEBUG", "XDG_STATE_HOME": str(tmp_path / "state")}
        process = start(*words, more=env, stderr=subprocess.STDOUT)
        told: list[bytes] = []
        try:
            until(lambda: process.poll() is not None or b"200" in healthy(port), 60)
            assert process.poll() is None, process.communicate()[0]
            time.sleep(1.5)  # the broker is away at first: its troubles are told too
            told += [get(port, path) for path in ("/", "/healthz", "/metrics")]
            broker.start()
            with_all = Subscriber(broker.port, user="me", password="S3CRET-mqtt")
            until(lambda: len(with_all.texts("k/detections")) > 5, 60)
            until(lambda: bool(with_all.texts("k/stats")), 60)
            told += [get(port, path) for path in ("/", "/healthz", "/metrics", "/snapshot.jpg")]
            told += [get(port, f"/nothing{i}?token=wrong") for i in range(2)]
        finally:
            process.terminate()
            said, _ = process.communicate(timeout=60)
        until(lambda: "offline" in with_all.texts("k/status"))
        told += [f"{topic} {text}".encode() for topic, text, _ in with_all.messages]
        with_all.stop()
        broker.stop()
        assert hook.got, "the webhook was called"
    told += [said.encode(), (tmp_path / "o.jsonl").read_bytes()]
    told += [path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert process.returncode == 0, said
    assert "mqtt" in said and "live page" in said and "***" in said
    for text in told:
        for secret in SECRETS:
            assert secret.encode() not in text, text[:3000]


def healthy(port: int) -> bytes:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/healthz", headers={"Authorization": "Bearer S3CRET-token"})
        status = connection.getresponse().status
        connection.close()
        return str(status).encode()
    except OSError:
        return b""


@pytest.mark.parametrize(
    "words",
    [
        ["--mqtt", "mqtt://me:S3CRET@/x"],
        ["--mqtt", "S3CRET"],
        ["--webhook", "ftp://me:S3CRET@h/S3CRET"],
        ["--http", "0.0.0.0:80", "--http-token", "S3CRET"],
        ["--http", "0", "--http-token", "S3CRET pass word"],
        ["--source", "gopher://me:S3CRET@h/"],
    ],
)
def test_no_error_tells_a_secret(
    words: list[str], tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = words if "--source" in words else ["--source", "pattern:", *words]
    assert main(["run", "--headless", "--model", str(tiny_model), *given]) == 2
    assert "S3CRET" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--webhok", "http://me:S3CRET@h/"],
        ["run", "--sorce", "rtsp://me:S3CRET@h/x"],
        ["run", "--engine", "me:S3CRET@h"],
        ["rtsp://me:S3CRET@h/x", "rtsp://me:S3CRET@h/x"],
        ["models", "info", "x", "http://h/?auth=S3CRET"],
    ],
)
def test_no_usage_error_tells_a_secret(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "S3CRET" not in capsys.readouterr().err
