"""The toolbar, and the choice of a source."""

from __future__ import annotations

from pathlib import Path

from PyQt5.QtCore import QMimeData, QModelIndex, QRect, QSize, Qt, pyqtSignal
from PyQt5.QtGui import (
    QColor,
    QFont,
    QFontMetrics,
    QKeySequence,
    QPainter,
    QPalette,
    QResizeEvent,
    QStandardItemModel,
)
from PyQt5.QtWidgets import (
    QAction,
    QComboBox,
    QLabel,
    QMainWindow,
    QMenu,
    QShortcut,
    QSizePolicy,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QToolBar,
    QToolButton,
    QWidget,
)

from ..core.schemes import is_network
from ..session.state import Catalogue, Choice, Offer, SessionState
from . import texts
from .actions import Actions, icon
from .ports import SAMPLE, RunController, Settings

PATTERN = "pattern:?size=1280x720&fps=30&boxes=4"
_LONGEST = 34
ROOMY_PX = 1100  # of the toolbar, for titles of the pickers
PAD, WIDEST = 6, 600  # of the lists of models and engines, logical pixels


class SourceButton(QToolButton):
    """Shows the current source; its menu offers all others."""

    chosen = pyqtSignal(str)

    def __init__(self, controller: RunController, settings: Settings, actions: Actions) -> None:
        super().__init__()
        self._controller, self._settings, self._actions = controller, settings, actions
        self.setObjectName("source")
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.setAccessibleName(texts.SOURCE)
        self.setToolTip(texts.SOURCE_TIP)
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        menu.aboutToShow.connect(self.fill)
        self.setMenu(menu)

    def set_label(self, label: str) -> None:
        name = _short(label) or texts.SOURCE
        if name != self.text():
            self.setText(name)
            self.setToolTip(f"{texts.SOURCE_TIP}\n{label}")
            self.setAccessibleDescription(label)

    def fill(self) -> None:
        menu = self.menu()
        assert menu is not None
        menu.clear()
        menu.addSection(texts.CAMERAS)
        cameras = self._controller.catalogue().cameras
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
            self._add(menu, texts.NO_CAMERAS, "").setEnabled(False)
        menu.addAction(texts.LOOK_AGAIN, self._controller.refresh)
        menu.addSeparator()
        for name in ("open_file", "open_folder", "open_url"):
            menu.addAction(self._actions[name])
        menu.addSeparator()
        self._add(menu, texts.SAMPLE, SAMPLE)
        self._add(menu, texts.PATTERN, PATTERN)
        recent = self._settings.words("recent")
        if recent:
            menu.addSection(texts.RECENT)
            for uri in recent:
                self._add(menu, _short(uri), uri)

    def _add(self, menu: QMenu, title: str, uri: str) -> QAction:
        action = menu.addAction(title.replace("&", "&&"))
        assert action is not None
        action.setData(uri)
        action.setToolTip(uri)
        action.triggered.connect(lambda: self.chosen.emit(uri))
        return action


def dropped_source(data: QMimeData | None) -> str | None:
    """The path or network address in a drop; None if there is neither."""
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
    """A label that fits the button: the file's name, or the end of a long address."""
    if label == SAMPLE:
        return texts.SAMPLE
    if label.startswith("pattern:"):
        return texts.PATTERN
    name = Path(label).name if "://" not in label and "/" in label else label
    return name if len(name) <= _LONGEST else "…" + name[-_LONGEST:]


TOOLS = "pause step | snapshot record | fit full_screen | controls zones instruments"


