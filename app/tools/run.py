"""`run` and `replay`: the composition root of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from app.config import Config
from app.credentials import mask_credentials
from app.errors import ConfigError
from app.flight import DecidedSource, FlightRecorder, read_trace
from app.handoff import Policy, note_nothing
from app.intake import Lane
from app.interfaces import Sink
from app.pipeline import Pipeline
from app.power import EnergySink
from app.service import KnownPicture, Notifier, Supervised
from app.shelf import Model
from app.sinks.golden import GoldenSink
from app.sinks.latest import LatestSink
from app.sinks.progress import ProgressSink
from app.sinks.shared import Shared
from app.sinks.summary import SummarySink
from app.tools.closing import report
from app.tools.conduct import conduct
from app.tools.inputs import NamedInput, choose_model, make_input, make_inputs
from app.tools.laddered import with_ladder
from app.tools.outputs import Outputs, refuse_own_inputs
from app.tools.seats import Seats
from app.tools.supervision import Reloader, make_canary, make_recorder
from app.tools.windowed import run_windowed, wants_window

log = logging.getLogger(__name__)


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
    wall = Seats(pipeline, [each.name for each in inputs], screens) if windowed else None
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
        lanes.append(Lane(source, sinks, name, own[0].note if own else note_nothing))
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
    if canary is not None:
        canary.on_gpu = lambda: not pipeline.backend_description.startswith("cpu")
    return pipeline, summaries, outputs


def _label(config: Config) -> str:
    return mask_credentials(config.source or "")
