"""How does one choose a source?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PyQt5.QtCore import QMimeData
from PyQt5.QtWidgets import QMenu, QToolButton

from app.catalogue import Catalogue
from app.gui import texts

SAMPLE, PATTERN = "sample:", "pattern:?size=1280x720&fps=30&boxes=4"
_LONGEST = 34


class SourceButton(QToolButton):
    """Shows what runs; its menu holds everything that could."""

    def __init__(
        self,
        choose: Callable[[str], None],
        *,
        catalogue: Callable[[], Catalogue],
        recent: Callable[[], list[str]],
        refresh: Callable[[], None],
        openers: Callable[[QMenu], None],
    ) -> None:
        super().__init__()
        self._choose, self._catalogue = choose, catalogue
        self._recent, self._refresh, self._openers = recent, refresh, openers
        self.setObjectName("source")
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.setAccessibleName(texts.SOURCE_NAME)
        self.setToolTip(texts.SOURCE_TIP)
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        menu.aboutToShow.connect(self.fill)
        self.setMenu(menu)

    def set_label(self, label: str) -> None:
        """What runs now."""
        name = _short(label) or texts.SOURCE_NAME
        if name != self.text():
            self.setText(name)
            self.setToolTip(f"{texts.SOURCE_TIP}\n{label}")
            self.setAccessibleDescription(label)

    def fill(self) -> None:
        """Build the menu anew from what is known now."""
        menu = self.menu()
        assert menu is not None
        menu.clear()
        menu.addSection(texts.CAMERAS)
        cameras = self._catalogue().cameras
        for camera in cameras:
            if not camera.more:
                self._add(menu, f"{camera.title}  ({camera.value})", camera.value)
                continue
            modes = menu.addMenu(f"{camera.title}  ({camera.value})")
            assert modes is not None
            self._add(modes, texts.AS_IT_IS, camera.value)
            modes.addSeparator()
            for mode in camera.more:
                self._add(modes, mode.title, mode.value)
        if not cameras:
            nothing = menu.addAction(texts.NO_CAMERAS)
            assert nothing is not None
            nothing.setEnabled(False)
        again = menu.addAction(texts.LOOK_AGAIN)
        assert again is not None
        again.triggered.connect(lambda: self._refresh())
        menu.addSeparator()
        self._openers(menu)
        menu.addSeparator()
        self._add(menu, texts.SAMPLE, SAMPLE)
        self._add(menu, texts.PATTERN, PATTERN)
        recent = self._recent()
        if recent:
            menu.addSection(texts.RECENT)
            for uri in recent:
                self._add(menu, _short(uri), uri)

    def _add(self, menu: QMenu, title: str, uri: str) -> None:
        action = menu.addAction(title.replace("&", "&&"))
        assert action is not None
        action.setData(uri)
        action.setToolTip(uri)
        action.triggered.connect(lambda: self._choose(uri))


def dropped_source(data: QMimeData | None) -> str | None:
    """The source that a drop means; None if it is no file and no address."""
    if data is None:
        return None
    for url in data.urls():
        if url.isLocalFile():
            return url.toLocalFile()
        if url.scheme() in ("rtsp", "rtsps", "http", "https"):
            return url.toString()
    text = data.text().strip() if data.hasText() else ""
    if text.startswith(("rtsp://", "rtsps://", "http://", "https://")):
        return text
    return None


def _short(label: str) -> str:
    """A file by its name; a long address from its end."""
    if label == SAMPLE:
        return texts.SAMPLE
    if label.startswith("pattern:"):
        return texts.PATTERN
    name = Path(label).name if "://" not in label and "/" in label else label
    return name if len(name) <= _LONGEST else "…" + name[-_LONGEST:]
