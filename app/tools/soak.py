"""`soak`: may this run for months? Hours of chaos in one verdict.

The same pipeline as `run`, on a source to which everything happens, while memory, descriptors,
threads and the age of frames are sampled. What surely grows by more than it may is a leak.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from app import __version__
from app.config import Config
from app.credentials import mask_credentials
from app.detections import Result
from app.errors import ConfigError, VerdictError
from app.frame import SourceInfo
from app.handoff import Policy
from app.interfaces import Sink
from app.pipeline import Pipeline
from app.sources.lasting import Endurance
from app.sources.uri import SourceOptions, make_source
from app.stats import PipelineStats
from app.tools.conduct import conduct
from app.tools.engines import backend_factory
from app.tools.holdings import gpu_memory_mb, holdings
from app.tools.inputs import choose_model
from app.tools.machine import device
from app.tools.trend import Trend, trend

log = logging.getLogger(__name__)

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


class AgeWindow:
    """A sink: the median age since it was last asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ages_ms: list[float] = []

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Nothing to open."""

    def emit(self, result: Result) -> None:
        """Note the age."""
        with self._lock:
            self._ages_ms.append(result.age_ns / 1e6)

    def close(self) -> None:
        """Nothing to close."""

    def median_ms(self) -> float:
        """NaN when no frame came."""
        with self._lock:
            ages, self._ages_ms = self._ages_ms, []
        return float(np.median(ages)) if ages else float("nan")


def run_soak(
    config: Config, *, seconds: float, fast: bool, seed: int = 1, extra: Sequence[Sink] = ()
) -> int:
    """Run for so long, print the table, write the JSON; raises VerdictError if it leaks."""
    if not 1 <= seconds <= 366 * 86_400:
        raise ConfigError(f"soak takes 1 s to a year, not {seconds:g} s")
    if config.json not in (None, "-") and not Path(str(config.json)).parent.is_dir():
        raise ConfigError(f"--json {config.json}: the folder does not exist; make it first")
    uri = config.source or PATTERN
    if not uri.lower().startswith("chaos:"):
        uri = f"chaos:{seed}*{FAST_RATE if fast else 1}:{uri}"
    log.info("soak of %g s on %s", seconds, mask_credentials(uri))
    ages, samples = AgeWindow(), Samples()
    pipeline = _compose(config, uri, fast, [ages, *extra])
    began_s = time.monotonic()
    ending = conduct(pipeline, beside=lambda going: _sample(going, seconds, ages, samples))
    stats, lasted_s = pipeline.stats(), time.monotonic() - began_s
    if not samples.times_s and ending.error is not None:
        raise ending.error
    wrong = [*judge(samples), *_run_faults(stats, ending.error, lasted_s, seconds)]
    _tell(config, uri, samples, stats, wrong, lasted_s)
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


def _compose(config: Config, uri: str, fast: bool, sinks: Sequence[Sink]) -> Pipeline:
    patience = FAST if fast else Endurance(freeze_s=config.freeze_s or None, loop=True)
    patience = replace(patience, open_s=config.open_timeout_s + 2)
    if not fast:
        patience = replace(patience, silent_s=config.read_timeout_s, retry_s=config.retry_s)
    options = SourceOptions(
        open_timeout_s=config.open_timeout_s,
        read_timeout_s=config.read_timeout_s,
        rtsp_transport=config.rtsp_transport,
    )
    model = choose_model(config)
    return Pipeline(
        make_source(
            uri, realtime=True, isolate=config.isolate, options=options, endurance=patience
        ),
        backend_factory(config, model, Policy.LATEST),
        sinks,
        labels=model.spec.labels,
        policy=Policy.LATEST,
        max_age_ms=config.max_age_ms,
    )


def _sample(going: Callable[[], bool], seconds: float, ages: AgeWindow, samples: Samples) -> None:
    """Until the run ends or the time is over, on the main thread."""
    step_s = min(max(seconds / MOST_SAMPLES, FASTEST_S), SLOWEST_S)
    began_s = next_s = time.monotonic()
    while going() and (now_s := time.monotonic()) - began_s < seconds:
        if now_s >= next_s:
            next_s = now_s + step_s
            held, gpu_mb = holdings(), gpu_memory_mb()
            samples.add(
                now_s - began_s,
                rss_mb=held.rss_mb,
                gpu_mb=float("nan") if gpu_mb is None else gpu_mb,
                descriptors=held.descriptors,
                threads=held.threads,
                age_ms=ages.median_ms(),
            )
        time.sleep(min(0.1, step_s / 2))


def _tell(
    config: Config,
    uri: str,
    samples: Samples,
    stats: PipelineStats,
    wrong: Sequence[str],
    lasted_s: float,
) -> None:
    trends = samples.trends()
    report: dict[str, Any] = {
        "kestrel": __version__,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": device(),
        "source": mask_credentials(uri),
        "seconds": round(lasted_s, 1),
        "samples": len(samples.times_s),
        "processed": stats.processed,
        "dropped": dict(stats.dropped),
        "events": dict(stats.events),
        "series": {name: _figures(found) for name, found in trends.items()},
        "wrong": list(wrong),
        "passed": not wrong,
    }
    text = json.dumps(report, indent=1)
    if config.json == "-":
        print(text)
        return
    print(_table(report))
    if config.json is not None:
        try:
            Path(config.json).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write --json {config.json}: {error.strerror}") from error


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
    lines = [
        f"soak     {report['seconds']:.0f} s, {report['processed']} frames on {report['source']}",
        f"events   {events or 'none'}",
        f"{'':12}{'level':>10}{'per hour':>12}   99 % sure: between",
    ]
    for name, found in report["series"].items():
        if found is None:
            lines.append(f"{name:12}{'not measured':>10}")
            continue
        lines.append(
            f"{name:12}{found['level']:10.1f}{found['slope_per_hour']:+12.2f}   "
            f"{found['low_per_hour']:+.2f} and {found['high_per_hour']:+.2f}"
        )
    lines.append("verdict  " + ("passed" if report["passed"] else "failed"))
    return "\n".join(lines)
