"""What each path answers, and to whom; nobody holds up the pipeline."""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import re
import ssl
import threading
import time
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

import app.sinks.http.guard as access
import app.sinks.http.routes as routes
from app.core.errors import ConfigError
from app.core.states import SourceStatus
from app.sinks.http.guard import parse_address
from app.sinks.http.routes import judge
from tests.certificates import certificates
from tests.sinks.http.kit import BOX, Site, ask, shapes, site
from tests.sinks.kit import found, result, textured
from tests.sinks.mqtt.broker import until


def decoded(jpeg: bytes) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR))


# --- addresses and tokens ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("8080", "127.0.0.1", 8080), ("localhost:1", "localhost", 1), ("[::1]:80", "::1", 80)],
)
def test_loopback_needs_no_token(text: str, host: str, port: int) -> None:
    address = parse_address(text)
    assert (address.host, address.port, address.is_loopback) == (host, port, True)


@pytest.mark.parametrize("text", ["0.0.0.0:80", "[::]:80", "192.168.1.5:80", "box.local:80"])
def test_any_other_address_needs_one(text: str) -> None:
    with pytest.raises(ConfigError, match="needs a token"):
        parse_address(text)
    assert parse_address(text, "long-enough").token == "long-enough"


@pytest.mark.parametrize("text", ["", "x", "70000", ":80", "a:b", "1.2.3.4", "http://h:80", "-1"])
def test_what_is_no_address_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="--http"):
        parse_address(text)


@pytest.mark.parametrize("token", ["short", "with space", "naïve-token"])
def test_a_weak_token_is_refused_without_repeating_it(token: str) -> None:
    with pytest.raises(ConfigError, match="token") as told:
        parse_address("80", token)
    assert token not in str(told.value)


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/snapshot.jpg", "/nothing"])
def test_nothing_is_told_without_the_token(path: str) -> None:
    with site("0.0.0.0:0", "the-right-token") as made:
        made.feed()
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}):
            assert made.get(path, **headers)[0] == 401
        assert made.get(f"{path}?token=the-right-toke")[0] == 401
        right = 404 if path == "/nothing" else 200
        assert made.get(path, Authorization="Bearer the-right-token")[0] == right
        in_link = made.get(f"{path}?token=the-right-token")[0]
        assert in_link == (303 if path == "/" else right), "a program may follow no redirect"


def cookie_of(headers: dict[str, str]) -> str:
    """What a browser sends back, once its limits were checked."""
    cookie, *limits = headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(limits)
    assert "the-right-token" not in cookie
    return cookie


@pytest.mark.parametrize("path", ["/", "/?source=a", "/snapshot.jpg?overlay=1", "//evil.example/"])
def test_a_link_with_the_token_leaves_a_cookie_and_a_clean_address(path: str) -> None:
    with site("0.0.0.0:0", "the-right-token") as made:
        made.feed()
        link = path + ("&" if "?" in path else "?") + "token=the-right-token"
        status, _, headers = made.get(link, Accept="text/html")
        assert status == 303 and headers["location"] == "/" + path.lstrip("/")
        if "evil" not in path and "source" not in path:
            assert made.get(headers["location"], Cookie=cookie_of(headers))[0] == 200


def test_a_browser_is_asked_for_the_token_once() -> None:
    with site("0.0.0.0:0", "the-right-token") as made:
        made.feed()
        status, page, headers = made.get("/", Accept="text/html")
        assert status == 401 and b'<form method="post"' in page
        assert "form-action 'self'" in headers["content-security-policy"]
        assert made.post("/", b"token=the-wrong-token")[0] == 401
        status, _, headers = made.post("/", b"token=the-right-token")
        assert status == 303 and headers["location"] == "/"
        cookie = cookie_of(headers)
        for path in ("/", "/snapshot.jpg", "/healthz", "/metrics"):
            assert made.get(path, Cookie=f"other=1; {cookie}")[0] == 200
        assert made.get("/", Cookie=cookie[:-1] + "g")[0] == 401
    with site("0.0.0.0:0", "another-token") as made:
        assert made.get("/", Cookie=cookie)[0] == 401


