"""Archives on a Ray cluster of two machines with one processor each, of which one is lost.

That takes a minute, and runs where KESTREL_RAY=1 asks for it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.archive.kit import ROOT, archive, blob_model, command, contents, film, rows

pytest.importorskip("ray", reason="Ray is not installed (requirements-archive.txt)")

CLUSTER = """
import sys
from ray.cluster_utils import Cluster

soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}
soon["health_check_failure_threshold"] = 4
small = {"object_store_memory": 100 * 2**20}
head = {"num_cpus": 0, "include_dashboard": False, "_system_config": soon, **small}
cluster = Cluster(initialize_head=True, head_node_args=head)
nodes = [cluster.add_node(num_cpus=1, **small) for _ in range(2)]
pids = [node.all_processes["raylet"][0].process.pid for node in nodes]
print(cluster.address, *pids, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def wanted() -> None:
    if os.environ.get("KESTREL_RAY") != "1":
        pytest.skip("takes a minute: KESTREL_RAY=1 runs it")


@pytest.fixture
def cluster(wanted: None, tmp_path: Path) -> Iterator[tuple[str, list[int]]]:
    """Its address, and the pids of its two raylets; it ends with its standard input."""
    log = (tmp_path / "cluster.log").open("w")
    pipe = subprocess.PIPE
    run = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=pipe, stdout=pipe, stderr=log, text=True
    )
    assert run.stdin is not None and run.stdout is not None
    said = run.stdout.readline().split()
    assert said, (tmp_path / "cluster.log").read_text()
    yield said[0], list(map(int, said[1:]))
    run.stdin.close()
    run.wait(60)
    run.stdout.close()
    log.close()


@pytest.mark.slow
def test_a_machine_that_is_lost_changes_nothing(
    cluster: tuple[str, list[int]], tmp_path: Path
) -> None:
    address, raylets = cluster
    model, films = blob_model(tmp_path / "shelf"), tmp_path / "films"
    film(films / "long.mp4", frames=120)
    first = film(films / "0.mkv", frames=20)
    for number in range(1, 60):
        shutil.copy(first, films / f"{number}.mkv")
    (films / "bad.mp4").write_text("no film")
    out = tmp_path / "ray"
    words = ("--cluster", address, "--part-s", "1")
    run = subprocess.Popen(command(films, out, model, *words), cwd=ROOT)
    until_s = time.monotonic() + 90
    while not (out / "clips").is_dir():
        assert time.monotonic() < until_s and run.poll() is None
        time.sleep(0.02)
    os.kill(raylets[0], signal.SIGKILL)
    done = len(list((out / "clips").iterdir()))
    assert run.wait(120) == 3
    assert done < 61, "the machine was lost after the archive"
    assert [row["clip"] for row in rows(out / "aside.jsonl")] == ["bad.mp4"]
    assert archive(films, tmp_path / "local", model).returncode == 3
    assert contents(out) == contents(tmp_path / "local")


def test_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", frames=2)
    model = blob_model(tmp_path / "shelf")
    how = ("--cluster", "127.0.0.1:9")
    done = archive(tmp_path, tmp_path / "out", model, *how)
    assert done.returncode == 2 and "no Ray cluster" in done.stderr
