"""The device's check as a whole: its stages, what a kill costs, and what it measures on a GPU, here
measured on the simulated one, however slowly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from scripts.device import __main__ as check, batches, measure
from scripts.device.kernels import FRAME_BYTES, OUT_BYTES, read_bytes
from scripts.device.table import table
from tests.blob_detector import save_blob_detector

ROOT = Path(__file__).parents[2]
TELLS = "print('figure: ' + json.dumps({sys.argv[1]: 1}), flush=True)"
STAGE = f"""
import json, sys, time
print(sys.argv[1], file=open("ran", "a"))
{TELLS}
time.sleep(float(sys.argv[2]))
print('figure: {{"last": 2}}')
"""
CHECK = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from scripts.device import __main__ as check
check.ROOT, check.code_digest, check.gpu_name = Path.cwd(), lambda: "abc", lambda: "GPU"
check.STAGES = [
    check.Stage(name, 60, [sys.executable, "-c", sys.argv[1], name, sys.argv[2]])
    for name in ("one", "two", "three")
]
sys.argv[1:] = ["--results", "results"]
sys.exit(check.main())
"""


def reported(folder: Path) -> dict[str, Any]:
    """The stages, of the only report."""
    (path,) = folder.glob("device_*.json")
    stages: dict[str, Any] = json.loads(path.read_text())["stages"]
    return stages


@pytest.mark.parametrize("killed", ["one", "two", "three"])
def test_a_kill_costs_the_stage_under_way_alone(tmp_path: Path, killed: str) -> None:
    def started(nap_s: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", CHECK, STAGE, nap_s]
        return subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL)

    def under_way() -> bool:
        """The stage has told its first figure."""
        if not list(tmp_path.glob("results/device_*.json")):
            return False
        return bool(reported(tmp_path / "results").get(killed, {}).get("figures"))

    first, end_s = started("0.7"), monotonic() + 60
    while not under_way() and monotonic() < end_s:
        sleep(0.02)
    first.kill()
    first.wait()
    before = ["one", "two", "three"][: ["one", "two", "three"].index(killed)]
    stages = reported(tmp_path / "results")
    assert [stages[name]["status"] for name in (*before, killed)] == [
        *["done"] * len(before),
        "under way",
    ]
    assert stages[killed]["figures"] == {killed: 1}
    assert started("0").wait(60) == 0
    stages = reported(tmp_path / "results")
    for name in ("one", "two", "three"):
        assert stages[name]["status"] == "done"
        assert stages[name]["figures"] == {name: 1, "last": 2}
    ran = (tmp_path / "ran").read_text().split()
    assert [ran.count(name) for name in before] == [1] * len(before)
    assert ran.count(killed) == 2


def python(name: str, code: str, *, limit_s: float = 60, tool: str = "") -> check.Stage:
    return check.Stage(name, limit_s, (sys.executable, "-c", code), tool)


def test_a_stage_that_takes_too_long_ends_with_all_that_it_started(tmp_path: Path) -> None:
    report = check.Report(tmp_path, "GPU", model="")
    slow = (
        "import subprocess, time\n"
        "child = subprocess.Popen(['sleep', '300'])\n"
        "print('figure: {\"pid\": %d}' % child.pid, flush=True)\n"
        "time.sleep(300)"
    )
    check.run(python("slow", slow, limit_s=2), report, monotonic() + 60)
    check.run(python("next", "print('figure: {\"a\": 1}')"), report, monotonic() + 60)
    check.run(python("broken", "raise SystemExit('why')"), report, monotonic() + 60)
    check.run(python("lacking", "", tool="no-such-tool"), report, monotonic() + 60)
    check.run(python("late", ""), report, monotonic())
    stages = reported(tmp_path)
    assert {name: stage["status"] for name, stage in stages.items()} == {
        "slow": "timed out",
        "next": "done",
        "broken": "failed",
        "lacking": "not here",
        "late": "no time left",
    }
    assert "why" in stages["broken"]["why"]
    with pytest.raises(ProcessLookupError):
        for _ in range(100):  # until somebody has taken note of its end
            os.kill(stages["slow"]["figures"]["pid"], 0)
            sleep(0.05)
    again = check.Report(tmp_path, "GPU", model="")
    assert [name for name in stages if again.has(name)] == ["next", "lacking"]
    assert "| slow | timed out |" in again.page.read_text()


def test_figures_in_the_output_of_others() -> None:
    lines = [
        "tests/cuda/test_a.py::test_one[a b] PASSED          [ 50%]",
        "tests/cuda/test_a.py::test_two FAILED               [100%]",
        "========= ERROR SUMMARY: 3 errors",
        "==PROF== Profiling",
        '"ID","Kernel Name","gpu__time_duration.sum"',
        '"","","ns"',
        '"0","conv(float, int)","1,234"',
    ]
    reader, found = check.Reader(), dict[str, Any]()
    for line in lines:
        check.merge(found, reader.figures(line))
    assert found == {
        "tests": {"passed": 1, "failed": 1},
        "failing": ["tests/cuda/test_a.py::test_two"],
        "errors": 3,
        "kernels": [{"kernel": "conv(float, int)", "ns": 1234.0}],
    }


