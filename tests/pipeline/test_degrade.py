"""A run steps down when frames are too old or the device is hot, and climbs back, calmly."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from app.config import Config
from app.core.errors import ConfigError
from app.pipeline.degrade import (
    CALM_NS,
    LOOK_NS,
    WINDOW_NS,
    DegradationPolicy,
    Level,
    Network,
    Thermal,
    parse_ladder,
)
from app.pipeline.handoff import Policy
from tests.fakes import FakeBackend, FakeSource
from tests.pipeline.test_pipeline import build, finish

BUDGET_MS = 100.0


class World:
    """A clock, and a device whose frames' age depends on how many of them it processes."""

    def __init__(self, steps: tuple[str, ...] = ("every 2nd frame", "every 4th frame")) -> None:
        self.now_ns, self.hot, self.events = 0, None, Counter()
        self.ladder = DegradationPolicy(
            parse_ladder(steps),
            budget_ms=BUDGET_MS,
            on_step=lambda event: self.events.update([event]),
            hot=lambda: self.hot,
            now_ns=lambda: self.now_ns,
        )

    def play(self, seconds: float, age_ms: float, fps: int = 30) -> list[bool]:
        wanted = []
        for _ in range(round(seconds * fps)):
            self.now_ns += round(1e9 / fps)
            wanted.append(self.ladder.wants())
            if wanted[-1]:
                self.ladder.took(round(age_ms * 1e6))
        return wanted


def test_all_is_well_and_every_frame_is_wanted() -> None:
    world = World()
    assert all(world.play(60, age_ms=99)) and not world.events


def test_late_frames_lead_down_step_by_step_and_no_further() -> None:
    world = World()
    world.play(2.1, age_ms=150)
    assert world.ladder.step.every == 2
    world.play(2.1, age_ms=150)
    assert world.ladder.step.every == 4
    wanted = world.play(30, age_ms=150)
    assert sum(wanted) == pytest.approx(len(wanted) / 4, abs=1)
    assert world.events == {"ladder steps down": 2}


def test_a_few_late_frames_are_no_reason() -> None:
    world = World()
    for _ in range(30):
        world.play(0.9, age_ms=50)
        world.play(0.1, age_ms=150)
    assert not world.events


def test_calm_leads_back_up() -> None:
    world = World()
    world.play(4.2, age_ms=150)
    assert world.ladder.step.every == 4
    world.play(CALM_NS / 1e9 - 1, age_ms=20)
    assert world.ladder.step.every == 4
    world.play(4, age_ms=20)
    assert world.ladder.step.every == 2
    world.play(CALM_NS / 1e9 + 3, age_ms=20)
    assert world.ladder.step.every == 1
    assert world.events == {"ladder steps down": 2, "ladder steps up": 2}


def test_age_close_to_the_budget_is_no_calm() -> None:
    world = World()
    world.play(2.2, age_ms=150)
    world.play(100, age_ms=90)
    assert world.ladder.step.every == 2


def test_a_load_that_returns_with_each_climb_is_tried_ever_more_rarely() -> None:
    world = World(("every 2nd frame",))
    climbs = []
    for _ in range(600):
        before = world.events["ladder steps up"]
        world.play(1, age_ms=150 if world.ladder.step.every == 1 else 40)
        if world.events["ladder steps up"] > before:
            climbs.append(world.now_ns)
    gaps = [b - a for a, b in pairwise(climbs)]
    assert 3 <= len(climbs) <= 8 and gaps[-1] > 1.5 * gaps[0]


def test_a_hot_device_steps_down_and_stays_there_while_it_is_hot() -> None:
    world = World(("every 2nd frame",))
    world.hot = "the device throttles at 95 °C"
    world.play(60, age_ms=20)
    assert world.ladder.step.every == 2 and world.events == {"ladder steps down": 1}
    world.hot = None
    world.play(15, age_ms=20)
    assert world.ladder.step.every == 1


