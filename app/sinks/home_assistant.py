"""Home Assistant finds each camera by itself: MQTT device discovery (2024.11 or later).

One retained message describes a device with its entities, all of which read the topics that are
published anyway (https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from ..core.events import EventType
from ..core.states import WORKING
from .objects import topic_part

COUNTED = "(value_json | default({}, true))"  # a clean end clears the counts: no JSON, no error
MOST_LABELS = 8  # with entities of their own; all are in the attributes of the sums


def discovery(
    prefix: str, *, name: str, zones: Iterable[str], lines: Iterable[str], labels: Sequence[str]
) -> tuple[str, dict[str, Any]]:
    """(end of the topic, message) for a camera whose topics begin with ``prefix``.

    ``labels``: objects that are counted apart.
    """
    ident = re.sub(r"[^A-Za-z0-9_-]", "_", prefix)
    working = "[" + ", ".join(repr(each) for each in WORKING) + "]"
    connected = {"topic": f"{prefix}/status"}  # online, offline
    running = {
        "topic": f"{prefix}/source",
        "value_template": f"{{{{ 'online' if value_json.state in {working} else 'offline' }}}}",
    }
    parts: dict[str, dict[str, Any]] = {}

    def add(key: str, platform: str, title: str, *, live: bool = True, **more: Any) -> None:
        parts[key] = {
            "platform": platform,
            "unique_id": f"{ident}_{key}",
            "name": title,
            "availability": [connected, running] if live else [connected],
            "availability_mode": "all",
            **more,
        }

    def counts(key: str, topic: str, title: str) -> None:
        """Whether anything is there, how much, and how much of each label."""
        total = f"{COUNTED}.values() | sum"
        add(
            f"{key}_occupied",
            "binary_sensor",
            f"{title} occupied" if title else "Motion",
            state_topic=topic,
            value_template=f"{{{{ 'ON' if {total} > 0 else 'OFF' }}}}",
            device_class="occupancy" if title else "motion",
        )
        shared: dict[str, Any] = {"state_topic": topic, "state_class": "measurement"}
        add(
            key,
            "sensor",
            f"{title} objects" if title else "Objects",
            value_template=f"{{{{ {total} }}}}",
            json_attributes_topic=topic,
            **shared,
        )
        for label in labels[:MOST_LABELS]:
            template = f"{{{{ {COUNTED}.get({label!r}, 0) }}}}"
            add(
                f"{key}_{topic_part(label).replace(' ', '_')}",
                "sensor",
                f"{title} {label}".strip(),
                value_template=template,
                **shared,
            )

    add(
        "online",
        "binary_sensor",
        "Camera",
        live=False,
        state_topic=f"{prefix}/source",
        value_template=f"{{{{ 'ON' if value_json.state in {working} else 'OFF' }}}}",
        device_class="connectivity",
        entity_category="diagnostic",
        json_attributes_topic=f"{prefix}/source",
    )
    counts("objects", f"{prefix}/objects", "")
    for zone in zones:
        part = topic_part(zone)
        counts(f"zone_{part}", f"{prefix}/zones/{part}", zone)
    for line in lines:
        part = topic_part(line)
        for way in ("in", "out"):
            add(
                f"line_{part}_{way}",
                "sensor",
                f"{line} {way}",
                state_topic=f"{prefix}/lines/{part}",
                value_template=f"{{{{ {COUNTED}.get('{way}', {{}}).values() | sum }}}}",
                state_class="total_increasing",
            )
    add(
        "event",
        "event",
        "Last event",
        live=False,
        state_topic=f"{prefix}/events",
        event_types=list(get_args(EventType)),
        value_template="{{ dict(value_json, event_type=value_json.type) | tojson }}",
    )
    add(
        "snapshot",
        "image",
        "Last snapshot",
        live=False,
        image_topic=f"{prefix}/snapshot",
        content_type="image/jpeg",
    )
    device = {"identifiers": [ident], "name": name, "manufacturer": "Kestrel"}
    message = {"device": device, "origin": {"name": "Kestrel"}, "components": parts}
    return f"device/{ident}/config", message
