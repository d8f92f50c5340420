"""Settings of a run: what is shown, refused and written, and what is in force at once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from app.config import SETTINGS, parse_toml
from app.core.errors import ConfigError
from app.core.interfaces import SettingsRefused
from app.runtime.settings import OPEN, RunSettings, settings_schema
from tests.sinks.http.kit import run_of

FILE = """# the shop
source = "rtsp://anna:secret@camera.local/1"   # at the door
score = 0.4   # how sure

# who comes in
[[zone]]
name = "door"   # of glass
points = [[0, 0], [0.5, 0], [0.5, 1]]

# what is kept
[store]
path = "STORE"
keep_hours = 24
"""
ZONE = {"name": "door", "points": [[0, 0], [0.5, 0], [0.5, 1]]}


Made = Callable[..., SimpleNamespace]


@pytest.fixture
def made(tmp_path: Path, tiny_model: Path) -> Made:
    """A run of a file, its settings, and what they reach."""

    def make(text: str = FILE, *, up: bool = True, **flags: Any) -> SimpleNamespace:
        path = tmp_path / "shop.toml"
        path.write_text(text.replace("STORE", str(tmp_path / "store")))
        return run_of(path, up=up, model=str(tiny_model), engine="cpu", **flags)

    return make


def refused(run: SimpleNamespace, changes: dict[str, Any]) -> dict[str | None, str]:
    """By key what is wrong; nothing has been written."""
    before = run.path.read_text()
    with pytest.raises(SettingsRefused) as told:
        run.settings.write(changes, None)
    assert run.path.read_text() == before and not [*run.path.parent.glob("*.part")]
    assert told.value.why == "wrong"
    assert all(fault.reason and fault.cure for fault in told.value.faults)
    return {fault.key: fault.reason for fault in told.value.faults}


def test_a_change_is_written_with_every_comment_and_is_in_force(made: Made) -> None:
    run = made()
    before = run.path.read_text()
    zone = {**ZONE, "dwell_s": [5]}
    written = run.settings.write(
        {"score": 0.6, "zone": [zone], "classes": [run.labels[0]]}, run.settings.read()["etag"]
    )
    text = run.path.read_text()
    assert set(written.changed) == {"score", "zone", "classes"} and not written.overridden
    for comment in re.findall("# .*", before):
        assert comment in text
    assert parse_toml(text)["zone"] == [zone]
    assert run.limits.score == 0.6
    assert run.filters.read()["classes"] == run.labels[0]
    assert run.shapes.read()["zone"] == [zone]
    told = run.settings.read()
    assert told["in_force"]["score"] == told["values"]["score"] == 0.6
    assert told["after_restart"] == []
    assert "secret" not in written.told and "0.4 -> 0.6" in written.told


def test_what_waits_for_a_restart_is_told_until_it_is_as_before(made: Made) -> None:
    run = made()
    run.settings.write({"track": {"lost_s": 3}, "max_age_ms": 500}, None)
    assert run.settings.read()["after_restart"] == ["track.lost_s"]
    run.settings.write({"track": {"lost_s": None}, "max_age_ms": None}, None)
    assert run.settings.read()["after_restart"] == []
    assert "max_age_ms" not in run.path.read_text()


@pytest.mark.parametrize("up", [True, False])
def test_what_the_store_keeps_is_in_force_with_all_that_follows_it(made: Made, up: bool) -> None:
    run = made(up=up)
    run.settings.write({"store": {"keep_hours": 48, "budget_mb": 5}}, None)
    told, limited = run.settings.read(), run.limited[-1]
    assert told["after_restart"] == [] and told["in_force"]["store"]["keep_hours"] == 48
    assert limited.store.keep_hours == limited.clips.keep_hours == 48
    assert limited.store.budget_mb == limited.events.snapshots_mb == 5


def test_a_rule_for_an_output_that_rules_did_not_name_waits(made: Made) -> None:
    run = made(FILE + "[clips]\npath = 'STORE/c'\n")
    rule = {"name": "night", "when": "enter", "zone": "door", "then": ["clip"]}
    run.settings.write({"rule": [rule]}, None)
    assert run.settings.read()["after_restart"] == ["rule"]
    again = made(run.path.read_text())
    again.settings.write({"rule": [{**rule, "cooldown_s": 5}]}, None)
    assert again.settings.read()["after_restart"] == []


def test_before_the_engine_runs_a_threshold_waits(made: Made) -> None:
    run = made(up=False)
    run.settings.write({"score": 0.7}, None)
    assert run.settings.read()["after_restart"] == ["score"]
    assert parse_toml(run.path.read_text())["score"] == 0.7


def test_a_flag_stands_over_the_file(made: Made) -> None:
    run = made(score=0.3)
    written = run.settings.write({"score": 0.6}, None)
    told = run.settings.read()
    assert written.overridden == ("score",) and "score" in told["flags"]
    assert told["in_force"]["score"] == 0.3 and told["values"]["score"] == 0.6


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"score": 6}, "score"),
        ({"score": True}, "score"),
        ({"scroe": 0.6}, "scroe"),
        ({"store": {"keep_hours": -1}}, "store.keep_hours"),
        ({"store": {"path": "/elsewhere"}}, "store.path"),
        ({"store": 5}, "store"),
        ({"http": {"token": "12345678"}}, "http.token"),
        ({"json": "/etc/passwd"}, "json"),
        ({"classes": ["persn"]}, "classes"),
        ({"min_box": "big"}, "min_box"),
        ({"source": "rstp://x/y"}, "source"),
        ({"sources": ["a=pattern:", "a=pattern:"]}, "sources"),
        ({"zone": [{"name": "x", "points": [[0, 0], [1, 1]]}]}, "zone"),
        ({"zone": [{**ZONE, "ponits": []}]}, "zone"),
        ({"zone": [5]}, "zone"),
        ({"zone": "door"}, "zone"),
        ({"rule": [{"name": "n", "when": "enter", "zone": "dor", "then": ["mqtt"]}]}, "rule"),
        ({"rule": [{"name": "n", "when": "enter", "then": ["mqtt"]}]}, "rule"),
        ({"privacy": [{"name": "p", "points": [[0, 0], [1, 1], [1, 0], [0, 1]]}]}, "privacy"),
        ({"filter": [{"source": "nobody", "min_box": "5%"}]}, "filter"),
        ({"score": float("nan")}, "score"),
        ({"score": 10**30}, "score"),
        ({"min_box": "\ud800"}, "min_box"),
        ({"classes": [None]}, "classes"),
        ({"track": {"on": False}}, "track.on"),
    ],
)
def test_what_is_wrong_names_its_key_and_writes_nothing(
    made: Made, changes: dict[str, Any], key: str
) -> None:
    assert key in refused(made(), changes)


def test_all_faults_are_told_at_once(made: Made) -> None:
    told = refused(made(), {"score": 6, "iou": 0.5, "classes": ["persn"], "min_box": "big"})
    assert set(told) == {"score", "classes", "min_box"}
    zone = {**ZONE, "ponits": [], "nmae": ""}
    wrong = {"scroe": 0.6, "score": 6, "store": {"keep_hours": -1, "foo": 1, "budget_mb": -1}}
    told = refused(made(), {**wrong, "zone": [zone], "iou": 0.5, "precision": "x"})
    keys = {"scroe", "score", "zone", "precision"}
    assert set(told) == keys | {f"store.{key}" for key in ("keep_hours", "foo", "budget_mb")}


def test_what_was_wrong_before_is_no_fault_of_the_change(made: Made, tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    run = made(FILE.replace("score", f'json = "{lines}"\nscore', 1))
    lines.write_text("{}\n")  # of this very run, whose next start needs --overwrite
    assert run.settings.write({"score": 0.5}, None).changed == ("score",)


def test_secrets_are_never_shown_and_stay_when_they_come_back_hidden(made: Made) -> None:
    run = made(FILE + '[mqtt]\nurl = "mqtt://u:hush@broker/k"\n')
    told = run.settings.read()
    assert "anna:secret" not in json.dumps(told) and "hush" not in json.dumps(told)
    assert told["values"]["mqtt"]["url"] == "***"
    shown = told["values"]["source"]
    changed = run.settings.write({"source": shown, "mqtt": {"url": "***"}, "score": 0.5}, None)
    assert changed.changed == ("score",)
    assert "anna:secret@" in run.path.read_text() and "hush" in run.path.read_text()
    assert "hush" not in run.settings.write({"mqtt": {"url": "mqtt://u:hush2@b/k"}}, None).told


def test_a_camera_that_is_renamed_or_moved_keeps_its_hidden_password(made: Made) -> None:
    run = made(FILE + '[mqtt]\nurl = "mqtt://u:hush@broker/k"\n')
    shown = run.settings.read()["values"]["source"]
    run.settings.write({"source": None, "sources": [f"door={shown}", "yard=pattern:"]}, None)
    assert "door=rtsp://anna:secret@camera.local/1" in run.path.read_text()
    assert "sources" in refused(run, {"sources": ["door=rtsp://***@elsewhere/1"]})
    assert "webhook.url" in refused(run, {"webhook": {"url": "***"}})


def test_an_edit_of_somebody_else_is_not_overwritten(made: Made) -> None:
    run = made()
    etag = run.settings.read()["etag"]
    run.path.write_text(run.path.read_text() + "# by hand\n")
    with pytest.raises(SettingsRefused) as told:
        run.settings.write({"score": 0.6}, etag)
    assert told.value.why == "stale" and "# by hand" in run.path.read_text()
    run.settings.write({"score": 0.6}, run.settings.read()["etag"])


def test_a_file_that_cannot_be_read_is_told(made: Made) -> None:
    run = made()
    run.path.write_text("score = [")
    for ask in (run.settings.read, lambda: run.settings.write({"score": 0.6}, None)):
        with pytest.raises(SettingsRefused) as told:
            ask()
        assert told.value.why == "unwritable"


def test_a_run_without_a_file_says_so(made: Made) -> None:
    run = made()
    bare = RunSettings(None, run.reloader.config, run.shapes)
    bare.reloader = run.reloader
    assert bare.read()["file"] is None and bare.read()["in_force"]["score"] == 0.4
    with pytest.raises(SettingsRefused) as told:
        bare.write({"score": 0.5}, None)
    assert told.value.why == "unwritable" and "--config" in told.value.faults[0].cure


def test_a_score_with_those_of_classes_keeps_them(made: Made) -> None:
    run = made()
    label = run.labels[0]
    run = made(FILE.replace("score = 0.4", f'score = "0.4,{label}=0.5"'))
    run.settings.write({"score": 0.6}, None)
    data = parse_toml(run.path.read_text())
    assert data["score"] == 0.6 and data["class_scores"] == [f"{label}=0.5"]


def test_zones_that_were_drawn_and_not_saved_stay_when_a_threshold_changes(made: Made) -> None:
    run = made()
    drawn = {**ZONE, "points": [[0, 0], [1, 0], [1, 1]]}
    run.shapes.write({"zone": [drawn]})
    run.settings.write({"score": 0.6}, None)
    assert run.shapes.read()["zone"] == [drawn]
    assert run.settings.read()["after_restart"] == ["zone"], "which the file has otherwise"


def test_the_schema_has_every_key_that_may_be_changed_and_fits_the_values(made: Made) -> None:
    schema = settings_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for path, each in OPEN.items():
        table, _, key = path.rpartition(".")
        told = (schema["properties"][table] if table else schema)["properties"][key]
        assert told["description"] == each.key.help and told["x-live"] == each.key.reload
    closed = {each.path for each in SETTINGS} - OPEN.keys()
    assert {"http.token", "http.users", "json", "store.path", "record.path"} <= closed
    told = made().settings.read()
    for values in (told["values"], told["in_force"]):
        jsonschema.validate(values, schema)


def test_a_signal_takes_up_zones_and_rules_of_the_file(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    run = made()
    caplog.set_level("INFO")
    run.path.write_text(run.path.read_text().replace("[0.5, 1]", "[0.5, 0.5]"))
    run.reloader.read_again(run.file)
    assert run.shapes.read()["zone"][0]["points"][2] == [0.5, 0.5]
    run.path.write_text("score = 7\n")
    run.reloader.read_again(run.file)
    assert "nothing changed" in caplog.text


def test_an_unknown_source_of_a_zone_changes_nothing(made: Made) -> None:
    run = made()
    new = replace(run.reloader.config, sources=("a=pattern:",), source=None)
    new = replace(new, zone=({**ZONE, "source": "a"},), score=0.9)
    with pytest.raises(ConfigError):
        run.reloader.apply(new)
    assert run.limits.score == 0.0 and run.reloader.config.score == 0.4
