"""Can a window be opened?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from app.tools.doctor.finding import Finding, Section, only, warning
from app.tools.doctor.probe import Probe

PLUGINS = "QT_QPA_PLATFORM_PLUGIN_PATH"
# cv2 first, as in a run: it is what steers Qt to plugins of its own
ASK = """
import json
from app.display import find_display
from app.errors import ConfigError
found, qt, fault = find_display(), None, ""
try:
    from app.sources._cv2 import load_cv2
    load_cv2()
except (ImportError, ConfigError):
    pass
try:
    from PyQt5.QtCore import QT_VERSION_STR as qt
    from app.gui.qt_env import prepare_qt
    if found.usable:
        prepare_qt()
except (ImportError, ConfigError) as error:
    fault = str(error)
print(json.dumps({"display": found.usable, "reason": found.reason, "qt": qt, "fault": fault}))
"""


@dataclass(frozen=True, slots=True)
class WindowFacts:
    """``plugins``: what the user's environment says about Qt's plugins, ours is set later."""

    display: bool
    reason: str
    qt: str | None
    fault: str
    plugins: str | None
    plugins_there: bool


def gather(probe: Probe) -> WindowFacts:
    """Look for the display and for Qt in a child: Qt ends a process that lacks something."""
    told, fault = probe.python(ASK)
    told = told or {"display": False, "reason": fault, "qt": None, "fault": fault}
    plugins = probe.environ.get(PLUGINS)
    return WindowFacts(
        display=bool(told["display"]),
        reason=str(told["reason"]),
        qt=told["qt"],
        fault=str(told["fault"]),
        plugins=plugins,
        plugins_there=bool(plugins) and probe.path(str(plugins)).is_dir(),
    )


def check_display(facts: WindowFacts) -> Finding | None:
    """Only the window needs one."""
    if facts.display:
        return None
    return warning(
        f"no window: {facts.reason}",
        "log in at the desktop, or use ssh -X; without one Kestrel runs --headless",
    )


def check_qt(facts: WindowFacts) -> Finding | None:
    """What PyQt5 lacks; only where there is a display to use it on."""
    if not facts.display or (facts.qt and not facts.fault):
        return None
    if facts.qt is None:
        return warning(
            f"PyQt5 does not load: {facts.fault}",
            "scripts/setup (aarch64: sudo apt install python3-pyqt5), or run --headless",
        )
    return warning("PyQt5 cannot open a window", facts.fault)


def check_plugins(facts: WindowFacts) -> Finding | None:
    """OpenCV's own setting is dropped by Kestrel; what the user exported is not."""
    if facts.plugins is None:
        return None
    if "cv2" in Path(facts.plugins).parts:
        return warning(
            f"{PLUGINS} is exported and names OpenCV's Qt plugins, with which PyQt5 aborts "
            "(Kestrel drops it for itself)",
            f"unset {PLUGINS}, also in your shell's start files",
        )
    if facts.plugins_there:
        return None
    return warning(
        f"{PLUGINS} names {facts.plugins}, which is not there, so Qt finds no plugin",
        f"unset {PLUGINS}",
    )


CHECKS = (check_display, check_qt, check_plugins)


def look(probe: Probe) -> Section:
    """The subject."""
    facts = gather(probe)
    lines = [f"{facts.reason}; PyQt5 {f'(Qt {facts.qt})' if facts.qt else 'none'}"]
    return Section("window", lines, asdict(facts), only(check(facts) for check in CHECKS))
