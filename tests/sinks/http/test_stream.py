"""``/events``: each client gets every event, may come back, and is let go where it lags."""

from __future__ import annotations

import json
import re
import socket
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.sinks.http.kit import ask, site
from tests.sinks.kit import ROOT, event
from tests.sinks.mqtt.broker import until


def read_until(client: socket.socket, wanted: bytes) -> bytes:
    text = b""
    while wanted not in text:
        fresh = client.recv(65536)
        assert fresh, "the server has closed it"
        text += fresh
    return text


def objects(text: bytes) -> list[dict]:
    rows = [line for line in text.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(row.removeprefix("data: ")) for row in rows]


def test_events_come_with_their_ids() -> None:
    with site() as made, made.connect(ask("/events")) as client:
        until(lambda: made.service.events.clients == 1)
        one = event("appear", 7)
        lost = event("source_lost", None, cause="the cable")
        made.service.events.happened([one, lost], [])
        text = read_until(client, lost.id.encode() + b'"')
        assert f"id: {one.id}\n".encode() in text
        told = objects(text)
        assert [(each["type"], each["id"]) for each in told] == [
            ("appear", one.id),
            ("source_lost", lost.id),
        ]
        assert told[1]["cause"] == "the cable"


def test_a_client_that_comes_back_gets_what_it_has_missed() -> None:
    with site() as made:
        told = [event("appear", i) for i in range(10)]
        made.service.events.happened(told, [])
        request = ask("/events")[:-2] + f"Last-Event-ID: {told[6].id}\r\n\r\n"
        with made.connect(request) as client:
            text = read_until(client, told[9].id.encode() + b'"')
        assert [each["id"] for each in objects(text)] == [each.id for each in told[7:]]


def test_only_one_source_where_that_is_asked_for() -> None:
    with site() as made, made.connect(ask("/events?source=yard")) as client:
        until(lambda: made.service.events.clients == 1)
        last = event("gone", 1, name="yard")
        made.service.events.happened([event("appear", 1, name="door"), last], [])
        text = read_until(client, last.id.encode() + b'"')
        assert [each["name"] for each in objects(text)] == ["yard"]


def test_a_client_that_reads_nothing_is_let_go_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.sinks.http.routes.WRITE_S", 1.0)
    with site() as made:
        slow = made.connect(ask("/events"), buffer=4096)
        with slow, made.connect(ask("/events")) as client:
            until(lambda: made.service.events.clients == 2)
            text = "x" * 20_000
            for i in range(600):
                made.service.events.happened([event("appear", i, cause=text)], [])
                if i % 50 == 49:
                    last = event("gone", i)
                    made.service.events.happened([last], [])
                    read_until(client, last.id.encode() + b'"')
            until(lambda: made.service.events.clients == 1)


def test_metrics_tell_of_objects() -> None:
    with site() as made:
        made.tally.happened([event("appear", 1), event("enter", 1, zone="door")], [])
        made.tally.happened([event("cross", 1, line="gate", direction="out")], [])
        made.tally.happened([event("leave", 1, zone="door", duration_s=4.0)], [])
        time.sleep(0.6)
        code, body, _ = made.get("/metrics")
        assert code == 200
        told = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        }
        who, where = ("label", "person"), ("source", "")
        assert told["kestrel_objects", who, where] == 1
        zone = ("zone", "door")
        assert told["kestrel_zone_objects", who, where, zone] == 0
        assert told["kestrel_zone_entered_total", who, where, zone] == 1
        way = (("direction", "out"), who, ("line", "gate"), where)
        assert told[("kestrel_line_crossed_total", *way)] == 1
        le = "kestrel_zone_dwell_seconds_bucket"
        assert told[le, who, ("le", "5.0"), where, zone] == 1
        assert told[le, who, ("le", "2.0"), where, zone] == 0


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    board = json.loads((ROOT / "docs/grafana.json").read_text())
    asked = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"\b(?:kestrel|process)_\w+", target["expr"])
    }
    with site() as made:
        made.other.dropped("queue full")
        made.tally.happened([event("enter", 1, zone="door"), event("appear", 1)], [])
        body = made.get("/metrics")[1].decode()
    assert len(asked) > 10
    declared = set(re.findall(r"^# TYPE (\w+)", body, re.MULTILINE))
    known = declared | {f"{name}_bucket" for name in declared}
    assert asked <= known
