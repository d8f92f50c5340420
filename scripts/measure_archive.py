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
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
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
        command = [sys.executable, "-m", "app", "archive", str(args.clips), "--out", str(out)]
        quiet = subprocess.DEVNULL
        start_s = time.perf_counter()
        run = subprocess.Popen(
            [*command, "--model", args.model, *words], stderr=quiet, stdout=quiet
        )
        roots = [run.pid, *([cluster.pid] if cluster else [])]
        began, spent = _seconds(roots), dict[tuple[int, float], float]()
        while run.poll() is None:  # Ray does not keep account of workers that have ended
            spent |= _seconds(roots)
            time.sleep(0.2)
        wall_s = time.perf_counter() - start_s
        assert run.returncode == 0, "the archive failed"
        cost_s = sum(after - began.get(process, 0.0) for process, after in spent.items())
        if cluster and cluster.stdin:
            cluster.stdin.close()
            cluster.wait(60)
        lines = sorted((out / "clips").rglob("detections.*"))
        seen.add(hashlib.sha256(b"".join(path.read_bytes() for path in lines)).hexdigest())
        frames = sum(p.read_bytes().count(b"\n") for p in lines if p.suffix == ".jsonl")
        return frames / wall_s, cost_s / frames, wall_s


def _seconds(roots: list[int]) -> dict[tuple[int, float], float]:
    """Seconds of processor of each process below the roots, by its number and start."""
    found = {}
    for root in roots:
        with suppress(psutil.Error):
            top = psutil.Process(root)
            for each in [top, *top.children(recursive=True)]:
                with suppress(psutil.Error):
                    found[each.pid, each.create_time()] = sum(each.cpu_times()[:2])
    return found


if __name__ == "__main__":
    sys.exit(main())
