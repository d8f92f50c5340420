"""The window's languages: catalogues in the format of Qt Linguist, beside this file."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from PyQt5.QtCore import QCoreApplication, QLibraryInfo, QLocale, QTranslator

from . import texts

CONTEXT = "Window"
FOLDER = Path(__file__).with_name("translations")
LANGUAGES = {"en": "English", "de": "Deutsch", "es": "Español", "zh": "中文"}
_QT_NAMES = {"zh": "zh_CN"}
_installed: list[QTranslator] = []


class TextCatalogue(QTranslator):
    """A .ts file, read as it is: PyQt5 comes without lrelease, which would compile it."""

    def __init__(self, language: str) -> None:
        super().__init__()
        root = ElementTree.parse(FOLDER / f"kestrel_{language}.ts").getroot()
        self.texts = {
            each.findtext("source", ""): each.findtext("translation", "")
            for each in root.iter("message")
        }

    def translate(  # type: ignore[override]  # Qt's null string is not in PyQt's types
        self,
        context: str | None,
        source: str | None,
        disambiguation: str | None = None,
        n: int = -1,
    ) -> str | None:
        """What the catalogue has for a text of the window; None for all else, as Qt wants it."""
        return self.texts.get(source or "") if context == CONTEXT else None

    def isEmpty(self) -> bool:  # noqa: N802 - Qt's name
        return not self.texts


def spoken(wanted: str) -> str:
    """The language wanted; for "system" the first of the user's that there is, else English."""
    names = [name.partition("-")[0] for name in QLocale.system().uiLanguages()]
    return next((name for name in [wanted, *names] if name in LANGUAGES), "en")


def speak(wanted: str) -> None:
    """Let windows that are made from now on, and Qt's own dialogs in them, speak this language."""
    for each in _installed:
        QCoreApplication.removeTranslator(each)
    _installed.clear()
    language = spoken(wanted)
    if language != "en":
        qt = QTranslator()
        folder = QLibraryInfo.location(QLibraryInfo.LibraryLocation.TranslationsPath)
        if qt.load(f"qtbase_{_QT_NAMES.get(language, language)}", folder):
            _installed.append(qt)
        _installed.append(TextCatalogue(language))
    for each in _installed:
        QCoreApplication.installTranslator(each)
    texts.translate(lambda text: QCoreApplication.translate(CONTEXT, text))
