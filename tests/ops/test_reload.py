"""What of a changed configuration is taken up while it runs, and that it is told."""

from __future__ import annotations

from dataclasses import replace

from app.config import Config
from app.ops.systemd import plan_reload

OLD = Config(source="camera:0", score=0.5)


def test_thresholds_are_taken_up_and_the_rest_waits() -> None:
    plan = plan_reload(OLD, replace(OLD, score=0.7, max_age_ms=100, source="camera:1"))
    assert plan.config == replace(OLD, score=0.7, max_age_ms=100)
    assert plan.needs_restart == ("source",)
    assert plan.line() == (
        "configuration read again: changed max_age_ms = 100, score = 0.7; "
        "after a restart only: source"
    )


def test_what_waits_is_told_again_at_the_next_reload() -> None:
    new = replace(OLD, source="camera:1")
    assert plan_reload(plan_reload(OLD, new).config, new).needs_restart == ("source",)


def test_a_setting_that_is_gone_from_the_file_is_the_default_again() -> None:
    assert plan_reload(OLD, replace(OLD, score=None)).config.score is None


def test_no_change_is_told() -> None:
    assert plan_reload(OLD, OLD).line().endswith("nothing has changed")


def test_of_a_table_what_can_be_is_taken_up() -> None:
    store = replace(OLD.store, path="s", keep_hours=5, budget_mb=7)
    plan = plan_reload(OLD, replace(OLD, store=store))
    assert plan.config.store == replace(OLD.store, keep_hours=5, budget_mb=7)
    assert set(plan.changed) == {"store.keep_hours", "store.budget_mb"}
    assert plan.needs_restart == ("store.path",)
    assert "store.keep_hours = 5" in plan.line()


def test_filters_are_taken_up() -> None:
    row = {"source": "door", "min_box": "5%"}
    new = replace(OLD, classes=("face",), class_scores=("face=0.3",), filter=(row,))
    plan = plan_reload(OLD, new)
    assert plan.config == new and plan.needs_restart == ()


def test_no_password_of_a_source_is_told() -> None:
    old = Config(sources=("a=pattern:",))
    new = replace(old, sources=("a=rtsp://anna:secret@camera/1", "b=rtsp://u:hush@camera/2"))
    line = plan_reload(old, new).line()
    assert "camera/1" in line and "secret" not in line and "hush" not in line
