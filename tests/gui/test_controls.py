"""Every control asks for what it says, and shows what holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import monotonic_ns

import pytest
from PyQt5.QtCore import QEvent, QMimeData, QPoint, QPointF, Qt, QUrl
from PyQt5.QtGui import QDesktopServices, QDropEvent, QMouseEvent
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QApplication,
    QComboBox,
    QFileDialog,
    QInputDialog,
    QLineEdit,
    QListWidget,
    QMessageBox,
    QToolButton,
    QWidget,
)

from app.core.frame import SourceInfo
from app.gui import texts
from app.gui.actions import CHECKABLE, SEVERAL, keys_text
from app.gui.toolbar import DETAIL, dropped_source
from app.session.state import Choice, MachineLoad, Notice, Offer
from tests.gui.kit import CATALOGUE, RUNNING, FakeController
from tests.sinks.kit import LABELS, found, gray, result


@pytest.fixture
def controller() -> FakeController:
    return FakeController()


@pytest.fixture
def window(open_window, controller):
    shown = open_window(controller)
    QApplication.setActiveWindow(shown)
    return shown


def refresh(window) -> None:
    """The slow part of the clock, now."""
    window._next_slow_s = 0.0
    window.tick()


def press(window, key, modifier=Qt.KeyboardModifier.NoModifier) -> None:
    QTest.keyClick(window.view, key, modifier)


# --- source ---------------------------------------------------------------------------------------


def menu_actions(menu) -> dict[str, object]:
    found = {}
    for action in menu.actions():
        if action.menu():
            found.update(menu_actions(action.menu()))
        elif action.data():
            found[action.data()] = action
    return found


def test_source_menu_offers_cameras_with_formats_files_clip_pattern_and_recent(
    window, controller, settings
) -> None:
    settings.add_recent("/videos/yesterday.mp4")
    window.tools.source.fill()
    offered = menu_actions(window.tools.source.menu())
    assert {"camera:0", "camera:0?size=640x480", "camera:2", "sample:"} <= set(offered)
    assert any(uri.startswith("pattern:") for uri in offered)
    assert offered["/videos/yesterday.mp4"].text() == "yesterday.mp4"
    everything = [action.text() for action in window.tools.source.menu().actions()]
    assert "Front camera  (camera:0)" in everything
    for name in ("open_file", "open_folder", "open_url"):
        assert window.actions_[name].text() in everything
    for uri, action in offered.items():
        action.trigger()
        assert controller.last("show_source") == ("show_source", uri)


def test_source_menu_without_cameras_says_so_and_can_look_again(window, controller) -> None:
    controller.offers = replace(controller.offers, cameras=())
    window.tools.source.fill()
    actions = {action.text(): action for action in window.tools.source.menu().actions()}
    assert not actions[texts.NO_CAMERAS].isEnabled()
    controller.asked.clear()
    actions[texts.LOOK_AGAIN].trigger()
    assert controller.was_asked("refresh")


def test_source_that_opened_is_remembered_but_no_password(window, controller, settings) -> None:
    window.run.show_source("/videos/a.mp4")
    controller.set_source(uri="/videos/a.mp4", label="/videos/a.mp4")
    refresh(window)
    window.run.show_source("rtsp://u:p@cam/1")
    controller.set_source(uri="rtsp://u:p@cam/1", label="rtsp://***@cam/1")
    refresh(window)
    assert settings.words("recent") == ["/videos/a.mp4"]
    assert window.tools.source.text() == "rtsp://***@cam/1"


def test_source_that_never_opened_is_not_remembered(window, controller, settings) -> None:
    window.run.show_source("/videos/broken.mp4")
    controller.set_source(
        uri="/videos/broken.mp4", label="/videos/broken.mp4", info=None, phase="failed"
    )
    refresh(window)
    assert settings.words("recent") == []


@pytest.mark.parametrize("name", ["open_file", "open_folder"])
def test_file_dialog_holds_nothing_up_and_its_choice_is_shown(
    window, controller, tmp_path: Path, name: str
) -> None:
    window.actions_[name].trigger()
    (dialog,) = window.findChildren(QFileDialog)
    dialog.fileSelected.emit(str(tmp_path))
    dialog.close()
    assert controller.last("show_source") == ("show_source", str(tmp_path))


def test_url_dialog(window, controller) -> None:
    window.actions_["open_url"].trigger()
    (dialog,) = window.findChildren(QInputDialog)
    dialog.setTextValue(" rtsp://camera/1 ")
    dialog.accept()
    assert controller.last("show_source") == ("show_source", "rtsp://camera/1")


def drop(window, mime: QMimeData) -> None:
    event = QDropEvent(
        QPointF(10, 10),
        Qt.DropAction.CopyAction,
        mime,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    window.dropEvent(event)


def test_dropped_file_is_shown(window, controller, tmp_path: Path) -> None:
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(tmp_path / "a clip.mp4"))])
    drop(window, mime)
    assert controller.last("show_source") == ("show_source", str(tmp_path / "a clip.mp4"))


def test_dropped_nonsense_is_left_alone(window, controller) -> None:
    mime = QMimeData()
    mime.setText("hello")
    drop(window, mime)
    assert not controller.was_asked("show_source")
    assert dropped_source(None) is None
    mime.setText("rtsp://camera/1")
    assert dropped_source(mime) == "rtsp://camera/1"


# --- filters --------------------------------------------------------------------------------------


def type_in(window, key: str, text: str) -> None:
    line = window.controls.filters.lines[key]
    line.setText(text)
    QTest.keyClick(line, Qt.Key.Key_Return)


def test_filters_are_set_while_it_runs_and_show_what_holds(window, controller) -> None:
    refresh(window)
    box = window.controls.filters
    type_in(window, "classes", "person")
    type_in(window, "class_scores", "person=0.6")
    type_in(window, "min_box", "5%")
    box.most.setValue(7)
    box.agnostic.click()
    now = controller.filters.now
    assert now.classes == ("person",) and now.class_scores == {"person": 0.6}
    assert (now.min_box, now.max_detections, now.agnostic_nms) == ("5%", 7, True)
    controller.filters.write({"max_box": "90%", "classes": ""})  # by another program
    refresh(window)
    assert box.lines["max_box"].text() == "90%" and box.lines["classes"].text() == ""


def test_filters_are_folded_until_one_is_in_force(window, controller) -> None:
    box = window.controls.filters
    refresh(window)
    assert not box.most.isVisibleTo(window)
    box.head.click()
    assert box.most.isVisibleTo(window)
    box.head.click()
    controller.filters.write({"min_box": "5%"})
    refresh(window)
    assert box.lines["min_box"].isVisibleTo(window)


def test_a_filter_that_cannot_be_says_why_and_changes_nothing(window, controller) -> None:
    refresh(window)
    box = window.controls.filters
    type_in(window, "classes", "persn")
    assert "person" in box.fault.text() and box.fault.isVisibleTo(box)
    assert controller.filters.now.classes == ()
    refresh(window)
    assert box.lines["classes"].text() == "persn", "to be corrected"
    type_in(window, "classes", "person")
    assert not box.fault.isVisibleTo(box) and controller.filters.now.classes == ("person",)


# --- model and engine -----------------------------------------------------------------------------


def test_pickers_show_what_runs_and_ask_for_what_is_chosen(window, controller, settings) -> None:
    refresh(window)
    tools = window.tools
    assert (tools.model.currentText(), tools.engine.currentText()) == ("small", "auto")
    tools.model.setCurrentIndex(tools.model.findText("large"))
    tools.model.activated.emit(tools.model.currentIndex())
    assert controller.last("choose") == ("choose", Choice("large", "auto"))
    assert settings.text("model") == "", "it may be none that runs"
    controller.set(running=Choice("large", "auto"), model_name="large")
    refresh(window)
    assert settings.text("model") == "large"
    controller.set(running=Choice("large", "auto"), model_name="large")
    tools.engine.setCurrentIndex(tools.engine.findText("cuda"))
    tools.engine.activated.emit(tools.engine.currentIndex())
    assert controller.last("choose") == ("choose", Choice("large", "cuda"))


def test_pickers_go_back_when_the_switch_fails(window, controller) -> None:
    controller.set(building=Choice("large", "cuda"))
    refresh(window)
    assert window.tools.model.currentText() == "large"
    controller.set(building=None, notice=Notice(1, "error", "no GPU — going on with small"))
    refresh(window)
    assert window.tools.model.currentText() == "small"
    assert window.tools.engine.currentText() == "auto"
    assert window.banners.notice.text == "no GPU — going on with small"


def test_slow_build_shows_progress_and_can_be_cancelled(window, controller) -> None:
    controller.set(building=Choice("large", "auto"), building_since_ns=1, building_text="fetching")
    refresh(window)
    assert "Preparing large (auto)" in window.banners.engine.text
    assert "small" in window.banners.engine.text
    assert "fetching" in window.banners.engine.text
    window.banners.engine.button.click()
    assert controller.was_asked("cancel")


def test_model_of_the_last_time_comes_back_unless_another_is_given(open_window, settings) -> None:
    settings.set("model", "large")
    settings.set("engine", "cpu")
    controller = FakeController()
    open_window(controller)
    assert controller.last("choose") == ("choose", Choice("large", "cpu"))
    given = FakeController(given=frozenset({"model"}))
    open_window(given)
    assert not given.was_asked("choose")


# --- thresholds and classes -----------------------------------------------------------------------


def test_sliders_ask_once_they_settle_and_are_remembered_by_model(
    window, controller, qtbot, settings
) -> None:
    refresh(window)
    window.controls.score.slider.setValue(60)
    window.controls.iou.box.setValue(0.7)
    qtbot.waitUntil(lambda: controller.was_asked("set_thresholds"))
    assert controller.last("set_thresholds") == ("set_thresholds", 0.6, 0.7)
    assert settings.number("score/small", 0) == 0.6
    assert window.controls.score.box.value() == 0.6 and window.controls.iou.slider.value() == 70


def test_sliders_show_what_holds_and_go_back_to_the_models_own(
    window, controller, settings
) -> None:
    controller.set(score=0.8, iou=0.5)
    refresh(window)
    assert window.controls.score.slider.value() == 80
    settings.set("score/small", 0.8)
    window.controls.reset.click()
    assert controller.last("set_thresholds") == ("set_thresholds", 0.35, 0.45)
    assert settings.number("score/small", -1) == -1
    refresh(window)
    assert window.controls.score.slider.value() == 35


def test_thresholds_of_the_last_time_come_back_with_their_model(open_window, settings) -> None:
    settings.set("score/small", 0.9)
    controller = FakeController()
    refresh(open_window(controller))
    assert controller.last("set_thresholds") == ("set_thresholds", 0.9, 0.45)
    given = FakeController(given=frozenset({"score"}))
    refresh(open_window(given))
    assert not given.was_asked("set_thresholds")


def test_classes_can_be_hidden_singly_and_together(window, controller) -> None:
    refresh(window)
    controls = window.controls
    assert [controls.list.item(i).text() for i in range(3)] == list(LABELS)
    controls.list.item(1).setCheckState(Qt.CheckState.Unchecked)
    assert controller.last("hide") == ("hide", frozenset({"dog"}))
    controls.none.click()
    assert controller.last("hide") == ("hide", frozenset(LABELS))
    controls.all.click()
    assert controller.last("hide") == ("hide", frozenset())


def test_hidden_classes_are_those_of_each_model(window, controller) -> None:
    refresh(window)
    window.controls.list.item(1).setCheckState(Qt.CheckState.Unchecked)
    controller.set(model_name="large", running=Choice("large"))
    refresh(window)
    assert controller.last("hide") == ("hide", frozenset()) and window.run.hidden == frozenset()
    controller.set(model_name="small", running=Choice("small"))
    refresh(window)
    assert controller.last("hide") == ("hide", frozenset({"dog"}))
    assert window.controls.list.item(1).checkState() == Qt.CheckState.Unchecked


def test_model_that_cannot_run_says_why_and_cannot_be_chosen(window, controller) -> None:
    huge = Offer("huge", "huge", "80 classes", "needs about 9000 MB of memory")
    controller.offers = replace(CATALOGUE, models=(*CATALOGUE.models, huge))
    refresh(window)
    picker = window.tools.model
    row = picker.findData("huge")
    assert not picker.model().item(row).isEnabled() and picker.model().item(0).isEnabled()
    assert huge.refused in picker.itemData(row, DETAIL)
    assert picker.itemData(0, DETAIL) == CATALOGUE.models[0].detail
    picker.view().grab()


def test_class_is_found_by_name(window) -> None:
    refresh(window)
    window.controls.search.setText("FA")
    hidden = [window.controls.list.item(i).isHidden() for i in range(3)]
    assert hidden == [True, True, False]


@pytest.mark.parametrize("name", ["boxes", "labels", "scores", "keypoints"])
def test_overlay_toggles_by_tick_and_by_key(window, name: str) -> None:
    window.controls.toggles[name].click()
    assert getattr(window.view.options, name) is False
    assert not window.actions_[name].isChecked()
    press(window, getattr(Qt.Key, f"Key_{texts.ACTIONS[name][1][0]}"))
    assert getattr(window.view.options, name) is True
    assert window.controls.toggles[name].isChecked()


def test_status_line_can_be_hidden(window) -> None:
    press(window, Qt.Key.Key_H)
    assert not window.hud.isVisible()
    press(window, Qt.Key.Key_H)
    assert window.hud.isVisible()


# --- playing --------------------------------------------------------------------------------------


def test_pause_by_space_key_and_button(window, controller) -> None:
    window.view.setFocus()
    press(window, Qt.Key.Key_Space)
    assert controller.last("pause") == ("pause", True)
    refresh(window)
    assert window.actions_["pause"].isChecked() and texts.PAUSED in window.hud.badges
    press(window, Qt.Key.Key_P)
    assert controller.last("pause") == ("pause", False)
    window.tools.widgetForAction(window.actions_["pause"]).click()
    assert controller.last("pause") == ("pause", True)


def test_space_at_the_end_plays_again(window, controller) -> None:
    window.view.setFocus()
    controller.set_source(phase="ended", position_ns=10_000_000_000, paused=True)
    press(window, Qt.Key.Key_Space)
    assert controller.last("pause") == ("pause", False)
    assert controller.last("seek") == ("seek", 0)


def test_comma_shows_the_frame_before_and_pauses(window, controller) -> None:
    frame = replace(result(50).frame, media_ns=2_000_000_000)
    controller.latest.emit(replace(result(50), frame=frame))
    refresh(window)
    press(window, Qt.Key.Key_Comma)
    assert controller.last("pause") == ("pause", True)
    at_ns = controller.last("seek")[1]
    assert 1_960_000_000 <= at_ns < 2_000_000_000, "of 25 frames a second the one before is there"


def test_comma_is_for_recordings_that_can_seek(window, controller) -> None:
    controller.set_source(seekable=False)
    refresh(window)
    press(window, Qt.Key.Key_Comma)
    assert not controller.was_asked("seek") and not window.actions_["step_back"].isEnabled()


def test_single_step_pauses(window, controller) -> None:
    press(window, Qt.Key.Key_Period)
    assert controller.was_asked("step")
    refresh(window)
    assert window.actions_["pause"].isChecked()


def test_timeline_follows_and_moves(window, controller) -> None:
    refresh(window)
    assert window.timeline.isVisible() and window.timeline.slider.value() == 2000
    assert window.timeline.clock.text() == "0:02 / 0:10"
    bar = window.timeline.slider
    QTest.mouseClick(
        bar, Qt.MouseButton.LeftButton, pos=QPoint(bar.width() // 2, bar.height() // 2)
    )
    position_ns = controller.last("seek")[1]
    assert 4_500_000_000 < position_ns < 5_500_000_000


def test_timeline_is_for_recordings_only(window, controller) -> None:
    controller.set_source(recording=False, duration_ns=None, last_frame_ns=2**62)
    refresh(window)
    assert not window.timeline.isVisible()
    controller.set_source(recording=True, duration_ns=10**10, seekable=False)
    refresh(window)
    assert window.timeline.isVisible() and not window.timeline.slider.isEnabled()
    assert not window.actions_["forward"].isEnabled()


def test_keys_move_in_a_recording(window, controller) -> None:
    refresh(window)
    press(window, Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
    assert controller.last("seek") == ("seek", 7_000_000_000)
    press(window, Qt.Key.Key_Left)
    assert controller.last("seek") == ("seek", 1_000_000_000)
    press(window, Qt.Key.Key_Home)
    assert controller.last("seek") == ("seek", 0)
    controller.set_source(recording=False, seekable=False)
    press(window, Qt.Key.Key_Home)
    assert controller.was_asked("reopen")


# --- view -----------------------------------------------------------------------------------------


def test_zoom_keys_wheel_and_double_click(window, controller, qtbot) -> None:
    controller.latest.emit(result(0, pixels=gray(2000, 1500)))
    window.tick()
    qtbot.waitUntil(lambda: window.view.placement() is not None)
    press(window, Qt.Key.Key_1)
    assert window.view.zoom == 1.0
    press(window, Qt.Key.Key_Plus)
    assert window.view.zoom == 1.25
    press(window, Qt.Key.Key_Minus)
    assert window.view.zoom == pytest.approx(1.0)
    before = window.view.placement()
    press(window, Qt.Key.Key_Right)
    assert window.view.placement().x0 < before.x0 and not controller.was_asked("seek")
    press(window, Qt.Key.Key_F)
    assert window.view.zoom is None
    QTest.mouseDClick(window.view, Qt.MouseButton.LeftButton)
    assert window.view.zoom == 1.0
    before = window.view.placement()
    QTest.mousePress(window.view, Qt.MouseButton.LeftButton, pos=QPoint(100, 100))
    QApplication.sendEvent(
        window.view,
        QMouseEvent(
            QEvent.Type.MouseMove,
            QPointF(60, 80),
            Qt.MouseButton.NoButton,
            Qt.MouseButton.LeftButton,
            Qt.KeyboardModifier.NoModifier,
        ),
    )
    QTest.mouseRelease(window.view, Qt.MouseButton.LeftButton, pos=QPoint(60, 80))
    after = window.view.placement()
    assert (before.x0 - after.x0, before.y0 - after.y0) == (40, 20)


# --- saving ---------------------------------------------------------------------------------------


def test_snapshot_saves_what_is_visible(window, controller, settings, tmp_path: Path) -> None:
    settings.set("pictures_folder", str(tmp_path))
    press(window, Qt.Key.Key_S)
    assert (
        not controller.was_asked("snapshot") and window.banners.notice.text == texts.NOTHING_TO_SAVE
    )
    boxes = found((0, 0.9, 10, 10, 90, 90), (1, 0.8, 50, 50, 80, 80))
    controller.latest.emit(result(0, boxes))
    window.tick()
    window.controls.show_classes(LABELS, frozenset())
    window.controls.list.item(1).setCheckState(Qt.CheckState.Unchecked)
    press(window, Qt.Key.Key_S)
    _, stem, (saved, labels), model = controller.last("snapshot")
    assert Path(stem).parent == tmp_path and labels == LABELS
    assert model == "small" and Path(stem).name.endswith("_small")
    assert saved.detections.class_ids.tolist() == [0]


def test_record_on_and_off_and_off_by_itself(window, controller, settings, tmp_path: Path) -> None:
    settings.set("videos_folder", str(tmp_path))
    press(window, Qt.Key.Key_R)
    path = Path(controller.last("record")[1])
    assert path.parent == tmp_path and path.suffix == ".mp4"
    refresh(window)
    assert texts.RECORDING in window.hud.badges
    press(window, Qt.Key.Key_R)
    assert controller.last("record") == ("record", "")
    press(window, Qt.Key.Key_R)
    controller.set(recording_to="", notice=Notice(1, "error", "the disk is full"))
    refresh(window)
    assert not window.actions_["record"].isChecked()
    assert window.banners.notice.text == "the disk is full"


def test_what_was_saved_can_be_shown_in_its_folder(
    window, controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    controller.set(notice=Notice(1, "info", "Saved", str(tmp_path / "x.png")))
    refresh(window)
    window.banners.notice.button.click()
    assert opened[0].toLocalFile() == str(tmp_path)


def test_source_that_is_not_there_offers_another_try_and_the_clip(window, controller) -> None:
    controller.set_source(phase="offline", error="no camera 0", since_ns=monotonic_ns())
    refresh(window)
    window.banners.source.button.click()
    assert controller.was_asked("reopen")
    window.banners.source.more.click()
    assert controller.last("show_source") == ("show_source", "sample:")


def test_recording_and_outputs_are_asked_about_before_the_window_closes(
    window, controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    answer = [QMessageBox.StandardButton.No]
    monkeypatch.setattr(
        QMessageBox, "question", lambda parent, title, text: (asked.append(text), answer[0])[1]
    )
    controller.set(recording_to="x.mp4")
    window.windowHandle().close()  # as the desktop does
    assert window.isVisible() and len(asked) == 1
    controller.set(recording_to="")
    controller.has_outputs = True
    press(window, Qt.Key.Key_Q)
    assert window.isVisible() and len(asked) == 2
    answer[0] = QMessageBox.StandardButton.Yes
    press(window, Qt.Key.Key_Q)
    assert not window.isVisible()


def test_folder_for_saving_can_be_chosen(window, settings, tmp_path: Path) -> None:
    window.actions_["folder"].trigger()
    (dialog,) = window.findChildren(QFileDialog)
    dialog.fileSelected.emit(str(tmp_path))
    dialog.close()
    assert settings.folder("pictures") == settings.folder("videos") == tmp_path


# --- docks, theme, help, settings -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["controls", "zones", "instruments"])
def test_docks_open_and_close_by_key_and_by_their_own_cross(window, name: str) -> None:
    dock, action = window.docks[name], window.actions_[name]
    before = dock.isVisible()
    action.toggle()
    assert dock.isVisible() is not before
    action.toggle()
    action.setChecked(True)
    dock.close()
    assert not action.isChecked()


def test_full_screen_hides_everything_else_and_brings_it_back(window, settings) -> None:
    for name in ("instruments", "zones"):
        window.actions_[name].setChecked(True)
    press(window, Qt.Key.Key_F11)
    others = (window.menuBar(), window.tools, *(window.docks[name] for name in window.docks))
    assert not any(each.isVisible() for each in others)
    assert window.actions_["controls"].isChecked()
    press(window, Qt.Key.Key_F11)
    assert all(each.isVisible() for each in others)
    press(window, Qt.Key.Key_F11)
    window.close()
    assert settings.flag("controls_open") and settings.flag("instruments_open")


def test_theme_can_be_chosen_and_is_remembered(window, settings) -> None:
    lightness = {}
    for choice in ("dark", "light"):
        next(a for a in window.themes.actions() if a.data() == choice).trigger()
        lightness[choice] = window.palette().window().color().lightness()
        assert settings.text("theme") == choice
    assert lightness["dark"] < 100 < lightness["light"]


def test_theme_follows_the_system_until_one_is_chosen(window) -> None:
    window.choose_theme("system")
    window.theme.system_wants(True)
    assert window.theme.is_dark
    window.theme.system_wants(False)
    assert not window.theme.is_dark
    window.choose_theme("light")
    window.theme.system_wants(True)
    assert not window.theme.is_dark


def test_keys_and_about_open_beside_the_running_window(window) -> None:
    for name in ("shortcuts", "about"):
        window.actions_[name].trigger()
    boxes = window.findChildren(QMessageBox)
    assert len(boxes) == 2 and not any(box.isModal() for box in boxes)
    for box in boxes:
        box.close()
    assert "F11" in keys_text() and "Snapshot" not in keys_text().replace("Save", "")


def test_settings_survive_the_window_and_reset_forgets_them(open_window, settings) -> None:
    first = open_window(FakeController())
    first.actions_["scores"].setChecked(False)
    first.actions_["hud"].setChecked(False)
    first.actions_["controls"].setChecked(False)
    first.run.hide(frozenset({"dog"}))
    first.close()
    second = open_window(FakeController())
    assert second.view.options.scores is False
    assert not second.hud.isVisible() and not second.docks["controls"].isVisible()
    assert second.controller.last("hide") == ("hide", frozenset({"dog"}))
    refresh(second)
    second.reset()
    assert second.view.options.scores is True
    assert second.hud.isVisible() and second.docks["controls"].isVisible()
    assert second.controller.last("hide") == ("hide", frozenset())
    assert settings.words("hidden") == [] and settings.words("recent") == []


def test_reset_asks_first(window, settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.set("theme", "dark")
    for answer, kept in (
        (QMessageBox.StandardButton.No, "dark"),
        (QMessageBox.StandardButton.Yes, "system"),
    ):
        monkeypatch.setattr(QMessageBox, "question", lambda *args, answer=answer: answer)
        window.actions_["reset"].trigger()
        assert settings.text("theme") == kept


def test_hint_of_the_first_run_goes_for_good(open_window, settings) -> None:
    sample = replace(RUNNING, source=replace(RUNNING.source, uri="sample:", label="sample:"))
    first = open_window(FakeController(sample))
    refresh(first)
    assert "camera" in first.banners.hint.text
    first.banners.hint.button.click()
    refresh(first)
    assert first.banners.hint.text == ""
    second = open_window(FakeController(sample))
    refresh(second)
    assert second.banners.hint.text == ""


# --- recordings and pictures ----------------------------------------------------------------------


def test_speed_and_loop_are_asked_for_by_key_and_by_mouse(window, controller) -> None:
    refresh(window)
    for _ in range(9):
        press(window, Qt.Key.Key_BracketRight)
    assert controller.last("set_speed") == ("set_speed", 4.0)
    refresh(window)
    assert window.timeline.speed.currentText() == "4 ×"
    for _ in range(9):
        press(window, Qt.Key.Key_BracketLeft)
    assert controller.last("set_speed") == ("set_speed", 0.25)
    window.timeline.speed.activated.emit(3)
    assert controller.last("set_speed") == ("set_speed", 1.5)
    press(window, Qt.Key.Key_L, Qt.KeyboardModifier.ShiftModifier)
    assert controller.last("set_loop") == ("set_loop", True)
    refresh(window)
    assert window.timeline.loop.isChecked() and window.actions_["loop"].isChecked()
    QTest.mouseClick(window.timeline.loop, Qt.MouseButton.LeftButton, pos=QPoint(6, 10))
    assert controller.last("set_loop") == ("set_loop", False)
    assert window.view.hasFocus(), "the keys are still those of the picture"


def test_a_source_without_a_pace_has_no_speed(window, controller) -> None:
    controller.set_source(paceable=False)
    refresh(window)
    assert not window.timeline.speed.isEnabled()
    press(window, Qt.Key.Key_BracketRight)
    assert not controller.was_asked("set_speed")


def test_pictures_have_a_number_each_and_keys_go_from_one_to_the_next(window, controller) -> None:
    album = SourceInfo("album", False, (320, 240), 10.0, 12, stills=True)
    place = {"position_ns": 300_000_000, "duration_ns": 1_200_000_000, "paused": True}
    controller.set_source(info=album, **place)
    refresh(window)
    assert window.timeline.clock.text() == "4 / 12"
    assert texts.PAUSED not in window.hud.badges, "it stands because it is a picture"
    press(window, Qt.Key.Key_Right)
    assert controller.last("seek") == ("seek", 400_000_000)
    press(window, Qt.Key.Key_Left)
    assert controller.last("seek") == ("seek", 200_000_000)
    press(window, Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
    assert controller.last("seek") == ("seek", 800_000_000)
    press(window, Qt.Key.Key_Space)
    assert controller.last("pause") == ("pause", False), "a slideshow"


# --- engines --------------------------------------------------------------------------------------


def test_an_engine_that_cannot_run_says_why(window, controller) -> None:
    engines = (*CATALOGUE.engines[:2], Offer("cuda", "cuda", refused="there is no NVIDIA GPU"))
    controller.offers = replace(CATALOGUE, engines=engines)
    refresh(window)
    picker = window.tools.engine
    row = picker.findData("cuda")
    assert not picker.model().item(row).isEnabled()
    assert "there is no NVIDIA GPU" in picker.itemData(row, DETAIL)


# --- where it lies --------------------------------------------------------------------------------


def test_docks_come_back_where_they_were(open_window, controller, settings) -> None:
    first = open_window(controller)
    first.actions_["zones"].setChecked(True)
    first.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, first.docks["controls"])
    first.close()
    second = open_window(FakeController())
    assert second.dockWidgetArea(second.docks["controls"]) == Qt.DockWidgetArea.LeftDockWidgetArea


def test_a_window_of_a_screen_that_is_gone_comes_back_onto_one(
    open_window, controller, settings
) -> None:
    first = open_window(controller)
    first.setGeometry(5000, 4000, 900, 600)
    first.close()
    second = open_window(FakeController())
    room = QApplication.primaryScreen().availableGeometry()
    assert room.intersects(second.frameGeometry())
    assert room.contains(second.frameGeometry().topLeft() + QPoint(40, 10)), "its title is in reach"


# --- for everybody --------------------------------------------------------------------------------


def test_every_action_has_a_tooltip_and_lies_in_a_menu(window) -> None:
    in_menus = set()
    for entry in window.menuBar().actions():
        in_menus |= {action.objectName() for action in entry.menu().actions()}
    assert set(texts.ACTIONS) - set(SEVERAL) <= in_menus
    assert set(texts.ACTIONS) >= CHECKABLE
    for name in texts.ACTIONS:
        assert window.actions_[name].toolTip(), name


def test_no_key_means_two_things(window) -> None:
    keys = [key for _, keys, _ in texts.ACTIONS.values() for key in keys]
    assert len(keys) == len(set(keys))


def test_every_control_is_reached_by_tab_and_has_a_name(window) -> None:
    refresh(window)
    kinds = (QAbstractButton, QAbstractSlider, QComboBox, QLineEdit, QListWidget)
    wanted = [
        each
        for each in (*window.controls.findChildren(QWidget), *window.tools.findChildren(QWidget))
        if isinstance(each, kinds)
        and each.isVisible()
        and each.isEnabled()
        and each.objectName() not in ("qt_spinbox_lineedit", "qt_toolbar_ext_button")
        and "ScrollBar" not in type(each).__name__
        and not isinstance(each.parent(), (QLineEdit, QListWidget))
    ]
    assert len(wanted) > 15
    reached, focus = set(), window.view
    for _ in range(300):
        focus = focus.nextInFocusChain()
        if focus.focusPolicy() & Qt.FocusPolicy.TabFocus:
            reached.add(focus)
    for each in wanted:
        assert each in reached, each
        name = each.accessibleName() or (each.text() if hasattr(each, "text") else "")
        assert name, each


def test_status_line_is_read_out(window) -> None:
    refresh(window)
    spoken = window.hud.accessibleName()
    assert "FPS 25.0" in spoken and "7 / 12 ms" in spoken and "320 × 240" in spoken
    assert "cpu (fake)" in spoken


def test_power_is_told_where_it_is_known_with_what_it_covers(window, controller) -> None:
    refresh(window)
    assert texts.POWER not in dict(window.hud.figures) and window.hud.toolTip() == ""
    controller.set(machine=MachineLoad(power_w=50.0, power_covers="GPU"))
    refresh(window)
    assert dict(window.hud.figures)[texts.POWER] == "50.0 W, 2 J a frame"  # at 25 FPS
    assert "GPU" in window.hud.toolTip()


def test_tools_that_have_no_room_are_behind_a_button_that_is_seen(window) -> None:
    window.resize(520, 400)
    QApplication.processEvents()
    more = window.tools.findChild(QToolButton, "qt_toolbar_ext_button")
    assert more.isVisible() and not more.icon().isNull()
    assert more.accessibleName() == texts.MORE_TOOLS


def test_controls_that_have_no_room_can_be_scrolled_to(window) -> None:
    window.resize(800, 400)
    QApplication.processEvents()
    area = window.docks["controls"].widget()
    assert area.verticalScrollBar().maximum() > 0
    assert window.controls.all.isVisible()


def test_notice_goes_when_the_user_goes_on_to_another_source(window, controller) -> None:
    controller.set(notice=Notice(1, "error", "cannot open that"))
    refresh(window)
    assert window.banners.notice.text
    window.show_source("other.mp4")
    refresh(window)
    assert not window.banners.notice.text and controller.last("show_source") == (
        "show_source",
        "other.mp4",
    )
