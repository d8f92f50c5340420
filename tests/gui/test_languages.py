"""The window speaks the user's language: every text, in every catalogue, with the same parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from PyQt5.QtCore import QTimer
from PyQt5.QtWidgets import QApplication, QDialogButtonBox, QMainWindow, QMessageBox

from app.config import SETTINGS, Config
from app.gui import texts
from app.gui.languages import LANGUAGES, TextCatalogue, speak, spoken
from app.gui.window import run_window
from app.session.state import Offer
from tests.gui.kit import FakeController

OTHERS = [name for name in LANGUAGES if name != "en"]


@pytest.fixture(autouse=True)
def english_again() -> Iterator[None]:
    yield
    speak("en")


@pytest.mark.parametrize("language", OTHERS)
def test_every_catalogue_has_every_text(language: str) -> None:
    """``python -m scripts.update_translations`` adds what is missing, to be translated."""
    known, wanted = TextCatalogue(language).texts, set(texts.english())
    assert {text for text in wanted if not known.get(text)} == set()
    assert known.keys() <= wanted, "of texts that are gone"
    for source, told in known.items():
        assert set(re.findall(r"{\w+}", source)) == set(re.findall(r"{\w+}", told)), source
        assert source.count("<br>") == told.count("<br>"), source


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_menu_has_one_letter_twice(language: str, open_window) -> None:
    speak(language)
    window = open_window(FakeController(name="a"), FakeController(name="b"))
    menus = [window.menuBar(), *(entry.menu() for entry in window.menuBar().actions())]
    for menu in menus:
        marked = [re.search("&([^&])", action.text()) for action in menu.actions()]
        letters = [found[1].lower() for found in marked if found is not None]
        assert len(letters) == len(set(letters)), [action.text() for action in menu.actions()]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("count", [1, 4])
def test_the_window_fits_a_small_screen(language: str, count: int, open_window) -> None:
    """1024 × 600, with a frame around it, and all docks open."""
    speak(language)
    window = open_window(*(FakeController(name=f"source {n}" * (count > 1)) for n in range(count)))
    for name in ("controls", "zones", "instruments"):
        window.actions_[name].setChecked(True)
    for _ in range(8):  # the plots are made one by one
        window.tick()
    QApplication.processEvents()
    least = window.minimumSizeHint()
    assert least.width() <= 1016 and least.height() <= 560, (least.width(), least.height())


def test_many_sources_fit_a_small_screen(open_window) -> None:
    window = open_window(*(FakeController(name=str(n)) for n in range(36)))
    QApplication.processEvents()
    least = window.minimumSizeHint()
    assert least.width() <= 1016 and least.height() <= 560, (least.width(), least.height())


def test_a_german_window_speaks_german(open_window) -> None:
    speak("de")
    controller = FakeController()
    controller.offers = FakeController().offers
    offers = (Offer("big", "big", "8 MB", classes=80, to_fetch=True), *controller.offers.models)
    controller.offers = type(controller.offers)(models=offers, engines=controller.offers.engines)
    window = open_window(controller)
    assert window.menuBar().actions()[0].text() == "&Datei"
    assert window.controls.reset.text() == "Auf &Vorgaben zurücksetzen"
    assert window.hud.figures[1][0] == "Alter p50 / p95"
    box = QMessageBox(QMessageBox.Icon.Question, "", "", QMessageBox.StandardButton.Cancel, window)
    assert box.findChild(QDialogButtonBox).buttons()[0].text().replace("&", "") == "Abbrechen"
    picker = window.tools.model
    told = [picker.itemData(row, 257) for row in range(picker.count())]
    assert told[0] == "80 Klassen · 8 MB · muss heruntergeladen werden"


def test_the_language_is_that_of_the_system_unless_another_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert spoken("es") == "es"
    for system, language in (("de_AT.UTF-8", "de"), ("zh_CN.UTF-8", "zh"), ("fr_FR.UTF-8", "en")):
        monkeypatch.setenv("LANGUAGE", "")
        monkeypatch.setenv("LC_ALL", system)
        assert spoken("system") == language


def test_configuration_knows_the_same_languages() -> None:
    (setting,) = [each for each in SETTINGS if each.name == "language"]
    assert set(setting.key.choices) == {"system", *LANGUAGES} and Config().language == "system"


def test_a_language_that_is_chosen_holds_at_once_and_the_next_time(tmp_path) -> None:
    ini, seen = tmp_path / "settings.ini", []

    def bar():
        shown = [each for each in QApplication.topLevelWidgets() if each.isVisible()]
        bars = [each.menuBar() for each in shown if isinstance(each, QMainWindow)]
        return bars[0] if len(bars) == 1 else None

    def choose() -> None:
        menus = [entry.menu() for entry in bar().actions()]
        below = [entry.menu() for menu in menus for entry in menu.actions() if entry.menu()]
        (german,) = [each for menu in below for each in menu.actions() if each.data() == "de"]
        german.trigger()

    def run(controller: FakeController, first: Callable[[], None]) -> None:
        todo = [first]

        def look() -> None:
            if bar() is None:
                return
            if todo:
                todo.pop()()
            elif bar().actions()[0].text() == "&Datei":
                seen.append(controller)
                controller.set(ended=True)

        timer = QTimer()
        timer.timeout.connect(look)
        timer.start(100)
        QTimer.singleShot(60_000, lambda: controller.set(ended=True))
        run_window([controller], settings_file=ini)
        timer.stop()

    run(FakeController(), choose)
    run(FakeController(), lambda: None)
    assert len(seen) == 2
