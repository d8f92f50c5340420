"""With a real broker: every event arrives, once and in order; a lost process is told."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config import MqttOptions
from app.core.errors import ConfigError
from app.core.stats import OutputMeter
from app.sinks.events import EventMessage
from app.sinks.mqtt import WINDOW, MqttPublisher, parse_address
from tests.certificates import certificates
from tests.processes import start
from tests.sinks.kit import CAMERA, LABELS, found, result
from tests.sinks.mqtt.broker import Broker, Subscriber, find_mosquitto, free_port, until

pytestmark = [
    pytest.mark.skipif(
        find_mosquitto() is None, reason="no mosquitto here (apt install mosquitto)"
    ),
    pytest.mark.timeout(300),
    # paho leaves the closing of a socket whose handshake failed to its reference count
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
AWAY_S = float(os.environ.get("KESTREL_BROKER_AWAY_S", "1"))  # 60 is the real measure
BOX = (0, 0.9, 10, 20, 30, 40)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path / "broker")
    made.start()
    yield made
    made.stop()


@contextlib.contextmanager
def publishing(
    url: str, spool: Path, figures=lambda: {"fps": 1.0}, **options
) -> Iterator[tuple[MqttPublisher, OutputMeter]]:
    meter = OutputMeter("mqtt")
    settings = MqttOptions(url=url, spool=str(spool), **options)
    publisher = MqttPublisher(parse_address(url), settings, meter, figures=figures)
    publisher.open(CAMERA, LABELS)
    publisher.start()
    try:
        yield publisher, meter
    finally:
        publisher.stop()


@contextlib.contextmanager
def subscribed(port: int) -> Iterator[Subscriber]:
    subscriber = Subscriber(port)
    try:
        yield subscriber
    finally:
        subscriber.stop()


def test_status_events_and_figures_arrive_and_empty_frames_do_not(
    broker: Broker, tmp_path: Path
) -> None:
    with subscribed(broker.port) as reader:
        url = f"mqtt://127.0.0.1:{broker.port}/site/door"
        with publishing(url, tmp_path / "s.sqlite") as (publisher, meter):
            publisher.emit(result(0, found(), live=True))
            publisher.emit(result(1, found(BOX), live=True))
            publisher.notice(EventMessage("appear", "person", '{"event": "appear"}'))
            until(lambda: meter.figures().delivered == 2)
            until(lambda: bool(reader.texts("site/door/stats")))
        until(lambda: reader.texts("site/door/status") == ["online", "offline"])
        (line,) = reader.lines("site/door/detections")
        assert line["frame"] == 1 and line["detections"][0]["label"] == "person" and line["id"]
        assert reader.texts("site/door/events") == ['{"event": "appear"}']
    with subscribed(broker.port) as late:  # the status is kept for who comes later
        until(lambda: bool(late.messages))
        assert late.messages == [("site/door/status", "offline", True)]


def test_a_broker_that_is_away_under_load_gets_every_event_once_and_in_order(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    url = f"mqtt://127.0.0.1:{broker.port}/k"
    stop = threading.Event()
    sent = 0
    with (
        subscribed(broker.port) as reader,
        publishing(url, tmp_path / "s.sqlite") as (publisher, meter),
    ):

        def load() -> None:
            nonlocal sent
            while not stop.is_set():
                publisher.emit(result(sent, found(BOX), live=True))
                sent += 1
                time.sleep(0.01)

        thread = threading.Thread(target=load)
        thread.start()
        for _ in range(2):
            until(lambda: meter.figures().delivered > 50)
            broker.stop()
            before = sent
            time.sleep(AWAY_S)
            until(lambda before=before: sent > before + 50)
            assert "wait" not in meter.trouble
            until(lambda: meter.waiting > 50)
            broker.start()
            until(lambda: meter.waiting < 20, 120)
        stop.set()
        thread.join()
        until(lambda: meter.figures().delivered == sent, 120)
        until(lambda: len({line["id"] for line in reader.lines("k/detections")}) == sent, 120)
        lines = reader.lines("k/detections")
        once = list({line["id"]: line["frame"] for line in lines}.values())  # as a consumer would
        assert once == list(range(sent)), "every event, once, in order"
        # What the publisher sends again: a window for each connection that was lost, no more. The
        # broker in its turn repeats to this reader what it had not seen acknowledged (another
        # window of 20 for each of its stops), and marks that; it says nothing of the publisher.
        ids = [json.loads(text)["id"] for text in reader.firsts if '"frame"' in text]
        lost = sum("connection lost" in record.message for record in caplog.records)
        assert lost >= 2 and len(ids) - len(set(ids)) <= lost * WINDOW
        assert not meter.figures().dropped


def test_a_fault_of_our_own_stops_no_events(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def figures() -> dict:
        raise ZeroDivisionError("planted")

    url = f"mqtt://127.0.0.1:{broker.port}/k"
    with publishing(url, tmp_path / "s.sqlite", figures, stats_s=0.01) as (publisher, meter):
        until(lambda: "planted" in caplog.text)
        publisher.emit(result(0, found(BOX), live=True))
        until(lambda: meter.figures().delivered == 1)


def test_what_waits_at_the_end_is_sent_by_the_next_run(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker")
    url, spool = f"mqtt://127.0.0.1:{broker.port}/k", tmp_path / "s.sqlite"
    with publishing(url, spool) as (publisher, meter):
        for i in range(30):
            publisher.emit(result(i, found(BOX), live=True))
        until(lambda: bool(meter.trouble))
    broker.start()
    try:
        with subscribed(broker.port) as reader, publishing(url, spool) as (publisher, meter):
            publisher.emit(result(30, found(BOX), live=True))
            until(lambda: len(reader.texts("k/detections")) == 31)
            assert [line["frame"] for line in reader.lines("k/detections")] == list(range(31))
    finally:
        broker.stop()


def test_kill_9_leaves_offline_behind(broker: Broker, tmp_path: Path, tiny_model: Path) -> None:
    with subscribed(broker.port) as reader:
        url = f"mqtt://127.0.0.1:{broker.port}/k"
        words = ["run", "--headless", "--source", "pattern:?fps=20", "--model", str(tiny_model)]
        state = {"XDG_STATE_HOME": str(tmp_path)}
        process = start(*words, "--mqtt", url, more=state, stdout=None, stderr=subprocess.DEVNULL)
        try:
            until(lambda: len(reader.texts("k/detections")) > 3, 90)
            assert reader.texts("k/status") == ["online"]
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(20)
        until(lambda: reader.texts("k/status") == ["online", "offline"])


def test_tls_is_verified_and_a_user_is_needed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificates(tmp_path, "right", "wrong")
    (tmp_path / "users").write_text("me:p@ss/word\n")
    subprocess.run(["mosquitto_passwd", "-U", str(tmp_path / "users")], check=True)
    broker = Broker(
        tmp_path / "broker",
        "allow_anonymous false",
        f"password_file {tmp_path}/users",
        f"certfile {tmp_path}/server.pem",
        f"keyfile {tmp_path}/server.key",
    )
    broker.start()
    caplog.set_level("INFO")
    try:
        url = f"mqtts://me:p@ss/word@localhost:{broker.port}/k"
        for ca in (None, tmp_path / "wrong.pem"):
            options = {} if ca is None else {"ca_file": str(ca)}
            with publishing(url, tmp_path / "s.sqlite", **options) as (publisher, meter):
                publisher.emit(result(0, found(BOX), live=True))
                until(lambda: "not trusted" in meter.trouble)
                assert meter.figures().delivered == 0
        right = {"ca_file": str(tmp_path / "right.pem")}
        with publishing(url, tmp_path / "s.sqlite", **right) as (_, meter):
            until(lambda: meter.figures().delivered == 2)  # what waited arrives now
        wrong = url.replace("p@ss", "p@sss")
        with publishing(wrong, tmp_path / "t.sqlite", **right) as (_, meter):
            until(lambda: "refuses" in meter.trouble)
        with publishing(url.replace("localhost", "127.0.0.1"), tmp_path / "u.sqlite", **right) as (
            _,
            meter,
        ):  # a certificate of another name
            until(lambda: "not trusted" in meter.trouble)
    finally:
        broker.stop()
    # the library's threads hold such a socket while they wait; let it go within this test
    until(lambda: not any("paho" in thread.name for thread in threading.enumerate()))
    assert "p@ss" not in caplog.text and "mqtts://localhost" in caplog.text


def test_a_broker_that_accepts_and_says_nothing_holds_up_nobody(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"mqtt://127.0.0.1:{silent.getsockname()[1]}/k"
        began_s = time.monotonic()
        with publishing(url, tmp_path / "s.sqlite") as (publisher, meter):
            for i in range(100):
                publisher.emit(result(i, found(BOX), live=True))
            until(lambda: meter.waiting == 100)
        assert time.monotonic() - began_s < 20
        assert not meter.figures().dropped, "all are in the spool"


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    url = f"mqtts://me@localhost:{free_port()}/k"
    for key in ("ca_file", "password_file"):
        options = MqttOptions(url=url, spool=str(tmp_path / "s"), **{key: str(tmp_path / "no")})
        with pytest.raises(ConfigError, match=key):
            MqttPublisher(parse_address(url), options, OutputMeter("mqtt"), figures=dict)
