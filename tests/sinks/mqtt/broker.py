"""A real mosquitto on a free port, and a subscriber that remembers all it gets."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion


def find_mosquitto() -> str | None:
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait for it; the limit only ends what hangs."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "never came true"
        time.sleep(0.02)


class Broker:
    """Started and stopped at will; sessions and messages for them survive that."""

    def __init__(self, folder: Path, *extra: str, port: int | None = None) -> None:
        self.port, self._process = port or free_port(), None
        folder.mkdir(exist_ok=True)
        self._config = folder / "mosquitto.conf"
        lines = [
            f"listener {self.port} 127.0.0.1",
            *(extra or ["allow_anonymous true"]),
            "persistence true",
            f"persistence_location {folder}/",
            "max_queued_messages 0",
            "user root",
            f"log_dest file {folder}/log",
        ]
        self._config.write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        binary = find_mosquitto()
        assert binary is not None and self._process is None
        self._process = subprocess.Popen([binary, "-c", str(self._config)])
        until(self._listens)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(20)

    def _listens(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "mosquitto has ended"
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


class Subscriber:
    """Keeps its session, so that the broker owes it everything while it is away."""

    def __init__(
        self, port: int, topic: str = "#", *, user: str | None = None, password: str | None = None
    ) -> None:
        self.messages: list[tuple[str, str, bool]] = []  # topic, text, retained
        self.firsts: list[str] = []  # texts that the broker itself has not sent before
        self._ready = threading.Event()
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"test-{free_port()}", clean_session=False
        )
        client.username_pw_set(user, password)
        client.reconnect_delay_set(1, 1)
        client.on_connect = lambda c, *_: c.subscribe(topic, 1)
        client.on_subscribe = lambda *_: self._ready.set()
        client.on_message = self._on_message
        client.connect("127.0.0.1", port, keepalive=10)
        client.loop_start()
        self._client = client
        assert self._ready.wait(20)

    def _on_message(self, client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
        if not message.dup:  # else our acknowledgement had not reached the broker
            self.firsts.append(message.payload.decode())
        self.messages.append((message.topic, message.payload.decode(), message.retain))

    def texts(self, topic: str) -> list[str]:
        return [text for where, text, _ in list(self.messages) if where == topic]

    def lines(self, topic: str) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.texts(topic)]

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
