"""What is in the toolbar: source, model, engine, and the tools used most?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PyQt5.QtCore import QSize, Qt, pyqtSignal
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

from app.catalogue import Catalogue, Offer
from app.gui import texts
from app.gui.actions import Actions
from app.gui.icons import icon
from app.gui.ports import Desk
from app.gui.settings import Settings
from app.gui.sources import SourceButton
from app.session_state import Choice, SessionState

if TYPE_CHECKING:
    from PyQt5.QtWidgets import QMainWindow

TOOLS = ("pause", "step", "|", "snapshot", "record", "|", "fit", "full_screen", "|", "controls")


class ToolBar(QToolBar):
    """Pickers to the left, tools to the right."""

    source_chosen = pyqtSignal(str)
    choice_made = pyqtSignal(object)  # a Choice

    def __init__(
        self, parent: QMainWindow, desk: Desk, settings: Settings, actions: Actions
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
            catalogue=desk.catalogue,
            recent=lambda: settings.words("recent"),
            refresh=desk.refresh,
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
        self.source.set_label(state.feed.label or state.feed.uri)
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
