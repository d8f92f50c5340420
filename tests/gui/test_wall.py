"""Several sources in one window: a tile each, and one that is lost takes no other with it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("PyQt5")
from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import QMessageBox

from app.core.detections import Result
from app.core.stats import Meter, PipelineStats
from app.gui import texts
from app.gui.wall import Wall
from tests.gui.test_desktop import command
from tests.gui.x11 import Keyboard, screenshot, wait_for, x_display
from tests.sinks.kit import LABELS, ROOT, found, result, textured


class FakeSeats:
    def __init__(self, *names: str) -> None:
        self.names, self.has_outputs = names, False
        self.meters = {name: Meter() for name in names}
        self.waiting: dict[str, Result] = {}

    def give(self, name: str, index: int) -> None:
        meter = self.meters[name]
        meter.state = "live"
        meter.captured(1000)
        meter.processed(12_000_000, {})
        self.waiting[name] = result(index, found((0, 0.9, 10, 20, 110, 140)), textured(index))

    def take(self, name: str) -> tuple[Result, Sequence[str]] | None:
        shown = self.waiting.pop(name, None)
        return None if shown is None else (shown, LABELS)

    def stats(self) -> list[PipelineStats]:
        return [self.meters[name].snapshot() for name in self.names]


@pytest.fixture
def controller() -> FakeSeats:
    return FakeSeats("front", "yard", "hall", "gate", "roof")


@pytest.fixture
def closed() -> list[bool]:
    return []


@pytest.fixture
def wall(qtbot, controller: FakeSeats, closed: list[bool]):
    made = Wall(controller, lambda: closed.append(True))
    made._timer.stop()  # ticks come from the tests
    made._timer.start(10_000_000)
    made.show()
    yield made
    made.close()


def tick(wall: Wall) -> None:
    wall._next_slow_s = 0
    wall.tick()


def test_each_source_has_its_tile_with_its_own_result(wall: Wall, controller: FakeSeats) -> None:
    controller.give("front", 3)
    controller.give("hall", 8)
    tick(wall)
    shown = {tile.name: tile.view.newest for tile in wall.tiles}
    assert {name for name, newest in shown.items() if newest} == {"front", "hall"}
    assert shown["hall"] is not None and shown["hall"][0].frame.index == 8
    names = [str(tile.view.accessibleName()) for tile in wall.tiles]
    assert all(name in text for name, text in zip(controller.names, names, strict=True))


def test_the_grid_is_as_square_as_it_can_be(wall: Wall) -> None:
    places = [wall._grid.getItemPosition(i)[:2] for i in range(5)]
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


def test_a_lost_source_is_dimmed_and_named_and_the_others_are_not(
    wall: Wall, controller: FakeSeats
) -> None:
    for name in controller.names:
        controller.give(name, 1)
    controller.meters["yard"].state = "reconnecting"
    tick(wall)
    dimmed = [tile.name for tile in wall.tiles if tile.view._dimmed]
    assert dimmed == ["yard"]
    none, away = [tile.line.badges for tile in wall.tiles][:2]
    assert not none and away[0].startswith("yard: reconnecting since ")
    controller.give("yard", 2)
    tick(wall)
    assert not wall.tiles[1].view._dimmed and not wall.tiles[1].line.badges


def test_figures_are_of_each_source(wall: Wall, controller: FakeSeats) -> None:
    controller.give("gate", 1)
    controller.meters["gate"].dropped("replaced")
    tick(wall)
    figures = dict(wall.tiles[3].line.figures)
    assert figures[""] == "gate" and figures[texts.DROPPED] == "1"
    assert figures[texts.AGE] == "12 / 12 ms"
    assert dict(wall.tiles[4].line.figures)[texts.AGE].startswith("–")


def test_one_alone_by_digit_and_by_double_click_and_back(qtbot, wall: Wall) -> None:
    def visible() -> list[str]:
        return [tile.name for tile in wall.tiles if tile.isVisible()]

    with qtbot.waitExposed(wall):
        pass
    wall.activateWindow()
    qtbot.keyClick(wall, Qt.Key.Key_3)
    assert visible() == ["hall"]
    qtbot.keyClick(wall, Qt.Key.Key_0)
    assert len(visible()) == 5
    view = wall.tiles[1].view
    qtbot.mouseDClick(view, Qt.MouseButton.LeftButton)
    assert visible() == ["yard"] and view.zoom is None, "not the zoom of the picture"
    qtbot.keyClick(wall, Qt.Key.Key_Escape)
    assert len(visible()) == 5


def test_what_is_drawn_is_toggled_in_all(qtbot, wall: Wall) -> None:
    with qtbot.waitExposed(wall):
        pass
    qtbot.keyClick(wall, Qt.Key.Key_B)
    assert not any(tile.view.options.boxes for tile in wall.tiles)
    qtbot.keyClick(wall, Qt.Key.Key_B)
    assert all(tile.view.options.boxes for tile in wall.tiles)


def test_q_closes_it_escape_does_not_and_the_run_is_told_once(
    qtbot, wall: Wall, closed: list[bool]
) -> None:
    with qtbot.waitExposed(wall):
        pass
    qtbot.keyClick(wall, Qt.Key.Key_Escape)
    assert wall.isVisible() and not closed
    qtbot.keyClick(wall, Qt.Key.Key_Q)
    assert not wall.isVisible() and closed == [True]
    wall.close()
    assert closed == [True]


def test_outputs_are_asked_about_before_the_wall_closes(
    qtbot, wall: Wall, controller: FakeSeats, closed: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes]
    monkeypatch.setattr(QMessageBox, "question", lambda *args: answers.pop(0))
    controller.has_outputs = True
    with qtbot.waitExposed(wall):
        pass
    qtbot.keyClick(wall, Qt.Key.Key_Q)
    assert wall.isVisible() and not closed
    qtbot.keyClick(wall, Qt.Key.Key_Q)
    assert not wall.isVisible() and closed == [True]


def test_a_real_run_of_three_sources_at_a_desk(tmp_path: Path) -> None:
    folder = Path(os.environ.get("KESTREL_SCREENSHOTS", tmp_path))
    with x_display() as display:
        env = {**os.environ, "DISPLAY": display, "XDG_CONFIG_HOME": str(tmp_path)}
        env.pop("QT_QPA_PLATFORM", None)
        sources = ["front=sample:", "yard=pattern:?fps=5", "roof=rtsp://127.0.0.1:9/none"]
        words = [word for source in sources for word in ("--source", source)]
        process = subprocess.Popen(
            [*command(), "run", "--window", *words],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            picture = folder / "wall.png"

            def both_are_seen() -> bool:
                assert process.poll() is None, process.communicate()[0]
                shot = screenshot(display, picture)
                left, right = shot[: shot.shape[0] // 2, :500], shot[: shot.shape[0] // 2, 700:1100]
                return int(left.std()) > 15 and int(right.std()) > 15

            wait_for(both_are_seen, 90)
            time.sleep(1)
            screenshot(display, picture)
            Keyboard(display).press("q")
            out, _ = process.communicate(timeout=30)
        finally:
            process.kill()
            process.communicate()
    assert process.returncode == 0, out
    assert "source   front (" in out and "source   roof (offline since " in out
