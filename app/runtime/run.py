"""``run`` and ``replay``: the composition root."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from ..config import Config
from ..core.detections import Result
from ..core.errors import ConfigError, KestrelError, mask_credentials
from ..core.interfaces import Sink
from ..core.stats import PipelineStats
from ..models.manifest import Model
from ..models.store import list_models, locate
from ..ops.flight import FlightRecorder, read_trace
from ..ops.power import EnergySink
from ..ops.retrace import DecidedSource
from ..ops.selftest import KnownPicture
from ..ops.signals import noting
from ..ops.systemd import Notifier, Supervised
from ..pipeline.capture import StreamSpec
from ..pipeline.handoff import Policy, note_nothing
from ..pipeline.pipeline import Pipeline
from ..session.engine_switch import Prepared
from ..sinks.adapters import LatestSink, Shared
from ..sinks.console import ProgressSink, SummarySink
from ..sinks.golden import GoldenSink
from .build import (
    NamedInput,
    choose_model,
    choose_source,
    make_input,
    make_inputs,
    with_ladder,
)
from .outputs import Outputs, refuse_own_inputs
from .service import Reloader, make_canary, make_recorder

log = logging.getLogger(__name__)


def report(
    config: Config,
    error: BaseException | None,
    stats: PipelineStats,
    summaries: Mapping[str, SummarySink],
    remarks: Sequence[str],
    energy: EnergySink | None = None,
) -> None:
    """Say what was seen, source by source, also when an error ended the run; then raise that."""
    if stats.processed or error is None:
        out = sys.stderr if config.json == "-" else sys.stdout
        _print_summary(stats, summaries, remarks, energy, out)
    if error is not None:
        raise error


def _print_summary(
    stats: PipelineStats,
    summaries: Mapping[str, SummarySink],
    remarks: Sequence[str],
    energy: EnergySink | None,
    out: TextIO,
) -> None:
    dropped = ", ".join(f"{n} {reason}" for reason, n in sorted(stats.dropped.items())) or "none"
    counts = f"{stats.processed} processed, {stats.captured} captured"
    lines = [f"frames   {counts}; dropped: {dropped}"]
    if stats.processed:
        p50, p95, p99 = stats.age_ms
        lines.append(f"FPS      {stats.overall_fps:.1f}")
        lines.append(f"age      p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms")
        if energy is not None:
            lines.append(f"energy   {energy.energy().line()}")
    lines += [f"{'engine' if i == 0 else '':8} {line}" for i, line in enumerate(remarks)]
    if stats.events:
        happened = ", ".join(f"{n} {event}" for event, n in sorted(stats.events.items()))
        lines.append(f"events   {happened}")
    for name, each in stats.sources.items():
        lost = sum(each.dropped.values())
        figures = f"{each.processed} processed, {lost} dropped, {each.overall_fps:.1f} FPS"
        if each.processed:
            figures += f", age p50 {each.age_ms[0]:.1f} ms, p99 {each.age_ms[2]:.1f} ms"
        lines.append(f"{'source':8} {name} ({each.state}): {figures}")
    seen = [
        f"{name + ': ' if name else ''}{line}"
        for name, summary in summaries.items()
        for line in summary.lines()
    ]
    lines += [f"{'seen' if i == 0 else '':8} {line}" for i, line in enumerate(seen)]
    print("\n".join(lines), file=out)


class Ending(NamedTuple):
    """How a run ended: by a signal, or with what error."""

    stopped: bool
    error: BaseException | None


def conduct(
    pipeline: Pipeline,
    reload: Callable[[], None] | None = None,
    *,
    beside: Callable[[Callable[[], bool]], None] | None = None,
) -> Ending:
    """Start, wait for the end or a signal, stop, join.

    ``beside`` waits instead, as long as what it is given says that the run goes on.
    ``reload`` is called on SIGHUP, which without it ends the process: its terminal has gone.
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
        except KestrelError as error:
            return Ending(heard.stop, error)


