"""``bench --startup``: time from the command to the first boxes, in fresh processes.

The real command in fresh processes, timed from outside by what it writes and when: nothing in it
knows that it is measured. The source opens and the model loads side by side, so the parts overlap.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from statistics import median
from time import monotonic
from typing import IO

from ...config import Config
from ...core.credentials import mask_credentials
from ...core.errors import ConfigError, KestrelError, ModelError, SourceError
from ...core.package import child_command
from ...runtime.engines import choose_model
from .. import Destination, header
from .measure import check_rounds
from .report import page, table

TARGET_MS = 1500.0
TIMEOUT_S = 300.0  # a GPU engine that is built for the first time takes minutes
# what the log says when a part is done; "engine auto: …" is only the choice
MARKS = {
    "imports": re.compile(r"kestrel: pipeline starts"),
    "source": re.compile(r"kestrel: source .*: (\d+x\d+|open)"),
    "model": re.compile(r"kestrel: engine (?!auto:)"),
}
PARTS = ("imports_ms", "source_open_ms", "model_load_ms", "first_inference_ms")
IMPORT_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")
SHOWN_IMPORTS = 8
log = logging.getLogger(__name__)


def run_startup(config: Config, destination: Destination, *, rounds: int) -> int:
    """Measure, print the table, write JSON and HTML."""
    check_rounds(rounds)
    model = choose_model(config)  # fetched now, if it is not there
    source = config.source or "sample:"
    command = child_command("__main__:run", "run", "--headless", "--json", "-")
    command += ["--max-frames", "1"]
    command += ["--no-reconnect", "--engine", config.engine, "--precision", config.precision]
    command += ["--model", model.ref, "--source", source]
    runs = []
    for number in range(rounds):
        runs.append(once(command))
        log.info("start %d of %d: %.0f ms", number + 1, rounds, runs[-1]["total_ms"])
    totals = [each["total_ms"] for each in runs]
    report = {
        **header("startup"),
        "source": mask_credentials(source),
        "model": model.spec.name,
        "engine": config.engine,
        "rounds": rounds,
        "total_ms": round(median(totals), 1),
        "highest_ms": round(max(totals), 1),
        "detections": min(each["detections"] for each in runs),
        "parts_ms": {part: round(median(each[part] for each in runs), 1) for part in PARTS},
        "runs": [{k: round(v, 1) for k, v in each.items()} for each in runs],
        "bytecode": not sys.dont_write_bytecode,
        "slowest_imports_ms": slowest_imports(command),
        "target_ms": TARGET_MS,
    }
    return destination.give(report, table(report), page)


def once(command: Sequence[str]) -> dict[str, float]:
    """One process. Times in ms; the parts after the imports begin where those end."""
    started = monotonic()
    told: list[tuple[float, str]] = []
    with subprocess.Popen(
        command,
        env={**os.environ, "KESTREL_LOG": "DEBUG", "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        listener = threading.Thread(target=_note, args=(process.stderr, told), daemon=True)
        listener.start()
        limit = threading.Timer(TIMEOUT_S, process.kill)
        limit.start()
        try:
            results = [(monotonic(), line) for line in process.stdout]
            code = process.wait()
        finally:
            limit.cancel()
            process.kill()  # no child outlives an error or Ctrl-C
        listener.join()
    if code == -signal.SIGKILL and monotonic() - started > TIMEOUT_S:
        raise ModelError(f"no result within {TIMEOUT_S:g} s of the start")
    if code or not results:
        raise _failed(code, [line for _, line in told])
    at_ms = {
        mark: (next(at for at, line in told if text.match(line)) - started) * 1e3
        for mark, text in MARKS.items()
    }
    first_ms = (results[0][0] - started) * 1e3
    return {
        "imports_ms": at_ms["imports"],
        "source_open_ms": at_ms["source"] - at_ms["imports"],
        "model_load_ms": at_ms["model"] - at_ms["imports"],
        "first_inference_ms": first_ms - max(at_ms.values()),
        "total_ms": first_ms,
        "detections": len(json.loads(results[0][1])["detections"]),
    }


def slowest_imports(command: Sequence[str]) -> dict[str, float]:
    """Ms by package, of one more process that tells (-X importtime); telling slows it a little."""
    python, *words = command
    done = subprocess.run(
        [python, "-X", "importtime", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    spent_us: Counter[str] = Counter()
    for line in done.stderr.splitlines():
        if found := IMPORT_LINE.match(line):
            spent_us[found[2].partition(".")[0]] += int(found[1])
    return {name: round(us / 1e3, 1) for name, us in spent_us.most_common(SHOWN_IMPORTS)}


def _note(stream: IO[str], lines: list[tuple[float, str]]) -> None:
    for line in stream:
        lines.append((monotonic(), line))


def _failed(code: int, lines: Sequence[str]) -> KestrelError:
    """What the process itself said, with its exit code."""
    errors = [line.strip() for line in lines if line.startswith("kestrel: error: ")]
    text = errors[0].removeprefix("kestrel: error: ") if errors else f"it ended with code {code}"
    kinds: dict[int, type[KestrelError]] = {
        kind.exit_code: kind for kind in (ConfigError, SourceError, ModelError)
    }
    return kinds.get(code, KestrelError)(f"the command that is timed failed: {text}")
