"""How is something asked or told in a window of its own, while the picture goes on?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import QFileDialog, QInputDialog, QMessageBox, QWidget

from .. import __version__
from . import texts
from .actions import keys_text


def ask_file(parent: QWidget, then: Callable[[str], None]) -> None:
    """A video or a picture."""
    dialog = _path_dialog(parent, texts.FILE_TITLE, then)
    dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
    dialog.setNameFilters(texts.FILE_FILTER.split(";;"))
    dialog.open()


def ask_folder(parent: QWidget, title: str, then: Callable[[str], None]) -> None:
    """A folder."""
    dialog = _path_dialog(parent, title, then)
    dialog.setFileMode(QFileDialog.FileMode.Directory)
    dialog.open()


def ask_url(parent: QWidget, then: Callable[[str], None]) -> None:
    """The address of a stream."""

    def chosen(text: str) -> None:
        if text.strip():
            then(text.strip())

    dialog = QInputDialog(parent)
    dialog.setWindowTitle(texts.URL_TITLE)
    dialog.setLabelText(texts.URL_ASK)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.textValueSelected.connect(chosen)
    dialog.open()


def show_keys(parent: QWidget) -> None:
    """All keys."""
    _show(parent, texts.KEYS_TITLE, keys_text())


def show_about(parent: QWidget) -> None:
    """Version and licence."""
    _show(parent, texts.TITLE, texts.ABOUT.format(version=__version__))


def means_reset(parent: QWidget) -> bool:
    """Whether the user really wants to forget all settings."""
    yes = QMessageBox.StandardButton.Yes
    return QMessageBox.question(parent, texts.TITLE, texts.RESET_ASK) == yes


def _path_dialog(parent: QWidget, title: str, then: Callable[[str], None]) -> QFileDialog:
    dialog = QFileDialog(parent, title, str(Path.home()))
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.fileSelected.connect(then)
    return dialog


def _show(parent: QWidget, title: str, text: str) -> None:
    box = QMessageBox(parent)
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setWindowTitle(title)
    box.setText(text)
    box.setModal(False)
    box.show()
