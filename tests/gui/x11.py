"""Virtual display, keyboard, screenshots, and a camera on the network."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.sinks.kit import ROOT

GRAB = """
import sys
from PyQt5.QtWidgets import QApplication
app = QApplication([])
sys.exit(0 if app.primaryScreen().grabWindow(0).save(sys.argv[1]) else 1)
"""


@contextlib.contextmanager
def x_display(size: str = "1280x800x24") -> Iterator[str]:
    """The name of a virtual display; skips, visibly, where there can be none."""
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("no Xvfb here (apt install xvfb)")
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [program, "-displayfd", "1", "-screen", "0", size, "-nolisten", "tcp"],
            stdout=subprocess.PIPE,
            stderr=log,
        )
        try:
            assert server.stdout is not None
            number = server.stdout.readline().decode().strip()
            if not number:
                pytest.skip("Xvfb does not start here")
            yield f":{number}"
        finally:
            server.terminate()
            server.communicate(timeout=10)


class NetworkCamera:
    """Streams the bundled clip as JPEGs over HTTP, as cheap cameras do; it can be switched off."""

    def __init__(self, jpegs: list[bytes]) -> None:
        self._jpegs, self._port = jpegs, 0
        self._server: http.server.ThreadingHTTPServer | None = None
        self.served = 0

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._port}/live"

    def on(self) -> None:
        camera, off = self, threading.Event()
        self._off = off

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args) -> None:
                pass

            def do_GET(self) -> None:
                camera.served += 1
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                with contextlib.suppress(OSError):
                    while True:
                        for jpeg in camera._jpegs:
                            if off.wait(0.05):
                                return
                            head = "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: "
                            self.wfile.write(f"{head}{len(jpeg)}\r\n\r\n".encode())
                            self.wfile.write(jpeg + b"\r\n")

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address) -> None:
                pass

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def off(self) -> None:
        self._off.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def clip_as_jpegs(path: Path, *, first: int, count: int) -> list[bytes]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    for _ in range(first + count):
        ok, frame = capture.read()
        assert ok
        frames.append(frame)
    capture.release()
    return [cv2.imencode(".jpg", frame)[1].tobytes() for frame in frames[first:]]


class Keyboard:
    """Keys, as an X server gets them from a person."""

    def __init__(self, display: str) -> None:
        program = shutil.which("xdotool")
        if program is None:
            pytest.skip("no xdotool here (apt install xdotool)")
        self._program, self._env = program, {**os.environ, "DISPLAY": display}

    def find(self, title: str, limit_s: float) -> None:
        """Wait for the window, and give it the keyboard: there is no window manager to do so."""
        window = self._run("search", "--sync", "--onlyvisible", "--name", title, limit_s=limit_s)
        self._run("windowfocus", "--sync", window.split()[0])

    def press(self, *keys: str) -> None:
        self._run("key", "--delay", "80", *keys)

    def _run(self, *words: str, limit_s: float = 20.0) -> str:
        done = subprocess.run(
            [self._program, *words], env=self._env, capture_output=True, text=True, timeout=limit_s
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def screenshot(display: str, path: Path) -> np.ndarray:
    """(H, W, 3) BGR of the whole display, kept in the file."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("QT_")}
    subprocess.run(
        [sys.executable, "-c", GRAB, str(path)],
        env=env | {"DISPLAY": display, "QT_QPA_PLATFORM": "xcb"},
        cwd=ROOT,
        check=True,
        timeout=60,
        capture_output=True,
    )
    return cv2.imread(str(path))


def wait_for(condition, limit_s: float, every_s: float = 0.3):
    """What the condition gave once it was true."""
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        answer = condition()
        if answer:
            return answer
        time.sleep(every_s)
    raise AssertionError(f"not within {limit_s:g} s: {condition}")
