"""The toolbar, and the choice of a source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PyQt5.QtCore import QMimeData, QSize, Qt, pyqtSignal
from PyQt5.QtGui import QColor, QKeySequence
from PyQt5.QtWidgets import (
    QAction,
    QComboBox,
    QLabel,
    QMenu,
    QShortcut,
    QSizePolicy,
    QToolBar,
    QToolButton,
    QWidget,
)

from ..core.schemes import is_network
from ..session.state import Catalogue, Choice, Offer, SessionState
from . import texts
from .actions import Actions, icon
from .ports import RunController, Settings

if TYPE_CHECKING:
    from PyQt5.QtWidgets import QMainWindow


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
        if is_network(url.toString()):
            return url.toString()
    text = data.text().strip() if data.hasText() else ""
    return text if is_network(text) else None


def _short(label: str) -> str:
    """A file by its name; a long address from its end."""
    if label == SAMPLE:
        return texts.SAMPLE
    if label.startswith("pattern:"):
        return texts.PATTERN
    name = Path(label).name if "://" not in label and "/" in label else label
    return name if len(name) <= _LONGEST else "…" + name[-_LONGEST:]


TOOLS = ("pause", "step", "|", "snapshot", "record", "|", "fit", "full_screen", "|", "controls")


class ToolBar(QToolBar):
    """Pickers to the left, tools to the right."""

    source_chosen = pyqtSignal(str)
    choice_made = pyqtSignal(object)  # a Choice

    def __init__(
        self, parent: QMainWindow, controller: RunController, settings: Settings, actions: Actions
    ) -> None:
        super().__init__(texts.TOOLBAR, parent)
        self.setObjectName("tools")
        self.setMovable(False)
        self.setIconSize(QSize(20, 20))

        def openers(menu: QMenu) -> None:
            for name in ("open_file", "open_folder", "open_url"):
                menu.addAction(actions[name])

        self.source = SourceButton(
            self.source_chosen.emit,
            catalogue=controller.catalogue,
            recent=lambda: settings.words("recent"),
            refresh=controller.refresh,
            openers=openers,
        )
        self.model = _Picker(texts.MODEL_NAME, texts.MODEL_TIP, 150)
        self.engine = _Picker(texts.ENGINE_NAME, texts.ENGINE_TIP, 90)
        for label, picker in (
            (texts.SOURCE, self.source),
            (texts.MODEL_LABEL, self.model),
            (texts.ENGINE_LABEL, self.engine),
        ):
            title = QLabel(label)
            title.setBuddy(picker)
            self.addWidget(title)
            self.addWidget(picker)
        # a label's own key only moves the focus to the button
        key = QShortcut(QKeySequence("Alt+S"), parent)
        key.activated.connect(self.source.showMenu)
        gap = QWidget()
        gap.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.addWidget(gap)
        for name in (*TOOLS, "instruments"):
            if name == "|":
                self.addSeparator()
            else:
                self.addAction(actions[name])
                button = self.widgetForAction(actions[name])
                if isinstance(button, QToolButton):
                    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
                    button.setAccessibleName(actions[name].text().replace("&", ""))
        for picker in (self.model, self.engine):
            picker.activated.connect(self._chosen)
        more = self.findChild(QToolButton, "qt_toolbar_ext_button")
        self._more = more if isinstance(more, QToolButton) else None

    def restyle(self, ink: QColor) -> None:
        """Follow the theme. The style's own arrow to what has no room is black on black."""
        if self._more is not None:
            self._more.setIcon(icon("more", ink))
            self._more.setAccessibleName(texts.MORE_TOOLS)
            self._more.setToolTip(texts.MORE_TOOLS)

    def show_state(self, state: SessionState, catalogue: Catalogue) -> None:
        """What runs, or is about to."""
        self.source.set_label(state.source.label or state.source.uri)
        choice = state.building or state.running
        if choice is None:
            return
        models = list(catalogue.models)
        ref = choice.model
        if ref is None:  # the default one, whose name is known once it runs
            ref = next((m.value for m in models if m.title == state.model_name), "")
        if ref and all(model.value != ref for model in models):
            models.append(Offer(ref, ref))
        self.model.show_offers(models, ref)
        self.engine.show_offers(list(catalogue.engines), choice.engine)

    def sync(self, action: QAction) -> None:
        """The button follows an action whose signals were held back."""
        button = self.widgetForAction(action)
        if isinstance(button, QToolButton):
            button.setChecked(action.isChecked())

    def _chosen(self) -> None:
        model, engine = self.model.currentData(), self.engine.currentData()
        self.choice_made.emit(Choice(model or None, engine or "auto"))


class _Picker(QComboBox):
    """A list of offers that is left alone while it is open."""

    def __init__(self, name: str, tip: str, width: int) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setToolTip(tip)
        self.setMinimumWidth(width)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self._offers: list[Offer] = []

    def show_offers(self, offers: list[Offer], value: str) -> None:
        """These, with this one chosen."""
        view = self.view()
        if view is not None and view.isVisible():
            return
        if offers != self._offers:
            self._offers = offers
            self.clear()
            for row, offer in enumerate(offers):
                self.addItem(offer.title, offer.value)
                self.setItemData(row, offer.detail, Qt.ItemDataRole.ToolTipRole)
        row = self.findData(value)
        if row >= 0 and row != self.currentIndex():
            self.setCurrentIndex(row)
