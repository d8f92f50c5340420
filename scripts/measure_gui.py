#!/usr/bin/env python3
"""Measures what a real window on a virtual display costs, and whether it stays responsive.

A 1080p30 clip with people in it plays in a loop while the window is resized, covered, minimised and
shown again. Measured:

- blocking: how long each event that Qt hands to our code keeps the GUI thread (wall time), and how
  late a 4 ms timer is (which also counts Qt itself and what the system does to us)
- paint: the view's paint event, wall and CPU time
- FPS: whole runs of the same clip with a window and headless, in turn; the median of the shares
- memory: resident, from the end of the warm-up to the end of the run
- closing: from the window's closing until every thread and process of ours has ended

    python scripts/measure_gui.py [--minutes 30] [--rounds 3] [--instruments] [--json FILE]

Needs Xvfb (Debian: xvfb). Figures for publication need a quiet machine; ``taskset -c 0,1`` limits
the cores.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, perf_counter_ns, thread_time_ns
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2
import numpy as np
import psutil

from app.commands.soak import trend
from app.config import Config
from app.ops.machine import device
from app.runtime.run import prepare_engine
from app.runtime.window import CLOSE_S, WindowController, WindowSource
from app.sinks.video import H264Writer
from app.sources.uri import SAMPLE_PATH
from scripts.make_screenshot import virtual_display

ROOT = Path(__file__).parents[1]
OUT = ROOT / "scripts" / "results" / f"gui_{datetime.date.today().isoformat()}.json"
BEAT_MS = 4
WARM_UP_S = 30.0
LIMITS = {  # figure: its highest or lowest value
    "blocking_ms_p99": 16.0,
    "blocking_ms_worst": 50.0,
    "paint_wall_ms_p50": 4.0,
    "memory_growth_mb": 5.0,
    "close_s": 2.0,
}


def main() -> int:
    """Clip, headless run, window; prints and writes the figures. 1 if a limit is broken."""
    args = _arguments()
    with tempfile.TemporaryDirectory(prefix="kestrel_gui_") as folder:
        clip = Path(folder, "clip_1080p30.mp4")
        _make_clip(clip, seconds=args.clip_seconds)
        with virtual_display("1920x1080x24") as display:
            # settings of its own
            os.environ.update({"DISPLAY": display, "XDG_CONFIG_HOME": folder})
            os.environ.pop("QT_QPA_PLATFORM", None)
            figures = _compare_fps(clip, Path(folder), args)
            figures |= _measure_window(clip, Path(folder), args)
    report = {
        "command": " ".join(["scripts/measure_gui.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "device": device(),
        "minutes": args.minutes,
        "instruments": args.instruments,
        "source": f"1920x1080 at 30 frames/s, H.264, {args.clip_seconds:g} s in a loop",
        "figures": figures,
    }
    print(json.dumps(report, indent=1))
    args.json.write_text(json.dumps(report, indent=1) + "\n")
    broken = [name for name, limit in LIMITS.items() if figures[name] > limit]
    broken += ["fps_share"] if figures["fps_share"] < 0.9 else []
    broken += [name for name in ("threads_left", "processes_left") if figures[name]]
    print("limits broken:", ", ".join(broken) or "none", file=sys.stderr)
    return 1 if broken else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What does the window cost?")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clip-seconds", type=float, default=20.0)
    parser.add_argument("--instruments", action="store_true", help="with the plots open")
    parser.add_argument("--rounds", type=int, default=3, help="of window and headless, in turn")
    parser.add_argument("--json", metavar="FILE", type=Path, default=OUT)
    return parser.parse_args()


def _make_clip(path: Path, *, seconds: float) -> None:
    """The bundled clip, enlarged to 1080p and slowed to 30 frames a second."""
    capture = cv2.VideoCapture(str(SAMPLE_PATH))
    writer = H264Writer(path, (1920, 1080), 30.0)
    for index in range(round(seconds * 30)):
        if index % 3 != 2:  # 20 frames a second become 30
            ok, frame = capture.read()
            if not ok:
                capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
                ok, frame = capture.read()
            large = cv2.resize(frame, (1920, 1080), interpolation=cv2.INTER_CUBIC)
        writer.write(np.asarray(large, np.uint8), round(index * 1e9 / 30))
    writer.close()
    capture.release()


def _compare_fps(clip: Path, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Whole runs in turn, so that what else the machine does meets both alike."""
    ini = folder / "kestrel" / "kestrel.ini"
    ini.parent.mkdir()
    ini.write_text(f"[General]\ninstruments_open={str(args.instruments).lower()}\n")
    runs = [
        (_fps(clip, folder, "--window"), _fps(clip, folder, "--headless"))
        for _ in range(args.rounds)
    ]
    return {
        "fps_window": [window for window, _ in runs],
        "fps_headless": [headless for _, headless in runs],
        "fps_share": round(statistics.median(w / h for w, h in runs), 3),
    }


