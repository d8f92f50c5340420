"""``run`` and ``replay``: the plans of their runs, and the window or wall in front of them."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..config import Config, ConfigFile, NamedSource, parse_sources
from ..core.credentials import mask_credentials
from ..core.errors import ConfigError
from ..core.schemes import scheme_of
from ..models.manifest import Model
from ..models.store import list_models, locate
from ..ops.flight import RecordedDropsSource, read_trace
from ..ops.systemd import Notifier, Supervised
from ..pipeline.handoff import Policy
from ..session.engine_switch import Prepared
from ..sinks.adapters import Shared
from ..sinks.console import ProgressSink
from ..sinks.golden import GoldenSink
from .build import RunPlan, Summary, build
from .cameras import checked
from .clashes import refuse_own_inputs
from .degradation import with_ladder
from .engines import choose_model, thresholds
from .filters import RunFilters
from .inputs import NamedInput, choose_source, make_input, make_inputs, packets_for
from .multi_gpu import refuse_unspreadable
from .outputs import Outputs
from .service import Reloader, make_canary, make_recorder
from .settings import RunSettings
from .zones import RunShapes

log = logging.getLogger(__name__)


def run_live(config: Config, file: ConfigFile | None = None) -> int:
    """Newest frame wins; a window if there is a display, else headless.

    ``file``: where the configuration is from.
    """
    refuse_unfit(config, Policy.LATEST)
    if wants_window(config):
        return run_windowed(config, file)
    inputs, model = make_inputs(config, Policy.LATEST), choose_model(config)
    names, supervised = [each.name for each in inputs], Supervised(Notifier())
    run = build(
        RunPlan(
            config=config,
            policy=Policy.LATEST,
            model=model,
            inputs=inputs,
            supervised=supervised,
            canary=make_canary(config, model, supervised.inferred),
            recorders=[make_recorder(config, model.spec.name, name) for name in names],
            file=file,
        )
    )
    run.report(run.finish())
    return 0


def run_replay(config: Config) -> int:
    """Every frame, reproducibly; with ``--expect`` also the verdict."""
    refuse_unfit(config, Policy.LOSSLESS)
    packets = packets_for(config, Policy.LOSSLESS)
    source, model = make_input(config, Policy.LOSSLESS, packets), choose_model(config)
    decided, golden = None, read_golden(config, model)
    if config.trace is not None:
        trace = read_trace(Path(config.trace))
        source = decided = RecordedDropsSource(source, trace, max_age_ms=config.max_age_ms)
        config = replace(config, max_age_ms=None)  # decided by the source
    run = build(
        RunPlan(
            config=config,
            policy=Policy.LOSSLESS,
            model=model,
            inputs=[NamedInput("", source, packets)],
            sinks=[ProgressSink(), *([golden] if golden else [])],
            trace=decided,
        )
    )
    ending = run.finish()
    run.report(ending)
    if golden:
        log.info("%s", golden.check(stopped=ending.stopped))
    if decided:
        log.info("%s", decided.verdict())
    return 0


def read_golden(config: Config, model: Model) -> GoldenSink | None:
    """What ``--expect`` names; raises ConfigError where that cannot be read."""
    if config.expect is None:
        return None
    threshold = thresholds(config, model.spec).score
    return GoldenSink(config.expect, threshold=threshold, whole=config.max_frames is None)


def refuse_unfit(config: Config, policy: Policy) -> None:
    """Raise ConfigError for settings that have no meaning in a replay, or on several GPUs."""
    if policy is Policy.LATEST:
        refuse_unspreadable(config)
        return
    if config.max_age_ms is not None and config.trace is None:
        raise ConfigError("replay drops nothing, so max_age_ms has no meaning there; use run")
    scheme = scheme_of(config.source or "")
    if scheme is not None and scheme.live:
        uri = mask_credentials(config.source or "")
        raise ConfigError(f"replay is for recordings; use run --source {uri}")


def run_windowed(config: Config, file: ConfigFile | None = None) -> int:
    """Until the window is closed, or the run has ended; with all that a headless run has."""
    from ..analytics.stage import Clock
    from .window import WindowController, WindowSource, run_desktop

    named = parse_sources(config.sources) or [NamedSource("", choose_source(config))]
    names = [each.name for each in named]
    if config.model is not None:
        model: Model | None = locate(config.model)
    else:
        model = next((each for each in list_models() if each.spec.default), None)
    refuse_own_inputs(config, model, Policy.LATEST)
    summary, supervised = Summary(config, names), Supervised(Notifier())
    model_name = model.spec.name if model else ""
    recorders = {name: make_recorder(config, model_name, name) for name in names}
    packets = {name: packets_for(config, Policy.LATEST, name) for name in names}
    shapes = RunShapes(config, Policy.LATEST, file=file and file.path, always=True)
    filters = RunFilters(config, lambda: controller.session.refilter())
    outputs = Outputs(
        config,
        Policy.LATEST,
        shapes=shapes,
        filters=filters,
        settings=(settings := RunSettings(file, config, shapes)),
        stats=lambda: controller.session.stats(),
        engine=lambda: controller.session.state().engine_text,
        names=names,
        packets=packets,
        status=lambda name: controller.session.pipeline.status(name),
    )
    # supervised counts once every output has taken it
    energy, last = Shared(summary.energy), Shared(supervised)
    sources = [
        WindowSource(
            each.uri,
            each.name,
            [summary.seen[each.name], energy, recorder, *outputs.of(each.name), last],
            recorder.note,
            packets[each.name],
            Clock(recorder.wall_offset_ns),
        )
        for each, recorder in zip(named, recorders.values(), strict=True)
    ]
    controller = WindowController(
        config,
        sources,
        prepare=partial(prepare_engine, supervised=supervised),
        power=summary.energy.reading,
        shapes=shapes,
        filters=filters,
    )
    session = controller.session
    supervised.watch(session.stats)
    for recorder in recorders.values():
        recorder.watch(session.run_state)
    reload = None
    if model is not None:
        settings.reloader = Reloader(
            *(config, session, model.spec, supervised),
            filters=filters,
            shapes=shapes,
            keep=outputs.keep,
        )
        reload = file and partial(settings.reloader.read_again, file)
    with ExitStack() as around:
        around.enter_context(outputs.running())
        for recorder in recorders.values():
            around.enter_context(recorder)
        around.enter_context(supervised)
        stopped = run_desktop(controller, config, reload=reload, end_rest=around.close)
        if session.error is not None:
            for recorder in recorders.values():
                recorder.error(session.error)
    log.debug("stopped by a signal" if stopped else "window closed")
    if session.has_run():
        summary.report(session.error, session.stats(), session.remarks)
    elif session.error is not None:
        raise session.error
    return 0


def prepare_engine(config: Config, supervised: Supervised | None = None) -> Prepared:
    """Find the configuration's model, fetched and verified, and how to run it; may take long."""
    model = choose_model(config)
    spec = model.spec
    checked(config, spec)
    factory, make_ladder = with_ladder(config, model, Policy.LATEST)
    inferred = supervised.inferred if supervised is not None else lambda: None
    canary = make_canary(config, model, inferred)
    limits = (*thresholds(config, spec), spec.score, spec.iou)
    return Prepared(factory, spec.name, spec.labels, *limits, canary, make_ladder)


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
        from ..gui.window import prepare_qt

        prepare_qt()
    except ImportError as error:
        if config.window:
            raise ConfigError(
                f"cannot open a window: {error}; install PyQt5, or use --headless"
            ) from error
        log.info("headless, as no window can be opened: %s", error)
        return False
    return True