class WallController:
    """See gui.ports.MultiViewController; ``screens``: the mailbox of each source."""

    def __init__(
        self, pipeline: Pipeline, names: Sequence[str], screens: Mapping[str, LatestSink]
    ) -> None:
        self._pipeline, self.names, self._screens = pipeline, names, screens

    def take(self, name: str) -> tuple[Result, Sequence[str]] | None:
        """See gui.ports."""
        return self._screens[name].take_labelled()

    def stats(self) -> Sequence[PipelineStats]:
        """See gui.ports."""
        return self._pipeline.lane_stats()

    def show(self, goes_on: Callable[[], bool]) -> None:
        """The window, until it is closed or the run has ended."""
        from ..gui.window import run_wall

        run_wall(self, interrupted=lambda: not goes_on(), on_display_lost=self._display_lost)

    def _display_lost(self, told: str) -> None:
        """Qt knows no way back: the run ends in order, and the process here."""
        log.error("%s The run ends with it; use --headless for one that needs no display", told)
        self._pipeline.stop()
        try:
            self._pipeline.join()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(ConfigError.exit_code)


def wants_window(config: Config) -> bool:
    """Whether there will be a window.

    ConfigError says why there cannot be one, where one was asked for: by ``--window``, or by an
    environment that names a display. Where nothing speaks of a display, a run is headless.
    """
    if config.headless:
        return False
    from ..ops.display import find_display

    found = find_display()
    if not found.usable and not (config.window or found.named):
        log.info("headless, as %s", found.reason)
        return False
    try:
        from ..gui.qt_env import prepare_qt

        prepare_qt()
    except ImportError as error:
        if config.window:
            raise ConfigError(
                f"cannot open a window: {error}; install PyQt5, or use --headless"
            ) from error
        log.info("headless, as no window can be opened: %s", error)
        return False
    return True


def prepare_engine(config: Config, supervised: Supervised | None = None) -> Prepared:
    """Find the configuration's model, fetched and verified, and how to run it; may take long."""
    model = choose_model(config)
    spec = model.spec
    score = spec.score if config.score is None else config.score
    iou = spec.iou if config.iou is None else config.iou
    factory, make_ladder = with_ladder(config, model, Policy.LATEST)
    inferred = supervised.inferred if supervised is not None else lambda: None
    canary = make_canary(config, model, inferred)
    limits = (score, iou, spec.score, spec.iou)
    return Prepared(factory, spec.name, spec.labels, *limits, canary, make_ladder)


def run_windowed(config: Config, *, reload: Callable[[], Config] | None = None) -> int:
    """Until the window is closed, or the run has ended; with all that a headless run has."""
    from .window import WindowController, run_desktop

    uri = choose_source(config)
    if config.model is not None:
        model: Model | None = locate(config.model)
    else:
        model = next((each for each in list_models() if each.spec.default), None)
    refuse_own_inputs(config, model, Policy.LATEST)
    summary, energy, supervised = SummarySink(), EnergySink(), Supervised(Notifier())
    recorder = make_recorder(config, model.spec.name if model else "")
    outputs = Outputs(
        config,
        Policy.LATEST,
        stats=lambda: controller.session.stats(),
        engine=lambda: controller.session.state().engine_text,
    )
    controller = WindowController(
        config,
        prepare=partial(prepare_engine, supervised=supervised),
        sinks=[summary, energy, recorder],
        outputs=[*outputs.sinks, supervised],  # which counts once every output has taken it
        note=recorder.note,
        power=energy.reading,
    )
    session = controller.session
    supervised.watch(session.stats)
    recorder.watch(session.run_state)
    reloader = None
    if reload is not None and model is not None:
        reloader = Reloader(config, reload, session, model.spec, supervised)
    with ExitStack() as around:
        parts: tuple[AbstractContextManager[Any], ...] = (outputs.running(), recorder, supervised)
        for each in parts:
            around.enter_context(each)
        stopped = run_desktop(controller, config, uri, reload=reloader, end_rest=around.close)
        if session.error is not None:
            recorder.error(session.error)
    log.debug("stopped by a signal" if stopped else "window closed")
    if session.has_run():
        report(config, session.error, session.stats(), {"": summary}, session.remarks, energy)
    elif session.error is not None:
        raise session.error
    return 0


