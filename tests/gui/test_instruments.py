"""The plots and counts show what is measured, and say what is not known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PyQt5.QtCore import Qt
from PyQt5.QtGui import QColor
from PyQt5.QtWidgets import QApplication

from app.gui import instruments as module, texts
from app.gui.instruments import Instruments, counts_of
from app.session.state import Figures, MachineLoad
from tests.gui.kit import RUNNING
from tests.sinks.kit import LABELS, found, result

STATE = replace(
    RUNNING,
    figures=Figures(
        fps=25.0,
        capture_fps=30.0,
        age_p50_ms=7.0,
        age_p95_ms=12.0,
        stages_ms={"preprocess": 0.5, "network": 5.0},
        dropped={"replaced": 10},
    ),
    machine=MachineLoad(cpu_percent=55.0, memory_mb=180.0, temperature_c=None, power_w=None),
)


@pytest.fixture
def shown(qtbot, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("pyqtgraph")
    monkeypatch.setattr(module, "SAMPLE_S", 0.0)
    widget = Instruments()
    qtbot.addWidget(widget)
    widget.build()
    widget.restyle(ground=QColor("black"), ink=QColor("white"))
    widget.resize(1100, 260)
    widget.show()
    widget._next_s = float("inf")  # the plots are made first, without a sample
    for _ in range(6):
        tick(widget)
    widget._next_s = 0.0
    return widget


def tick(widget, state=STATE) -> None:
    widget.tick(lambda: {"": state}, "")


def plot(widget, title: str):
    (found_plot,) = [each for each in widget.plots if each.title == title]
    return found_plot


def fill(widget, state=STATE, times: int = 3) -> None:
    for _ in range(times):
        tick(widget, state)
        samples = widget.histories[""].last_minute
        for each in widget.plots:
            each.redraw(samples, now_s=module.monotonic(), whole=False)


def test_figures_are_in_the_plots(shown) -> None:
    fill(shown)
    assert plot(shown, texts.PLOTS["age"]).spoken() == "p50 7.0, p95 12.0"
    assert plot(shown, texts.PLOTS["stages"]).spoken() == "pre 0.5, network 5.0"
    assert "FPS 25.0, capture 30.0, drops 0.0" in plot(shown, texts.PLOTS["fps"]).spoken()
    curve = plot(shown, texts.PLOTS["age"])._curves["age_p95"]
    assert curve.getData()[1].tolist() == [12.0] * 3


def test_what_the_machine_does_not_tell_is_unavailable_and_never_zero(shown) -> None:
    fill(shown)
    assert plot(shown, texts.PLOTS["load"]).spoken() == "CPU 55.0, GPU unavailable"
    heat = plot(shown, texts.PLOTS["heat"])
    assert heat.spoken() == "°C unavailable, W unavailable"
    assert heat._curves == {}, "a curve was drawn for what is not known"
    assert "unavailable" in heat.legend.text()


def test_gap_stays_a_gap(shown) -> None:
    fill(shown, times=1)
    fill(shown, replace(STATE, figures=replace(STATE.figures, age_p50_ms=float("nan"))), times=1)
    fill(shown, times=1)
    values = plot(shown, texts.PLOTS["age"])._curves["age_p50"].getData()[1]
    assert np.isnan(values[1]) and values[0] == values[2] == 7.0


def test_drops_are_a_rate(shown, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: clock[0])
    fill(shown, times=1)
    clock[0] += 2.0
    more = replace(STATE.figures, dropped={"replaced": 14, "stale": 2})
    fill(shown, replace(STATE, figures=more), times=1)
    assert "drops 3.0" in plot(shown, texts.PLOTS["fps"]).spoken()


def test_plots_that_are_opened_late_begin_with_what_was_before(
    qtbot, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyqtgraph")
    monkeypatch.setattr(module, "SAMPLE_S", 0.0)
    widget = Instruments()
    qtbot.addWidget(widget)
    for _ in range(5):
        tick(widget)
    assert not widget.plots
    widget.build()
    widget.resize(1100, 260)
    widget.show()
    fill(widget, times=7)
    QApplication.processEvents()  # the layout shows them
    fill(widget, times=13)
    points = plot(widget, texts.PLOTS["age"])._curves["age_p50"].getData()[1]
    assert len(points) >= 20, "the samples of before are there too"


def test_memory_of_a_long_run_is_bounded(shown, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module, "monotonic", lambda: clock[0])
    monkeypatch.setattr(module, "SAMPLE_S", 1.0)
    for _ in range(400):
        clock[0] += 1.0
        tick(shown)
    history = shown.histories[""]
    assert len(history.last_minute) <= 61 and history.whole[0][0] == 1.0
    monkeypatch.setattr(module, "MOST_SAMPLES", 50)
    for _ in range(400):
        clock[0] += 1.0
        tick(shown)
    times = [at_s for at_s, _ in history.whole]
    assert times[0] == 1.0 and times[-1] > 760 and len(times) <= 50
    gaps = np.diff(times)
    assert gaps.max() <= 2 * gaps.min() + 1, "old samples are as dense as new ones"


def test_the_whole_run_is_shown_from_its_start(shown, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module, "monotonic", lambda: clock[0])
    monkeypatch.setattr(module, "SAMPLE_S", 0.5)
    for _ in range(300):
        clock[0] += 1.0
        tick(shown)
    for _ in range(6):
        tick(shown)
    curve = plot(shown, texts.PLOTS["age"])._curves["age_p50"]
    assert curve.getData()[0].min() >= -60
    shown.span.setCurrentIndex(1)
    for _ in range(6):
        tick(shown)
    assert curve.getData()[0].min() == -299


@pytest.mark.parametrize("span_s", [60, 61, 300, 3599, 86_400, 1e6])
def test_time_axes_have_a_few_ticks(span_s: float) -> None:
    ticks = module.time_ticks(span_s)
    assert 2 <= len(ticks) <= 4 and all(-span_s < at_s < 0 for at_s, _ in ticks)


def test_every_plot_is_painted_however_slow_ticks_are(shown, monkeypatch) -> None:
    """On a busy machine a sample is due at every tick."""
    drawn = set()
    for each in shown.plots:
        title = each.title
        monkeypatch.setattr(each, "redraw", lambda *args, title=title, **how: drawn.add(title))
    for _ in range(6):
        tick(shown)
    assert drawn == set(texts.PLOTS.values())


def test_one_plot_a_tick(shown, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(module, "SAMPLE_S", 100.0)
    for each in shown.plots:
        title = each.title
        monkeypatch.setattr(each, "redraw", lambda *args, title=title, **how: drawn.append(title))
    for _ in range(4):
        tick(shown)
    assert len(drawn) == 4 and len(set(drawn)) == 4


def test_table_counts_what_is_in_the_picture(shown) -> None:
    boxes = found(
        (1, 0.91, 0, 0, 9, 9), (0, 0.8, 0, 0, 9, 9), (1, 0.7, 0, 0, 9, 9), (2, 0.6, 0, 0, 9, 9)
    )
    shown.table.show_counts(counts_of(result(0, boxes), LABELS, frozenset({"face"})))
    rows = [
        [shown.table.item(row, column).text() for column in range(3)]
        for row in range(shown.table.rowCount())
    ]
    assert rows == [["dog", "2", "0.91"], ["person", "1", "0.80"]]
    shown.table.show_counts(counts_of(result(1), LABELS, frozenset()))
    assert shown.table.rowCount() == 0
    assert counts_of(result(0, boxes), (), frozenset())[0][1] == "class 1"


def test_without_pyqtgraph_the_table_stays_and_the_cure_is_told(
    qtbot, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyqtgraph", None)
    widget = Instruments()
    qtbot.addWidget(widget)
    widget.build()
    widget.build()
    assert widget.plots == [] and widget.table.parent() is not None
    labels = [each.text() for each in widget.findChildren(module.QLabel)]
    assert any("pip install" in text for text in labels)
    assert widget.table.focusPolicy() != Qt.FocusPolicy.NoFocus
