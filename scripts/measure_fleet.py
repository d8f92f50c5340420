#!/usr/bin/env python3
"""What happens to a fleet when machines, cables, clocks, disks and the broker fail?

    sudo python scripts/measure_fleet.py [--rounds 20] [--seed 1] [--nodes 4] [--cameras 12]

Real processes: `fleet serve` with TLS, and each node in a network namespace of its own (veth and a
bridge), with a small network of ours. Each round does one thing to one node or to the broker, drawn
with the seed, and looks when every camera gives frames again; between rounds the node is brought
back. Exit code 6 if a camera was dark for longer than TTL + 1 s, two nodes delivered under the same
lease, a frame came under an older lease than one before it, or an event was lost or came twice.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import onnx
from onnx import numpy_helper

from app.sources.pattern import PatternOptions, PatternSource

ROOT = Path(__file__).parents[1]
TTL_S, LIMIT_S, DARK_S = 3.0, 4.0, 0.8
NET, BRIDGE, PORT = "10.77.8", "kfleet0", 14333
FAULTS = ("kill", "stop", "cut", "slow", "broker", "broker long", "clock", "disk")
# a lease may run out there, and then nobody can tell the end of a track
UNCLEAN = ("kill", "stop", "cut", "slow", "broker", "broker long")
# the wall clock of the process that it starts is that of the machine and what is in a file
LAUNCH = """
import sys, threading, time
real, real_ns, off, path = time.time, time.time_ns, [0], sys.argv.pop(1)
def follow():
    while True:
        try: off[0] = int(open(path).read() or 0)
        except (OSError, ValueError): pass
        time.sleep(0.05)
threading.Thread(target=follow, daemon=True).start()
time.time = lambda: real() + off[0]
time.time_ns = lambda: real_ns() + off[0] * 10**9
from app.commands.cli import main
sys.exit(main())
"""


def shell(*words: str, check: bool = True) -> None:
    """Run a command of the system."""
    subprocess.run(words, check=check, capture_output=True)


class Frames:
    """All that nodes delivered: when each camera gave its last frame, and what was wrong."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.newest: dict[str, tuple[int, str]] = {}  # lease and node
        self.last: dict[str, float] = {}
        self.holders: dict[tuple[str, int], str] = {}
        self.tracks: dict[tuple[str, int], set[int]] = defaultdict(set)
        self.gaps: list[tuple[float, float]] = []  # from and to when a camera was dark
        self.longest: dict[str, float] = {}
        self.count, self.doubled, self.stale = 0, 0, 0

    def take(self, line: dict[str, Any], node: str) -> None:
        """One JSON line, now."""
        camera, lease, now = line["name"], line["lease"], time.monotonic()
        with self.lock:
            self.count += 1
            if self.holders.setdefault((camera, lease), node) != node:
                self.doubled += 1
                print(f"DOUBLED {camera} {lease} {node}")
            known = self.newest.get(camera, (0, ""))[0]
            if lease < known:
                self.stale += 1
                print(f"STALE {camera} lease {lease} of {node} after {known}")
                return
            self.newest[camera] = lease, node
            gap = now - self.last.get(camera, now)
            if gap > self.longest.get(camera, 0):
                self.longest[camera] = gap
            if gap > DARK_S:
                self.gaps.append((now - gap, now))
            self.last[camera] = now
            found = {each["track_id"] for each in line["detections"] if "track_id" in each}
            self.tracks[camera, lease] |= found

    def dark(self) -> list[str]:
        """Cameras that give nothing now."""
        with self.lock:
            now = time.monotonic()
            return [name for name, at in self.last.items() if now - at > DARK_S]


