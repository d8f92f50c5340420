"""Rounds, ratios and reports with peers made here; processes and the CLI with the real Kestrel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.bench_peers.boxes import Tolerance
from scripts.bench_peers.contract import Box, Clock, NotHere, Run
from scripts.bench_peers.registry import PEERS, REFERENCE, Peer
from scripts.bench_peers.report import passed, summarise, text_table
from scripts.bench_peers.rounds import Failed, in_a_process, interleave

ROOT = Path(__file__).parents[2]
FRAMES = [[Box(0, 0.9, 1, 2, 30, 40)]] * 3
MOVED = [[Box(0, 0.9, 9, 2, 30, 40)]] * 3
NEAR = Tolerance(score=1e-3, corner_px=0.5)


def peer(name, tolerance=NEAR):
    return Peer(name, f"what {name} is", "nowhere", tolerance)


class Answers:
    """Peers that answer with the runs they are given, in turn; notes who was asked."""

    def __init__(self, **runs):
        self.asked, self._runs = [], {name: iter(each) for name, each in runs.items()}

    def __call__(self, name):
        self.asked.append(name)
        answer = next(self._runs[name])
        if isinstance(answer, Exception):
            raise answer
        return answer


def runs(*fps, cpu_ms=5.0, frames=FRAMES):
    return [Run(each, cpu_ms, frames) for each in fps]


def summary(ask, rounds=3, **tolerances):
    names = list(ask._runs)
    peers = {name: peer(name, tolerances.get(name, NEAR)) for name in names}
    outcomes = interleave(names, rounds, ask, lambda line: None)
    return summarise(outcomes, peers, threshold=0.35)


def test_all_run_in_every_round_and_the_order_turns():
    ask = Answers(kestrel=runs(1, 1, 1), a=runs(1, 1, 1), b=runs(1, 1, 1))
    interleave(["kestrel", "a", "b"], 3, ask, lambda line: None)
    assert ask.asked == ["kestrel", "a", "b", "a", "b", "kestrel", "b", "kestrel", "a"]


def test_ratios_are_those_of_the_medians_and_every_round_is_kept():
    rows = summary(Answers(kestrel=runs(90, 300, 100), a=runs(40, 50, 10, cpu_ms=10)))
    assert rows["a"]["fps"] == [40, 50, 10] and rows["a"]["median_fps"] == 40
    assert (rows["a"]["times"], rows["a"]["times_cpu"]) == (2.5, 2.0)
    assert "times" not in rows["kestrel"] and passed(rows)


def test_an_absent_peer_is_asked_once_told_and_fails_nothing():
    told = []
    ask = Answers(kestrel=runs(9, 9), a=[NotHere("no GPU")])
    outcomes = interleave(["kestrel", "a"], 2, ask, told.append)
    rows = summarise(outcomes, {n: peer(n) for n in outcomes}, threshold=0.35)
    assert ask.asked.count("a") == 1 and "a: not here: no GPU" in told
    assert rows["a"] == {"what": "what a is", "absent": "no GPU"} and passed(rows)
    assert "absent: no GPU" in text_table(rows)


def test_a_peer_that_fails_is_told_and_fails_the_verdict():
    rows = summary(Answers(kestrel=runs(9, 9, 9), a=[*runs(5), Failed("exit code 1: boom")]))
    assert rows["a"]["failed"] == "exit code 1: boom" and rows["a"]["fps"] == [5]
    assert not passed(rows) and "failed later: exit code 1: boom" in text_table(rows)


def test_other_boxes_fail_the_verdict_unless_the_network_is_another():
    answers = {"kestrel": runs(9, 9, 9), "a": runs(5, 5, 5, frames=MOVED)}
    rows = summary(Answers(**answers))
    assert not rows["a"]["boxes"]["same"] and not passed(rows)
    assert "6 of 6 DIFFER" in text_table(rows)
    rows = summary(Answers(**answers), a=None)
    assert passed(rows) and "not compared" in text_table(rows)


def test_without_kestrels_own_run_nothing_is_proved():
    rows = summary(Answers(kestrel=[Failed("boom")], a=runs(5, 5, 5)))
    assert not passed(rows) and "times" not in rows["a"]


def test_a_rate_needs_two_frames():
    clock = Clock()
    clock.tick()
    with pytest.raises(NotHere, match="1 frames"):
        clock.run(FRAMES)
    clock.tick()
    run = clock.run(FRAMES, why="x")
    assert run.fps > 0 and Run.from_json(json.loads(json.dumps(run.to_json()))) == run


@pytest.mark.parametrize("gone", ["torch-eager", "ort-cuda", "kestrel-cuda"])
def test_gpu_peers_say_that_they_are_not_here(gone, clip, monkeypatch):
    monkeypatch.chdir(ROOT)
    pytest.importorskip("torch", reason="pip install torch") if "torch" in gone else None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(NotHere):
        in_a_process(str(clip), "kestrel", timeout_s=120)(gone)


def test_a_process_that_hangs_or_dies_is_a_failure(clip, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(Failed, match="no end within"):
        in_a_process(str(clip), "kestrel", timeout_s=0.01)(REFERENCE)
    with pytest.raises(Failed, match=r"exit code 1: .*no_such_model"):
        in_a_process(str(clip), "no_such_model", timeout_s=120)(REFERENCE)


def test_one_command_compares_kestrel_with_the_loops_that_are_always_here(clip, tmp_path):
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "scripts.bench_peers", "--source", str(clip)]
    command += ["--rounds", "1", "--json", str(report), "--only", "plain", "opencv-async"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Kestrel reaches" in done.stdout
    data = json.loads(report.read_text())
    assert data["command"].endswith("--only plain opencv-async") and data["clip"] == clip.name
    assert str(tmp_path) not in report.read_text()
    assert list(data["peers"]) == [REFERENCE, "plain", "opencv-async"]
    for name in ("plain", "opencv-async"):
        boxes = data["peers"][name]["boxes"]
        assert boxes["same"] and boxes["compared"] > 10 and boxes["worst_px"] <= 0.02
    assert set(data["work"]["stages_ms"]) == {"decode", "preprocess", "network", "postprocess"}


def test_the_registry_names_files_that_are_there():
    for name, each in PEERS.items():
        assert name == each.name
        assert (ROOT / "scripts/bench_peers/peers" / f"{each.module}.py").is_file()
