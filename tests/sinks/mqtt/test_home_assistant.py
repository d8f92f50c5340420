"""What Home Assistant is told describes what is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.config import MqttOptions
from app.core.events import Event
from app.core.stats import OutputMeter
from app.sinks.events import EventMessage
from app.sinks.home_assistant import discovery
from app.sinks.mqtt import MqttPublisher, parse_address
from app.sinks.objects import ObjectTally
from tests.sinks.mqtt.broker import Broker, Subscriber, find_mosquitto, until

PREFIX = "site/door"
EVENT = Event(
    type="enter", id="1", time="2026-11-29T10:00:00.000Z", source="rtsp://x", track_id=7,
    label="person", zone="front door", snapshot="best.jpg",
)  # fmt: skip


def told() -> tuple[str, dict[str, Any]]:
    return discovery(
        PREFIX, name="door", zones=["front door"], lines=["gate"], labels=["person", "dog"]
    )


def test_every_entity_reads_a_topic_that_is_published_and_is_one_of_its_own() -> None:
    end, message = told()
    assert end == "device/site_door/config"
    parts = message["components"]
    topics = {part.get("state_topic") or part["image_topic"] for part in parts.values()}
    tally = ObjectTally(["front door"], ["gate"])
    published = {f"{PREFIX}/{topic}" for topic in (*tally.retained(), "source", "events")}
    assert topics == published | {f"{PREFIX}/snapshot"}
    assert len({part["unique_id"] for part in parts.values()}) == len(parts)
    json.dumps(message)


def test_templates_give_what_is_there() -> None:
    jinja2 = pytest.importorskip("jinja2")
    parts = told()[1]["components"]
    tally = ObjectTally(["front door"], ["gate"])
    appears = Event(**{**{k: getattr(EVENT, k) for k in EVENT.__slots__}, "type": "appear"})
    tally.happened([appears, EVENT], [])
    values = {f"{PREFIX}/{topic}": value for topic, value in tally.retained().items()}
    values[f"{PREFIX}/source"] = {"state": "live"}
    values[f"{PREFIX}/events"] = EVENT.as_json()
    environment = jinja2.Environment()

    def shown(key: str) -> str:
        part = parts[key]
        template = environment.from_string(part["value_template"])
        return str(template.render(value_json=values[part["state_topic"]]))

    assert [shown(key) for key in ("online", "objects_occupied")] == ["ON", "ON"]
    assert [shown(key) for key in ("objects", "objects_person", "objects_dog")] == ["1", "1", "0"]
    assert shown("zone_front door_occupied") == "ON" and shown("zone_front door_person") == "1"
    assert shown("line_gate_in") == shown("line_gate_out") == "0"
    event = json.loads(shown("event"))
    assert event["event_type"] in parts["event"]["event_types"] and event["zone"] == "front door"
    for key in ("objects", "objects_person", "zone_front door", "line_gate_in"):  # cleared: no JSON
        assert environment.from_string(parts[key]["value_template"]).render(value="") == "0"
    (_, running) = parts["objects"]["availability"]
    state = environment.from_string(running["value_template"])
    for word, wanted in (("live", "online"), ("reconnecting", "offline"), ("ended", "offline")):
        assert state.render(value_json={"state": word}) == wanted


@pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto here (apt install mosquitto)")
@pytest.mark.timeout(120)
def test_the_broker_keeps_announcement_and_newest_snapshot(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker")
    broker.start()
    url = f"mqtt://127.0.0.1:{broker.port}/{PREFIX}"
    end, message = told()
    publisher = MqttPublisher(
        parse_address(url),
        MqttOptions(url=url, spool=str(tmp_path / "s.sqlite")),
        OutputMeter("mqtt"),
        figures=dict,
        announced={f"homeassistant/{end}": message},
        snapshots=tmp_path,
    )
    reader = Subscriber(broker.port)
    publisher.start()
    try:
        publisher.notice(EventMessage("other", "7", "{}", EVENT))
        until(lambda: bool(reader.texts(f"homeassistant/{end}")))
        (tmp_path / "best.jpg").write_bytes(b"picture")
        until(lambda: reader.texts(f"{PREFIX}/snapshot") == ["picture"])
    finally:
        publisher.stop()
        reader.stop()
    late = Subscriber(broker.port)
    try:
        until(lambda: f"{PREFIX}/snapshot" in {topic for topic, *_ in late.messages})
        kept = {topic: text for topic, text, retained in late.messages if retained}
        assert json.loads(kept[f"homeassistant/{end}"]) == message
    finally:
        late.stop()
        broker.stop()
