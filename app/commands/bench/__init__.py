"""``bench``: how fast this device is, where the time goes, and how far that is from its limits.

``run_bench`` measures one configuration, ``rounds`` several in turn, and fresh processes;
``report`` has their tables and pages, and compares two. ``schema.json`` describes the JSON.

Four runs: frame after frame on one thread (the bare work), the recording as fast as it goes
(LOSSLESS: throughput and stages), then the test pattern at half of that rate and at three times it
(LATEST: age when idle, age and drops under overload).
"""

from __future__ import annotations

import resource
from dataclasses import replace
from typing import Any

from ...config import Config
from ...core.credentials import mask_credentials
from ...core.errors import ConfigError
from ...core.letterbox import displayed
from ...core.stats import PipelineStats
from ...models.manifest import Model
from ...models.onnx_session import model_cost
from ...pipeline.handoff import Policy
from ...runtime.engines import choose_model, spec_computed
from ...sinks.adapters import AgeSink
from .. import Destination, header
from .measure import Measured, drift, measure_alone, measure_run
from .report import page, table
from .roofline import bottleneck, ceilings, figures, stage_bounds

OVERLOAD, IDLE = 3.0, 0.5  # times the rate that was sustained
FRAMES = 500
PATTERN_PX = 640 * 480
FASTEST_PATTERN_FPS = 5000.0  # drawing more is itself the load


def run_bench(config: Config, destination: Destination, *, seconds: float) -> int:
    """Measure, print the table, write JSON and HTML."""
    import psutil  # late, as all that costs start-up time

    if not 0 < seconds <= 86_400:
        raise ConfigError(f"--seconds is {seconds:g}; it must lie between 0 and a day")
    model = choose_model(config)
    config = replace(config, max_frames=config.max_frames or FRAMES)
    source = config.source or "sample:"
    run = measure_run(config, model, source, Policy.LOSSLESS)
    fps = run.stats.overall_fps
    if run.stats.processed < 2:
        raise ConfigError(
            f"{mask_credentials(source)} has too few frames to measure; choose a longer recording"
        )
    alone = measure_alone(config, model, source)
    pattern = _pattern_wh(displayed(alone.frame_wh, alone.pixel_aspect))
    live = _at_rate(config, model, pattern, min(fps * IDLE, FASTEST_PATTERN_FPS), seconds)
    overload = _at_rate(config, model, pattern, min(fps * OVERLOAD, FASTEST_PATTERN_FPS), seconds)
    # before the ceilings are measured, which takes memory that no run takes
    rss_mb = psutil.Process().memory_info().rss / 2**20
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    computed = spec_computed(run.kind, model.spec).for_frame(alone.frame_wh, alone.pixel_aspect)
    width, height = computed.input.size_wh
    work, peak = model_cost(model.weights, (1, 3, height, width)), ceilings()
    if config.precision == "bf16" and work.precision != "int8":
        work = replace(work, precision="bf16")
    lines = stage_bounds(alone, computed, work, peak)
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
    return destination.give(report, table(report), page)


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
    run = measure_run(replace(config, max_frames=None), model, pattern, Policy.LATEST, [ages])
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
