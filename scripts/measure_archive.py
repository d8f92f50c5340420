"""What a cluster of two machines with one processor each makes of an archive of short clips.

    python -m scripts.measure_archive CLIPS --model kestrel_small [--rounds 3]

In turn: the clips with one raylet, with two raylets, and with `--cluster local`, 1 and 2 processes.
Told are frames a second and seconds of processor a frame (of all processes: driver, Ray's own,
workers), medians of the rounds: on a machine that others use, too, only the latter say how much a
part of the work costs. Results of all runs must be the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

CLUSTER = """
import sys
from ray.cluster_utils import Cluster
small = {"object_store_memory": 200 * 2**20}
head = {"num_cpus": 0, "include_dashboard": False, **small}
cluster = Cluster(initialize_head=True, head_node_args=head)
for _ in range(int(sys.argv[1])):
    cluster.add_node(num_cpus=1, **small)
print(cluster.address, flush=True)
sys.stdin.read()
"""


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--model", default="kestrel_small")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    figures: dict[str, list[tuple[float, float, float]]] = {}
    seen: set[str] = set()
    for _ in range(args.rounds):
        for name, nodes, words in (
            ("one raylet", 1, ()),
            ("two raylets", 2, ()),
            ("local, 1 process", 0, ("--processes", "1")),
            ("local, 2 processes", 0, ("--processes", "2")),
        ):
            figures.setdefault(name, []).append(_measure(args, nodes, words, seen))
            print(name, *(f"{each:.3f}" for each in figures[name][-1]), flush=True)
    assert len(seen) == 1, "the results differ"
    print("| run | frames/s | processor s a frame | wall s |\n| --- | --- | --- | --- |")
    for name, rounds in figures.items():
        rate, cost, wall_s = map(statistics.median, zip(*rounds, strict=True))
        print(f"| {name} | {rate:.1f} | {cost * 1e3:.1f} ms | {wall_s:.1f} |")
    return 0


def _measure(
    args: argparse.Namespace, nodes: int, words: tuple[str, ...], seen: set[str]
) -> tuple[float, float, float]:
    """(frames a second, processor seconds a frame, wall seconds) without Ray's own start."""
    with tempfile.TemporaryDirectory() as folder:
        cluster = None
        if nodes:
            pipe = subprocess.PIPE
            cluster = subprocess.Popen(
                [sys.executable, "-c", CLUSTER, str(nodes)],
                stdin=pipe,
                stdout=pipe,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            assert cluster.stdout is not None and cluster.stdin is not None
            words = ("--cluster", cluster.stdout.readline().strip())
        out = Path(folder, "out")
        before = _spent(cluster.pid) if cluster else 0.0
        own_before = sum(os.times()[2:4])
        start_s = time.perf_counter()
        command = [sys.executable, "-m", "app", "archive", str(args.clips), "--out", str(out)]
        quiet = subprocess.DEVNULL
        subprocess.run(
            [*command, "--model", args.model, *words], check=True, stderr=quiet, stdout=quiet
        )
        wall_s = time.perf_counter() - start_s
        cost_s = sum(os.times()[2:4]) - own_before
        if cluster and cluster.stdin:
            time.sleep(2)  # actors end
            cost_s += _spent(cluster.pid) - before
            cluster.stdin.close()
            cluster.wait(60)
        lines = sorted((out / "clips").rglob("detections.*"))
        seen.add(hashlib.sha256(b"".join(path.read_bytes() for path in lines)).hexdigest())
        frames = sum(p.read_bytes().count(b"\n") for p in lines if p.suffix == ".jsonl")
        return frames / wall_s, cost_s / frames, wall_s


def _spent(pid: int) -> float:
    """Seconds of processor of a process and all below it, those that have ended included."""
    total = 0.0
    for each in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            total += sum(each.cpu_times()[:4])
        except psutil.Error:
            continue
    return total


if __name__ == "__main__":
    sys.exit(main())
