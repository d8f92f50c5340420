"""A node's pipeline: cameras as they are wanted, and what makes the node give them up."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

pytest.importorskip("nats", reason="no nats-py (pip install -r requirements-fleet.txt)")

from app.config import Config, make_config
from app.core.errors import ConfigError
from app.fleet.assignment import Node
from app.fleet.node import FleetNode, Wanted
from app.runtime.fleet import FleetRun, config_of_camera, refuse_unfit
from tests.sinks.mqtt.broker import free_port, until

TABLE = {"uri": "pattern:?size=64x64&fps=20&boxes=1"}


def config(model: Path, **flags: object) -> Config:
    return make_config({"model": str(model), "engine": "cpu", **flags}, None)


def test_cameras_come_and_go_and_lines_are_added_to_those_before(
    tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text('{"name": "before"}\n')
    own = {"node": "n", "folder": tmp_path / "state", "lease": lambda camera: 3}
    run = FleetRun(config(tiny_model, json=str(out)), **own)

    def names() -> list[str]:
        return [json.loads(line)["name"] for line in out.read_text().splitlines()]

    run.pipeline.start()
    with run.outputs.running():
        run.apply({"a": Wanted("run", TABLE), "wrong": Wanted("run", {"uri": "nonsense://"})})
        until(lambda: names().count("a") > 3)
        assert run.is_ready("a") and not run.is_ready("wrong")
        run.apply({})
        until(lambda: run.is_stopped("a"))
        run.apply({"b": Wanted("run", TABLE)})
        until(lambda: names().count("b") > 3)
        run.apply({})
        run.pipeline.stop()
        run.pipeline.join()
    assert names()[0] == "before" and set(names()) == {"before", "a", "b"}
    assert {json.loads(line).get("lease") for line in out.read_text().splitlines()[1:]} == {3}


def test_a_full_disk_is_a_fault_before_anything_is_lost(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"node": "n", "folder": tmp_path / "state", "lease": lambda camera: 3}
    run = FleetRun(config(tiny_model, json=str(tmp_path / "x.jsonl")), **own)
    assert run.fault() == ""
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1_000_000))
    until(lambda: "full" in run.fault())


def test_a_camera_brings_its_own_tables() -> None:
    zone = {"name": "door", "points": [[0, 0], [1, 0], [1, 1]]}
    own = config_of_camera(Config(), "a", {**TABLE, "zones": [zone]})
    assert own.sources == (f"a={TABLE['uri']}",) and own.zone == (zone,)
    with pytest.raises(ConfigError, match="uri"):
        config_of_camera(Config(), "a", {})


def test_what_a_node_does_not_have_is_refused() -> None:
    refuse_unfit(Config())
    for wrong in ({"source": "pattern:"}, {"sources": ("a=pattern:",)}, {"max_frames": 3}):
        with pytest.raises(ConfigError):
            refuse_unfit(Config(**wrong))


class NoRunner:
    """Nothing runs, nothing is wrong."""

    def is_ready(self, camera: str) -> bool:
        return True

    def is_stopped(self, camera: str) -> bool:
        return True

    def fault(self) -> str:
        return ""

    def status(self) -> dict[str, object]:
        return {}


def test_a_node_that_starts_without_its_server_runs_what_is_its_alone(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    cameras = {"own": {**TABLE, "only": "a"}, "any": TABLE}
    kept.write_text(json.dumps({"cameras": cameras, "leases": {"own": 7}}))
    url = f"nats://127.0.0.1:{free_port()}"
    agent = FleetNode(Node("a"), NoRunner(), url=url, credentials=None, kept=kept)
    agent.start()
    until(lambda: set(agent.wanted) == {"own"})
    assert agent.lease("own") == 7 and agent.lease("any") is None
    agent.stop()
    agent.join(20)
    assert not agent.is_alive() and agent.error is None and not agent.wanted


def test_a_node_that_has_nothing_of_its_own_says_that_there_is_no_server() -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    agent = FleetNode(Node("a"), NoRunner(), url=url, credentials=None)
    agent.start()
    agent.join(20)
    assert agent.error is not None and "cannot reach" in str(agent.error)
