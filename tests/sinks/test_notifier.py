"""Messages to people: text and picture arrive at a real service, and rates are bounded."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event as Flag, Thread
from typing import Any

import cv2
import numpy as np
import pytest

from app.config import NotifyOptions
from app.core.errors import ConfigError
from app.core.stats import OutputMeter
from app.sinks.events import EventMessage
from tests.sinks.kit import event
from tests.sinks.mqtt.broker import until

pytest.importorskip("apprise", reason="pip install -r requirements-notify.txt")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the library itself


class Service:
    """Keeps what is posted; ``hold`` makes it answer nothing until it is set."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        self.hold = Flag()
        self.hold.set()
        service = self

        class Taker(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.hold.wait(20)
                service.posted.append(json.loads(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Taker)
        self.url = f"json://127.0.0.1:{self.server.server_port}/"
        Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.hold.set()
    made.server.shutdown()
    made.server.server_close()


def message(rule: str = "night", **more: Any) -> EventMessage:
    told = event("enter", 7, zone="door", **more)
    return EventMessage("moment", "7", "{}", told, rule)


def notifier(service: Service, folder: Path | None = None, **options: Any) -> Any:
    from app.sinks.notify import AppriseNotifier

    meter = OutputMeter("notify")
    settings = NotifyOptions(url=service.url, **options)
    made = AppriseNotifier(settings, meter, snapshots=None if folder is None else str(folder))
    made.start()
    return made, meter


def test_text_and_picture_arrive(service: Service, tmp_path: Path) -> None:
    made, meter = notifier(service, tmp_path)
    made.notice(message(snapshot="best.jpg"))
    time.sleep(0.1)  # the picture is written by another thread, a little later
    cv2.imwrite(str(tmp_path / "best.jpg"), np.zeros((8, 8, 3), np.uint8))
    until(lambda: meter.figures().delivered == 1)
    made.stop()
    (told,) = service.posted
    assert told["title"] == "night: person enter door"
    assert "2026-01-31T12:00:04.500Z" in told["message"] and "camera:0" in told["message"]
    (attached,) = told["attachments"]
    assert attached["filename"] == "best.jpg" and attached["base64"]


def test_of_one_rule_few_come_and_of_another_too(service: Service) -> None:
    made, meter = notifier(service, cooldown_s=60)
    for rule in ("night", "night", "day", "night"):
        made.notice(message(rule))
    until(lambda: meter.figures().delivered == 2)
    made.stop()
    assert meter.figures().dropped == {"cooldown": 2}


def test_a_service_that_hangs_holds_up_nobody_and_is_counted(service: Service) -> None:
    service.hold.clear()
    made, meter = notifier(service, cooldown_s=0, timeout_s=0.3, queue=5)
    for _ in range(20):
        made.notice(message())
    until(lambda: meter.figures().dropped.get("timeout") == 1)
    figures = meter.figures()
    assert figures.waiting <= 5 and figures.dropped["queue full"] >= 14 and figures.trouble
    began_s = time.monotonic()
    made.stop()
    assert time.monotonic() - began_s < 5
    service.hold.set()


def test_an_address_that_means_nothing_is_refused_without_repeating_it() -> None:
    from app.sinks.notify import AppriseNotifier

    with pytest.raises(ConfigError, match="--notify") as told:
        AppriseNotifier(NotifyOptions(url="nothing"), OutputMeter("notify"), snapshots=None)
    assert "nothing" not in str(told.value)
