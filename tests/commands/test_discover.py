"""Cameras here and on the network are told as sources; what devices answer is not trusted."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import threading
import time
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app.commands import discover as command
from app.commands.cli import main, make_parser
from app.core.errors import ConfigError
from app.sources import camera as v4l2, onvif
from app.sources.onvif import OnvifLogin
from app.sources.uri import make_source

SOAP = (
    '<?xml version="1.0"?><e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope">'
    "<e:Body>{}</e:Body></e:Envelope>"
)
PROFILE = (
    '<m:Profiles xmlns:m="m" token="{0}"><m:Name>{0}</m:Name><m:VideoEncoderConfiguration>'
    "<m:Encoding>H264</m:Encoding><m:Resolution><m:Width>1920</m:Width><m:Height>1080</m:Height>"
    "</m:Resolution><m:RateControl><m:FrameRateLimit>25</m:FrameRateLimit></m:RateControl>"
    "</m:VideoEncoderConfiguration></m:Profiles>"
)


class FakeCamera:
    """An ONVIF camera on loopback: its discovery and its services.

    ``login``: asks for this user and password, by a clock that is an hour ahead. ``answers``
    replaces the answer to a request by its name: text, or a status.
    """

    def __init__(self, login=None, answers=None, xaddr=None, scopes=None) -> None:
        self.login, self.answers, self.seen = login, answers or {}, []
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                status, text = camera.answer(body)
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", text)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.group = self.udp.getsockname()
        self.xaddr = xaddr or f"http://[fe80::1]/x http://{self.host}/onvif/device_service"
        self.scopes = scopes or (
            "onvif://www.onvif.org/name/Front%20door onvif://www.onvif.org/hardware/IPC-1"
        )
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        threading.Thread(target=self.serve_udp, daemon=True).start()

    def serve_udp(self) -> None:
        try:
            while True:
                data, sender = self.udp.recvfrom(65536)
                if b"Probe" in data and b"NetworkVideoTransmitter" in data:
                    answer = SOAP.format(
                        '<d:ProbeMatches xmlns:d="d"><d:ProbeMatch>'
                        f"<d:Scopes>{self.scopes}</d:Scopes><d:XAddrs>{self.xaddr}</d:XAddrs>"
                        "</d:ProbeMatch></d:ProbeMatches>"
                    )
                    self.udp.sendto(answer.encode(), sender)
        except OSError:
            pass

    def answer(self, body: str):
        name = re.search(r"<s:Body><(\w+)", body)[1]
        self.seen.append(body)
        if name in self.answers:
            answer = self.answers[name]
            return answer if isinstance(answer, tuple) else (200, SOAP.format(answer))
        if name == "GetSystemDateAndTime":
            now = datetime.now(timezone.utc) + timedelta(hours=1)
            parts = zip(
                ("Year", "Month", "Day", "Hour", "Minute", "Second"), now.timetuple(), strict=False
            )
            fields = "".join(f"<t:{name}>{value}</t:{name}>" for name, value in parts)
            return 200, SOAP.format(f'<t:UTCDateTime xmlns:t="t">{fields}</t:UTCDateTime>')
        if self.login and not self.knows(body):
            return 400, SOAP.format("<Fault><Subcode>ter:NotAuthorized</Subcode></Fault>")
        return 200, SOAP.format(
            {
                "GetCapabilities": '<Media xmlns="t"><XAddr>http://10.9.9.9/onvif/media</XAddr>'
                "</Media>",
                "GetProfiles": PROFILE.format("main") + PROFILE.format("sub&amp;1"),
                "GetStreamUri": "<MediaUri><Uri>rtsp://127.0.0.1:554/live?x=1&amp;y=2</Uri>"
                "</MediaUri>",
            }[name]
        )

    def knows(self, body: str) -> bool:
        found = re.search(
            r"<w:Username>(.*?)<.*?PasswordDigest\">(.*?)<.*?<w:Nonce>(.*?)<.*?<u:Created>(.*?)<",
            body,
        )
        if found is None:
            return False
        nonce = base64.b64decode(found[3])
        digest = hashlib.sha1(nonce + found[4].encode() + self.login.password.encode()).digest()
        created = datetime.strptime(found[4], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        ahead = created - datetime.now(timezone.utc)
        fresh = timedelta(minutes=59) < ahead < timedelta(minutes=61)
        return found[1] == self.login.user and base64.b64decode(found[2]) == digest and fresh

    def close(self) -> None:
        self.udp.close()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def fake():
    cameras = []

    def make(**options):
        cameras.append(FakeCamera(**options))
        return cameras[-1]

    yield make
    for each in cameras:
        each.close()


def find(camera, login=None, timeout_s=0.5, hosts=()):
    return onvif.discover(timeout_s=timeout_s, login=login, hosts=hosts, group=camera.group)


def test_camera_is_found_with_its_streams(fake) -> None:
    (device,) = find(fake())
    assert device.name == "Front door IPC-1" and not device.fault
    main_stream, sub_stream = device.streams
    assert main_stream.uri.startswith("rtsp://127.0.0.1:554/live")
    assert (main_stream.encoding, main_stream.wh_px, main_stream.fps) == ("H264", (1920, 1080), 25)
    assert (main_stream.profile, sub_stream.profile) == ("main", "sub&1")


def test_login_by_digest_on_the_cameras_own_clock(fake) -> None:
    login = OnvifLogin("admin", "s3cret&<")
    camera = fake(login=login)
    assert "--user" in find(camera)[0].fault
    assert find(camera, OnvifLogin("admin", "wrong"))[0].fault
    (device,) = find(camera, login)
    assert len(device.streams) == 2
    assert not any("s3cret" in body for body in camera.seen)


def test_host_is_asked_without_multicast(fake) -> None:
    camera = fake()
    (device,) = find(camera, hosts=[camera.host])
    assert len(device.streams) == 2
    (nobody,) = find(camera, hosts=["127.0.0.1:9"])
    assert nobody.fault and not nobody.streams


def test_address_of_another_machine_is_not_asked(fake) -> None:
    victim = fake()
    liar = fake(xaddr=f"http://localhost:{victim.server.server_port}/onvif/device_service")
    assert find(liar) == [] and not victim.seen


def test_login_does_not_follow_to_another_address(fake) -> None:
    victim = fake()
    camera = fake(answers={"GetCapabilities": (302, f"http://{victim.host}/x")})
    (device,) = find(camera, OnvifLogin("admin", "s3cret"))
    assert device.fault and not victim.seen


@pytest.mark.parametrize(
    "answer",
    [
        (200, "no XML"),
        (200, ""),
        (500, "<html>"),
        (200, '<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>'),
        (200, "<x>" + "y" * 1_000_000 + "</x>"),
        "<Media><XAddr>http://[/</XAddr></Media>",
        "<Media/>",
    ],
)
def test_odd_answers_are_a_fault_of_that_camera(fake, answer) -> None:
    (device,) = find(fake(answers={"GetCapabilities": answer}))
    assert device.fault and device.fault.isprintable() and len(device.fault) < 300


def test_what_a_camera_says_steers_no_terminal(fake, capsys) -> None:
    camera = fake(
        scopes="onvif://www.onvif.org/name/%1b%5b2J%0aforged",
        answers={"GetStreamUri": "<Uri>rtsp://admin:HUNTER2@127.0.0.1/&#x85;x</Uri>"},
    )
    args = make_parser("discover").parse_args(["discover", "--timeout", "0.5"])
    assert command.run_discover(args, group=camera.group) == 0
    told = capsys.readouterr().out
    assert "\x1b" not in told and "\x85" not in told and "HUNTER2" not in told
    assert not any(line.startswith("forged") for line in told.splitlines())


def test_camera_that_never_ends_costs_no_more_than_the_time(fake) -> None:
    class Slow(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            try:
                for _ in range(100):
                    self.wfile.write(b"X")
                    self.wfile.flush()
                    time.sleep(0.1)
            except OSError:
                pass

        def log_message(self, *args) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    started_s = time.monotonic()
    (device,) = find(fake(), timeout_s=1.0, hosts=[f"127.0.0.1:{server.server_port}"])
    assert device.fault and time.monotonic() - started_s < 5
    server.shutdown()
    server.server_close()


def uvc(fd: int, request: int, answer: bytearray) -> int:
    """A camera with one format."""
    if request == v4l2._QUERYCAP:
        answer[16:48] = b"Desk camera".ljust(32, b"\0")
        struct.pack_into("=II", answer, 84, 0x84200001, 0x04200001)
        return 0
    if struct.unpack_from("=I", answer, 0)[0]:
        raise OSError(22, "Invalid argument")
    if request == v4l2._ENUM_FMT:
        answer[44:48] = b"MJPG"
    elif request == v4l2._ENUM_FRAMESIZES:
        struct.pack_into("=3I", answer, 8, 1, 1280, 720)
    else:
        struct.pack_into("=3I", answer, 16, 1, 1, 30)
    return 0


@pytest.fixture
def dev(tmp_path):
    (tmp_path / "video2").write_bytes(b"")
    (tmp_path / "v4l/by-id").mkdir(parents=True)
    (tmp_path / "v4l/by-id/usb-Desk-index0").symlink_to(tmp_path / "video2")
    return tmp_path


def run(capsys, dev, *words) -> str:
    args = make_parser("discover").parse_args(["discover", "--no-network", *words])
    assert command.run_discover(args, dev=dev, ioctl=uvc) == 0
    return capsys.readouterr().out


def test_camera_of_this_machine_is_told_by_its_stable_name(dev, capsys) -> None:
    told = run(capsys, dev)
    uri = f"camera:{dev}/v4l/by-id/usb-Desk-index0"
    assert uri in told and "Desk camera" in told and "MJPG 1280x720@30" in told
    (camera,) = [
        c for c in json.loads(run(capsys, dev, "--json"))["cameras"] if c["kind"] == "v4l2"
    ]
    assert camera["uri"] == uri
    make_source(f"{uri}?{camera['modes'][0]['query']}", realtime=True)  # a source it takes


def test_nothing_found_is_no_error(tmp_path, capsys) -> None:
    run(capsys, tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ["--timeout", "0"],
        ["--timeout", "nan"],
        ["--timeout", "1e9"],
        ["--no-network", "--user", "x"],
        ["--host", "u:p@h"],
        ["--host", ""],
    ],
)
def test_options_without_a_meaning(words, monkeypatch) -> None:
    monkeypatch.setenv(command.PASSWORD, "x")
    assert main(["discover", *words]) == ConfigError.exit_code
