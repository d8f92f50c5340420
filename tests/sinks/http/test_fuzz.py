"""The server outlives a thousand requests that are none."""

from __future__ import annotations

import random
import socket
import threading
from contextlib import suppress

import pytest

import app.sinks.http.guard as access
from tests.sinks.http.kit import ask, site

COUNT = 1000
PATHS = (
    "/",
    "/metrics",
    "/healthz",
    "/snapshot.jpg?overlay=1",
    "/detections",
    "/stream.mjpg",
    "/x",
)


def malformed(chance: random.Random) -> bytes:
    """A request that was cut, mixed up, or never was one."""
    whole = ask(chance.choice(PATHS)).encode()
    noise = chance.randbytes(chance.randint(1, 300))
    kind = chance.randrange(8)
    if kind == 0:
        return noise
    if kind == 1:
        return whole[: chance.randint(1, len(whole) - 1)]
    if kind == 2:
        at = chance.randrange(len(whole))
        return whole[:at] + noise + whole[at:]
    if kind == 3:
        return b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * chance.choice((10, 5000)) + b"\r\n"
    if kind == 4:
        length = chance.choice((b"-1", b"99999999999999999999", b"1e3", b"0x10", b"\xff"))
        return b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + length + b"\r\n\r\nbody"
    if kind == 5:
        chunk = chance.choice((b"zz\r\n", b"FFFFFFFFFFFF\r\nx", b"-5\r\n", b"0\r\n\r\n" * 50))
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        return head + chunk
    if kind == 6:
        target = chance.choice((b"http://[", b"*", b"/%zz%", b"?" * 2000, b"/\xff\xfe", b"\r\n"))
        method = chance.choice((b"GET", b"G\0T", b"CONNECT", b"", b"PRI"))
        return (
            method + b" " + target + b" HTTP/" + chance.choice((b"1.1", b"9.9", b"2")) + b"\r\n\r\n"
        )
    mixed = bytearray(whole)
    for _ in range(chance.randint(1, 20)):
        mixed[chance.randrange(len(mixed))] = chance.randrange(256)
    return bytes(mixed)


@pytest.mark.parametrize("token", [None, "the-right-token"])
def test_a_thousand_malformed_requests_crash_nothing(
    token: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(access, "RATE_PER_S", 1e9)
    monkeypatch.setattr(access, "BURST", 1e9)
    caplog.set_level("DEBUG")
    chance = random.Random(20260131)
    with site(token=token) as made:
        made.feed()
        threads = threading.active_count()
        for i in range(COUNT // 2):  # two runs make a thousand
            with made.connect() as client, suppress(OSError):
                client.sendall(malformed(chance))
                if i % 2:
                    client.shutdown(socket.SHUT_WR)
                    client.settimeout(0.05)
                    client.recv(4096)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        assert made.get("/healthz", **headers)[0] == 200
        assert made.get("/snapshot.jpg", **headers)[0] == 200
        assert threading.active_count() <= threads + 1
    assert "Traceback" not in caplog.text and not [
        record for record in caplog.records if record.levelname in ("WARNING", "ERROR", "CRITICAL")
    ], "strangers do not fill the log"
