"""Dark or light colours, as the desktop wants them."""

from __future__ import annotations

import os
from collections.abc import Callable

from PyQt5.QtGui import QColor, QPalette
from PyQt5.QtWidgets import QApplication

_DARK = {
    QPalette.ColorRole.Window: "#1f2023",
    QPalette.ColorRole.WindowText: "#e6e6e8",
    QPalette.ColorRole.Base: "#2b2c31",
    QPalette.ColorRole.AlternateBase: "#313238",
    QPalette.ColorRole.Text: "#e6e6e8",
    QPalette.ColorRole.Button: "#34353b",
    QPalette.ColorRole.ButtonText: "#e6e6e8",
    QPalette.ColorRole.ToolTipBase: "#303136",
    QPalette.ColorRole.ToolTipText: "#f2f2f3",
    QPalette.ColorRole.BrightText: "#ff6b6b",
    QPalette.ColorRole.Link: "#5aa9ff",
    QPalette.ColorRole.Highlight: "#2f7de1",
    QPalette.ColorRole.HighlightedText: "#ffffff",
    QPalette.ColorRole.PlaceholderText: "#8b8d94",
    QPalette.ColorRole.Mid: "#3a3b40",
    QPalette.ColorRole.Dark: "#151618",
    QPalette.ColorRole.Shadow: "#0b0b0c",
}
_LIGHT = {
    QPalette.ColorRole.Window: "#f4f4f6",
    QPalette.ColorRole.WindowText: "#1d1d20",
    QPalette.ColorRole.Base: "#ffffff",
    QPalette.ColorRole.AlternateBase: "#f7f7f9",
    QPalette.ColorRole.Text: "#1d1d20",
    QPalette.ColorRole.Button: "#e9e9ec",
    QPalette.ColorRole.ButtonText: "#1d1d20",
    QPalette.ColorRole.ToolTipBase: "#fffff5",
    QPalette.ColorRole.ToolTipText: "#1d1d20",
    QPalette.ColorRole.BrightText: "#c92a2a",
    QPalette.ColorRole.Link: "#1864c9",
    QPalette.ColorRole.Highlight: "#2f7de1",
    QPalette.ColorRole.HighlightedText: "#ffffff",
    QPalette.ColorRole.PlaceholderText: "#77787f",
    QPalette.ColorRole.Mid: "#c9cad0",
    QPalette.ColorRole.Dark: "#a9aab0",
    QPalette.ColorRole.Shadow: "#77787f",
}
_FADED = (QPalette.ColorRole.WindowText, QPalette.ColorRole.Text, QPalette.ColorRole.ButtonText)


def palette(*, dark: bool) -> QPalette:
    """All colours of the window."""
    made = QPalette()
    for role, colour in (_DARK if dark else _LIGHT).items():
        made.setColor(role, QColor(colour))
    for role in _FADED:
        made.setColor(QPalette.ColorGroup.Disabled, role, QColor("#77787f" if dark else "#9fa0a6"))
    return made


class Theme:
    """Applies a theme, and follows the desktop's while the choice is "system".

    The desktop's portal is asked without waiting, as it may be stuck; until it answers, and where
    there is none, the platform's own colours and GTK_THEME decide.
    """

    def __init__(self, app: QApplication, changed: Callable[[], None]) -> None:
        self._app, self._changed = app, changed
        self._system_dark = _looks_dark(app.palette())
        self._choice = "system"
        self.is_dark = self._system_dark
        app.setStyle("Fusion")
        try:
            from .portal import Portal
        except ImportError:  # some systems ship PyQt5 in parts
            return
        self._portal = Portal(self.system_wants)

    def choose(self, choice: str) -> None:
        """ "system", "dark" or "light"."""
        self._choice = choice
        self._apply()

    def system_wants(self, dark: bool) -> None:
        """What the desktop says."""
        self._system_dark = dark
        self._apply()

    def _apply(self) -> None:
        self.is_dark = self._system_dark if self._choice == "system" else self._choice == "dark"
        self._app.setPalette(palette(dark=self.is_dark))
        self._app.setStyleSheet(_sheet(dark=self.is_dark))
        self._changed()


def _looks_dark(colours: QPalette) -> bool:
    if "dark" in os.environ.get("GTK_THEME", "").lower():
        return True
    return colours.color(QPalette.ColorRole.Window).lightness() < 128


def _sheet(*, dark: bool) -> str:
    """What a palette cannot say: quiet toolbars, roomy buttons, a focus that can be seen."""
    line = "#34353a" if dark else "#d5d6da"
    hover = "#37383d" if dark else "#dddee2"
    on = "#2a3f5f" if dark else "#cfe0f7"
    return f"""
    QToolBar {{ border: 0; border-bottom: 1px solid {line}; padding: 4px 8px; spacing: 4px; }}
    QToolBar QLabel {{ padding: 0 2px 0 8px; }}
    QToolBar QToolButton {{ border: 1px solid transparent; border-radius: 5px; padding: 4px 6px; }}
    QToolBar QToolButton:hover {{ background: {hover}; }}
    QToolBar QToolButton:checked {{ background: {on}; }}
    QToolBar QToolButton#qt_toolbar_ext_button {{ padding: 0; border: 0; }}
    QToolBar QToolButton:focus {{ border-color: palette(highlight); }}
    QToolBar QToolButton#source {{ background: palette(button); border-color: {line};
        padding: 4px 24px 4px 10px; min-width: 130px; text-align: left; }}
    QToolBar QToolButton#source::menu-indicator {{ subcontrol-position: right center;
        subcontrol-origin: padding; right: 8px; }}
    QDockWidget::title {{ padding: 6px 10px; background: palette(window);
        border-bottom: 1px solid {line}; }}
    QDockWidget::close-button {{ subcontrol-origin: margin; subcontrol-position: top right;
        right: 10px; top: 6px; width: 16px; height: 16px; }}
    QMainWindow::separator {{ background: {line}; width: 1px; height: 1px; }}
    QMenuBar {{ padding: 2px 4px; }}
    QGroupBox {{ border: 0; margin-top: 20px; font-weight: 600; }}
    QGroupBox::title {{ subcontrol-origin: margin; left: 0; }}
    QToolTip {{ padding: 4px; border: 1px solid {line}; }}
    """