class ToolBar(QToolBar):
    """Pickers to the left, tools to the right."""

    choice_made = pyqtSignal(object)  # a Choice

    def __init__(
        self, parent: QMainWindow, controller: RunController, settings: Settings, actions: Actions
    ) -> None:
        super().__init__(texts.TOOLBAR, parent)
        self.setObjectName("tools")
        self.setMovable(False)
        self.setIconSize(QSize(20, 20))
        self._titles: list[QAction | None] = []
        self.source = SourceButton(controller, settings, actions)
        self.model = _Picker(texts.MODEL, texts.MODEL_TIP, 150)
        self.engine = _Picker(texts.ENGINE, texts.ENGINE_TIP, 90)
        for label, picker in (
            (texts.SOURCE, self.source),
            (f"&{texts.MODEL}", self.model),
            (f"&{texts.ENGINE}", self.engine),
        ):
            title = QLabel(label)
            title.setBuddy(picker)
            self._titles.append(self.addWidget(title))
            self.addWidget(picker)
        # a label's own key only moves the focus to the button
        key = QShortcut(QKeySequence("Alt+S"), parent)
        key.activated.connect(self.source.showMenu)
        gap = QWidget()
        gap.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.addWidget(gap)
        for name in TOOLS.split():
            if name == "|":
                self.addSeparator()
            else:
                self.addAction(actions[name])
                button = self.widgetForAction(actions[name])
                if isinstance(button, QToolButton):
                    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
                    button.setAccessibleName(actions[name].iconText())
        for picker in (self.model, self.engine):
            picker.activated.connect(self._chosen)

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802 - Qt's name
        """Leave out what the pickers are called where there is no room for all tools."""
        super().resizeEvent(event)
        for title in self._titles:
            if title is not None:
                title.setVisible(self.width() >= ROOMY_PX)

    def restyle(self, ink: QColor) -> None:
        more = self.findChild(QToolButton, "qt_toolbar_ext_button")
        if isinstance(more, QToolButton):
            more.setIcon(icon("more", ink))
            more.setAccessibleName(texts.MORE_TOOLS)
            more.setToolTip(texts.MORE_TOOLS)

    def show_state(self, state: SessionState, catalogue: Catalogue) -> None:
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

    def _chosen(self) -> None:
        model, engine = (each.currentData() for each in (self.model, self.engine))
        self.choice_made.emit(Choice(model or None, engine or "auto"))


DETAIL = Qt.ItemDataRole.UserRole + 1


class _TwoLines(QStyledItemDelegate):
    """An offer's name, and under it what is to be known before it is chosen."""

    def paint(
        self, painter: QPainter | None, option: QStyleOptionViewItem, index: QModelIndex
    ) -> None:
        """Let the style draw ground and name in the upper part, and write the rest below."""
        detail = index.data(DETAIL)
        if painter is None or not detail:
            super().paint(painter, option, index)
            return
        whole = QRect(option.rect)
        chosen = bool(option.state & QStyle.StateFlag.State_Selected)
        roles = QPalette.ColorRole
        if chosen:  # one ground under both lines
            painter.fillRect(whole, option.palette.color(roles.Highlight))
            option.state &= ~QStyle.StateFlag.State_Selected  # type: ignore[assignment]
            option.palette.setColor(roles.Text, option.palette.color(roles.HighlightedText))
        option.rect = QRect(whole.x(), whole.y(), whole.width(), whole.height() * 11 // 20)
        super().paint(painter, option, index)
        painter.save()
        font = QFont(option.font)
        font.setPointSizeF(font.pointSizeF() * 0.85)
        painter.setFont(font)
        ink = roles.HighlightedText if chosen else roles.PlaceholderText
        painter.setPen(option.palette.color(ink))
        below = whole.adjusted(PAD, option.rect.height(), -PAD, 0)
        flags = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop
        line = QFontMetrics(font).elidedText(detail, Qt.TextElideMode.ElideRight, below.width())
        painter.drawText(below, flags, line)
        painter.restore()

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:  # noqa: N802
        """Two lines where there is something to tell."""
        size = super().sizeHint(option, index)
        if detail := index.data(DETAIL):
            wanted = option.fontMetrics.horizontalAdvance(detail) + 2 * PAD
            size = QSize(max(size.width(), min(wanted, WIDEST)), 2 * size.height() + 2)
        return size


class _Picker(QComboBox):
    """A list of offers, not changed while it is open."""

    def __init__(self, name: str, tip: str, width: int) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setToolTip(tip)
        self.setMinimumWidth(width)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self._offers: list[Offer] = []
        self.setItemDelegate(_TwoLines(self))

    def show_offers(self, offers: list[Offer], value: str) -> None:
        """List these offers and select the one with this value."""
        view = self.view()
        if view is not None and view.isVisible():
            return
        if offers != self._offers:
            self._offers = offers
            self.clear()
            model = self.model()
            for row, offer in enumerate(offers):
                self.addItem(offer.title, offer.value)
                told = _told(offer)
                self.setItemData(row, told, DETAIL)
                self.setItemData(row, told, Qt.ItemDataRole.ToolTipRole)
                item = model.item(row) if isinstance(model, QStandardItemModel) else None
                if item is not None:
                    item.setEnabled(not offer.refused)
            if view is not None:
                view.setMinimumWidth(view.sizeHintForColumn(0) + 2 * PAD)
        row = self.findData(value)
        if row >= 0 and row != self.currentIndex():
            self.setCurrentIndex(row)


def _told(offer: Offer) -> str:
    """What is to be known before it is chosen."""
    if offer.refused:
        return texts.REFUSED.format(why=offer.refused)
    classes = [texts.CLASS_COUNT.format(count=offer.classes)] if offer.classes else []
    parts = [*classes, offer.detail, texts.TO_FETCH if offer.to_fetch else ""]
    return " · ".join(part for part in parts if part)
