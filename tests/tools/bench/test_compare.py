"""Two reports of `bench` side by side: ratios, verdicts beyond noise, and what is no report."""

import copy
import json

import pytest

from app.cli import main
from app.errors import ConfigError
from app.tools.bench.compare import compare

REPORT = {
    "kestrel": "0.1.0",
    "device": {"cpu": "a processor"},
    "engine": "cpu",
    "model": "m",
    "throughput": {
        "source": "clip.mp4",
        "overall_fps": 100.0,
        "stages_ms": {"network": {"p50": 8.0}, "preprocess": {"p50": 0.5}},
    },
    "overload": {"overall_fps": 90.0, "service_ms": 9.0, "age_ms": {"p50": 10.0, "p99": 20.0}},
    "rss_mb": 150.0,
}


@pytest.fixture
def pair(tmp_path):
    def write(change):
        paths = [tmp_path / "a.json", tmp_path / "b.json"]
        other = copy.deepcopy(REPORT)
        change(other)
        for path, report in zip(paths, (REPORT, other), strict=True):
            path.write_text(json.dumps(report))
        return paths

    return write


def line(text, start):
    return next(row for row in text.splitlines() if row.startswith(start))


def test_faster_is_better_both_ways(pair):
    def change(report):
        report["throughput"]["overall_fps"] = 150.0
        report["throughput"]["stages_ms"]["network"]["p50"] = 4.0
        report["overload"]["age_ms"]["p99"] = 30.0

    text = compare(*pair(change))
    assert line(text, "throughput, FPS").split()[-2:] == ["1.50", "better"]
    assert line(text, "network p50, ms").split()[-2:] == ["0.50", "better"]
    assert line(text, "age under load p99, ms").split()[-2:] == ["1.50", "worse"]


def test_noise_is_no_difference(pair):
    text = compare(*pair(lambda report: report.update(rss_mb=153.0)))
    assert line(text, "memory, MB").split() == ["memory,", "MB", "150.00", "153.00", "1.02"]
    assert "better" not in text and "worse" not in text


def test_other_machines_and_stages_are_shown(pair):
    def change(report):
        report["device"]["cpu"] = "another"
        del report["throughput"]["stages_ms"]["preprocess"]

    text = compare(*pair(change))
    assert "A: a processor" in text and "B: another" in text
    assert "preprocess" not in text


def test_from_the_command_line(pair, capsys):
    first, second = pair(lambda report: None)
    assert main(["bench", "--compare", str(first), str(second)]) == 0
    assert "B / A" in capsys.readouterr().out
    assert main(["bench", "--compare", str(first), str(first.parent / "none.json")]) == 2
    assert "cannot read" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["no JSON", "[]", "{}", '{"throughput": 3}'])
def test_what_is_no_report_is_told(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"x\.json is no"):
        compare(path, path)
