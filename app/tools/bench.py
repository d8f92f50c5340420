"""`bench`: how fast is this device, stage by stage, and does the age stay bounded?

Two runs: the recording as fast as it goes (LOSSLESS: throughput and stages), then the test pattern
at three times that rate (LATEST: age and drops under overload).
"""

from __future__ import annotations

import json
import logging
import os
import resource
from array import array
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from app import __version__
from app.config import Config
from app.credentials import mask_credentials
from app.detections import Result
from app.errors import ConfigError
from app.frame import SourceInfo
from app.handoff import Policy
from app.interfaces import Sink
from app.pipeline import Pipeline
from app.power import EnergySink
from app.shelf import Model
from app.sources.uri import make_source
from app.stats import PipelineStats
from app.tools.conduct import conduct
from app.tools.engines import backend_factory
from app.tools.inputs import choose_model
from app.tools.machine import device

log = logging.getLogger(__name__)

STAGES = ("read", "upload", "preprocess", "network", "postprocess", "download", "sinks")
OVERLOAD = 3.0
FRAMES = 500
FASTEST_PATTERN_FPS = 5000.0  # drawing more is itself the load


def run_bench(config: Config, *, seconds: float) -> int:
    """Measure, print the table, write the JSON."""
    if config.json is not None and config.json != "-" and not Path(config.json).parent.is_dir():
        raise ConfigError(f"--json {config.json}: the folder does not exist; make it first")
    if not 0 < seconds <= 86_400:
        raise ConfigError(f"--seconds is {seconds:g}; it must lie between 0 and a day")
    model = choose_model(config)
    config = replace(config, max_frames=config.max_frames or FRAMES)
    source = config.source or "sample:"
    energy = EnergySink()
    throughput, engine, remarks = _measure(config, model, source, Policy.LOSSLESS, [energy])
    if throughput.processed < 2:
        raise ConfigError(
            f"{mask_credentials(source)} has too few frames to measure; choose a longer recording"
        )
    fps = min(max(1.0, throughput.overall_fps * OVERLOAD), FASTEST_PATTERN_FPS)
    ticks = max(2, int(fps * seconds))
    pattern = f"pattern:?size=640x480&fps={fps:.0f}&frames={ticks}"
    ages = AgeSink()
    overload, *_ = _measure(replace(config, max_frames=None), model, pattern, Policy.LATEST, [ages])
    rss_mb, peak_kb = _rss_mb(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = {
        "kestrel": __version__,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": device(),
        "engine": engine,
        "remarks": list(remarks),
        "model": model.spec.name,
        "throughput": {"source": mask_credentials(source), **_figures(throughput)},
        "energy": energy.energy().figures(),
        "overload": {"source": pattern, **_figures(overload), **ages.drift(), **_ratio(overload)},
        "rss_mb": round(rss_mb, 1),
        # the kernel keeps the two counts apart, and lets the peak lag behind
        "rss_peak_mb": round(max(rss_mb, peak_kb / 1024), 1),
    }
    text = json.dumps(report, indent=1)
    if config.json == "-":
        print(text)
        return 0
    print(_table(report, energy.energy().line()))
    if config.json is not None:
        try:
            Path(config.json).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write --json {config.json}: {error.strerror}") from error
    return 0


class AgeSink:
    """Every age in order, to see whether it grows."""

    def __init__(self) -> None:
        self._ages_ms = array("d")

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Nothing to open."""

    def emit(self, result: Result) -> None:
        """Note the age."""
        self._ages_ms.append(result.age_ns / 1e6)

    def close(self) -> None:
        """Nothing to close."""

    def drift(self) -> dict[str, float]:
        """p99 of the first and of the last quarter of the run."""
        quarter = max(1, len(self._ages_ms) // 4)
        ages = np.array(self._ages_ms)
        return {
            "age_first_quarter_p99_ms": round(float(np.percentile(ages[:quarter], 99)), 3),
            "age_last_quarter_p99_ms": round(float(np.percentile(ages[-quarter:], 99)), 3),
        }


def _ratio(stats: PipelineStats) -> dict[str, float]:
    """Service time (medians of preprocess, network, postprocess), p99 age over it, and the load."""
    service = sum(stats.stages_ms[name][0] for name in ("preprocess", "network", "postprocess"))
    return {
        "service_ms": round(service, 3),
        "age_p99_over_service": round(stats.age_ms[2] / service, 2),
        "offered_times": round(stats.captured / stats.processed, 2),
    }


def _measure(
    config: Config, model: Model, source: str, policy: Policy, sinks: Sequence[Sink] = ()
) -> tuple[PipelineStats, str, Sequence[str]]:
    pipeline = Pipeline(
        make_source(source, realtime=policy is Policy.LATEST),
        backend_factory(config, model, policy),
        sinks,
        labels=model.spec.labels,
        policy=policy,
        max_frames=config.max_frames,
    )
    ending = conduct(pipeline)
    if ending.stopped:
        raise KeyboardInterrupt
    if ending.error is not None:
        raise ending.error
    return pipeline.stats(), pipeline.backend_description, pipeline.backend_remarks


def _figures(stats: PipelineStats) -> dict[str, Any]:
    figures = asdict(stats)
    del figures["state"], figures["fps"], figures["capture_fps"]
    figures["overall_fps"] = round(stats.overall_fps, 2)
    figures["age_ms"] = _rounded(stats.age_ms)
    figures["stages_ms"] = {name: _rounded(ms) for name, ms in stats.stages_ms.items()}
    return figures


def _rounded(triple: tuple[float, float, float]) -> dict[str, float]:
    return {name: round(v, 3) for name, v in zip(("p50", "p95", "p99"), triple, strict=True)}


def _table(report: dict[str, Any], energy: str) -> str:
    run, over = report["throughput"], report["overload"]
    device = report["device"]
    lines = [
        f"{device['cpu']}, {device['cores']} cores; {report['engine']}",
        "",
        f"{'stage (ms)':14}{'p50':>9}{'p95':>9}{'p99':>9}",
    ]
    for name in STAGES:
        if name in run["stages_ms"]:
            lines.append(f"{name:14}" + _row(run["stages_ms"][name]))
    lines += [
        *report["remarks"],
        "",
        f"throughput    {run['overall_fps']:.1f} FPS over {run['processed']} frames of "
        f"{run['source']}, none lost",
        f"energy        {energy}",
        f"overload      {over['overall_fps']:.1f} FPS, {over['offered_times']:.1f} times as many "
        f"offered; {sum(over['dropped'].values())} of {over['captured']} dropped",
        f"{'age (ms)':14}" + _row(over["age_ms"]),
        f"              p99 is {over['age_p99_over_service']:.2f} times the service time of "
        f"{over['service_ms']:.2f} ms; first quarter {over['age_first_quarter_p99_ms']:.1f}, "
        f"last {over['age_last_quarter_p99_ms']:.1f} ms",
        f"memory        {report['rss_mb']:.0f} MB resident, {report['rss_peak_mb']:.0f} MB at most",
    ]
    return "\n".join(lines)


def _row(figures: dict[str, float]) -> str:
    return "".join(f"{figures[p]:9.2f}" for p in ("p50", "p95", "p99"))


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
