"""Two reports of `bench` side by side: ratios, verdicts beyond noise, and what is no report."""

import copy
import json

import pytest

from app.commands.bench.report import compare
from app.commands.cli import main
from app.core.errors import ConfigError

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


def test_sweeps_and_starts_are_compared_with_their_like(tmp_path):
    def save(name, report):
        path = tmp_path / name
        path.write_text(json.dumps({"device": {}, "model": "m", **report}))
        return path

    def sweep(name, fps):
        points = [{"name": "slots=1", "fps": fps}, {"name": "slots=2", "fps": None}]
        return save(name, {"kind": "sweep", "points": points})

    def start(name, ms):
        parts = {"imports_ms": ms, "first_inference_ms": 10.0}
        return save(name, {"kind": "startup", "parts_ms": parts, "total_ms": 2 * ms})

    text = compare(sweep("a", 100.0), sweep("b", 80.0))
    assert line(text, "slots=1, FPS").split()[-2:] == ["0.80", "worse"] and "slots=2" not in text
    text = compare(start("c", 500.0), start("d", 400.0))
    assert line(text, "command to first boxes").split()[-2:] == ["0.80", "better"]
    with pytest.raises(ConfigError, match="of kind sweep"):
        compare(tmp_path / "a", tmp_path / "c")


def test_what_only_one_machine_tells_is_left_out(pair):
    def change(report):
        report["energy"] = {"joules_per_frame": 0.5}
        report["throughput"]["stages_ms"]["upload"] = None

    text = compare(*pair(change))
    assert "energy" not in text and "upload" not in text
