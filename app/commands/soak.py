"""``soak``: hours of injected faults in one verdict on leaks, growth and ages.

Theil–Sen slope (the median of the slopes between all pairs: a third of the points may be wild) with
Sen's interval, which follows from the distribution of Kendall's S: P. K. Sen, "Estimates of the
regression coefficient based on Kendall's tau", JASA 63 (1968). Neighbouring samples are not
independent, so they are first put together in blocks, of which the medians count.

The same pipeline as `run`, on a source to which everything happens, while memory, descriptors,
threads and the age of frames are sampled. What surely grows by more than it may is a leak.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import psutil

from ..config import Config
from ..core.credentials import mask_credentials
from ..core.errors import ConfigError, VerdictError
from ..core.interfaces import Sink
from ..core.stats import PipelineStats, percentiles
from ..pipeline.handoff import Policy
from ..runtime.build import BuiltRun, RunPlan, build
from ..runtime.engines import choose_model
from ..runtime.inputs import NamedInput, source_options
from ..runtime.outputs import without_outputs
from ..session.figures import MachineGauge
from ..sinks.adapters import AgeSink
from ..sources.reconnect import Endurance
from ..sources.uri import make_source
from . import Destination, columns, figure, header

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Holdings:
    """At one moment, of a process and its children."""

    rss_mb: float = 0.0
    descriptors: int = 0
    threads: int = 0


def holdings(pid: int | None = None) -> Holdings:
    """Of this process, or of another; a child that ends meanwhile does not count."""
    family, held = [], []
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    for each in family:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied), each.oneshot():
            held.append((each.memory_info().rss / 2**20, each.num_fds(), each.num_threads()))
    return Holdings(*map(sum, zip(*held, strict=True)))


BLOCKS = 30
FEWEST_BLOCKS = 8
Z_99 = 2.576  # two-sided 99 %


@dataclass(frozen=True, slots=True)
class Trend:
    """Slopes are per second; ``low`` and ``high`` bound it with 99 % confidence."""

    slope: float
    low: float
    high: float
    span_s: float
    level: float  # the median

    @property
    def sure_growth(self) -> float:
        """How much it grew at least, over the whole span."""
        return self.low * self.span_s


def trend(times_s: Sequence[float], values: Sequence[float]) -> Trend | None:
    """None where there is too little to judge."""
    times, series = np.asarray(times_s, np.float64), np.asarray(values, np.float64)
    known = np.isfinite(series)
    times, series = times[known], series[known]
    count = min(BLOCKS, len(series) // 2)
    if count < FEWEST_BLOCKS:
        return None
    x = np.array([np.median(block) for block in np.array_split(times, count)])
    y = np.array([np.median(block) for block in np.array_split(series, count)])
    i, j = np.triu_indices(count, 1)
    slopes = np.sort((y[j] - y[i]) / (x[j] - x[i]))
    total = len(slopes)
    reach = Z_99 * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low, high = round((total - reach) / 2), round((total + reach) / 2)
    return Trend(
        slope=float(np.median(slopes)),
        low=float(slopes[max(0, low)]),
        high=float(slopes[min(total - 1, high)]),
        span_s=float(times[-1] - times[0]),
        level=float(np.median(series)),
    )


PATTERN = "pattern:?size=640x360&fps=30"
WARM_UP = 0.25  # of the time: caches and pools fill, decoders are started for the first time
MOST_SAMPLES = 2000
FASTEST_S, SLOWEST_S = 0.2, 60.0
# in an accelerated soak everything happens twenty times as often, and patience is short too
FAST_RATE = 20
FAST = Endurance(stall_s=0.5, silent_s=1.5, freeze_s=1.5, black_s=1.0, retry_s=0.5, loop=True)
# What may be gained from warm-up to end, in the unit of the series, plus a share of its level
ALLOWED: dict[str, tuple[float, float]] = {
    "rss_mb": (8.0, 0.03),
    "gpu_mb": (16.0, 0.01),
    "descriptors": (3.0, 0.0),
    "threads": (2.0, 0.0),
    "age_ms": (5.0, 0.25),
}


@dataclass(slots=True)
class Samples:
    """The series; NaN where there was nothing to measure."""

    times_s: list[float] = field(default_factory=list)
    series: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in ALLOWED})

    def add(self, time_s: float, **values: float) -> None:
        """One value for each series."""
        self.times_s.append(time_s)
        for name, series in self.series.items():
            series.append(values[name])

    def trends(self) -> dict[str, Trend | None]:
        """After warm-up; None where there is too little to judge."""
        first = next(
            (i for i, at_s in enumerate(self.times_s) if at_s >= WARM_UP * self.times_s[-1]), 0
        )
        return {
            name: trend(self.times_s[first:], values[first:])
            for name, values in self.series.items()
        }


def run_soak(
    config: Config, *, seconds: float, fast: bool, seed: int = 1, extra: Sequence[Sink] = ()
) -> int:
    """Run for so long, print the table, write the JSON; raises VerdictError if it leaks."""
    if not 1 <= seconds <= 366 * 86_400:
        raise ConfigError(f"soak takes 1 s to a year, not {seconds:g} s")
    destination = Destination(config.json)
    uri = config.source or PATTERN
    if not uri.lower().startswith("chaos:"):
        uri = f"chaos:{seed}*{FAST_RATE if fast else 1}:{uri}"
    log.info("soak of %g s on %s", seconds, mask_credentials(uri))
    ages, samples = AgeSink(), Samples()
    run = _build(config, uri, fast, [ages, *extra])
    began_s = time.monotonic()
    ending = run.finish(beside=lambda going: _sample(going, seconds, ages, samples))
    stats, lasted_s = run.pipeline.stats(), time.monotonic() - began_s
    if not samples.times_s and ending.error is not None:
        raise ending.error
    wrong = [*judge(samples), *_run_faults(stats, ending.error, lasted_s, seconds)]
    report = _report(uri, samples, stats, wrong, lasted_s)
    destination.give(report, _table(report))
    if wrong:
        raise VerdictError(f"soak failed: {'; '.join(wrong)}")
    return 0


def judge(samples: Samples) -> list[str]:
    """What surely grew by more than it may."""
    wrong = []
    for name, found in samples.trends().items():
        if found is None:
            continue
        least, share = ALLOWED[name]
        allowed = least + share * abs(found.level)
        if found.sure_growth > allowed:
            wrong.append(
                f"{name} grew by at least {found.sure_growth:.1f} in {found.span_s:.0f} s "
                f"(allowed: {allowed:.1f})"
            )
    return wrong


def _run_faults(
    stats: PipelineStats, error: BaseException | None, lasted_s: float, seconds: float
) -> list[str]:
    wrong = [] if error is None else [f"the run ended by an error: {error}"]
    if error is None and lasted_s < 0.9 * seconds:
        wrong.append(f"stopped after {lasted_s:.0f} of {seconds:.0f} s: too short for a verdict")
    if not stats.processed:
        wrong.append("no frame was processed")
    return wrong


def _build(config: Config, uri: str, fast: bool, sinks: Sequence[Sink]) -> BuiltRun:
    patience = FAST if fast else Endurance(freeze_s=config.freeze_s or None, loop=True)
    patience = replace(patience, open_s=config.open_timeout_s + 2)
    if not fast:
        patience = replace(patience, silent_s=config.read_timeout_s, retry_s=config.retry_s)
    options = replace(source_options(config), raw=False)
    source = make_source(
        uri, realtime=True, isolate=config.isolate, options=options, endurance=patience
    )
    return build(
        RunPlan(
            config=replace(without_outputs(config), max_frames=None),
            policy=Policy.LATEST,
            model=choose_model(config),
            inputs=[NamedInput("", source)],
            sinks=sinks,
            reports=False,
        )
    )


def _sample(going: Callable[[], bool], seconds: float, ages: AgeSink, samples: Samples) -> None:
    """Until the run ends or the time is over, on the main thread."""
    step_s = min(max(seconds / MOST_SAMPLES, FASTEST_S), SLOWEST_S)
    gauge = MachineGauge()
    began_s = next_s = time.monotonic()
    while going() and (now_s := time.monotonic()) - began_s < seconds:
        if now_s >= next_s:
            next_s = now_s + step_s
            gpu_mb = gauge.read().gpu_memory_mb
            samples.add(
                now_s - began_s,
                **asdict(holdings()),
                gpu_mb=math.nan if gpu_mb is None else gpu_mb,
                age_ms=percentiles(ages.take(), 50)[0],
            )
        time.sleep(min(0.1, step_s / 2))


def _report(
    uri: str, samples: Samples, stats: PipelineStats, wrong: Sequence[str], lasted_s: float
) -> dict[str, Any]:
    return {
        **header("soak"),
        "source": mask_credentials(uri),
        "seconds": round(lasted_s, 1),
        "samples": len(samples.times_s),
        "processed": stats.processed,
        "dropped": dict(stats.dropped),
        "events": dict(stats.events),
        "series": {name: _figures(found) for name, found in samples.trends().items()},
        "wrong": list(wrong),
        "passed": not wrong,
    }


def _figures(found: Trend | None) -> dict[str, float] | None:
    if found is None:
        return None
    per_hour = {"slope": found.slope, "low": found.low, "high": found.high}
    return {
        "level": round(found.level, 3),
        **{f"{name}_per_hour": round(each * 3600, 3) for name, each in per_hour.items()},
        "sure_growth": round(found.sure_growth, 3),
    }


def _table(report: dict[str, Any]) -> str:
    events = ", ".join(f"{n} {name}" for name, n in sorted(report["events"].items()))
    rows = []
    for name, found in report["series"].items():
        told = found or {}  # nothing: not measured
        slopes = (told.get(f"{key}_per_hour") for key in ("slope", "low", "high"))
        rows.append(
            (name, figure(told.get("level"), ".1f"), *(figure(each, "+.2f") for each in slopes))
        )
    head = ("", "level", "per hour", "99 % sure: above", "and below")
    return "\n".join(
        [
            f"soak     {report['seconds']:.0f} s, {report['processed']} frames on "
            f"{report['source']}",
            f"events   {events or 'none'}",
            *columns(head, rows, numbers=True),
            "verdict  " + ("passed" if report["passed"] else "failed"),
        ]
    )
