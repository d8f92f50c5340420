"""A display is believed in only if it answers."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.ops.display import find_display

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="X11 and Wayland")

# The answers of an X server to a login, as in the X11 protocol, "Connection Setup".
REFUSAL = b"\x00\x06" + (11).to_bytes(2, "little") + b"\x00\x00" + b"\x02\x00" + b"no way\x00\x00"


@contextmanager
def fake_x_server(answer: bytes | None) -> Iterator[str]:
    """Listens on TCP as an X server would; None: accepts, and never says a word."""
    with socket.socket() as listener:
        for number in range(90, 190):
            try:
                listener.bind(("127.0.0.1", 6000 + number))
                break
            except OSError:
                continue
        listener.listen()
        done = threading.Event()
        kept = []

        def serve() -> None:
            listener.settimeout(0.05)
            while not done.is_set():
                try:
                    client, _ = listener.accept()
                except TimeoutError:
                    continue
                kept.append(client)
                if answer is not None:
                    client.settimeout(1)
                    if client.recv(4096):
                        client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{number}.0"
        finally:
            done.set()
            thread.join(5)
            for client in kept:
                client.close()


@pytest.fixture
def libxcb() -> None:
    try:
        ctypes.CDLL("libxcb.so.1")
    except OSError:
        pytest.skip("no libxcb.so.1 here, so nobody can log in to an X server")


def test_nothing_set_means_no_display_and_says_what_was_missed() -> None:
    found = find_display({})
    assert not found.usable
    assert "DISPLAY is not set, WAYLAND_DISPLAY is not set" in found.reason


@pytest.mark.parametrize("name", ["offscreen", "minimal", "vnc:size=640x480", "foo;offscreen"])
def test_platform_that_needs_no_server_is_a_display(name: str) -> None:
    assert find_display({"QT_QPA_PLATFORM": name}).usable


def test_platform_asked_for_decides_what_is_looked_for() -> None:
    assert find_display({"QT_QPA_PLATFORM": "xcb"}).reason.endswith("DISPLAY is not set")
    assert "no platform known" in find_display({"QT_QPA_PLATFORM": "foo"}).reason


def test_x11_display_that_nobody_serves_is_none() -> None:
    found = find_display({"DISPLAY": ":4711"})
    assert not found.usable and "no X server answers at DISPLAY=:4711" in found.reason
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1] - 6000
    assert not find_display({"DISPLAY": f"localhost:{number}.0"}).usable


def test_nonsense_in_display_is_told() -> None:
    assert "is no display name" in find_display({"DISPLAY": "screen"}).reason


def test_x11_server_that_refuses_the_login_is_no_display(libxcb: None) -> None:
    with fake_x_server(REFUSAL) as name:
        found = find_display({"DISPLAY": name})
    assert not found.usable and "does not let us in" in found.reason
    assert "XAUTHORITY" in found.reason


def test_x11_server_that_never_answers_does_not_hold_up_the_start(libxcb: None) -> None:
    with fake_x_server(None) as name:
        start = time.monotonic()
        assert not find_display({"DISPLAY": name}).usable
        assert time.monotonic() - start < 10


def test_wayland_socket_that_answers_is_a_display(tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path), "WAYLAND_DISPLAY": "wayland-9"}
    assert "nothing answers at WAYLAND_DISPLAY=wayland-9" in find_display(env).reason
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "wayland-9"))
        listener.listen()
        found = find_display(env)
        assert found.usable and found.platform == "wayland"
        # a dead DISPLAY beside it does not matter
        assert find_display(env | {"DISPLAY": ":4711"}).platform == "wayland"


def test_wayland_socket_left_behind_is_no_display(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "wayland-9"))
    env = {"XDG_RUNTIME_DIR": str(tmp_path), "WAYLAND_DISPLAY": "wayland-9"}
    assert not find_display(env).usable


def test_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(os.environ, "QT_QPA_PLATFORM", "offscreen")
    assert find_display().usable
