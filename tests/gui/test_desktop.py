"""The application, started as its users start it, on a virtual display.

A real window on a virtual display, a keyboard, and a camera on the network that is switched off
and on again. ``KESTREL_SCREENSHOTS=FOLDER`` keeps the pictures, to be looked at.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from app.core.overlay import colour_of
from app.sources.uri import SAMPLE_PATH
from tests.gui.x11 import Keyboard, NetworkCamera, clip_as_jpegs, screenshot, wait_for, x_display
from tests.sinks.kit import ROOT

PERSON = np.array(colour_of(0)[::-1])  # BGR, as in the picture
INFO, ALERT = np.array([0x57, 0x35, 0x1D]), np.array([0x22, 0x1F, 0x4D])  # grounds of banners
START_S = 90.0


def command() -> list[str]:
    """``scripts/run``; where .venv is a link to another's environment, what it would start."""
    if (ROOT / ".venv").is_symlink() or not (ROOT / ".venv").exists():
        return [sys.executable, "-m", "app"]
    return [str(ROOT / "scripts" / "run")]


def near(picture: np.ndarray, colour: np.ndarray, within: int = 6) -> int:
    """How many pixels have about this colour."""
    return int((np.abs(picture.astype(int) - colour).max(axis=2) <= within).sum())


@pytest.fixture
def display():
    with x_display() as name:
        yield name


@pytest.fixture
def camera():
    camera = NetworkCamera(clip_as_jpegs(SAMPLE_PATH, first=140, count=30))
    camera.on()
    yield camera
    camera.off()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("KESTREL_SCREENSHOTS", tmp_path / "pictures"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def start(display: str, tmp_path: Path):
    """``start(WORDS…)``: the application on the display, with a home of its own."""
    running = []
    hidden = ("QT_", "DISPLAY", "WAYLAND_DISPLAY", "XDG_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    env |= {"DISPLAY": display, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    env |= {"XDG_RUNTIME_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}

    def run(*words: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [*command(), *words],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()


def children_of(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.slow
def test_a_day_at_the_desk(display, camera, start, pictures: Path, tmp_path: Path) -> None:
    keyboard = Keyboard(display)
    process = start("--source", camera.uri, "--window")
    keyboard.find("Kestrel", START_S)

    def look(name: str) -> np.ndarray:
        return screenshot(display, pictures / f"{name}.png")

    # 1: live, with detections
    wait_for(lambda: near(look("live"), PERSON) > 500, START_S)

    # a snapshot by key
    keyboard.press("s")
    saved = tmp_path / "Pictures" / "Kestrel"
    wait_for(lambda: list(saved.glob("*.json")), 20)
    (line,) = saved.glob("*.json")
    assert "person" in {each["label"] for each in json.loads(line.read_text())["detections"]}
    assert len(list(saved.glob("*.png"))) == 2

    # 2: the camera is lost …
    wait_for(lambda: near(look("saved"), INFO) > 2000, 10)
    camera.off()
    wait_for(lambda: near(look("camera_lost"), ALERT) > 2000, 30)
    wait_for(lambda: near(look("camera_lost"), PERSON) < 100, 30)  # the picture is dimmed
    # … and comes back by itself
    camera.on()
    wait_for(lambda: near(look("back"), PERSON) > 500, 40)
    assert near(look("back"), ALERT) < 1000, "the banner is still there"

    # 3: instruments
    keyboard.press("F10")
    wait_for(lambda: near(look("instruments"), np.array([0xFF, 0xA3, 0x4A]), 30) > 30, 30)
    if "KESTREL_SCREENSHOTS" in os.environ:  # plots to look at need some seconds
        time.sleep(6)
        look("instruments")

    # closing ends everything, decoder process included, within 2 s
    helpers = [*children_of(process.pid)]
    assert helpers, "the stream is decoded in a process of its own"
    began_s = time.monotonic()
    keyboard.press("q")
    out, told = process.communicate(timeout=60)
    ended_s = time.monotonic() - began_s
    assert process.returncode == 0, told
    assert "processed" in out and "Traceback" not in told
    assert not any(Path(f"/proc/{pid}").exists() for pid in helpers)
    assert ended_s < 30, "a bound for a busy machine; scripts/measure_gui.py measures it"


@pytest.mark.slow
def test_first_run_shows_the_clip_and_how_to_choose_a_camera(display, start, pictures) -> None:
    keyboard = Keyboard(display)
    process = start("--source", "sample:")
    keyboard.find("Kestrel", START_S)
    wait_for(lambda: near(screenshot(display, pictures / "first_run.png"), PERSON) > 300, START_S)
    assert near(screenshot(display, pictures / "first_run.png"), INFO) > 2000, "no hint is shown"
    keyboard.press("Escape")  # the hint
    wait_for(lambda: near(screenshot(display, pictures / "hint_gone.png"), INFO) < 500, 10)
    keyboard.press("q")
    out, told = process.communicate(timeout=30)
    assert process.returncode == 0, told
    assert "person" in out
