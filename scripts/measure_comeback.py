#!/usr/bin/env python3
"""Measures how soon a run comes back when its server is killed, frozen and started again.

    python scripts/measure_comeback.py rtsp|http [--rounds 10] [--clip CLIP.mp4] [--json FILE]

A real server and a real `python -m app run`, both processes of their own. Odd rounds kill the
server and start it again, even ones stop it (SIGSTOP) for longer than the read time-out and let it
go on. Exit code 6 if one return took longer than the limit, a frame was older than its budget, or
memory or descriptors have grown.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from app.commands.soak import holdings
from app.ops.machine import device

ROOT = Path(__file__).parents[1]
READ_TIMEOUT_S = 3.0
BUDGET_MS = 500.0
FIRST_FRAME_S = 60.0
GROWTH_MB = 30.0  # allowed between the second round and the last; a leak of a decoder is more


class Server:
    """The camera's side: a process that is killed, stopped and started."""

    def __init__(self, kind: str, clip: str | None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = found.getsockname()[1]
        script = "serve_rtsp.py" if kind == "rtsp" else "serve_mjpeg.py"
        python = "/usr/bin/python3" if kind == "rtsp" else sys.executable
        self._command = [python, str(ROOT / "scripts" / script), "--port", str(port)]
        self._command += [clip] if clip else []
        self.uri = f"rtsp://127.0.0.1:{port}/x" if kind == "rtsp" else f"http://127.0.0.1:{port}/"
        self.start()

    def start(self) -> None:
        """Returns once it listens."""
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            raise SystemExit(f"the server does not start: {' '.join(self._command)}")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def send(self, number: int) -> None:
        self.process.send_signal(number)


class Lines(threading.Thread):
    """Reads the run's JSON lines: when the last came, and the greatest age so far."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self.count, self.last_s, self.oldest_ms = 0, 0.0, 0.0
        self.start()

    def run(self) -> None:
        for line in self._stream:
            self.oldest_ms = max(self.oldest_ms, json.loads(line)["age_ms"])
            self.last_s, self.count = time.monotonic(), self.count + 1

    def first_after(self, moment_s: float, limit_s: float) -> float:
        """Seconds from the moment to the next line; the limit if none comes."""
        while self.last_s < moment_s:
            if time.monotonic() - moment_s > limit_s:
                return limit_s
            time.sleep(0.01)
        return self.last_s - moment_s


def play_round(server: Server, lines: Lines, number: int, limit_s: float) -> dict[str, Any]:
    """Take the server away, bring it back, and wait for the next frame."""
    kill = number % 2 == 1
    if kill:
        server.kill()
        away_s = 1.0 + number % 4
        time.sleep(away_s)
        server.start()
    else:
        server.send(signal.SIGSTOP)
        away_s = READ_TIMEOUT_S + 1 + number % 4
        time.sleep(away_s)
        server.send(signal.SIGCONT)
    back_s = lines.first_after(time.monotonic(), 4 * limit_s)
    time.sleep(2.0)  # let it run, and close what it left behind
    return {
        "round": number,
        "did": "kill" if kill else "freeze",
        "away_s": away_s,
        "back_s": back_s,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("rtsp", "http"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--limit", type=float, default=5.0, help="seconds it may take (default: 5)")
    parser.add_argument("--clip")
    parser.add_argument("--model", help="as of `run`")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    server = Server(args.kind, args.clip)
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write(f"read_timeout_s = {READ_TIMEOUT_S}\nmax_age_ms = {BUDGET_MS}\n")
        config.flush()
        words = ["run", "--headless", "--json", "-", "--config", config.name]
        words += ["--source", server.uri, *(["--model", args.model] if args.model else [])]
        run = subprocess.Popen(
            [sys.executable, "-m", "app", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert run.stdout is not None
        lines, rounds = Lines(run.stdout), []
        try:
            if lines.first_after(time.monotonic(), FIRST_FRAME_S) >= FIRST_FRAME_S:
                raise SystemExit("no first frame: what does the run say?")
            time.sleep(2.0)
            for number in range(1, args.rounds + 1):
                played = play_round(server, lines, number, args.limit)
                held = holdings(run.pid)
                played |= {"mb": held.rss_mb, "descriptors": held.descriptors}
                rounds.append(played)
                print(
                    "{round:3}  {did:6} away {away_s:4.1f} s  back after {back_s:5.2f} s  "
                    "{mb:6.1f} MB  {descriptors} descriptors".format(**played),
                    flush=True,
                )
        finally:
            run.send_signal(signal.SIGTERM)
            server.kill()
            code = run.wait(20)
    wrong = faults(rounds, lines.oldest_ms, code, args.limit)
    if args.json:
        report = {
            "kind": args.kind,
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "device": device(),
            "rounds": rounds,
            "oldest_ms": lines.oldest_ms,
            "wrong": wrong,
        }
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    slowest_s = max(each["back_s"] for each in rounds)
    print(f"slowest {slowest_s:.2f} s, oldest frame {lines.oldest_ms:.0f} ms, exit code {code}")
    print("\n".join(f"WRONG: {each}" for each in wrong) or "all well")
    return 6 if wrong else 0


def faults(rounds: list[dict[str, Any]], oldest_ms: float, code: int, limit_s: float) -> list[str]:
    """What is not as promised."""
    wrong = [f"round {r['round']}: {r['back_s']:.2f} s" for r in rounds if r["back_s"] > limit_s]
    first = rounds[min(1, len(rounds) - 1)]
    last = rounds[-1]
    if last["mb"] > first["mb"] + GROWTH_MB:
        wrong.append(f"memory grew from {first['mb']:.0f} to {last['mb']:.0f} MB")
    if last["descriptors"] > first["descriptors"]:
        wrong.append(f"descriptors: {first['descriptors']} to {last['descriptors']}")
    if code != 0:
        wrong.append(f"exit code {code}")
    # a frame is dropped by its age before inference; the engine's own time comes on top
    if oldest_ms > 2 * BUDGET_MS:
        wrong.append(f"a frame of {oldest_ms:.0f} ms was handed on")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
