"""Run the stages of ``scripts/device_check.sh``, in order of worth, each under its own time-out.

    python -m scripts.device [--results FOLDER] [--seconds 540] [--model NAME] [STAGE …]

One report, JSON with a page of Markdown, is written anew with every figure that a stage tells, so
that a kill at any moment costs no more than the stage under way. A later run of the same code on
the same GPU goes on with what is not done; stages that are named run in any case.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from time import monotonic
from typing import IO, Any

from scripts.device.table import table

ROOT = Path(__file__).parents[2]
LOG_LINES, LINE = 1500, 300  # of a stage's output at most, so that logs can be committed
GRACE_S = 3.0  # between the request to end and the kill
FIGURE = "figure: "

TESTS = (sys.executable, "-m", "pytest", "-v", "-W", "default", "-p", "no:cacheprovider",
         "--timeout", "60", "-m", "gpu")  # fmt: skip
MEASURE = (sys.executable, "-m", "scripts.device.measure")
PARITY = tuple(
    f"tests/cuda/test_{name}.py" for name in ("preprocess_kernel", "postprocess_kernel", "engine")
)
TILES = ("tests/cuda/test_engine.py", "-k", "every_tile or share_sums or share_no_sums")
COUNTERS = {
    "gpu__time_duration.sum": "ns",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": "sm_percent",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": "dram_percent",
}


@dataclass(frozen=True)
class Stage:
    """One command. ``tool``: the program that it needs and not every machine has."""

    name: str
    limit_s: float
    command: Sequence[str]
    tool: str = ""


def sanitizer(tool: str) -> tuple[str, ...]:
    """The tile tests under one of compute-sanitizer's tools."""
    return ("compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *TESTS, *TILES)


STAGES: tuple[Stage, ...] = (
    Stage("import", 75, (*MEASURE, "about")),
    Stage("parity", 100, (*TESTS, *PARITY)),
    Stage("engines", 90, (*MEASURE, "engines")),
    Stage("layers", 45, (*MEASURE, "layers")),
    Stage("memcheck", 60, sanitizer("memcheck"), "compute-sanitizer"),
    Stage("racecheck", 60, sanitizer("racecheck"), "compute-sanitizer"),
    Stage(
        "ncu",
        45,
        ("ncu", "--clock-control", "none", "--profile-from-start", "off", "--csv",
         "--print-units", "base", "--metrics", ",".join(COUNTERS), "--page", "raw",
         *MEASURE, "frame"),
        "ncu",
    ),
    Stage("tests", 120, (*TESTS, "tests/cuda", *(f"--ignore={path}" for path in PARITY))),
    Stage("eager", 45, (*MEASURE, "eager")),
    Stage("compiled", 150, (*MEASURE, "compiled")),
    Stage("ort", 60, (*MEASURE, "ort")),
)  # fmt: skip


def main() -> int:
    """Run what is not done; returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/device_check.sh", description=__doc__)
    add = parser.add_argument
    add("stages", nargs="*", metavar="STAGE", help=", ".join(stage.name for stage in STAGES))
    add("--results", type=Path, default=os.environ.get("KESTREL_RESULTS", "scripts/results"))
    add("--seconds", type=float, default=540, help="for all stages together")
    add("--model", help="default: the default model")
    a = parser.parse_args()
    if unknown := set(a.stages) - {stage.name for stage in STAGES}:
        parser.error(f"no stage {', '.join(sorted(unknown))}; stages: {parser.format_usage()}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a stage's processes end with it
    report = Report(a.results, gpu_name(), model=a.model or "")
    end_s = monotonic() + a.seconds
    for stage in STAGES:
        if stage.name in a.stages or (not a.stages and not report.has(stage.name)):
            run(stage, report, end_s)
    print(report.page.read_text())
    return 6 if any(report.status(stage.name) == "failed" for stage in STAGES) else 0


class Report:
    """What is known of one GPU with this code, and the files that tell it."""

    def __init__(self, folder: Path, gpu: str, *, model: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        tree, name = code_digest(), re.sub(r"[^A-Za-z0-9.-]+", "_", gpu)
        pattern = f"device_{name}_*_{tree}.json"
        found = max(folder.glob(pattern), default=None)
        stem = found.stem if found else f"device_{name}_{date.today().isoformat()}_{tree}"
        self._file, self.page = folder / f"{stem}.json", folder / f"{stem}.md"
        self.log, self.model = folder / f"{stem}.log", model
        self._content: dict[str, Any] = {
            "command": "scripts/device_check.sh",
            "date": date.today().isoformat(),
            "gpu": gpu,
            "tree": tree,
            "stages": {},
        }
        if found:
            self._content = json.loads(found.read_text())

    def status(self, stage: str) -> str:
        """How it ended, "" if it never began."""
        return str(self._content["stages"].get(stage, {}).get("status", ""))

    def has(self, stage: str) -> bool:
        """Whether a later run has nothing to add to it."""
        return self.status(stage) in ("done", "not here")

    def begin(self, stage: str) -> None:
        """From here on what it has told before does not count."""
        self._content["stages"][stage] = {"status": "under way", "figures": {}}
        self._write()

    def add(self, stage: str, figures: dict[str, Any]) -> None:
        """Something that the stage has found."""
        merge(self._content["stages"][stage]["figures"], figures)
        self._write()

    def end(self, stage: str, status: str, seconds: float, why: str = "") -> None:
        """The stage is over."""
        entry = self._content["stages"][stage]
        entry |= {"status": status, "seconds": round(seconds, 1)} | ({"why": why} if why else {})
        self._write()

    def _write(self) -> None:
        for path, text in (
            (self._file, json.dumps(self._content, indent=1) + "\n"),
            (self.page, table(self._content)),
        ):
            part = path.with_name(f"{path.name}.part")
            part.write_text(text)
            part.replace(path)


def run(stage: Stage, report: Report, end_s: float) -> None:
    """One stage: its figures into the report as it tells them, its output into the log."""
    start_s = monotonic()
    limit_s = min(stage.limit_s, end_s - start_s)
    if limit_s < min(5, stage.limit_s):
        if not report.has(stage.name):
            report.begin(stage.name)
            report.end(stage.name, "no time left", 0)
        return
    report.begin(stage.name)
    if stage.tool and shutil.which(stage.tool) is None:
        report.end(stage.name, "not here", 0, f"no {stage.tool} in PATH")
        return
    print(f"device_check: {stage.name}, at most {limit_s:.0f} s", file=sys.stderr)
    command = [*stage.command]
    if report.model and MEASURE[-1] in stage.command:
        command += ["--model", report.model]
    env = os.environ | {"KESTREL_GPU": "real", "PYTHONUNBUFFERED": "1"}
    child = subprocess.Popen(
        command, cwd=ROOT, env=env, text=True, errors="replace", stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=os.setpgrp,  # ended with all that it starts, but no session of its own
    )  # fmt: skip
    assert child.stdout is not None
    last, reader, lines = "", Reader(), Lines(child.stdout)
    try:
        with report.log.open("a") as log:
            print(f"--- {stage.name}: {' '.join(command)}", file=log)
            for i, line in enumerate(lines.until(start_s + limit_s)):
                if figures := reader.figures(line):
                    report.add(stage.name, figures)
                last = line.strip() or last
                if i < LOG_LINES:
                    print(line[:LINE].rstrip(), file=log, flush=True)
        code = child.wait(max(0.1, start_s + limit_s - monotonic()))
        status, why = ("done", "") if code == 0 else ("failed", f"exit code {code}: {last[:LINE]}")
    except (TimeoutError, subprocess.TimeoutExpired):
        status, why = "timed out", last[:LINE]
    finally:
        end_group(child)
        lines.close()
    report.end(stage.name, status, monotonic() - start_s, why)


class Lines:
    """What a process prints, as it comes: a line of a pipe cannot be waited for with a limit."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._lines = stream, queue.Queue[str | None]()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def until(self, end_s: float) -> Iterator[str]:
        """Raises TimeoutError at ``end_s``."""
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end_s - monotonic()))
            except queue.Empty:
                raise TimeoutError from None
            if line is None:
                return
            yield line

    def close(self) -> None:
        """After the end of those that print."""
        self._thread.join(GRACE_S)

    def _read(self) -> None:
        with self._stream as stream:
            for line in stream:
                self._lines.put(line)
        self._lines.put(None)


