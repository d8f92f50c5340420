"""``bench --sweep`` and ``--startup``: measurements in rounds, of which the medians count.

A sweep measures the same recording under several configurations, interleaved, so that a machine
that warms up or is busy for a while slows all of them alike. A configuration that this machine or
model does not have is told with its reason and left out.

A start is the real command in a fresh process, timed from outside by what it writes and when:
nothing in it knows that it is measured. The source opens and the model loads side by side, so the
parts overlap.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter
from typing import IO, Any

import numpy as np

from ...config import SETTINGS, Config, Key
from ...core.credentials import mask_credentials
from ...core.errors import ConfigError, KestrelError, ModelError, SourceError
from ...core.package import child_command
from ...inference.cpu import cores
from ...models.manifest import Model
from ...models.onnx_edit import with_input
from ...models.onnx_session import load_onnxruntime, one_line, open_session
from ...pipeline.handoff import Policy
from ...runtime.engines import choose_model
from .. import Destination, header
from .measure import STAGES, measure_run
from .report import page, table

log = logging.getLogger(__name__)
Settings = dict[str, Any]
MOST_ROUNDS = 1000


def _check_rounds(rounds: int) -> None:
    """Raise ConfigError for what --rounds cannot be."""
    if not 1 <= rounds <= MOST_ROUNDS:
        raise ConfigError(f"--rounds is {rounds}; it must lie between 1 and {MOST_ROUNDS}")


SWEPT = {
    each.name: each.key
    for each in SETTINGS
    if each.name in ("engine", "precision", "transfer", "slots", "workers", "threads")
}
KEYS = ("model", "size", *SWEPT, "batch")
BESIDE_BATCH = {"batch", "model", "size", "threads"}
BATCH = Key(help="frames of the network alone", limits=(1, 256))
MOST_POINTS = 64
MOST_SIDE_PX = 8192


def parse_sweep(words: Sequence[str]) -> list[Settings]:
    """Every combination, in the order given; raises ConfigError in one line."""
    axes: dict[str, list[Any]] = {}
    for word in words:
        key, equals, values = word.partition("=")
        if not equals or key not in KEYS:
            raise ConfigError(
                f"--sweep {word}: write KEY=A,B,C, where KEY is one of {', '.join(KEYS)}"
            )
        if key in axes:
            raise ConfigError(f"--sweep {key} is given twice; list all its values in one")
        axes[key] = [_value(key, text) for text in values.split(",")]
        if len(set(axes[key])) < len(axes[key]):
            raise ConfigError(f"--sweep {word}: a value is listed twice")
    if "batch" in axes and (other := axes.keys() - BESIDE_BATCH):
        raise ConfigError(
            f"--sweep batch measures the network alone, so {', '.join(sorted(other))} has no "
            "meaning beside it; only model, size and threads have"
        )
    points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    if len(points) > MOST_POINTS:
        raise ConfigError(f"--sweep: {len(points)} combinations; at most {MOST_POINTS}")
    return points


def _value(key: str, text: str) -> Any:
    """As the setting of that name; ``size`` is (width, height) in px."""
    if key == "size":
        found = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", text, re.ASCII)
        size = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not all(0 < side <= MOST_SIDE_PX for side in size):
            raise ConfigError(f"--sweep size={text}: write pixels, as 320 or 416x256")
        return size
    if key == "model":
        if not text:
            raise ConfigError("--sweep model: a value is empty")
        return text
    declared = BATCH if key == "batch" else SWEPT[key]
    value: Any = text
    if declared.limits:
        try:
            value = int(text)
        except ValueError:
            raise ConfigError(f"--sweep {key}={text}: write whole numbers") from None
    declared.check(f"--sweep {key}", value)
    return value


TOLERANCE = 1e-3  # of the largest value: other sums in another order


def at_size(model: Model, size_wh: tuple[int, int], folder: Path) -> Model:
    """The model with another input; ``folder`` takes its file where the graph fixes the size.

    Raises ModelError where the graph cannot have it.
    """
    if size_wh == model.spec.input.size_wh and not model.spec.input.fit:
        return model
    shape = (1, 3, size_wh[1], size_wh[0])
    weights = with_input(model.weights, shape, folder)
    # what is asked for is measured: all of that size
    spec = replace(model.spec, input=replace(model.spec.input, size_wh=size_wh, fit=0))
    _run(weights, model, np.zeros(shape, np.float32))
    return replace(model, spec=spec, weights=weights)


def at_batch(model: Model, batch: int, folder: Path) -> tuple[Path, np.ndarray[Any, Any]]:
    """A file that takes ``batch`` frames at once, and an input for it.

    Raises ModelError unless it gives for each frame what the model gives for it alone.
    """
    width, height = model.spec.input.size_wh
    rng = np.random.default_rng(0)
    frames = rng.random((batch, 3, height, width), np.float32)
    if batch == 1:
        return model.weights, frames
    weights = with_input(model.weights, frames.shape, folder)
    together = _run(weights, model, frames)
    for i in sorted({0, batch - 1}):
        for many, single in zip(
            together, _run(model.weights, model, frames[i : i + 1]), strict=True
        ):
            bound = TOLERANCE * max(1.0, float(np.abs(single).max()))
            same = many.shape == (batch, *single.shape[1:]) and single.shape[0] == 1
            if not same or not np.allclose(many[i], single[0], rtol=0, atol=bound):
                raise ModelError(
                    f"model {model.spec.name}: the graph mixes the frames of a batch of {batch}, "
                    "or is made for one; export it with an open batch dimension"
                )
    return weights, frames


def _run(weights: Path, model: Model, tensor: np.ndarray[Any, Any]) -> list[Any]:
    ort = load_onnxruntime()
    try:
        session = ort.InferenceSession(str(weights), providers=["CPUExecutionProvider"])
        outputs: list[Any] = session.run(None, {session.get_inputs()[0].name: tensor})
    except Exception as fault:  # ONNX Runtime's own errors have no common root
        raise ModelError(
            f"model {model.spec.name}: its graph does not allow an input of "
            f"{list(tensor.shape)} ({one_line(fault)})"
        ) from fault
    return outputs


FRAMES = 200
BATCH_S = 0.5  # of one round


@dataclass(slots=True)
class Point:
    """One configuration and what its rounds gave."""

    settings: Settings
    refused: str | None = None
    engine: str | None = None
    rounds: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """For tables and plots: slots=2, size=320x320."""
        told = {k: "x".join(map(str, v)) if k == "size" else v for k, v in self.settings.items()}
        return ", ".join(f"{key}={value}" for key, value in told.items())

    def figures(self) -> dict[str, Any]:
        """For JSON: medians of the rounds; null where refused or not told."""
        fps = [each["fps"] for each in self.rounds]
        return {
            "name": self.name,
            "settings": self.settings,
            "refused": self.refused,
            "engine": self.engine,
            "rounds_fps": [round(v, 2) for v in fps],
            "fps": _median(fps),
            **{
                key: _median([each.get(key) for each in self.rounds])
                for key in ("age_p50_ms", "process_cpu_ms_per_frame", "joules_per_frame")
            },
            "stages_p50_ms": {
                stage: _median([each["stages"].get(stage) for each in self.rounds])
                for stage in STAGES
            },
        }


def run_sweep(config: Config, destination: Destination, *, keys: Sequence[str], rounds: int) -> int:
    """Measure, print the table, write JSON and HTML."""
    _check_rounds(rounds)
    points = [Point(settings) for settings in parse_sweep(keys)]
    config = replace(config, max_frames=config.max_frames or FRAMES)
    source = config.source or "sample:"
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for point in points:
                if point.refused is None:
                    log.info("round %d of %d: %s", number + 1, rounds, point.name)
                    _round(point, config, source, Path(folder))
    refusals = [p.refused for p in points if p.refused is not None]
    if len(refusals) == len(points):
        raise ConfigError(refusals[0])
    report = {
        **header("sweep"),
        "source": mask_credentials(source),
        "model": config.model or choose_model(config).spec.name,
        "frames": config.max_frames,
        "measures": "network" if "batch" in points[0].settings else "pipeline",
        "rounds": rounds,
        "points": [point.figures() for point in points],
    }
    return destination.give(report, table(report), page)


def _round(point: Point, config: Config, source: str, folder: Path) -> None:
    try:
        point.rounds.append(_measure(point, config, source, folder))
    except SourceError:
        raise  # the same for all
    except KestrelError as fault:
        point.refused = str(fault)
        point.rounds.clear()


def _measure(point: Point, config: Config, source: str, folder: Path) -> dict[str, Any]:
    settings = dict(point.settings)
    size, batch = settings.pop("size", None), settings.pop("batch", None)
    chosen = replace(config, **settings)
    model = choose_model(chosen)
    if size is not None:
        model = at_size(model, size, folder)
    if batch is not None:
        return _measure_batch(point, chosen, model, batch, folder)
    run = measure_run(chosen, model, source, Policy.LOSSLESS)
    if run.stats.processed < 2:
        raise SourceError(f"{mask_credentials(source)} has too few frames to measure")
    point.engine = run.engine
    return {
        "fps": run.stats.overall_fps,
        "age_p50_ms": run.stats.age_ms[0],
        "process_cpu_ms_per_frame": run.load.process_cpu_ms_per_frame,
        "joules_per_frame": run.energy.joules_per_frame,
        "stages": {name: ms[0] for name, ms in run.stats.stages_ms.items()},
    }


def _measure_batch(
    point: Point, config: Config, model: Model, batch: int, folder: Path
) -> dict[str, Any]:
    """The network alone, on all cores: frames a second in batches."""
    if config.engine not in ("auto", "cpu"):
        raise ConfigError(
            f"--sweep batch: --engine {config.engine} takes one frame a launch; "
            "batches are measured with --engine cpu"
        )
    if config.precision not in ("auto", "fp32"):
        raise ConfigError(
            f"--sweep batch: precision {config.precision} is none of --engine cpu, with which "
            "batches are measured"
        )
    threads = config.threads or cores()
    weights, frames = at_batch(model, batch, folder)
    session = open_session(weights, threads=threads)
    point.engine = f"cpu (ONNX Runtime), {threads} threads, {model.spec.name}, network alone"
    feeds = {session.get_inputs()[0].name: frames}
    session.run(None, feeds)
    times_s: list[float] = []
    while sum(times_s) < BATCH_S or len(times_s) < 3:
        start_s = perf_counter()
        session.run(None, feeds)
        times_s.append(perf_counter() - start_s)
    per_frame_s = median(times_s) / batch
    return {"fps": 1 / per_frame_s, "stages": {"network": per_frame_s * 1e3}}


def _median(values: Sequence[float | None]) -> float | None:
    told = [v for v in values if v is not None]
    return round(median(told), 4) if told else None


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


def run_startup(config: Config, destination: Destination, *, rounds: int) -> int:
    """Measure, print the table, write JSON and HTML."""
    _check_rounds(rounds)
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
