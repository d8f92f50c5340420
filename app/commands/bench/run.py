"""``bench``: one configuration measured stage by stage, and the envelope of every report.

Four runs: frame after frame on one thread (the bare work), the recording as fast as it goes
(LOSSLESS: throughput and stages), then the test pattern at half of that rate and at three times it
(LATEST: age when idle, age and drops under overload).
"""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ... import __version__
from ...config import Config
from ...core.credentials import mask_credentials
from ...core.errors import ConfigError
from ...core.stats import PipelineStats
from ...models.manifest import Model
from ...models.onnx_session import model_cost
from ...ops.machine import device
from ...pipeline.handoff import Policy
from ...runtime.engines import choose_model, spec_computed
from ...sinks.adapters import AgeSink
from .measure import Measured, drift, measure, measure_alone
from .report import run_table
from .roofline import bottleneck, ceilings, figures, roofline

SCHEMA = Path(__file__).with_name("schema.json")


def header(kind: str) -> dict[str, Any]:
    """``kind``: "run", "sweep" or "startup", as in schema.json."""
    return {
        "kind": kind,
        "kestrel": __version__,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": device(),
    }


@dataclass(frozen=True, slots=True)
class Destination:
    """What --json and --html name. ``json`` "-": standard output, and nothing else there."""

    json: str | None = None
    html: Path | None = None

    def check(self) -> None:
        """Raise ConfigError before anything is measured in vain."""
        files = {"--json": self.json if self.json != "-" else None, "--html": self.html}
        for flag, file in files.items():
            if file is not None and not Path(file).parent.is_dir():
                raise ConfigError(f"{flag} {file}: the folder does not exist; make it first")

    def give(self, report: Mapping[str, Any], table: str) -> int:
        """Print and write."""
        text = json.dumps(report, indent=1)
        print(text if self.json == "-" else table)
        if self.json not in (None, "-"):
            _write("--json", Path(str(self.json)), text + "\n")
        if self.html is not None:
            from .report import page

            _write("--html", self.html, page(report))
        return 0


def _write(flag: str, path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {flag} {path}: {error.strerror}") from error


OVERLOAD, IDLE = 3.0, 0.5  # times the rate that was sustained
FRAMES = 500
PATTERN_PX = 640 * 480
FASTEST_PATTERN_FPS = 5000.0  # drawing more is itself the load


def run_bench(config: Config, destination: Destination, *, seconds: float) -> int:
    """Measure, print the table, write JSON and HTML."""
    destination.check()
    if not 0 < seconds <= 86_400:
        raise ConfigError(f"--seconds is {seconds:g}; it must lie between 0 and a day")
    model = choose_model(config)
    config = replace(config, max_frames=config.max_frames or FRAMES)
    source = config.source or "sample:"
    run = measure(config, model, source, Policy.LOSSLESS)
    fps = run.stats.overall_fps
    if run.stats.processed < 2:
        raise ConfigError(
            f"{mask_credentials(source)} has too few frames to measure; choose a longer recording"
        )
    alone = measure_alone(config, model, source)
    pattern = _pattern_wh(alone.frame_wh)
    live = _at_rate(config, model, pattern, min(fps * IDLE, FASTEST_PATTERN_FPS), seconds)
    overload = _at_rate(config, model, pattern, min(fps * OVERLOAD, FASTEST_PATTERN_FPS), seconds)
    # before the ceilings are measured, which takes memory that no run takes
    rss_mb, peak_kb = _rss_mb(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    computed = spec_computed(run.kind, model.spec).for_frame(alone.frame_wh)
    width, height = computed.input.size_wh
    work, peak = model_cost(model.weights, (1, 3, height, width)), ceilings()
    if config.precision == "bf16" and work.precision != "int8":
        work = replace(work, precision="bf16")
    lines = roofline(alone, computed, work, peak)
    sentence = bottleneck(alone, lines, run, work, peak)
    report = {
        **header("run"),
        "engine": run.engine,
        "remarks": list(run.remarks),
        "model": model.spec.name,
        "throughput": {"source": mask_credentials(source), **run.figures()},
        "alone": alone.figures(fps),
        "energy": run.energy.figures(),
        "live": live,
        "overload": overload,
        "roofline": figures(lines, sentence, work, peak),
        "rss_mb": round(rss_mb, 1),
        # the kernel keeps the two counts apart, and lets the peak lag behind
        "rss_peak_mb": round(max(rss_mb, peak_kb / 1024), 1),
    }
    table = run_table(report, energy=run.energy.line(), lines=lines)
    return destination.give(report, table)


def _pattern_wh(frame_wh: tuple[int, int]) -> tuple[int, int]:
    """A pattern of the recording's shape, which may decide what a network costs; small enough to
    be drawn at any rate."""
    width, height = frame_wh
    scale = (PATTERN_PX / (width * height)) ** 0.5
    return max(32, round(width * scale)), max(32, round(height * scale))


def _at_rate(
    config: Config, model: Model, wh_px: tuple[int, int], fps: float, seconds: float
) -> dict[str, Any]:
    """The test pattern as a live source: the age of what comes out."""
    fps = max(1.0, fps)
    ticks = max(2, int(fps * seconds))
    pattern = "pattern:?size={}x{}".format(*wh_px) + f"&fps={fps:.0f}&frames={ticks}"
    ages = AgeSink()
    run = measure(replace(config, max_frames=None), model, pattern, Policy.LATEST, [ages])
    return {"source": pattern, **run.figures(), **drift(ages.take()), **_ratios(run)}


def _ratios(run: Measured) -> dict[str, float]:
    """Service time (medians of preprocess, network, postprocess), ages over it, and the load."""
    stats: PipelineStats = run.stats
    service = sum(stats.stages_ms[name][0] for name in ("preprocess", "network", "postprocess"))
    p50, _, p99 = stats.age_ms
    return {
        "service_ms": round(service, 3),
        "age_p50_over_service": round(p50 / service, 2),
        "age_p99_over_service": round(p99 / service, 2),
        "age_p99_over_p50": round(p99 / p50, 2),
        "offered_times": round(stats.captured / stats.processed, 2),
    }


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