def test_measured_figures_and_their_page(device, monkeypatch, tmp_path, capsys):
    measured = {"kernel_us": 8.0, "must_mb": 6.6, "copy_gb_s": 2000.0, "share_of_copy": 0.6}
    monkeypatch.setattr("scripts.device.kernels.measure_preprocess", lambda: measured)
    monkeypatch.setattr(batches, "SIZES_WH", ((64, 64),))
    monkeypatch.setattr(measure, "MORE_MODELS", ())
    model = save_blob_detector(tmp_path, frames="frames")
    stages: dict[str, Any] = {}
    for part in ("engines", "layers", "ort"):
        words = ["measure", part, "--model", str(model), "--rounds", "1", "--frames", "2"]
        monkeypatch.setattr(sys, "argv", words)
        assert measure.main() == 0
        stages[part] = {"status": "done", "figures": {}}
        for line in capsys.readouterr().out.splitlines():
            check.merge(stages[part]["figures"], check.Reader().figures(line))
    own = stages["engines"]["figures"]
    ours = {"kestrel cuda fp16", "kestrel cuda fp32", "kestrel cpu fp32"}
    assert ours == set(own["latency_ms"])
    assert len({own["boxes"][name] for name in ours}) == 1
    assert own["throughput"]["kestrel cuda fp16"]["fps"] > 0
    assert set(own["stages_ms"]["kestrel cuda fp16"]) >= {"upload", "network", "download"}
    assert set(own["batches"]["64x64"]) == {"1", "4", "16"}
    assert all(row["fps"] > 0 for row in own["batches"]["64x64"].values())
    assert own["preprocess"] == measured
    launches = stages["layers"]["figures"]["layers"]["blob"]["launches"]
    assert any(row["layer"].startswith("Conv 32x3x8x8 to ") for row in launches)
    # what is not here is told, each with its reason
    other = stages["ort"]["figures"]
    assert "kestrel ort-cuda fp32" in other["not_here"]
    assert set(other["not_here"]) & set(other["latency_ms"]) == set()
    page = table({"gpu": "G", "date": "D", "command": "C", "stages": stages})
    assert "| 64x64 | 16 |" in page and "| kestrel cuda fp16 |" in page
    assert "not measured, kestrel ort-cuda fp32: " in page


def executable(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.slow
def test_the_command_from_end_to_end(device, tmp_path):
    """Each program that the machine brings is a stand-in; what is ours is as on a real GPU."""
    bin_, toolkit = tmp_path / "bin", tmp_path / "toolkit"
    executable(bin_ / "nvidia-smi", 'echo "GPU 0: Simulated CUDA device (UUID: GPU-0)"')
    executable(
        bin_ / "compute-sanitizer",
        'shift 4; "$@"; rc=$?; echo "========= ERROR SUMMARY: 0 errors"; exit $rc',
    )
    executable(
        bin_ / "ncu",
        'while [ "$1" != raw ]; do shift; done; shift; "$@" || exit\n'
        'echo \'"ID","Kernel Name","gpu__time_duration.sum"\'; echo \'"0","conv(int)","1,234"\'',
    )
    nvcc = ROOT / "tests" / "cudasim" / "nvcc"
    executable(toolkit / "bin" / "nvcc", f'exec "{sys.executable}" "{nvcc}" "$@"')
    env = os.environ | {
        "PATH": f"{bin_}:{os.environ['PATH']}",
        "CUDA_ROOT": str(toolkit),
        "LD_LIBRARY_PATH": str(ROOT / ".cudasim"),
        "KESTREL_PYTHON": sys.executable,
        "KESTREL_RESULTS": str(tmp_path / "results"),
        "PYTEST_ADDOPTS": "-k float32_is_exact",
    }
    model = save_blob_detector(tmp_path)
    words = ["scripts/device_check.sh", "--model", str(model)]
    asked = ["import", "parity", "memcheck", "ncu"]
    done = subprocess.run([*words, *asked], cwd=ROOT, env=env, capture_output=True, text=True)
    stages = reported(tmp_path / "results")
    assert list(stages) == asked, done.stderr
    for name in ("import", "parity", "ncu"):
        assert stages[name]["status"] == "done", (stages[name], done.stderr)
    assert len(set(stages["import"]["figures"]["boxes"].values())) == 1
    assert set(stages["parity"]["figures"]["tests"]) == {"passed"}
    assert stages["memcheck"]["figures"]["errors"] == 0
    assert stages["ncu"]["figures"]["kernels"] == [{"kernel": "conv(int)", "ns": 1234.0}]
    small = [path.stat().st_size for path in (tmp_path / "results").iterdir()]
    assert len(small) == 3 and max(small) < 1 << 20


def test_a_third_of_the_rows_is_never_needed():
    """Three to one: of three rows two are read; all columns share sectors with needed ones."""
    assert read_bytes() == FRAME_BYTES * 2 // 3
    assert OUT_BYTES == 640 * 640 * 6