class Node:
    """A machine: a namespace with a process in it."""

    def __init__(self, number: int, folder: Path, frames: Frames, model: Path) -> None:
        self.name, self.number = f"n{number}", number
        self.folder, self.frames, self.model = folder / self.name, frames, model
        self.link, self.space = f"kfl{number}", f"kfleet{number}"
        self.disk, self.clock = self.folder / "disk", self.folder / "clock"
        self.disk.mkdir(parents=True)
        self.clock.write_text("0")
        shell("mount", "-t", "tmpfs", "-o", "size=64m", "kfleet", str(self.disk))
        shell("ip", "netns", "add", self.space)
        shell("ip", "link", "add", self.link, "type", "veth", "peer", "name", f"{self.link}p")
        shell("ip", "link", "set", f"{self.link}p", "netns", self.space, "name", "eth0")
        shell("ip", "link", "set", self.link, "master", BRIDGE, "up")
        inside = ("ip", "-n", self.space)
        shell(*inside, "addr", "add", f"{NET}.{number + 10}/24", "dev", "eth0")
        shell(*inside, "link", "set", "eth0", "up")
        shell(*inside, "link", "set", "lo", "up")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """As a supervisor would."""
        words = ["ip", "netns", "exec", self.space, sys.executable, "-c", LAUNCH, str(self.clock)]
        words += ["fleet", "join", "--token", str(self.folder.parent / f"{self.name}.token")]
        words += ["--capacity", "6", "--model", str(self.model), "--engine", "cpu"]
        words += ["--workers", "1", "--threads", "1", "--json", "-"]
        words += ["--events", str(self.disk / "events.jsonl")]
        log = (self.folder / "log").open("ab")
        cache = {f"XDG_{kind.upper()}_HOME": str(self.folder / kind) for kind in ("cache", "state")}
        self.process = subprocess.Popen(
            words, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, env={**os.environ, **cache}
        )
        assert self.process.stdout is not None
        threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True).start()

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            if line.startswith(b"{") and line.endswith(b"\n"):
                self.frames.take(json.loads(line), self.name)

    def signal(self, number: int) -> None:
        """To the process."""
        assert self.process is not None
        self.process.send_signal(number)

    def shape(self, *words: str) -> None:
        """The cable: a token bucket (not every kernel has netem), or nothing."""
        shell("tc", "qdisc", "del", "dev", self.link, "root", check=False)
        inside = ("ip", "netns", "exec", self.space)
        shell(*inside, "tc", "qdisc", "del", "dev", "eth0", "root", check=False)
        if words:
            shell("tc", "qdisc", "add", "dev", self.link, "root", "tbf", *words)
            shell(*inside, "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", *words)

    def remove(self) -> None:
        """Leave nothing behind."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shell("ip", "link", "del", self.link, check=False)
        shell("ip", "netns", "del", self.space, check=False)
        shell("umount", str(self.disk), check=False)


class Broker:
    """`fleet serve`, outside of all namespaces."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self.folder, self._nodes = folder, ",".join(f"n{i}" for i in range(nodes))
        self.process: subprocess.Popen[bytes] | None = None
        self.token = folder / "server" / "admin.token"

    def start(self) -> None:
        """And wait for it."""
        words = [sys.executable, "-m", "app", "fleet", "serve", "--folder"]
        words += [str(self.folder / "server"), "--listen", f"{NET}.1:{PORT}"]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        out = (self.folder / "serve.log").open("ab")
        words += [] if self.process else ["--nodes", self._nodes]
        self.process = subprocess.Popen(words, cwd=self.folder, env=env, stdout=out, stderr=out)

    def kill(self) -> None:
        """The server, and what watches it."""
        pid = int((self.folder / "server" / "server.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def command(self, *words: str) -> str:
        """`fleet …` with the admin's token."""
        done = subprocess.run(
            [sys.executable, "-m", "app", "fleet", *words, "--token", str(self.token)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"fleet {words}: {done.stderr}")
        return done.stdout


def listens() -> bool:
    """Whether the server takes connections."""
    try:
        socket.create_connection((f"{NET}.1", PORT), 0.5).close()
    except OSError:
        return False
    return True


def wait_for(holds: Any, limit_s: float) -> bool:
    """Whether it came true in time."""
    until_s = time.monotonic() + limit_s
    while time.monotonic() < until_s:
        if holds():
            return True
        time.sleep(0.1)
    return False


def cameras(count: int, rtsp: str | None) -> dict[str, str]:
    """Patterns whose boxes the network finds; every fourth an RTSP stream."""
    found, seed = {}, 0
    for i in range(count):
        while PatternSource(PatternOptions(boxes=1, seed=seed), live=True)._colours.mean() < 150:
            seed += 1
        uri = f"pattern:?size=160x120&fps=5&boxes=1&seed={seed}"
        found[f"cam{i:02}"] = rtsp if rtsp and i % 4 == 3 else uri
        seed += 1
    return found


def make_model(folder: Path) -> Path:
    """The blob detector, for boxes that are less bright than white."""
    file: Path = importlib.import_module("tests.blob_detector").save_blob_detector(folder)
    model = onnx.load(file)
    for each in model.graph.initializer:
        if each.name == "narrow_bias":
            each.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(each) * 0.62, each.name))
    onnx.save(model, file)
    return file.with_suffix(".toml")


def inflict(fault: str, node: Node, broker: Broker, rng: random.Random) -> float:
    """Do it; returns when what can come back is back (monotonic)."""
    if fault == "kill":
        node.signal(signal.SIGKILL)
    elif fault == "stop":
        node.signal(signal.SIGSTOP)
    elif fault == "cut":
        shell("ip", "link", "set", node.link, "down")
    elif fault == "slow":
        node.shape("rate", "30kbit", "burst", "2kb", "latency", "1s")
    elif fault.startswith("broker"):
        broker.kill()
        time.sleep(6.0 if fault.endswith("long") else 1.5)
        broker.start()
        wait_for(listens, 30)
        return time.monotonic()
    elif fault == "clock":
        node.clock.write_text(str(rng.choice((-3600, 3600))))
    elif fault == "disk":
        free = shutil.disk_usage(node.disk).free
        (node.disk / "filler").write_bytes(bytes(free - 1_000_000))
    return time.monotonic()


def heal(fault: str, node: Node) -> None:
    """Bring back what was taken."""
    if fault == "kill":
        assert node.process is not None
        node.process.wait()
        node.start()
    elif fault == "stop":
        node.signal(signal.SIGCONT)
    elif fault == "cut":
        shell("ip", "link", "set", node.link, "up")
    elif fault == "slow":
        node.shape()
    elif fault == "clock":
        node.clock.write_text("0")
    elif fault == "disk":
        (node.disk / "filler").unlink()


def judge_events(nodes: list[Node], frames: Frames, unclean: set[tuple[str, int]]) -> Counter[str]:
    """Each track that a frame names has one appear and, where its end was orderly, one gone."""
    ids: Counter[str] = Counter()
    told: dict[str, Counter[tuple[str, int, int]]] = defaultdict(Counter)
    for node in nodes:
        for text in (node.disk / "events.jsonl").read_text().splitlines():
            event = json.loads(text)
            ids[event["id"]] += 1
            if "track_id" in event:
                key = event["name"], event["lease"], event["track_id"]
                told[event["type"]][key] += 1
    lost = {key[:2] for key in told["appear"] if not told["gone"][key] and key[:2] not in unclean}
    if lost:
        print(f"without gone: {sorted(lost)}")
    seen = {(*key, track) for key, found in frames.tracks.items() for track in found}
    return Counter(
        {
            "events": sum(ids.values()),
            "tracks": len(seen),
            "ids that came twice": sum(n > 1 for n in ids.values()),
            "appear lost": sum(told["appear"][key] == 0 for key in seen),
            "appear doubled": sum(n > 1 for n in told["appear"].values()),
            "gone doubled": sum(n > 1 for n in told["gone"].values()),
            "gone lost": sum(
                not told["gone"][key] for key in told["appear"] if key[:2] not in unclean
            ),
        }
    )


def main() -> int:
    """The rounds, their table, and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--cameras", type=int, default=12)
    parser.add_argument("--rtsp", action="store_true", help="every fourth camera by RTSP")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    if os.geteuid():
        raise SystemExit("namespaces and mounts need root: run it by sudo")
    rng = random.Random(args.seed)
    folder, frames, nodes, helpers = Path(tempfile.mkdtemp()), Frames(), list[Node](), []
    broker, rows, unclean = Broker(folder, args.nodes), list[dict[str, Any]](), set()
    print(f"logs in {folder}", flush=True)
    try:
        shell("ip", "link", "add", BRIDGE, "type", "bridge")
        shell("ip", "addr", "add", f"{NET}.1/24", "dev", BRIDGE)
        shell("ip", "link", "set", BRIDGE, "up")
        rtsp = None
        if args.rtsp:
            rtsp = f"rtsp://{NET}.1:8554/x"
            words = [
                "/usr/bin/python3",
                str(ROOT / "scripts/serve_rtsp.py"),
                "--private",
                "--address",
                f"{NET}.1",
            ]
            helpers.append(subprocess.Popen(words, stdout=subprocess.DEVNULL))
        broker.start()
        if not wait_for(lambda: (folder / f"n{args.nodes - 1}.token").exists(), 20):
            raise SystemExit((folder / "serve.log").read_text())
        model = make_model(folder)
        for i in range(args.nodes):
            nodes.append(Node(i, folder, frames, model))
        for node in nodes:
            node.start()
        for name, uri in cameras(args.cameras, rtsp).items():
            broker.command("add", f"{name}={uri}")
        if not wait_for(lambda: len(frames.last) == args.cameras and not frames.dark(), 60):
            raise SystemExit("not all cameras are live; see the logs")
        time.sleep(5)
        print(broker.command("status"), flush=True)
        # a stream does not come through a cable that is slow enough to be felt
        faults = [each for each in FAULTS if not (args.rtsp and each == "slow")]
        chosen = [faults[i % len(faults)] for i in range(args.rounds)]
        rng.shuffle(chosen)
        for number, fault in enumerate(chosen, 1):
            node = rng.choice([each for each in nodes if each.name in set(holders(frames))])
            held = [name for name, who in holders_of(frames).items() if who == node.name]
            before = dict(frames.newest)
            with frames.lock:
                frames.gaps.clear()
                frames.longest.clear()
            began = time.monotonic()
            back = inflict(fault, node, broker, rng)
            time.sleep(max(0.0, began + 8 - time.monotonic()))
            start = back if fault.startswith("broker") else began
            heal(fault, node)
            wait_for(lambda: not frames.dark(), 20)
            time.sleep(4)  # cameras move back
            with frames.lock:
                hurt = [to - start for since, to in frames.gaps if since < start + TTL_S]
                later = [to - since for since, to in frames.gaps if since >= start + TTL_S]
                live_s, moved_s = max(hurt, default=0.0), max(later, default=0.0)
                dark_s = max(frames.longest.values(), default=0.0)
            hit = before if fault.startswith("broker") else {name: before[name] for name in held}
            if fault in UNCLEAN:
                unclean |= {(name, lease) for name, (lease, _) in hit.items()}
            if frames.gaps and fault in ("clock", "disk"):
                when = [(round(a - began, 1), round(b - began, 1)) for a, b in frames.gaps]
                print(f"dark in {fault}: {when}")
            row = {
                **{"round": number, "fault": fault, "node": node.name, "cameras": len(hit)},
                **{"live_s": round(live_s, 2), "dark_s": round(dark_s, 2)},
                "dark_later_s": round(moved_s, 2),
                "load": round(os.getloadavg()[0]),
                **{"dark": frames.dark(), "doubled": frames.doubled, "stale": frames.stale},
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
        for node in nodes:
            node.signal(signal.SIGTERM)
        for node in nodes:
            assert node.process is not None
            node.process.wait(20)
        events = judge_events(nodes, frames, unclean)
        secrets = json.loads((folder / "server" / "tokens.json").read_text())["users"].values()
        logs = "".join(path.read_text() for path in folder.glob("**/*log"))
        told = sum(secret in logs for secret in secrets)
        worst = max(row["live_s"] for row in rows)
        report = {"rounds": rows, "frames": frames.count, "worst_live_s": worst}
        report |= {"events": events, "doubled": frames.doubled, "stale": frames.stale}
        report["secrets in logs"] = told
        print(json.dumps({key: value for key, value in report.items() if key != "rounds"}))
        if args.json:
            args.json.write_text(json.dumps(report, indent=1) + "\n")
        bad = frames.doubled + frames.stale + told + any(row["dark"] for row in rows)
        bad += sum(events[key] for key in events if "lost" in key or "doubled" in key)
        return 6 if bad or events["ids that came twice"] or worst > LIMIT_S else 0
    finally:
        for node in nodes:
            node.remove()
        for each in (*helpers, *([broker.process] if broker.process else [])):
            each.terminate()
            each.wait(10)
        shell("ip", "link", "del", BRIDGE, check=False)


def holders_of(frames: Frames) -> dict[str, str]:
    """Camera to node."""
    with frames.lock:
        return {name: node for name, (_, node) in frames.newest.items()}


def holders(frames: Frames) -> list[str]:
    """Nodes that deliver."""
    return list(holders_of(frames).values())


if __name__ == "__main__":
    sys.exit(main())
