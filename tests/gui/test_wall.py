"""Several sources in one window: a tile each, and one that is lost takes no other with it."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("PyQt5")
from PyQt5.QtCore import Qt
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import QApplication, QMessageBox

from app.gui import texts
from app.gui.actions import SEVERAL
from tests.gui.kit import FakeController
from tests.gui.test_desktop import command
from tests.gui.x11 import Keyboard, screenshot, wait_for, x_display
from tests.processes import start
from tests.sinks.kit import found, result, textured

NAMES = ("front", "yard", "hall", "gate", "roof")


@pytest.fixture
def controllers() -> dict[str, FakeController]:
    return {name: FakeController(name=name) for name in NAMES}


@pytest.fixture
def window(open_window, controllers: dict[str, FakeController]):
    shown = open_window(*controllers.values())
    QApplication.setActiveWindow(shown)
    return shown


def give(controller: FakeController, index: int) -> None:
    controller.latest.emit(result(index, found((0, 0.9, 10, 20, 110, 140)), textured(index)))


def refresh(window) -> None:
    window._next_slow_s = 0
    window.tick()


def press(window, key, modifier=Qt.KeyboardModifier.NoModifier) -> None:
    QTest.keyClick(window.view, key, modifier)


def visible(window) -> list[str]:
    return [tile.name for tile in window.wall.tiles if tile.isVisible()]


def select(window, number: int) -> None:
    QTest.mouseClick(window.wall.tiles[number].view, Qt.MouseButton.LeftButton)


def test_each_source_has_its_tile_with_its_own_result(window, controllers) -> None:
    give(controllers["front"], 3)
    give(controllers["hall"], 8)
    refresh(window)
    shown = {tile.name: tile.view.newest for tile in window.wall.tiles}
    assert {name for name, newest in shown.items() if newest} == {"front", "hall"}
    assert shown["hall"] is not None and shown["hall"][0].frame.index == 8
    names = [str(tile.view.accessibleName()) for tile in window.wall.tiles]
    assert all(name in text for name, text in zip(NAMES, names, strict=True))


def test_the_grid_is_as_square_as_it_can_be(window) -> None:
    places = [window.wall.grid.getItemPosition(i)[:2] for i in range(5)]
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


def test_a_lost_source_is_dimmed_and_named_and_the_others_are_not(window, controllers) -> None:
    for controller in controllers.values():
        give(controller, 1)
    controllers["yard"].set_source(phase="reconnecting", error="no route", last_frame_ns=1)
    refresh(window)
    assert [tile.name for tile in window.wall.tiles if tile.view._dimmed] == ["yard"]
    none, away = [tile.line.badges for tile in window.wall.tiles][:2]
    assert not none and away == ["yard: " + texts.PHASES["reconnecting"]]
    assert window.banners.source.text == "", "it is not about the selected one"
    select(window, 1)
    assert "no route" in window.banners.source.text
    window.banners.source.button.click()
    assert controllers["yard"].was_asked("reopen") and not controllers["front"].was_asked("reopen")
    controllers["yard"].set_source(phase="live", error="")
    refresh(window)
    assert not window.wall.tiles[1].view._dimmed and not window.wall.tiles[1].line.badges


def test_a_recording_that_has_ended_is_no_alarm(window, controllers) -> None:
    controllers["hall"].set_source(phase="ended")
    refresh(window)
    line = window.wall.tiles[2].line
    assert not line.badges and line.figures[0] == ("", "hall: " + texts.PHASES["ended"])


def test_figures_are_of_each_source(window, controllers) -> None:
    more = replace(controllers["gate"].now.figures, dropped={"replaced": 1}, age_p50_ms=3.0)
    controllers["gate"].set(figures=more)
    refresh(window)
    figures = dict(window.wall.tiles[3].line.figures)
    assert figures[""] == "gate" and figures[texts.DROPPED] == "1"
    assert figures[texts.AGE] == "3 / 12 ms"
    assert dict(window.wall.tiles[4].line.figures)[texts.DROPPED] == "0"


def test_one_alone_by_key_and_by_double_click_and_back(window) -> None:
    press(window, Qt.Key.Key_3, Qt.KeyboardModifier.AltModifier)
    assert visible(window) == ["hall"] and window.controller.name == "hall"
    press(window, Qt.Key.Key_PageDown, Qt.KeyboardModifier.ControlModifier)
    assert visible(window) == ["gate"]
    press(window, Qt.Key.Key_G)
    assert len(visible(window)) == 5
    view = window.wall.tiles[1].view
    select(window, 1)
    QTest.mouseDClick(view, Qt.MouseButton.LeftButton)
    assert visible(window) == ["yard"] and view.zoom is None, "not the zoom of the picture"
    press(window, Qt.Key.Key_Escape)
    assert len(visible(window)) == 5 and window.isVisible()


def test_what_is_drawn_is_toggled_in_all(window) -> None:
    press(window, Qt.Key.Key_B)
    assert not any(tile.view.options.boxes for tile in window.wall.tiles)
    press(window, Qt.Key.Key_B)
    assert all(tile.view.options.boxes for tile in window.wall.tiles)


@pytest.mark.parametrize(
    ("key", "asked"),
    [
        (Qt.Key.Key_Space, "pause"),
        (Qt.Key.Key_Period, "step"),
        (Qt.Key.Key_R, "record"),
        (Qt.Key.Key_S, "snapshot"),
        (Qt.Key.Key_Home, "seek"),
        (Qt.Key.Key_Right, "seek"),
        (Qt.Key.Key_BracketRight, "set_speed"),
    ],
)
def test_keys_do_with_the_selected_source_what_they_do_with_one(
    window, controllers, key, asked: str
) -> None:
    for controller in controllers.values():
        give(controller, 1)
    select(window, 2)
    refresh(window)
    press(window, key)
    assert [name for name, each in controllers.items() if each.was_asked(asked)] == ["hall"]


def test_all_are_paused_and_go_on_together(window, controllers) -> None:
    controllers["roof"].pause(True)
    press(window, Qt.Key.Key_P, Qt.KeyboardModifier.ShiftModifier)
    assert all(each.now.source.paused for each in controllers.values())
    press(window, Qt.Key.Key_P, Qt.KeyboardModifier.ShiftModifier)
    assert not any(each.now.source.paused for each in controllers.values())


def test_controls_follow_the_selection(window, controllers) -> None:
    half = replace(controllers["gate"].now.source, position_ns=5_000_000_000, label="/v/gate.mp4")
    controllers["gate"].set(source=half, recording_to="x.mp4")
    select(window, 3)
    assert window.timeline.slider.value() == 5000
    assert window.tools.source.text() == "gate.mp4" and "gate" in window.windowTitle()
    assert window.actions_["record"].isChecked() and texts.RECORDING in window.hud.badges
    window.controls.filters.changed.emit({"max_detections": 7})
    assert controllers["gate"].filters.now.table()["max_detections"] == 7
    select(window, 0)
    assert not window.actions_["record"].isChecked()


def test_hidden_classes_are_left_out_of_all(window, controllers) -> None:
    window.controls.hidden_changed.emit(frozenset({"dog"}))
    assert all(each.last("hide") == ("hide", {"dog"}) for each in controllers.values())
    assert all(tile.view._hidden == {"dog"} for tile in window.wall.tiles)


def test_zones_are_drawn_in_the_selected_picture(window, controllers) -> None:
    for controller in controllers.values():
        give(controller, 1)
    refresh(window)
    press(window, Qt.Key.Key_Z)
    assert window.wall.tiles[0].view.layer is not None
    select(window, 4)
    layers = [tile.view.layer is not None for tile in window.wall.tiles]
    assert layers == [False, False, False, False, True]


def test_plots_know_each_source_from_the_start(window) -> None:
    assert set(window.instruments.histories) == set(NAMES)


def test_q_closes_it_and_outputs_are_asked_about_before(
    window, controllers, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes]
    monkeypatch.setattr(QMessageBox, "question", lambda *args: answers.pop(0))
    controllers["roof"].set(recording_to="x.mp4")
    press(window, Qt.Key.Key_Q)
    assert window.isVisible()
    press(window, Qt.Key.Key_Q)
    assert not window.isVisible()


def test_a_single_source_with_a_name_is_a_single_one(open_window) -> None:
    controller = FakeController(name="front")
    window = open_window(controller)
    give(controller, 1)
    window.tick()
    window.view.present_now()
    QTest.mouseDClick(window.view, Qt.MouseButton.LeftButton)
    assert window.view.zoom == 1.0 and not window.wall.tile.line.isVisible()


def test_a_single_source_has_no_menu_of_sources(open_window) -> None:
    window = open_window(FakeController())
    titles = [action.text() for action in window.menuBar().actions()]
    assert texts.MENU_SOURCES not in titles
    assert not any(window.actions_[name].isVisible() for name in SEVERAL)


def test_a_real_run_of_three_sources_at_a_desk(tmp_path: Path) -> None:
    folder = Path(os.environ.get("KESTREL_SCREENSHOTS", tmp_path))
    with x_display() as display:
        env = {"DISPLAY": display, "XDG_CONFIG_HOME": str(tmp_path), "QT_QPA_PLATFORM": "xcb"}
        sources = ["front=sample:", "yard=pattern:?fps=5", "roof=rtsp://127.0.0.1:9/none"]
        words = [word for source in sources for word in ("--source", source)]
        words = ["run", "--window", *words]
        process = start(*words, more=env, program=command(), stderr=subprocess.STDOUT)
        try:
            picture = folder / "wall.png"

            def both_are_seen() -> bool:
                assert process.poll() is None, process.communicate()[0]
                shot = screenshot(display, picture)
                left, right = shot[: shot.shape[0] // 2, :500], shot[: shot.shape[0] // 2, 700:1100]
                return int(left.std()) > 15 and int(right.std()) > 15

            wait_for(both_are_seen, 90)
            if folder != tmp_path:  # figures to look at
                time.sleep(1)
                screenshot(display, picture)
            Keyboard(display).press("q")
            out, _ = process.communicate(timeout=30)
        finally:
            process.kill()
            process.communicate()
    assert process.returncode == 0, out
    assert "source   front (" in out and "source   roof (offline since " in out