def end_group(child: subprocess.Popen[str]) -> None:
    """End the process and all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(GRACE_S)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


class Reader:
    """Finds figures in what a stage prints: its own, pytest's, compute-sanitizer's, ncu's."""

    def __init__(self) -> None:
        self._columns: list[str] = []  # of ncu's table
        self._tests: Counter[str] = Counter()

    def figures(self, line: str) -> dict[str, Any]:
        """Those of one line, {} where it tells none."""
        if line.startswith(FIGURE):
            found: dict[str, Any] = json.loads(line.removeprefix(FIGURE))
            return found
        if test := re.match(r"(tests/\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED)\b", line):
            self._tests[test[2].lower()] += 1
            failing = [test[1]] if test[2] in ("FAILED", "ERROR") else []
            return {"tests": dict(self._tests), "failing": failing}
        if errors := re.search(r"ERROR SUMMARY: (\d+) error", line):
            return {"errors": int(errors[1])}
        if line.startswith('"'):
            return self._kernel(next(csv.reader([line])))
        return {}

    def _kernel(self, row: list[str]) -> dict[str, Any]:
        if row[0] == "ID":
            self._columns = row
        if not row[0].isdigit() or len(row) != len(self._columns):
            return {}
        values = dict(zip(self._columns, row, strict=True))
        counters = {
            short: float(values[name].replace(",", ""))
            for name, short in COUNTERS.items()
            if values.get(name)
        }
        return {"kernels": [{"kernel": values["Kernel Name"][:60], **counters}]}


def merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    """Add ``more``: lists grow, and what has names is gone into."""
    for key, value in more.items():
        if isinstance(value, dict):
            merge(into.setdefault(key, {}), value)
        elif isinstance(value, list):
            into.setdefault(key, []).extend(value)
        else:
            into[key] = value


def gpu_name() -> str:
    """As the driver's tool tells it."""
    told = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"GPU 0: (.*?)(?: \(UUID.*)?$", told, re.M)
    return found[1] if found else "GPU"


def code_digest() -> str:
    """Of all on which figures depend: with other code all stages are run anew."""
    digest = hashlib.sha256()
    for folder in ("app", "kernels", "scripts/device", "tests/cuda"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".cu"):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


if __name__ == "__main__":
    sys.exit(main())
