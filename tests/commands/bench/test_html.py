"""The page: whole, self-contained, well-formed, and every kind of report has its plots."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from app.commands.bench import charts as svg
from app.commands.bench.report import page

SHORT = ("--max-frames", "20", "--seconds", "0.3")
SWEEP = (
    "--engine",
    "cpu",
    "--rounds",
    "1",
    "--max-frames",
    "20",
    "--sweep",
    "transfer=auto,mapped",
)
VOID = {"meta", "br"}


class Balanced(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        """Opened and closed in one."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(html: str) -> str:
    parser = Balanced()
    parser.feed(html)
    assert not parser.open
    assert not re.search(r"https?://|<script|<link|<img", html), "one file, nothing from elsewhere"
    for number in re.findall(r' (?:x|y|width|height|cx|cy)="([^"]+)"', html):
        assert 0 <= float(number) < 10_000
    return " ".join(parser.texts)


@pytest.mark.parametrize(
    ("words", "plots", "told"),
    [
        (SHORT, 3, ("preprocess", "Age of results", "Roofline", "energy")),
        (SWEEP, 1, ("transfer=auto", "Refused", "nothing to transfer")),
        (("--startup", "--rounds", "1", "--source", "pattern:"), 2, ("model loads", "numpy")),
    ],
)
def test_every_kind_of_report_has_its_page(
    words: tuple[str, ...], plots: int, told: tuple[str, ...], bench: Any, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    report = bench(*words, "--html", str(path))
    html = path.read_text()
    text = read(html)
    assert html.count("<svg") == plots and html == page(report)
    for word in told:
        assert word in text


def test_what_is_unavailable_is_never_0(bench: Any) -> None:
    report = bench(*SHORT)
    for part in (report["energy"], report["throughput"]["load"]):
        part.update(dict.fromkeys(part))
    report["energy"]["reason"] = "no sensor"
    html = page(report)
    assert "energy</td><td>unavailable: no sensor<" in html
    assert "load</td><td>not told<" in html


def test_names_cannot_break_the_page(bench: Any) -> None:
    report = bench(*SHORT)
    report["model"] = report["throughput"]["source"] = "<b>&\"'"
    assert "<b>" not in page(report)
    assert "<b>&\"'" in read(page(report))


def test_bars_without_length_and_values_of_any_size_are_drawn() -> None:
    for value in (0.0, 1e-6, 3.0, 1e6):
        assert "<rect" in svg.bars([svg.Bar("a", value, "text", marks=(0, value))], unit="ms")
    assert svg.lines([svg.Series("a", [1.0])], unit="ms", across="time")
