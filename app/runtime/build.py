"""The composition root: the plan of a run, and the pipeline with all its parts that it gives.

Replay, headless run, wall of pictures, each process of several GPUs, soak and bench are plans for
the same ``build``.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TextIO

from ..config import Config, ConfigFile
from ..core.errors import KestrelError
from ..core.interfaces import Analyser, Sink
from ..core.states import LOST
from ..core.stats import PipelineStats
from ..models.manifest import Model
from ..ops.flight import FlightRecorder, RecordedDropsSource, clock_of
from ..ops.power import EnergySink
from ..ops.selftest import GoldenFrameCheck
from ..ops.signals import noting
from ..ops.systemd import Supervised
from ..pipeline.capture import StreamSpec
from ..pipeline.handoff import Policy, note_nothing
from ..pipeline.pipeline import Pipeline
from ..sinks.adapters import Shared
from ..sinks.console import SummarySink
from .cameras import RunSources, checked
from .clashes import refuse_own_inputs
from .degradation import with_ladder
from .engines import thresholds
from .filters import RunFilters
from .inputs import NamedInput, privacy_of
from .outputs import Outputs
from .service import Reloader
from .settings import RunSettings
from .tracking import RecordedTimes
from .zones import RunShapes

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """What a run is made of.

    ``config`` names the engine, its thresholds, the limits and the outputs. ``sinks`` come beside
    the outputs and serve all ``inputs``; ``recorders``, in the order of ``inputs``, serve one each.
    ``file``: where the configuration is from.
    ``trace``: the source, where it drops what a run has dropped: events are at the times of that.
    ``reports``: whether there is a summary at the end. ``acts``: whether what rules call for is
    done.
    """

    config: Config
    policy: Policy
    model: Model
    inputs: Sequence[NamedInput]
    sinks: Sequence[Sink] = ()
    supervised: Supervised | None = None
    canary: GoldenFrameCheck | None = None
    recorders: Sequence[FlightRecorder] = ()
    file: ConfigFile | None = None
    trace: RecordedDropsSource | None = None
    reports: bool = True
    acts: bool = True


class Ending(NamedTuple):
    """How a run ended: by a signal, or with what error."""

    stopped: bool
    error: BaseException | None


class Summary:
    """What a run says at its end: figures, energy, and what was seen of each source.

    On standard error where JSON lines have standard output.
    """

    def __init__(self, config: Config, names: Sequence[str]) -> None:
        self._to_stderr = "-" in (config.json, config.events.path)
        self.energy = EnergySink()
        self.seen = {name: SummarySink() for name in names}

    def report(
        self, error: BaseException | None, stats: PipelineStats, remarks: Sequence[str]
    ) -> None:
        """Say it, also when an error ended the run; then raise that."""
        if stats.processed or error is None:
            self._print(stats, remarks, sys.stderr if self._to_stderr else sys.stdout)
        if error is not None:
            raise error

    def _print(self, stats: PipelineStats, remarks: Sequence[str], out: TextIO) -> None:
        dropped = ", ".join(f"{n} {reason}" for reason, n in sorted(stats.dropped.items()))
        counts = f"{stats.processed} processed, {stats.captured} captured"
        lines = [f"frames   {counts}; dropped: {dropped or 'none'}"]
        if stats.processed:
            p50, p95, p99 = stats.age_ms
            lines.append(f"FPS      {stats.overall_fps:.1f}")
            lines.append(f"age      p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms")
            lines.append(f"energy   {self.energy.energy().line()}")
        lines += [f"{'engine' if i == 0 else '':8} {line}" for i, line in enumerate(remarks)]
        if stats.events:
            happened = ", ".join(f"{n} {event}" for event, n in sorted(stats.events.items()))
            lines.append(f"events   {happened}")
        if stats.state in LOST and not stats.sources:
            lines.append(f"source   {stats.status.text}: {stats.cause}")
        for name, each in stats.sources.items():
            lost = sum(each.dropped.values())
            figures = f"{each.processed} processed, {lost} dropped, {each.overall_fps:.1f} FPS"
            if each.processed:
                figures += f", age p50 {each.age_ms[0]:.1f} ms, p99 {each.age_ms[2]:.1f} ms"
            lines.append(f"{'source':8} {name} ({each.status.text}): {figures}")
        seen = [
            f"{name + ': ' if name else ''}{line}"
            for name, summary in self.seen.items()
            for line in summary.lines()
        ]
        lines += [f"{'seen' if i == 0 else '':8} {line}" for i, line in enumerate(seen)]
        print("\n".join(lines), file=out)


class BuiltRun:
    """A run that was built. ``finish`` runs it to its end; ``report`` says what it was."""

    def __init__(
        self,
        plan: RunPlan,
        pipeline: Pipeline,
        outputs: Outputs,
        summary: Summary | None,
        filters: RunFilters,
        reloader: Reloader | None,
        sources: RunSources,
    ) -> None:
        self._sources = sources
        self._plan, self.pipeline = plan, pipeline
        self._outputs, self._summary = outputs, summary
        self.filters, self._reloader = filters, reloader

    def finish(self, beside: Callable[[Callable[[], bool]], None] | None = None) -> Ending:
        """With the outputs and all that is put around it. ``beside``: see run_until_stopped."""
        plan = self._plan
        reload = None
        if plan.file is not None and self._reloader is not None:
            reload = partial(self._reloader.read_again, plan.file)
        with ExitStack() as stack:
            stack.enter_context(self._outputs.running())
            stack.enter_context(self._sources)
            for recorder in plan.recorders:
                recorder.watch(lambda: self.pipeline.state)
                stack.enter_context(recorder)
            if plan.supervised is not None:
                stack.enter_context(plan.supervised)
            ending = run_until_stopped(self.pipeline, reload, beside=beside)
            if ending.error is not None:
                for recorder in plan.recorders:
                    recorder.error(ending.error)
        return ending

    def report(self, ending: Ending) -> None:
        """Print the summary; then raise the error that ended the run, if one did."""
        assert self._summary is not None
        pipeline = self.pipeline
        self._summary.report(ending.error, pipeline.stats(), pipeline.backend_remarks)


def build(plan: RunPlan) -> BuiltRun:
    """The run, not started. Raises KestrelError for what could not run; opens and fetches nothing
    but networks of the degradation policy.
    """
    config, names = plan.config, [each.name for each in plan.inputs]
    refuse_own_inputs(config, plan.model, plan.policy)
    make_backend, make_ladder = with_ladder(config, plan.model, plan.policy)
    summary = Summary(config, names) if plan.reports else None
    shapes = RunShapes(config, plan.policy, file=plan.file and plan.file.path)
    filters = RunFilters(config, lambda: pipeline.refilter())
    settings = None if plan.supervised is None else RunSettings(plan.file, config, shapes)
    outputs = Outputs(
        config,
        plan.policy,
        shapes=shapes,
        filters=filters,
        settings=settings,
        stats=lambda: pipeline.stats(),
        engine=lambda: pipeline.backend_description,
        status=lambda name: pipeline.status(name),
        names=names,
        packets={each.name: each.packets for each in plan.inputs},
    )
    shared = [Shared(sink) for sink in ([summary.energy] if summary else []) + [*plan.sinks]]
    # counts once every output has it
    last = [] if plan.supervised is None else [Shared(plan.supervised)]
    spec = plan.model.spec
    checked(config, spec, acts=plan.acts)

    def lane(made: NamedInput, config: Config, *recorders: FlightRecorder) -> StreamSpec:
        name = made.name
        seen = [summary.seen.setdefault(name, SummarySink())] if summary else []
        return StreamSpec(
            made.source,
            [*seen, *shared, *recorders, *outputs.of(name), *last],
            name,
            recorders[0].note if recorders else note_nothing,
            _analyser(plan, shapes, name, recorders),
            privacy_of(config, name),
            filters.make(name),
        )

    lanes = [lane(made, config, *plan.recorders[i : i + 1]) for i, made in enumerate(plan.inputs)]
    pipeline = Pipeline(
        lanes[0].source,
        make_backend,
        lanes[0].sinks,
        labels=spec.labels,
        policy=plan.policy,
        name=lanes[0].name,
        note=lanes[0].note,
        analyser=lanes[0].analyser,
        privacy=lanes[0].privacy,
        filter=lanes[0].filter,
        thresholds=thresholds(config, spec),
        more=lanes[1:],
        max_age_ms=config.max_age_ms,
        max_frames=config.max_frames,
        # the source's own time-out comes first; this one is for a driver that never returns
        stall_s=config.read_timeout_s * 1.5,
        canary=plan.canary,
        make_ladder=make_ladder,
    )
    if plan.supervised is not None:
        plan.supervised.watch(pipeline.stats)
    reloader, sources = None, RunSources(pipeline, outputs, spec, lane)
    if settings is not None and plan.supervised is not None:
        reloader = settings.reloader = Reloader(
            *(config, pipeline, spec, plan.supervised),
            filters=filters,
            shapes=shapes,
            keep=outputs.keep,
            sources=sources,
        )
    return BuiltRun(plan, pipeline, outputs, summary, filters, reloader, sources)


def _analyser(
    plan: RunPlan, shapes: RunShapes, name: str, recorders: Sequence[FlightRecorder]
) -> Analyser | None:
    """With the clock of the flight recorder, or of the trace that is replayed."""
    from ..analytics.stage import Clock

    if plan.trace is not None:
        made = shapes.analyser(name, Clock(*clock_of(plan.trace.trace)))
        return None if made is None else RecordedTimes(made, plan.trace)
    return shapes.analyser(name, Clock(recorders[0].wall_offset_ns) if recorders else None)


def run_until_stopped(
    pipeline: Pipeline,
    reload: Callable[[], None] | None = None,
    *,
    beside: Callable[[Callable[[], bool]], None] | None = None,
) -> Ending:
    """Start, wait for the end or a signal, stop, join.

    ``beside`` waits instead, as long as what it is given says that the run goes on.
    ``reload`` is called on SIGHUP, which without it stops the run: its terminal has gone.
    """
    with noting(hang_ups=reload is not None) as heard:

        def ended() -> bool:
            if heard.stop:
                pipeline.stop()
            if heard.hang_up and reload:
                heard.hang_up = False
                reload()
            return pipeline.wait(0 if beside else 0.1)

        try:
            log.debug("pipeline starts")  # `bench --startup` times by this line
            pipeline.start()
            if beside:
                beside(lambda: not ended())
                pipeline.stop()
            while not heard.stop and not ended():
                pass
            pipeline.stop()
            pipeline.join()
            return Ending(heard.stop, None)
        except BaseException as error:
            pipeline.stop()  # also where what runs beside has failed: nothing is left running
            with suppress(Exception):
                pipeline.join()
            if isinstance(error, KestrelError):
                return Ending(heard.stop, error)
            raise