def run_live(config: Config, *, reload: Callable[[], Config] | None = None) -> int:
    """Newest frame wins; a window if there is a display, else headless.

    ``reload`` reads the configuration again, on SIGHUP.
    """
    windowed = wants_window(config)
    if windowed and not config.sources:
        return run_windowed(config, reload=reload)
    inputs, model = make_inputs(config, Policy.LATEST), choose_model(config)
    energy, supervised = EnergySink(), Supervised(Notifier())
    canary = make_canary(config, model, supervised.inferred)
    recorders = [make_recorder(config, model.spec.name, each.name) for each in inputs]
    screens = {each.name: LatestSink() for each in inputs} if windowed else {}
    pipeline, summaries, outputs = _compose(
        config,
        inputs,
        model,
        Policy.LATEST,
        [energy],
        screens=screens,
        supervised=supervised,
        canary=canary,
        recorders=recorders,
    )
    reloader = None
    if reload is not None:
        reloader = Reloader(config, reload, pipeline, model.spec, supervised, canary)
    wall = WallController(pipeline, [each.name for each in inputs], screens) if windowed else None
    with ExitStack() as stack:
        stack.enter_context(outputs.running())
        for recorder in recorders:
            recorder.watch(lambda: pipeline.state)
            stack.enter_context(recorder)
        stack.enter_context(supervised)
        ending = conduct(pipeline, reloader, beside=wall.show if wall else None)
        if ending.error is not None:
            for recorder in recorders:
                recorder.error(ending.error)
    report(config, ending.error, pipeline.stats(), summaries, pipeline.backend_remarks, energy)
    return 0


def run_replay(config: Config) -> int:
    """Every frame, reproducibly; with ``--expect`` also the verdict."""
    if config.max_age_ms is not None and config.trace is None:
        raise ConfigError("replay drops nothing, so max_age_ms has no meaning there; use run")
    if (config.source or "").split(":")[0] in ("camera", "csi", "gst", "rtsp", "rtsps"):
        raise ConfigError(f"replay is for recordings; use run --source {_label(config)}")
    source, model = make_input(config, Policy.LOSSLESS), choose_model(config)
    decided = None
    if config.trace is not None:
        trace = read_trace(Path(config.trace))
        source = decided = DecidedSource(source, trace, max_age_ms=config.max_age_ms)
        config = replace(config, max_age_ms=None)  # decided by the source
    golden = None
    if config.expect is not None:
        threshold = model.spec.score if config.score is None else config.score
        whole = config.max_frames is None
        golden = GoldenSink(config.expect, threshold=threshold, whole=whole)
    energy = EnergySink()
    extra: list[Sink] = [energy, ProgressSink()]
    extra += [golden] if golden else []
    pipeline, summaries, outputs = _compose(
        config, [NamedInput("", source)], model, Policy.LOSSLESS, extra
    )
    with outputs.running():
        ending = conduct(pipeline)
    report(config, ending.error, pipeline.stats(), summaries, pipeline.backend_remarks, energy)
    if golden:
        log.info("%s", golden.check(stopped=ending.stopped))
    if decided:
        log.info("%s", decided.verdict())
    return 0


def _compose(
    config: Config,
    inputs: Sequence[NamedInput],
    model: Model,
    policy: Policy,
    extra: Sequence[Sink],
    *,
    supervised: Supervised | None = None,
    canary: KnownPicture | None = None,
    recorders: Sequence[FlightRecorder] = (),
    screens: Mapping[str, Sink] | None = None,
) -> tuple[Pipeline, dict[str, SummarySink], Outputs]:
    """``extra`` sinks serve all sources; of the others each has its own."""
    refuse_own_inputs(config, model, policy)
    make_backend, make_ladder = with_ladder(config, model, policy)
    names = [each.name for each in inputs]
    summaries = {name: SummarySink() for name in names}
    outputs = Outputs(
        config,
        policy,
        stats=lambda: pipeline.stats(),
        engine=lambda: pipeline.backend_description,
        names=names,
    )
    shared = [Shared(sink) for sink in extra]
    last = [] if supervised is None else [Shared(supervised)]  # counts once every output has it
    lanes = []
    for i, (name, source) in enumerate(inputs):
        own = recorders[i : i + 1]
        sinks: list[Sink] = [summaries[name], *shared, *own, *outputs.of(name), *last]
        sinks += [] if not screens else [screens[name]]
        lanes.append(StreamSpec(source, sinks, name, own[0].note if own else note_nothing))
    pipeline = Pipeline(
        lanes[0].source,
        make_backend,
        lanes[0].sinks,
        labels=model.spec.labels,
        policy=policy,
        name=lanes[0].name,
        note=lanes[0].note,
        more=lanes[1:],
        max_age_ms=config.max_age_ms,
        max_frames=config.max_frames,
        # the source's own time-out comes first; this one is for a driver that never returns
        stall_s=config.read_timeout_s * 1.5,
        canary=canary,
        make_ladder=make_ladder,
    )
    if supervised is not None:
        supervised.watch(pipeline.stats)
    return pipeline, summaries, outputs


def _label(config: Config) -> str:
    return mask_credentials(config.source or "")