def _fps(clip: Path, folder: Path, flag: str) -> float:
    """A run with an output ends with its clip, with a window too."""
    words = ["run", flag, "--source", str(clip), "--json", str(folder / "lines.jsonl")]
    words.append("--overwrite")
    done = subprocess.run(
        [sys.executable, "-m", "app", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    match = re.search(r"^FPS +([0-9.]+)", done.stdout, re.MULTILINE)
    assert match, done.stdout + done.stderr
    return float(match[1])


class Samples:
    """Numbers in memory that is taken and touched before the run, so that it does not count as
    growth of what is measured: half an hour of a 4 ms beat as Python's floats would be 15 MB.
    """

    def __init__(self, most: int = 2_000_000) -> None:
        self._values, self._count = np.zeros(most, np.float32), 0
        self._values.fill(1)

    def append(self, value: float) -> None:
        if self._count < len(self._values):
            self._values[self._count] = value
            self._count += 1

    def __len__(self) -> int:
        return self._count

    def clear(self) -> None:
        self._count = 0

    def all(self) -> np.ndarray:
        return self._values[: self._count]


class Meter:
    """Wall and CPU times of calls."""

    def __init__(self) -> None:
        self.wall_ms, self.cpu_ms = Samples(), Samples()

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*args: Any) -> Any:
            wall_ns, cpu_ns = perf_counter_ns(), thread_time_ns()
            try:
                return call(*args)
            finally:
                self.cpu_ms.append((thread_time_ns() - cpu_ns) / 1e6)
                self.wall_ms.append((perf_counter_ns() - wall_ns) / 1e6)

        return measured


def _measure_window(clip: Path, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    from app.gui.window import prepare_qt

    prepare_qt()
    from PyQt5.QtCore import Qt, QTimer
    from PyQt5.QtWidgets import QApplication, QWidget

    from app.gui.instruments import Hud
    from app.gui.main_window import MainWindow
    from app.gui.messages import Banner
    from app.gui.ports import Settings
    from app.gui.view import ResultView

    events, paints, late_ms = Meter(), Meter(), Samples()
    app = QApplication(["measure_gui"])
    # what Qt calls: all of our code on the GUI thread runs inside one of these
    ResultView.paintEvent = paints.around(ResultView.paintEvent)  # type: ignore[method-assign]
    for name in ("tick", "keyPressEvent", "closeEvent"):
        setattr(MainWindow, name, events.around(getattr(MainWindow, name)))
    for name in ("_show", "resizeEvent", "showEvent"):
        setattr(ResultView, name, events.around(getattr(ResultView, name)))
    for kind in (Hud, Banner):
        setattr(kind, "paintEvent", events.around(kind.paintEvent))  # noqa: B010 - mypy's wish

    config = Config(source=str(clip))
    controller = WindowController(
        config, [WindowSource(str(clip))], prepare=prepare_engine, loop=True
    )
    controller.session.start(str(clip))
    settings = Settings(folder / "settings.ini")
    settings.set("instruments_open", args.instruments)
    window = MainWindow(controller.views, settings, ended=app.quit)
    cover = QWidget(flags=Qt.WindowType.FramelessWindowHint)
    process, memory_mb = psutil.Process(), list[float]()
    began_s = monotonic()
    warm_s = min(WARM_UP_S, args.minutes * 60 / 3)
    beat = QTimer(window)
    beat.setTimerType(Qt.TimerType.PreciseTimer)
    last_ns = perf_counter_ns()

    def on_beat() -> None:
        nonlocal last_ns
        now_ns = perf_counter_ns()
        late_ms.append(max(0.0, (now_ns - last_ns) / 1e6 - BEAT_MS))
        last_ns = now_ns

    def on_second() -> None:
        if monotonic() - began_s < warm_s:
            for each in (events.wall_ms, events.cpu_ms, paints.wall_ms, paints.cpu_ms, late_ms):
                each.clear()  # start-up: imports, first frame, first layout
        else:
            memory_mb.append(process.memory_info().rss / 1e6)

    turn = 0

    def disturb() -> None:
        nonlocal turn
        turn += 1
        if turn % 6 == 1:
            window.resize(900, 600)
        elif turn % 6 == 2:
            cover.setGeometry(0, 0, 700, 500)
            cover.show()
        elif turn % 6 == 3:
            window.resize(1500, 900)
        elif turn % 6 == 4:
            cover.hide()
            window.showMinimized()
        elif turn % 6 == 5:
            window.showNormal()
        else:
            window.resize(1200, 760)

    timers = [(beat, BEAT_MS, on_beat)]
    timers += [(QTimer(window), 1000, on_second), (QTimer(window), 5000, disturb)]
    for timer, interval_ms, action in timers:
        timer.timeout.connect(action)
        timer.start(interval_ms)
    last = QTimer(window)
    last.setSingleShot(True)
    last.timeout.connect(app.quit)
    last.start(round(args.minutes * 60_000))
    window.show()
    app.exec_()
    closed_s = monotonic()
    window.close()
    controller.session.stop()
    controller.session.join(CLOSE_S)
    left = [each.name for each in threading.enumerate() if each is not threading.main_thread()]
    figures = {
        **_spread("blocking_ms", events.wall_ms, paints.wall_ms),
        **_spread("blocking_cpu_ms", events.cpu_ms, paints.cpu_ms),
        **_spread("late_ms", late_ms),
        **_spread("paint_wall_ms", paints.wall_ms),
        **_spread("paint_cpu_ms", paints.cpu_ms),
        "paints": len(paints.wall_ms),
        "memory_mb": round(memory_mb[-1], 1),
        "memory_growth_mb": round(_growth(memory_mb), 2),
        "memory_trend_mb": _trend(memory_mb),
        "memory_mb_each_minute": [round(mb, 1) for mb in memory_mb[59::60]],
        "close_s": round(monotonic() - closed_s, 3),
        "threads_left": left,
        "processes_left": [c.name() for c in process.children() if c.name() != "Xvfb"],
    }
    window.deleteLater()
    return figures


def _spread(name: str, *samples: Samples) -> dict[str, float]:
    values = np.concatenate([each.all() for each in samples])
    p50, p99, worst = np.percentile(values, (50, 99, 100))
    return {
        f"{name}_p50": round(float(p50), 3),
        f"{name}_p99": round(float(p99), 3),
        f"{name}_worst": round(float(worst), 3),
    }


def _growth(memory_mb: list[float]) -> float:
    """From the first fifth's mean to the last fifth's, over many turns of the clip.

    Means, not medians: the clip is opened anew each time it ends, and has one frame more or less
    in flight each time: resident memory moves in steps of a frame (6.2 MB), on either of which a
    median may fall.
    """
    fifth = max(1, len(memory_mb) // 5)
    return statistics.fmean(memory_mb[-fifth:]) - statistics.fmean(memory_mb[:fifth])


def _trend(memory_mb: list[float]) -> dict[str, float] | None:
    """MB over the whole run, the likeliest and the bounds with 99 % confidence."""
    found = trend(range(len(memory_mb)), memory_mb)
    if found is None:
        return None
    slopes = {"low": found.low, "likeliest": found.slope, "high": found.high}
    return {name: round(slope * found.span_s, 2) for name, slope in slopes.items()}


if __name__ == "__main__":
    sys.exit(main())
