#!/usr/bin/env python3
"""Makes the README's picture: a real window on a virtual display, playing the bundled clip.

Needs Xvfb (Debian: xvfb). The picture is taken while two people pass one another in the clip.

    python scripts/make_screenshot.py [OUT.png] [dark|light]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = ROOT / "scripts" / "results" / "window.png"
CLIP_S = 6.0  # two people, by construction (app/sources/sample.README.md)
SETTINGS = """track = true
[[line]]
name = "middle"
points = [[0.5, 0.95], [0.5, 0.1]]
labels = ["person"]
"""
GRAB = """
import sys
from PyQt5.QtWidgets import QApplication
app = QApplication([])
shot = app.primaryScreen().grabWindow(0)
image = shot.toImage()
# the window lies on a black screen: its first column and row that are not black end it
w = max(x for x in range(image.width()) if image.pixel(x, 5) & 0xFFFFFF) + 1
h = max(y for y in range(image.height()) if image.pixel(w - 5, y) & 0xFFFFFF) + 1
sys.exit(0 if shot.copy(0, 0, w, h).save(sys.argv[1]) else 1)
"""


def main() -> int:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    theme = sys.argv[2] if len(sys.argv) > 2 else "dark"
    with tempfile.TemporaryDirectory() as home:
        # nothing of the user's own window is in the picture, and no hint of the first run
        ini = Path(home, "kestrel", "kestrel.ini")
        ini.parent.mkdir()
        ini.write_text(f"[General]\nhint_seen=true\ntheme={theme}\n")
        settings = Path(home, "kestrel.toml")
        settings.write_text(SETTINGS)
        with virtual_display("1280x860x24") as display:
            env = {**os.environ, "XDG_CONFIG_HOME": home, "DISPLAY": display}
            env.pop("QT_QPA_PLATFORM", None)
            return _take(out, settings, env)


@contextmanager
def virtual_display(size: str) -> Iterator[str]:
    """The name of a display of ``size``, WIDTHxHEIGHTxDEPTH; exits where Xvfb is missing."""
    program = shutil.which("Xvfb")
    if program is None:
        sys.exit("no Xvfb here (apt install xvfb)")
    xvfb = subprocess.Popen(
        [program, "-displayfd", "1", "-screen", "0", size],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert xvfb.stdout is not None
        yield f":{xvfb.stdout.readline().strip()}"
    finally:
        xvfb.terminate()
        xvfb.communicate()


def _take(out: Path, settings: Path, env: dict[str, str]) -> int:
    app = subprocess.Popen(
        [sys.executable, "-m", "app", "--source", "sample:", "--config", str(settings)],
        cwd=ROOT,
        env=env,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert app.stderr is not None
        for line in app.stderr:
            print(line, end="")
            if "engine" in line:  # from here on the clip plays by its own clock
                break
        else:
            return 1  # it ended before it began; what it said is above
        time.sleep(CLIP_S)
        return subprocess.run(
            [sys.executable, "-c", GRAB, str(out)], env=env, check=False
        ).returncode
    finally:
        app.terminate()
        app.communicate()


if __name__ == "__main__":
    sys.exit(main())