def test_who_may_look_may_change_nothing_and_changes_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    tokens = {"token": "the-right-token", "view_token": "only-to-look"}
    with site("0.0.0.0:0", shapes=shapes(), **tokens) as made:
        for token, status in (("only-to-look", 403), ("the-right-token", 200)):
            sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            assert made.get("/healthz", **sent)[0] in (200, 503)
            code, body, _ = made.get("/api/v1/zones", **sent)
            assert code == 200 and ("fixed" in json.loads(body)) is (status == 403)
            assert made.get("/api/v1/zones", "PUT", b"{}", **sent)[0] == status
            assert made.post("/", f"token={token}".encode())[0] == 303
    told = [r.getMessage() for r in caplog.records if "PUT /api/v1/zones" in r.getMessage()]
    assert len(told) == 1 and "127.0.0.1" in told[0]


def test_a_token_to_look_needs_another_one_beside_it() -> None:
    for token in (None, "only-to-look"):
        with pytest.raises(ConfigError, match="view_token"):
            parse_address("80", token, view_token="only-to-look")


@pytest.mark.parametrize("body", [b"", b"token=\xff", b"token=%ff%fe", b"x" * 100_000, b"token"])
def test_what_is_no_form_is_no_login(body: bytes) -> None:
    with site("0.0.0.0:0", "the-right-token") as made:
        assert made.post("/", body)[0] in (400, 401, 413)
        for encoding in ("gzip", "deflate", "br"):
            assert made.post("/", body, {"Content-Encoding": encoding})[0] in (400, 401, 413)


@pytest.mark.parametrize("token", [None, "the-right-token"])
@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\n"
        b"Content-Length: 10\r\n\r\n0123456789",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nCookie: a=\xff; \xfe\r\n\r\n",
        b"GET /healthz?token=%ff%00&token=\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: \xff[::::\r\n\r\n",
        b"GET http://[::1/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 20_000 + b"\r\n",
    ],
)
def test_a_malformed_request_is_no_fault_of_ours(
    request_: bytes, token: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with site("0.0.0.0:0" if token else "0", token) as made:
        for _ in range(20):
            with made.connect() as client, contextlib.suppress(ConnectionError):
                client.sendall(request_)
                answer = client.recv(200)
                assert not answer.startswith(b"HTTP/1.1 500"), answer
    assert not [each for each in caplog.records if each.levelname != "INFO"]


def test_a_fault_of_ours_is_told_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with site() as made:

        def picture(*, overlay: bool) -> None:
            raise ValueError("a\x1b[2Jb\n" * 999)

        monkeypatch.setattr(made.service.feed(), "picture", picture)
        assert [made.get("/snapshot.jpg")[0] for _ in range(5)] == [500] * 5
    told = [each.getMessage() for each in caplog.records if each.levelname != "INFO"]
    assert len(told) == 1 and told[0].isprintable() and len(told[0]) < 400


def test_a_name_that_a_stranger_pointed_here_is_not_served() -> None:
    with site() as made:
        for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", ""):
            assert made.get("/healthz", Host=host)[0] == 403
        for host in ("localhost", "localhost:99", "127.0.0.1:1", "[::1]:1"):
            assert made.get("/healthz", Host=host)[0] == 503


def test_a_port_in_use_is_told() -> None:
    with site() as made, pytest.raises(ConfigError, match=r"cannot listen.*in use"):
        Site(f"127.0.0.1:{made.port}").service.start()


def test_https_with_a_certificate_of_ones_own(tmp_path: Path) -> None:
    certificates(tmp_path, "right")
    files = {"cert_file": str(tmp_path / "server.pem"), "key_file": str(tmp_path / "server.key")}
    with site(**files) as made:
        assert made.service.url.startswith("https://")
        context = ssl.create_default_context(cafile=str(tmp_path / "right.pem"))
        connection = http.client.HTTPSConnection("localhost", made.port, context=context)
        with contextlib.closing(connection):
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 503
    with pytest.raises(ConfigError, match="cert_file"):
        Site(cert_file=str(tmp_path / "none.pem"))


def test_guessing_tokens_is_slowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "RATE_PER_S", 0.001)
    with site("0.0.0.0:0", "the-right-token") as made:
        codes = [made.get("/", Authorization=f"Bearer {i}")[0] for i in range(20)]
        assert codes.count(401) < 10 and set(codes[-10:]) == {429}


# --- the answers ---------------------------------------------------------------------------------


