"""The figures of a run in Prometheus' text format."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ... import __version__
from ...core.stats import PERCENTILES, OutputMeter, PipelineStats
from ..objects import DWELL_S, ObjectTally

CONTENT_TYPE = CONTENT_TYPE_LATEST
QUANTILES = tuple(str(percent / 100) for percent in PERCENTILES)  # as Prometheus writes them


class Metrics(Collector):
    """Everything is read at the moment of asking; nothing is counted twice."""

    def __init__(
        self,
        *,
        stats: Callable[[], PipelineStats],
        outputs: Sequence[OutputMeter],
        idle_s: Callable[[], float | None],
        healthy: Callable[[], bool],
        viewers: Callable[[], Mapping[str, int]],
        about: Callable[[], Mapping[str, str]],
        tallies: Mapping[str, ObjectTally],
    ) -> None:
        self._stats, self._outputs, self._idle_s = stats, outputs, idle_s
        self._healthy, self._viewers, self._about = healthy, viewers, about
        self._tallies = tallies
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """The page in Prometheus' text format."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing to know before the first reading."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics at this moment."""
        yield from self._pipeline()
        yield from self._of_sources()
        yield from self._of_objects()
        yield from self._of_outputs()
        info = InfoMetricFamily("kestrel", "What runs here")
        info.add_metric([], {"version": __version__, **self._about()})
        yield info
        yield GaugeMetricFamily(
            "kestrel_healthy", "1 while inferences complete, as /healthz", int(self._healthy())
        )
        idle_s = self._idle_s()
        if idle_s is not None:
            yield GaugeMetricFamily(
                "kestrel_last_inference_age_seconds", "Since the last one completed", idle_s
            )
        viewers = GaugeMetricFamily("kestrel_http_viewers", "Open streams", labels=["kind"])
        for kind, count in self._viewers().items():
            viewers.add_metric([kind], count)
        yield viewers

    def _pipeline(self) -> Iterator[Metric]:
        stats = self._stats()
        yield from _figures("kestrel", {(): stats})
        events = CounterMetricFamily(
            "kestrel_events", "Of the source and the ladder", labels=["event"]
        )
        for event, count in stats.events.items():
            events.add_metric([event], count)
        yield events
        yield GaugeMetricFamily(
            "kestrel_capture_fps", "Captured frames per second", stats.capture_fps
        )
        stages = GaugeMetricFamily(
            "kestrel_stage_seconds", "Time of each stage, recent", labels=["stage", "quantile"]
        )
        for name, values_ms in stats.stages_ms.items():
            for quantile, value_ms in zip(QUANTILES, values_ms, strict=True):
                stages.add_metric([name, quantile], value_ms / 1e3)
        yield stages

    def _of_sources(self) -> Iterator[Metric]:
        """Each of several sources; what they have in common is told above."""
        sources = self._stats().sources
        return _figures("kestrel_source", {(n,): each for n, each in sources.items()}, "source")

    def _of_objects(self) -> Iterator[Metric]:
        """Of each source's tracks; labels beyond ``MOST_LABELS`` are told together."""
        if not self._tallies:
            return
        zone, line = ["source", "zone", "label"], ["source", "line", "direction", "label"]
        now = GaugeMetricFamily("kestrel_objects", "In view", labels=["source", "label"])
        appeared = CounterMetricFamily(
            "kestrel_objects_appeared", "Have come into view", labels=["source", "label"]
        )
        inside = GaugeMetricFamily("kestrel_zone_objects", "In the zone", labels=zone)
        entered = CounterMetricFamily("kestrel_zone_entered", "Have entered", labels=zone)
        crossed = CounterMetricFamily("kestrel_line_crossed", "Have crossed", labels=line)
        dwell = HistogramMetricFamily("kestrel_zone_dwell_seconds", "Ended stays", labels=zone)
        for source, tally in list(self._tallies.items()):
            counts = tally.counts()
            for label, total in counts.appeared.items():
                appeared.add_metric([source, label], total)
                now.add_metric([source, label], counts.now[label])
            for where, total in counts.entered.items():
                entered.add_metric([source, *where], total)
                inside.add_metric([source, *where], counts.inside[where])
            for way, total in counts.crossed.items():
                crossed.add_metric([source, *way], total)
            for where, stays in counts.dwell.items():
                sums = accumulate(stays.counts)
                limits = (*map(str, DWELL_S), "+Inf")
                buckets = list(zip(limits, sums, strict=True))
                dwell.add_metric([source, *where], buckets=buckets, sum_value=stays.sum_s)
        yield from (now, appeared, inside, entered, crossed, dwell)

    def _of_outputs(self) -> Iterator[Metric]:
        delivered = CounterMetricFamily(
            "kestrel_output_delivered", "Taken by the output's consumer", labels=["output"]
        )
        dropped = CounterMetricFamily(
            "kestrel_output_dropped", "Never delivered", labels=["output", "reason"]
        )
        waiting = GaugeMetricFamily("kestrel_output_waiting", "In its queue", labels=["output"])
        trouble = GaugeMetricFamily(
            "kestrel_output_trouble", "1 while something is wrong", labels=["output"]
        )
        for figures in (meter.figures() for meter in self._outputs):
            delivered.add_metric([figures.name], figures.delivered)
            for reason, count in figures.dropped.items():
                dropped.add_metric([figures.name, reason], count)
            waiting.add_metric([figures.name], figures.waiting)
            trouble.add_metric([figures.name], int(bool(figures.trouble)))
        yield from (delivered, dropped, waiting, trouble)


def _figures(
    prefix: str, of: Mapping[tuple[str, ...], PipelineStats], *labels: str
) -> Iterator[Metric]:
    """Frames, drops, rate, ages and state; ``of`` has each one's values for ``labels``."""
    counts = {"captured": "Out of the source", "processed": "Inferences"}
    for name, text in counts.items():
        family = CounterMetricFamily(f"{prefix}_frames_{name}", text, labels=labels)
        for values, stats in of.items():
            family.add_metric(values, getattr(stats, name))
        yield family
    dropped = CounterMetricFamily(
        f"{prefix}_frames_dropped", "Captured but never processed", labels=[*labels, "reason"]
    )
    fps = GaugeMetricFamily(f"{prefix}_fps", "Processed frames per second", labels=labels)
    age = GaugeMetricFamily(
        f"{prefix}_frame_age_seconds",
        "From capture to boxes, recent",
        labels=[*labels, "quantile"],
    )
    state = GaugeMetricFamily(f"{prefix}_state", "1 for the present one", labels=[*labels, "state"])
    since = GaugeMetricFamily(f"{prefix}_state_since_timestamp_seconds", "", labels=labels)
    for values, stats in of.items():
        for reason, count in stats.dropped.items():
            dropped.add_metric([*values, reason], count)
        fps.add_metric(values, stats.fps)
        for quantile, value_ms in zip(QUANTILES, stats.age_ms, strict=True):
            if not math.isnan(value_ms):
                age.add_metric([*values, quantile], value_ms / 1e3)
        state.add_metric([*values, stats.state], 1)
        since.add_metric(values, stats.since_s)
    yield from (dropped, fps, age, state, since)
