"""Looks for a display that a window can open on, before Qt: it ends the process without one."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

TIMEOUT_S = 1.0
_NEEDS_NO_SERVER = ("offscreen", "minimal", "vnc", "eglfs", "linuxfb", "minimalegl", "webgl")

_x11_logins: dict[str, ctypes.c_void_p] = {}  # display name: connection, see _x11_admits


@dataclass(frozen=True, slots=True)
class Display:
    """What was found. ``reason`` says why there is none, or what it is."""

    usable: bool
    reason: str
    platform: str | None = None  # Qt's name for it; None leaves the choice to Qt
    named: bool = True  # the environment speaks of one, though it may not answer


def find_display(environ: Mapping[str, str] | None = None) -> Display:
    """Look for a display and try to reach it; takes 2 s at most, imports no Qt.

    QT_QPA_PLATFORM, where set, decides what is looked for. Else X11 comes before Wayland: Qt 5
    draws window frames everywhere on X11, and a Wayland desktop nearly always offers both.
    """
    env = os.environ if environ is None else environ
    asked = env.get("QT_QPA_PLATFORM", "")
    names = [each.split(":")[0] for each in asked.split(";") if each]
    for name in names:
        if name in _NEEDS_NO_SERVER:
            return Display(True, f"Qt platform {name} (QT_QPA_PLATFORM)", None)
    if sys.platform in ("win32", "darwin"):
        return Display(True, "the desktop", None)
    why = []
    if not names or "xcb" in names:
        fault = _x11_fault(env.get("DISPLAY", ""))
        if fault is None:
            return Display(True, f"X11 display {env['DISPLAY']}", "xcb")
        why.append(fault)
    if not names or any(name.startswith("wayland") for name in names):
        fault = _wayland_fault(env)
        if fault is None:
            return Display(True, f"Wayland display {env['WAYLAND_DISPLAY']}", "wayland")
        why.append(fault)
    if not why:
        why.append(f"QT_QPA_PLATFORM={asked} is no platform known here")
    named = any(env.get(name) for name in ("QT_QPA_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY"))
    return Display(False, "there is no display: " + ", ".join(why), named=named)


def _wayland_fault(env: Mapping[str, str]) -> str | None:
    name = env.get("WAYLAND_DISPLAY", "")
    if not name:
        return "WAYLAND_DISPLAY is not set"
    path = Path(env.get("XDG_RUNTIME_DIR", ""), name)  # name may be absolute
    if _connects(socket.AF_UNIX, str(path)):
        return None
    return f"nothing answers at WAYLAND_DISPLAY={name} ({path})"


def _x11_fault(name: str) -> str | None:
    if not name:
        return "DISPLAY is not set"
    match = re.fullmatch(r"(?:[a-z]+/)?(?P<host>[^/]*):(?P<number>\d+)(?:\.\d+)?", name)
    if match is None:
        return f"DISPLAY={name} is no display name (such as :0)"
    host, number = match["host"], int(match["number"])
    local = f"/tmp/.X11-unix/X{number}"  # where X servers listen
    if host in ("", "unix"):
        reached = any(_connects(socket.AF_UNIX, each) for each in (local, f"\0{local}"))
    else:
        reached = _connects_tcp(host.strip("[]"), 6000 + number)
    if not reached:
        return f"no X server answers at DISPLAY={name}"
    if not _x11_admits(name):
        return (
            f"the X server at DISPLAY={name} does not let us in (as root: keep the desktop "
            "user's XAUTHORITY, or run as that user)"
        )
    return None


def _connects(family: int, address: str) -> bool:
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe, suppress(OSError):
        probe.settimeout(TIMEOUT_S)
        probe.connect(address)
        return True
    return False


def _connects_tcp(host: str, port: int) -> bool:
    with suppress(OSError), closing(socket.create_connection((host, port), TIMEOUT_S)):
        return True
    return False


def _x11_admits(name: str) -> bool:
    """Log in with the user's cookie, as Qt will, by the library that it uses; True if unknown.

    The login stays open: a server that has no other client starts anew when its last one leaves,
    and Qt would run into that.
    """
    if name in _x11_logins:
        return True
    try:
        xcb = ctypes.CDLL("libxcb.so.1")
    except OSError:
        return True
    xcb.xcb_connect.restype = ctypes.c_void_p

    def log_in() -> None:
        for pause_s in (0.0, 0.1, 0.3):  # the server may be starting anew just now
            time.sleep(pause_s)
            login = ctypes.c_void_p(xcb.xcb_connect(name.encode(), None))
            if not xcb.xcb_connection_has_error(login):
                _x11_logins[name] = login
                return
            xcb.xcb_disconnect(login)

    # A server that accepts and then says nothing would hold us for ever.
    thread = Thread(target=log_in, name="x11-probe", daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)
    return name in _x11_logins