def test_a_snapshot_is_the_newest_frame_with_boxes_if_asked() -> None:
    with site() as made:
        assert made.get("/snapshot.jpg")[0] == 503
        made.feed(3)
        code, body, headers = made.get("/snapshot.jpg")
        assert (code, headers["content-type"], headers["x-frame"]) == (200, "image/jpeg", "2")
        plain = decoded(body).astype(int)
        assert np.abs(plain - textured(2)).mean() < 10
        drawn = decoded(made.get("/snapshot.jpg?overlay=1")[1]).astype(int)
        changed = np.abs(drawn - plain).sum(axis=2) > 120
        ys, xs = np.nonzero(changed)
        assert changed.any() and xs.min() >= 8 and xs.max() <= 112 and ys.max() <= 142
        assert made.get("/snapshot.jpg", "HEAD")[1] == b""


def test_health_follows_inferences_not_the_process() -> None:
    with site(stale_s=0.3) as made:
        code, body, _ = made.get("/healthz")
        assert code == 503 and "no inference completed yet" in json.loads(body)["reasons"][0]
        made.feed()
        made.other.trouble = "the broker is away"
        code, body, _ = made.get("/healthz")
        told = json.loads(body)
        assert (code, told["status"]) == (200, "ok")
        assert told["warnings"] == ["mqtt: the broker is away"]
        until(lambda: made.get("/healthz")[0] == 503)
        made.feed()
        assert made.get("/healthz")[0] == 200


def test_a_failed_run_is_not_healthy() -> None:
    live = SourceStatus("live")
    assert judge(live, 1.0, stale_s=10).ok
    assert not judge(SourceStatus("failed"), 1.0, stale_s=10).ok
    assert "11 s" in judge(live, 11.0, stale_s=10).reasons[0]
    away = SourceStatus("offline", since_s=1e9)
    assert "offline since 2001" in judge(away, 11.0, stale_s=10).reasons[0]
    others = judge(live, 1.0, stale_s=10, sources={"door": live, "yard": away})
    assert others.ok and "yard: offline since 2001" in others.warnings[0]


def test_metrics_are_read_by_a_real_parser() -> None:
    with site() as made:
        made.get("/metrics")  # before the first frame too
        made.feed(5)
        made.stats.dropped("stale")
        made.other.delivered(7)
        made.other.dropped("queue full", 3)
        time.sleep(0.6)  # figures are held for half a second
        code, body, headers = made.get("/metrics")
        assert code == 200 and headers["content-type"].startswith("text/plain")
        found_ = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        }
        assert found_[("kestrel_frames_processed_total",)] == 5
        assert found_[("kestrel_frames_dropped_total", ("reason", "stale"))] == 1
        assert found_[("kestrel_output_delivered_total", ("output", "mqtt"))] == 7
        lost = ("kestrel_output_dropped_total", ("output", "mqtt"), ("reason", "queue full"))
        assert found_[lost] == 3
        assert found_[("kestrel_frame_age_seconds", ("quantile", "0.5"))] == pytest.approx(0.009)
        stage = ("kestrel_stage_seconds", ("quantile", "0.95"), ("stage", "network"))
        assert found_[stage] == pytest.approx(0.007)
        assert found_[("kestrel_healthy",)] == 1
        assert ("process_resident_memory_bytes",) in found_


def test_detections_come_as_events_with_the_figures() -> None:
    with site() as made, made.connect(ask("/detections")) as client:
        until(lambda: made.service.feed().viewers["detections"] == 1)
        made.feed(20)
        text = b""
        while text.count(b'"frame": 19') < 1 or b"event: stats" not in text:
            text += client.recv(65536)
        lines = [json.loads(x) for x in re.findall(r"^data: (.*\"frame\".*)$", text.decode(), re.M)]
        assert [line["frame"] for line in lines] == list(range(20))
        assert lines[0]["detections"][0]["label"] == "person"
        (stats, *_) = re.findall(r"^event: stats\ndata: (.*)$", text.decode(), re.M)
        assert json.loads(stats)["state"] == "live"
    assert b"text/event-stream" in text