@pytest.mark.parametrize(
    "steps",
    [
        ["every frame"],
        ["every 1st frame"],
        ["every 4th frame", "every 2nd frame"],
        ["model "],
        ["input 256x256", "input 320x320"],
        ["input 256", "input 256x256"],
        ["input 0x3"],
        ["input 256x"],
        ["model a", "model a"],
        ["every 2nd frame", "every 2nd frame"],
        ["every 0th frame"],
    ],
)
def test_ladders_that_mean_nothing(steps: list[str]) -> None:
    with pytest.raises(ConfigError, match="ladder"):
        parse_ladder(steps)


def test_ladder_needs_a_budget() -> None:
    with pytest.raises(ConfigError, match="max_age_ms"):
        Config(ladder=("every 2nd frame",))
    assert [s.name for s in parse_ladder(["every 2nd frame", "every 23rd frame"])] == [
        "every 2nd frame",
        "every 23rd frame",
    ]


def test_a_step_keeps_what_the_one_above_it_spares() -> None:
    texts = ["every 2nd frame", "input 256x192", "model tiny", "every 3rd frame", "input 96"]
    assert [step.name for step in parse_ladder(texts)] == [
        "every 2nd frame",
        "every 2nd frame, input 256x192",
        "every 2nd frame, model tiny",
        "every 3rd frame, model tiny",
        "every 3rd frame, model tiny, input 96x96",
    ]


def test_a_budget_that_is_changed_while_it_runs_is_the_one_that_counts() -> None:
    world = World()
    world.ladder.set_budget(200)
    world.play(30, age_ms=150)
    assert not world.events
    world.ladder.set_budget(100)
    world.play(4.2, age_ms=150)
    assert world.ladder.step.every == 2


def test_where_a_network_is_missing_the_step_keeps_the_one_above() -> None:
    world = World(("model gone", "every 2nd frame"))
    world.ladder._missing = {Network("gone")}
    world.play(2.2, age_ms=150)
    assert world.ladder.step == Level(every=2), "the first step would spare nothing"
    world.play(30, age_ms=20)
    assert world.ladder.step == Level() and world.events["ladder steps up"] == 1


def test_in_the_pipeline_frames_are_dropped_by_the_ladder_and_counted() -> None:
    """Every frame is late, as the budget is next to nothing: the first window leads down."""
    clock = iter(range(0, 10**15, WINDOW_NS // 3))

    def make(on_step):
        return DegradationPolicy(
            parse_ladder(["every 5th frame"]),
            budget_ms=1e-6,
            on_step=on_step,
            now_ns=lambda: next(clock),
        )

    stats = finish(
        build(FakeSource(200), policy=Policy.LOSSLESS, backend=FakeBackend, make_ladder=make)[0]
    )
    assert stats.events == {"ladder steps down": 1}
    assert stats.dropped["ladder"] + stats.processed == 200
    assert stats.processed == pytest.approx(200 / 5, abs=8)


def thermal(sysfs: Path, now: list[int]) -> Thermal:
    return Thermal(sysfs, now_ns=lambda: now[0])


def test_trip_points_and_throttle_counters_tell_of_heat(tmp_path: Path) -> None:
    zone = tmp_path / "class/thermal/thermal_zone0"
    cpu = tmp_path / "devices/system/cpu/cpu0/thermal_throttle"
    for folder in (zone, cpu):
        folder.mkdir(parents=True)
    (zone / "temp").write_text("45000\n")
    (zone / "trip_point_0_type").write_text("critical\n")
    (zone / "trip_point_0_temp").write_text("40000\n")
    (zone / "trip_point_1_type").write_text("passive\n")
    (zone / "trip_point_1_temp").write_text("85000\n")
    (cpu / "core_throttle_count").write_text("7\n")
    now = [0]
    hot = thermal(tmp_path, now)
    assert hot() is None
    (zone / "temp").write_text("86000\n")
    assert hot() is None  # not looked again yet
    now[0] += LOOK_NS
    assert hot() == "the device throttles at 86 °C"
    (zone / "temp").unlink()
    (cpu / "core_throttle_count").write_text("9\n")
    now[0] += LOOK_NS
    assert hot() == "the processor throttles"
    now[0] += LOOK_NS
    assert hot() is None


def test_a_machine_that_tells_nothing_is_not_hot(tmp_path: Path) -> None:
    assert thermal(tmp_path, [0])() is None
