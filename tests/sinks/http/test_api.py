"""The HTTP API answers as its description says, whatever it is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

import app.sinks.http.guard as access
from app.config import StoreOptions
from app.core.stats import OutputMeter
from app.sinks.store import EventStore
from tests.sinks.http.kit import Site, run_of, site
from tests.sinks.kit import event
from tests.sinks.mqtt.broker import until

schemathesis = pytest.importorskip("schemathesis", reason="pip install -r requirements-dev.txt")

EXAMPLES = 3  # of each operation
FILE = """# the shop
source = "pattern:"
score = 0.4

[[zone]]
name = "door"
points = [[0, 0], [0.5, 0], [0.5, 1]]
"""
TOKEN = "the-right-token"
SENT = {"Authorization": f"Bearer {TOKEN}"}
PATH = "/api/v1/openapi.json"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with everything that the API is about."""
    folder = tmp_path_factory.mktemp("api")
    path = folder / "shop.toml"
    path.write_text(FILE)
    made = run_of(path)
    meter = OutputMeter("store")
    folders = {"snapshot": folder / "snapshots", "clip": folder / "clips"}
    store = EventStore(StoreOptions(path=str(folder / "store")), meter, folders=folders)
    store.start()
    store.offer("camera:0", [event("appear", i) for i in range(3)])
    until(lambda: meter.figures().delivered == 3)
    live = {"shapes": made.shapes, "filters": made.filters, "settings": made.settings}
    patch = pytest.MonkeyPatch()
    patch.setattr(access, "RATE_PER_S", 1e9)
    patch.setattr("app.runtime.settings.SEARCH_S", 0.2)
    with site("127.0.0.1:0", TOKEN, store=store, **live) as running:
        running.feed()
        yield running
    patch.undo()
    store.stop()


@pytest.mark.timeout(120)
def test_every_operation_answers_as_described(run: Site) -> None:
    config = schemathesis.Config.from_dict({"seed": 20260131})
    api = schemathesis.openapi.from_url(
        f"{run.service.url}{PATH.strip('/')}", headers=SENT, config=config
    )
    # that all that fits the schema is taken is not asked: names of labels and zones must fit, too
    leave = [schemathesis.checks.CHECKS.get_one("positive_data_acceptance")]
    limits = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
    modes = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
    for operation in (each.ok() for each in api.get_all_operations()):
        told = operation.definition.raw
        for mode in modes[: 2 if told.get("parameters") or told.get("requestBody") else 1]:
            cases = operation.as_strategy(generation_mode=mode)

            @settings(limits, suppress_health_check=[*HealthCheck])
            @given(case=cases)
            def answers(case: Any) -> None:
                sent = {**SENT, "If-Match": "*"} if case.method == "PATCH" else SENT
                case.call_and_validate(headers=sent, excluded_checks=leave)

            with suppress(Unsatisfiable) if mode is modes[1] else nullcontext():
                answers()


def test_the_description_is_whole_and_of_this_run(run: Site) -> None:
    told = json.loads(run.get(PATH, **SENT)[1])
    assert told["openapi"].startswith("3.1") and "/api/v1/settings" in told["paths"]
    assert "/api/v1/events/{id}/clip.mp4" in told["paths"]
    fields = told["components"]["schemas"]["Settings"]["properties"]
    assert fields["score"]["maximum"] == 1 and fields["store"]["properties"]["keep_hours"]
    with site() as bare:
        paths = json.loads(bare.get(PATH)[1])["paths"]
        assert "/api/v1/events" not in paths and "/api/v1/settings" not in paths
        assert bare.get("/api/v1/settings")[0] == 404


def test_settings_are_guarded_by_what_was_read(run: Site) -> None:
    def patch(body: object, **headers: str) -> tuple[int, dict[str, Any], dict[str, str]]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {**SENT, "Content-Type": "application/json", **headers}
        status, told, got = run.get("/api/v1/settings", "PATCH", data, **sent)
        return status, json.loads(told), got

    path = "/api/v1/settings"
    etag = run.get(path, **SENT)[2]["etag"]
    status, told, got = patch({"iou": 0.5}, **{"If-Match": etag})
    assert status == 200 and told["values"]["iou"] == 0.5 and got["etag"] != etag
    assert told["changed"] == ["iou"] and "iou" not in told["after_restart"]
    assert patch({"iou": 0.6}, **{"If-Match": etag})[0] == 412
    assert patch({"iou": 0.6})[0] == 428
    status, told, _ = patch({"iou": 6}, **{"If-Match": "*"})
    assert status == 422 and told["faults"][0]["key"] == "iou" and told["faults"][0]["cure"]
    for body in (b"{", b"[]", b"5", b"\xff"):
        assert patch(body, **{"If-Match": "*"})[0] == 400
    assert patch({}, **{"If-Match": "*", "Content-Type": "text/plain"})[0] == 415
    assert patch(b" " * 300_000, **{"If-Match": "*"})[0] == 413
    assert patch({"max_age_ms": 900}, **{"If-Match": "*"})[0] == 200


def test_faults_of_the_api_are_json(run: Site) -> None:
    for path, method, status in (
        ("/api/v1/nothing", "GET", 404),
        ("/api/v1/settings", "POST", 405),
    ):
        got, told, headers = run.get(path, method, **SENT)
        assert got == status and json.loads(told)["error"]
    assert "PATCH" in headers["allow"]
    assert json.loads(run.get("/api/v1/zones")[1])["error"], "401, too"