def test_the_stream_is_whole_pictures_with_their_frame_numbers() -> None:
    with site(stream_fps=120) as made, made.connect(ask("/stream.mjpg")) as client:
        seen: list[int] = []
        data = client.recv(65536)
        assert b"multipart/x-mixed-replace; boundary=kestrel-frame" in data
        while len(seen) < 5:
            made.feed()
            data += client.recv(1 << 20)
            while part := re.search(rb"Content-Length: (\d+)\r\nX-Frame: (\d+)\r\n\r\n", data):
                size, index, start = int(part[1]), int(part[2]), part.end()
                if len(data) < start + size:
                    break
                assert decoded(data[start : start + size]).shape == (240, 320, 3)
                seen.append(index)
                data = data[start + size :]
        assert seen == sorted(set(seen))


# --- what costs nothing, and who holds up nobody -------------------------------------------------


def test_nothing_is_encoded_or_kept_while_nobody_looks() -> None:
    with site() as made:
        made.feed(10)
        assert not made.service.feed()._pending and not made.service.feed()._encoded
        pixels = textured(0)
        gone = weakref.ref(pixels)
        made.service.feed().emit(result(0, found(BOX), pixels, live=True))
        made.get("/snapshot.jpg")
        del pixels
        made.feed()
        gc.collect()
        assert gone() is None, "one frame is held, the newest"


def test_a_client_that_reads_nothing_slows_nobody_and_is_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routes, "WRITE_S", 0.5)
    with (
        site(stream_fps=120) as made,
        made.connect(ask("/detections"), buffer=4096),
        made.connect(ask("/stream.mjpg"), buffer=4096),
    ):
        viewers = made.service.feed()
        until(lambda: set(viewers.viewers.values()) == {1})
        longest = 0.0
        end_s = time.monotonic() + 150
        while any(viewers.viewers.values()):
            began_s = time.perf_counter()
            for _ in range(20):
                made.service.feed().emit(result(1, found(*[BOX] * 300), textured(1), live=True))
            longest = max(longest, time.perf_counter() - began_s)
            made.feed()
            time.sleep(0.01)
            assert time.monotonic() < end_s, "both are let go in time"
        assert longest < 10, "emit never waits for a client"
        assert made.get("/healthz")[0] == 200


def test_a_connection_that_never_asks_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "SILENT_S", 0.4)
    with site() as made, made.connect() as silent, made.connect("GET / HT") as half:
        assert silent.recv(100) == b""
        assert b"200" not in half.recv(1000)


def test_a_stream_is_not_taken_for_a_silent_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "SILENT_S", 0.3)
    with site() as made, made.connect(ask("/detections")) as client:
        text = b""
        while text.count(b"event: stats") < 3:
            more = client.recv(65536)
            assert more, "it was closed"
            text += more


def test_too_many_streams_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "STREAMS", 1)
    with site() as made, made.connect(ask("/detections")):
        until(lambda: made.service.feed().viewers["detections"] == 1)
        assert made.get("/detections")[0] == 503


def test_clients_that_come_and_go_leave_nothing_behind() -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with site() as made:
        made.feed()
        made.get("/snapshot.jpg")
        before = descriptors()
        for i in range(40):
            with made.connect(ask("/detections" if i % 2 else "/stream.mjpg")) as client:
                client.recv(100)
            made.feed()
        until(lambda: set(made.service.feed().viewers.values()) == {0})
        until(lambda: descriptors() <= before)


def test_stop_ends_streams_and_thread_quickly() -> None:
    with site() as made, made.connect(ask("/detections")), made.connect(ask("/stream.mjpg")):
        until(lambda: set(made.service.feed().viewers.values()) == {1})
        made.service.stop()
        assert not any(thread.name == "http" for thread in threading.enumerate())
        made.feed()  # the pipeline may still be at work


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/../../etc/passwd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "//etc/passwd",
            "/..%2f..%2fetc/passwd",
        ),
        *("/page.html", "/static/../page.html", "/%00", "/snapshot.jpg/../../x", "/.", "/\\..\\x"),
    ],
)
def test_there_are_no_files_to_walk_to(path: str) -> None:
    with site() as made, made.connect(ask(path)) as client:
        told = client.recv(65536)
        assert told.split(b" ", 2)[1] in (b"404", b"400", b"403") and b"root:" not in told


def test_methods_and_bodies_that_nobody_needs_are_refused() -> None:
    with site() as made:
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
            assert made.get("/", method)[0] == 405
        with made.connect("GET /" + "x" * 9000 + " HTTP/1.1\r\nHost: localhost\r\n\r\n") as client:
            assert client.recv(100).split(b" ", 2)[1] in (b"400", b"414")
