"""Real servers that refuse, redirect, hang or are away leave the pipeline alone."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app.config import WebhookOptions
from app.core.errors import ConfigError
from app.core.stats import OutputMeter
from app.sinks.events import EventMessage
from app.sinks.webhook import Webhook
from tests.certificates import certificates
from tests.sinks.mqtt.broker import free_port, until


def event(n: int = 0) -> EventMessage:
    return EventMessage("appear", "person", json.dumps({"id": n}))


class Server(ThreadingHTTPServer):
    """Answers with the next of ``codes``, then 200; keeps what it got."""

    def __init__(self, *codes: int) -> None:
        self.codes, self.got, self.headers = list(codes), [], []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.got.append((self.path, json.loads(body)["id"]))
                server.headers.append(dict(self.headers))
                code = server.codes.pop(0) if server.codes else 200
                self.send_response(code)
                if code in (301, 307):
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)


@contextlib.contextmanager
def serving(*codes: int) -> Iterator[Server]:
    server = Server(*codes)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@contextlib.contextmanager
def posting(url: str, **options) -> Iterator[tuple[Webhook, OutputMeter]]:
    meter = OutputMeter("webhook")
    hook = Webhook(WebhookOptions(url=url, **options), meter, first_pause_s=0.01)
    hook.start()
    try:
        yield hook, meter
    finally:
        hook.stop()


def test_events_arrive_in_order_with_the_credentials_in_a_header() -> None:
    with serving() as server:
        url = f"http://me:p%40ss@127.0.0.1:{server.server_port}/hook?x=1"
        with posting(url) as (hook, meter):
            for n in range(5):
                hook.notice(event(n))
            until(lambda: meter.figures().delivered == 5)
        assert server.got == [("/hook?x=1", n) for n in range(5)]
        assert server.headers[0]["Content-Type"] == "application/json"
        assert base64.b64decode(server.headers[0]["Authorization"][6:]) == b"me:p@ss"


def test_a_service_that_is_ill_is_tried_again_and_none_is_lost() -> None:
    with serving(503, 429, 500) as server:
        with posting(f"http://127.0.0.1:{server.server_port}/") as (hook, meter):
            hook.notice(event(1))
            hook.notice(event(2))
            until(lambda: meter.figures().delivered == 2)
        assert [n for _, n in server.got] == [1, 1, 1, 1, 2] and not meter.figures().dropped


@pytest.mark.parametrize("code", [400, 401, 404, 301, 307])
def test_a_refusal_and_a_redirect_are_final(code: int) -> None:
    with serving(code) as server:
        with posting(f"http://127.0.0.1:{server.server_port}/") as (hook, meter):
            hook.notice(event(1))
            until(lambda: bool(meter.figures().dropped))
            assert str(code) in meter.trouble
            hook.notice(event(2))
            until(lambda: meter.figures().delivered == 1)
            assert meter.trouble == ""
        assert meter.figures().dropped == {"refused": 1}
        assert [path for path, _ in server.got] == ["/", "/"], "it followed nobody"


def test_attempts_end_and_are_counted() -> None:
    with posting(f"http://127.0.0.1:{free_port()}/", attempts=2) as (hook, meter):
        hook.notice(event())
        until(lambda: meter.figures().dropped == {"unreachable": 1})


def test_a_service_that_hangs_costs_old_events_only() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with posting(url, queue=10, timeout_s=30) as (hook, meter):
            for n in range(1000):  # none of them waits
                hook.notice(event(n))
            assert 989 <= meter.figures().dropped["queue full"] <= 990
            began_s = time.monotonic()
        assert time.monotonic() - began_s < 25, "the end does not wait for it"
        assert sum(meter.figures().dropped.values()) == 1000, "each is accounted for"


def drip(connection: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX: " + b"a" * 10_000:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def drip_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
    while True:
        connection.sendall(b"a")
        time.sleep(0.05)


def go_on(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def escape(connection: socket.socket) -> None:
    connection.sendall(b"\x1b[2J\x1b[31mEVIL\x07\rkestrel: all is well\n\r\n\r\n")


def long_line(connection: socket.socket) -> None:
    connection.sendall(b"a" * 60_000 + b"\r\n")


@contextlib.contextmanager
def misbehaving(way: Callable[[socket.socket], None]) -> Iterator[tuple[str, list[float]]]:
    """A server that reads each request, then answers in its ``way``; for how long each held on."""
    held: list[float] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                with listener.accept()[0] as connection:
                    began_s = time.monotonic()
                    with contextlib.suppress(OSError):
                        connection.settimeout(20)
                        connection.recv(65_536)
                        way(connection)
                    held.append(time.monotonic() - began_s)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/", held
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


@pytest.mark.parametrize("way", [drip, drip_body, go_on])
def test_an_answer_without_an_end_is_given_up_in_time(way: Callable[[socket.socket], None]) -> None:
    with misbehaving(way) as (url, held), posting(url, timeout_s=0.5, attempts=1) as (hook, meter):
        hook.notice(event())
        until(lambda: meter.figures().dropped == {"unreachable": 1})
        until(lambda: bool(held))
        assert held[0] < 10, "the whole answer has the time-out, not each byte"


@pytest.mark.parametrize("way", [escape, long_line])
def test_what_the_other_side_says_is_one_short_printable_line(
    way: Callable[[socket.socket], None], caplog: pytest.LogCaptureFixture
) -> None:
    with misbehaving(way) as (url, _), posting(url, attempts=1) as (hook, meter):
        hook.notice(event())
        until(lambda: meter.figures().dropped == {"unreachable": 1})
        for told in (meter.trouble, *caplog.messages):
            assert told.isprintable() and len(told) < 400


def test_a_redirect_to_a_file_opens_none() -> None:
    def to_file(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 302 F\r\nLocation: file:///etc/hostname\r\n\r\n")

    with misbehaving(to_file) as (url, _), posting(url) as (hook, meter):
        hook.notice(event())
        until(lambda: meter.figures().dropped == {"refused": 1})


def test_tls_is_verified(tmp_path) -> None:
    certificates(tmp_path, "right", "wrong")
    with serving() as server:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # a client that hangs up is the point
        url = f"https://localhost:{server.server_port}/"
        for options in ({}, {"ca_file": str(tmp_path / "wrong.pem")}):
            with posting(url, attempts=1, **options) as (hook, meter):
                hook.notice(event())
                until(lambda: "not trusted" in meter.trouble)
        with posting(url, ca_file=str(tmp_path / "right.pem")) as (hook, meter):
            hook.notice(event())
            until(lambda: meter.figures().delivered == 1)
        assert len(server.got) == 1


@pytest.mark.parametrize("url", ["ftp://SECRET@h/", "file:///etc/passwd", "https://", "SECRET"])
def test_what_is_no_web_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError, match="webhook") as told:
        Webhook(WebhookOptions(url=url), OutputMeter("webhook"))
    assert "SECRET" not in str(told.value)


def test_the_name_hides_credentials_and_path() -> None:
    hook = Webhook(
        WebhookOptions(url="https://u:SECRET@h:1/services/SECRET?k=SECRET"), OutputMeter("w")
    )
    assert hook.name == "https://h/***"
    hook.stop()
