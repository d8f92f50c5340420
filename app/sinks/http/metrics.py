"""The figures of a run in Prometheus' text format."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ... import __version__
from ...core.stats import PERCENTILES, OutputMeter, PipelineStats

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
    ) -> None:
        self._stats, self._outputs, self._idle_s = stats, outputs, idle_s
        self._healthy, self._viewers, self._about = healthy, viewers, about
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
        yield CounterMetricFamily("kestrel_frames_captured", "Out of the source", stats.captured)
        yield CounterMetricFamily("kestrel_frames_processed", "Inferences", stats.processed)
        dropped = CounterMetricFamily(
            "kestrel_frames_dropped", "Captured but never processed", labels=["reason"]
        )
        for reason, count in stats.dropped.items():
            dropped.add_metric([reason], count)
        yield dropped
        events = CounterMetricFamily(
            "kestrel_events", "Of the source and the ladder", labels=["event"]
        )
        for event, count in stats.events.items():
            events.add_metric([event], count)
        yield events
        yield GaugeMetricFamily("kestrel_fps", "Processed frames per second", stats.fps)
        yield GaugeMetricFamily(
            "kestrel_capture_fps", "Captured frames per second", stats.capture_fps
        )
        age = GaugeMetricFamily(
            "kestrel_frame_age_seconds", "From capture to boxes, recent", labels=["quantile"]
        )
        for quantile, value_ms in zip(QUANTILES, stats.age_ms, strict=True):
            if not math.isnan(value_ms):
                age.add_metric([quantile], value_ms / 1e3)
        yield age
        stages = GaugeMetricFamily(
            "kestrel_stage_seconds", "Time of each stage, recent", labels=["stage", "quantile"]
        )
        for name, values_ms in stats.stages_ms.items():
            for quantile, value_ms in zip(QUANTILES, values_ms, strict=True):
                stages.add_metric([name, quantile], value_ms / 1e3)
        yield stages
        state = GaugeMetricFamily("kestrel_state", "1 for the present one", labels=["state"])
        state.add_metric([stats.state], 1)
        yield state

    def _of_sources(self) -> Iterator[Metric]:
        """Each of several sources; what they have in common is told above."""
        sources = self._stats().sources
        counted = {
            "captured": "Out of the source",
            "processed": "Inferences",
        }
        for name, text in counted.items():
            family = CounterMetricFamily(f"kestrel_source_frames_{name}", text, labels=["source"])
            for source, stats in sources.items():
                family.add_metric([source], getattr(stats, name))
            yield family
        dropped = CounterMetricFamily(
            "kestrel_source_frames_dropped",
            "Captured but never processed",
            labels=["source", "reason"],
        )
        fps = GaugeMetricFamily(
            "kestrel_source_fps", "Processed frames per second", labels=["source"]
        )
        age = GaugeMetricFamily(
            "kestrel_source_frame_age_seconds",
            "From capture to boxes, recent",
            labels=["source", "quantile"],
        )
        state = GaugeMetricFamily(
            "kestrel_source_state", "1 for the present one", labels=["source", "state"]
        )
        for source, stats in sources.items():
            for reason, count in stats.dropped.items():
                dropped.add_metric([source, reason], count)
            fps.add_metric([source], stats.fps)
            for quantile, value_ms in zip(QUANTILES, stats.age_ms, strict=True):
                if not math.isnan(value_ms):
                    age.add_metric([source, quantile], value_ms / 1e3)
            state.add_metric([source, stats.state], 1)
        yield from (dropped, fps, age, state)

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
