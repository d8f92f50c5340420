"""Cameras over HTTP: what browsers play is played, and what servers do wrong stays bounded."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import ssl
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from clip_maker import picture
from stream_servers import RawServer, body

from app.core.errors import ConfigError, SourceError
from app.sources.base import SourceOptions
from app.sources.uri import make_source
from tests.certificates import certificates

JPEGS = [bytes(cv2.imencode(".jpg", picture(i))[1]) for i in range(20)]
OK = b"HTTP/1.1 200 OK\r\n"
MULTI = OK + b"Content-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
MJPEG = OK + b"Content-Type: video/x-motion-jpeg\r\n\r\n"


def part(data: bytes, *headers: str, boundary: str = "frame") -> bytes:
    return "\r\n".join([f"--{boundary}", *headers, "", ""]).encode() + data + b"\r\n"


def length(data: bytes, times: float = 1) -> str:
    return f"Content-Length: {int(len(data) * times)}"


def film(head: bytes, make, *, pieces: int = 1 << 20, server: list[RawServer] | None = None):
    """An answer that streams for ever, in pieces of so many bytes."""

    def answer(_, send) -> None:
        send(head)
        for jpeg in itertools.cycle(JPEGS):
            data = make(jpeg)
            for at in range(0, len(data), pieces):
                send(data[at : at + pieces])
            if server and server[0].stop.wait(0.03):
                return

    return answer


def take(uri: str, count: int, **options):
    """(info, frames) of the source, decoded in this process."""
    limits = {"open_timeout_s": 5.0, "read_timeout_s": 5.0, **options}
    source = make_source(uri, realtime=False, isolate=False, options=SourceOptions(**limits))
    frames = []
    try:
        info = source.open()
        deadline_s = time.monotonic() + 30
        while len(frames) < count and time.monotonic() < deadline_s:
            frame = source.read(0.5)
            frames += [] if frame is None else [frame]
    finally:
        source.close()
    return info, frames


JPEG = "Content-Type: image/jpeg"
WAYS = {
    "plain": (MULTI, lambda j: part(j, JPEG, length(j))),
    "no length": (MULTI, lambda j: part(j, JPEG)),
    "too short a length": (MULTI, lambda j: part(j, JPEG, length(j, 0.5))),
    "too long a length": (MULTI, lambda j: part(j, JPEG, length(j, 1000))),
    "no headers": (MULTI, lambda j: part(j)),
    "image/jpg": (MULTI, lambda j: part(j, "Content-type:image/jpg")),
    "text between": (MULTI, lambda j: part(b"hello", "Content-Type: text/plain") + part(j, JPEG)),
    "another boundary": (MULTI, lambda j: part(j, JPEG, boundary="other")),
    "no boundary": (OK + b"Content-Type: multipart/mixed\r\n\r\n", lambda j: part(j, JPEG)),
    "behind": (MULTI, lambda j: JPEG.encode() + b"\r\n\r\n" + j + b"\r\n--frame\r\n"),
    "octets": (OK + b"Content-Type: application/octet-stream\r\n\r\n", lambda j: part(j, JPEG)),
    "no type": (OK + b"\r\n", lambda j: part(j, JPEG)),
    "pictures only": (MJPEG, lambda j: j),
    "png": (
        MULTI,
        lambda j: part(bytes(cv2.imencode(".png", cv2.imdecode(np.frombuffer(j, np.uint8), 1))[1])),
    ),
}


@pytest.mark.parametrize("pieces", [1 << 20, 311])
@pytest.mark.parametrize("way", WAYS)
def test_streams_that_browsers_play_are_played(way: str, pieces: int) -> None:
    servers: list[RawServer] = []
    with RawServer(film(*WAYS[way], pieces=pieces, server=servers)) as server:
        servers.append(server)
        info, frames = take(f"http://127.0.0.1:{server.port}/x", 5)
    assert (info.live, info.wh_px, info.frame_count) == (True, (160, 120), None)
    assert all(f.media_ns is None and f.pixels.shape == (120, 160, 3) for f in frames)
    assert len(frames) == 5 and all(b.index > a.index for a, b in itertools.pairwise(frames))
    expected = [cv2.imdecode(np.frombuffer(j, np.uint8), 1) for j in JPEGS]
    assert all(any((f.pixels == each).all() for each in expected) for f in frames)


@pytest.mark.parametrize("keeps", [True, False])
def test_a_picture_is_asked_for_again_and_again(keeps: bool) -> None:
    turn = itertools.count()

    def answer(_, send) -> bool:
        close = [] if keeps else ["Connection: close"]
        send(body(JPEGS[next(turn) % 20], "image/jpeg", *close))
        return keeps

    with RawServer(answer) as server:
        began_s = time.monotonic()
        info, frames = take(f"http://127.0.0.1:{server.port}/snap.jpg?poll_s=0.1&a=1", 8)
        took_s = time.monotonic() - began_s
        assert all(" /snap.jpg?a=1 " in each for each in server.requests)
        assert server.connections == (1 if keeps else len(server.requests))
    assert (info.live, info.fps) == (True, 10) and took_s > 0.6
    assert all(f.media_ns is None for f in frames)
    assert len({f.pixels.tobytes() for f in frames}) == 8


def test_pictures_stand_upright_and_may_change_their_size() -> None:
    small = bytes(cv2.imencode(".jpg", picture(0)[:60, :80])[1])
    tags = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # turn right
    turned = small[:2] + b"\xff\xe1" + (len(tags) + 2).to_bytes(2, "big") + tags + small[2:]
    turn = itertools.count()

    def answer(_, send) -> bool:
        send(body([JPEGS[0], turned][next(turn) % 2], "image/jpeg"))
        return True

    with RawServer(answer) as server:
        _, frames = take(f"http://127.0.0.1:{server.port}/?poll_s=0.05", 4)
    assert [f.wh_px for f in frames] == [(160, 120), (60, 80)] * 2


def digest_of(text: str, algorithm: str) -> str:
    return hashlib.new({"MD5": "md5", "SHA-256": "sha256"}[algorithm], text.encode()).hexdigest()


@pytest.mark.parametrize("asks", ["Basic", "MD5", "SHA-256", "MD5 without qop"])
def test_a_login_answers_what_the_server_asks(asks: str) -> None:
    user, password = "me", "a/b?#%:@"
    algorithm = asks.split()[0]
    qop = "" if "without" in asks else ', qop="auth,auth-int"'
    challenge = (
        'Basic realm="cam"'
        if asks == "Basic"
        else f'Digest realm="cam", nonce="abc=", algorithm={algorithm}{qop}, opaque="o"'
    )

    def right(head: str) -> bool:
        told = re.search(r"(?i)\r\nauthorization: (.*)", head)
        if told is None:
            return False
        if asks == "Basic":
            pair = base64.b64encode(f"{user}:{password}".encode()).decode()
            return told[1].strip() == f"Basic {pair}"
        fields = dict(re.findall(r'(\w+)="?([^",\s]+)', told[1].removeprefix("Digest ")))
        first = digest_of(f"{user}:cam:{password}", algorithm)
        second = digest_of(f"GET:{fields['uri']}", algorithm)
        middle = f"abc=:{fields['nc']}:{fields['cnonce']}:auth" if qop else "abc="
        return fields["response"] == digest_of(f"{first}:{middle}:{second}", algorithm)

    def answer(head: str, send) -> bool:
        if right(head):
            send(body(JPEGS[0], "image/jpeg"))
        else:
            more = f"WWW-Authenticate: {challenge}"
            send(body(b"no", "text/html", more, status="401 Unauthorized"))
        return True

    with RawServer(answer) as server:
        where = f"127.0.0.1:{server.port}/x?poll_s=0.05"
        assert len(take(f"http://me:a%2Fb%3F%23%25%3A%40@{where}", 3)[1]) == 3
        assert "uthorization" not in server.requests[0], "nobody had asked"
        asked = len(server.requests)
        with pytest.raises(SourceError, match="check the user name and the password"):
            take(f"http://me:wrong@{where}", 1)
        assert len(server.requests) == asked + 2, "a camera may lock out who tries too often"
        with pytest.raises(SourceError, match="wants a user name"):
            take(f"http://{where}", 1)


def test_credentials_stay_with_their_server() -> None:
    def login(head: str, send) -> None:
        if "uthorization" not in head:
            send(body(b"", "text/html", 'WWW-Authenticate: Basic realm="x"', status="401 No"))
        else:
            send(body(JPEGS[0], "image/jpeg"))

    def redirect(_, send) -> None:
        to = f"Location: http://127.0.0.1:{other.port}/x"
        send(body(b"", "text/html", to, status="302 Found"))

    with RawServer(login) as other, RawServer(redirect) as server:
        with pytest.raises(SourceError, match="user name"):
            take(f"http://me:S3CRET@127.0.0.1:{server.port}/", 1)
        assert other.requests and not any("uthorization" in each for each in other.requests)


@pytest.mark.parametrize(
    "to", ["file:///etc/hostname", "concat:/etc/hostname", "/again", "rtsp://127.0.0.1:9/", "//"]
)
def test_a_redirect_that_leads_elsewhere_is_refused(to: str) -> None:
    def answer(_, send) -> None:
        send(body(b"", "text/html", f"Location: {to}", status="302 Found"))

    with RawServer(answer) as server, pytest.raises(SourceError, match="redirects"):
        take(f"http://127.0.0.1:{server.port}/", 1)


def test_only_trusted_servers_get_a_password(tmp_path: Path, caplog) -> None:
    certificates(tmp_path, "right", "wrong")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")

    def answer(head: str, send) -> bool:
        if " /plain" in head:
            send(body(b"", "a/b", "Location: http://127.0.0.1:9/", status="302 Found"))
        elif "uthorization" in head:
            send(body(JPEGS[0], "image/jpeg"))
        else:
            send(body(b"", "a/b", 'WWW-Authenticate: Basic realm="x"', status="401 No"))
        return True

    right, wrong = str(tmp_path / "right.pem"), str(tmp_path / "wrong.pem")
    with RawServer(answer, context=context) as server:
        uri = f"https://me:S3CRET@localhost:{server.port}/x"
        for options in ({}, {"ca_file": wrong}):
            with pytest.raises(SourceError, match=r"not trusted.*ca_file") as caught:
                take(uri, 1, **options)
            assert "S3CRET" not in str(caught.value)
        with pytest.raises(SourceError, match="not trusted"):  # a name that it does not have
            take(uri.replace("localhost", "127.0.0.1"), 1, ca_file=right)
        assert not server.requests
        assert len(take(uri, 1, ca_file=right)[1]) == 1
        assert len(take(f"{uri}?ca_file={right}", 1)[1]) == 1
        assert "is checked" not in caplog.text
        assert len(take(f"{uri}?tls_insecure=1", 1)[1]) == 1
        assert "no certificate is checked" in caplog.text
        assert all(" /x " in each for each in server.requests)
        with pytest.raises(SourceError, match="from https to http"):
            take(uri.replace("/x", "/plain"), 1, ca_file=right)
    with pytest.raises(ConfigError, match="ca_file"):
        take("https://localhost/x?ca_file=/no/such.pem", 1)


def claim(jpeg: bytes, side_px: int) -> bytes:
    at = jpeg.index(b"\xff\xc0")
    return jpeg[: at + 5] + side_px.to_bytes(2, "big") * 2 + jpeg[at + 9 :]


def test_pictures_above_the_limit_are_passed_over() -> None:
    turn = itertools.count()

    def stream(_, send) -> None:
        send(MULTI)
        while not server.stop.wait(0.05):
            jpeg = JPEGS[next(turn) % 20]
            send(part(claim(jpeg, 20000) if next(turn) % 3 else jpeg, JPEG))

    with RawServer(stream) as server:
        _, frames = take(f"http://127.0.0.1:{server.port}/", 3)
        assert [f.wh_px for f in frames] == [(160, 120)] * 3
        with pytest.raises(SourceError, match="megapixels"):
            take(f"http://127.0.0.1:{server.port}/", 1, max_megapixels=0.01, open_timeout_s=1.0)


def slowly(head: bytes, data: bytes, server: list[RawServer]):
    def answer(_, send) -> None:
        send(head)
        for byte in itertools.chain(data, itertools.repeat(32)):
            if server[0].stop.wait(0.1):
                return
            send(bytes([byte]))

    return answer


@pytest.mark.parametrize(
    ("head", "data"),
    [
        (b"", MULTI),
        (OK + b"X: ", b""),
        (MULTI, b"--frame\r\n"),
        (OK + b"Content-Type: image/jpeg\r\n\r\n", JPEGS[0]),
        (OK + b"Transfer-Encoding: chunked\r\nContent-Type: multipart/a\r\n\r\n", b""),
    ],
)
def test_a_server_that_dribbles_has_a_deadline(head: bytes, data: bytes) -> None:
    servers: list[RawServer] = []
    with RawServer(slowly(head, data, servers)) as server:
        servers.append(server)
        began_s = time.monotonic()
        with pytest.raises(SourceError, match=r"for 1 s"):
            take(f"http://127.0.0.1:{server.port}/", 1, open_timeout_s=1.0)
        assert time.monotonic() - began_s < 10


def test_a_stream_that_dribbles_later_is_lost() -> None:
    servers: list[RawServer] = []
    with RawServer(slowly(MULTI + part(JPEGS[0], JPEG), b"--frame", servers)) as server:
        servers.append(server)
        with pytest.raises(SourceError, match="no frame"):
            take(f"http://127.0.0.1:{server.port}/", 2, read_timeout_s=1.5)


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (body(b"<html>", "text/html"), "web page"),
        (body(b"", "a/b", status="404 Not Found"), "404.*check the path"),
        (body(b"", "a/b", status="503 Busy"), "503"),
        (bytes(range(128, 256)) * 999, "no web server"),
        (OK + b"X: " + b"a" * 100_000, "no web server"),
        (OK + b"X: a\r\n" * 200, "no web server"),
        (body(b"no picture", "image/jpeg"), "no whole JPEG"),
        (MULTI + b"--frame\r\n", "closed the connection"),
    ],
)
def test_what_is_no_camera_is_told(sent: bytes, why: str) -> None:
    def answer(_, send) -> None:
        send(sent)

    with RawServer(answer) as server, pytest.raises(SourceError, match=why):
        take(f"http://127.0.0.1:{server.port}/", 1, open_timeout_s=3.0)


def test_a_part_without_an_end_is_a_loss_of_bounded_memory() -> None:
    def answer(_, send) -> None:
        send(MULTI + b"--frame\r\nContent-Length: 2147483647\r\n\r\n")
        while True:
            send(b"\xff\xd8" + bytes(65536))

    with RawServer(answer) as server, pytest.raises(SourceError, match="a part of 2147 MB"):
        take(f"http://127.0.0.1:{server.port}/", 1, open_timeout_s=60.0)
