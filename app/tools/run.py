"""`run` and `replay`: the composition root of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from app.config import Config
from app.credentials import mask_credentials
from app.errors import ConfigError
from app.flight import DecidedSource, read_trace
from app.handoff import Note, Policy, note_nothing
from app.interfaces import FrameSource, Sink
from app.pipeline import Pipeline
from app.power import EnergySink
from app.service import KnownPicture, Notifier, Supervised
from app.shelf import Model
from app.sinks.golden import GoldenSink
from app.sinks.progress import ProgressSink
from app.sinks.summary import SummarySink
from app.tools.closing import report
from app.tools.conduct import conduct
from app.tools.inputs import choose_model, make_input
from app.tools.laddered import with_ladder
from app.tools.outputs import Outputs, refuse_own_inputs
from app.tools.supervision import Reloader, make_canary, make_recorder
from app.tools.windowed import run_windowed, wants_window

log = logging.getLogger(__name__)


def run_live(config: Config, *, reload: Callable[[], Config] | None = None) -> int:
    """Newest frame wins; a window if there is a display, else headless.

    ``reload`` reads the configuration again, on SIGHUP.
    """
    if wants_window(config):
        if config.ladder:
            log.warning("the ladder is for runs without a window; this one takes no steps")
        return run_windowed(config)
    source, model = make_input(config, Policy.LATEST), choose_model(config)
    energy, supervised = EnergySink(), Supervised(Notifier())
    canary = make_canary(config, model, supervised)
    recorder = make_recorder(config, model.spec)
    pipeline, summary, outputs = _compose(
        config,
        source,
        model,
        Policy.LATEST,
        [energy, recorder],
        supervised=supervised,
        canary=canary,
        note=recorder.note,
    )
    recorder.watch(lambda: pipeline.state)
    reloader = None
    if reload is not None:
        reloader = Reloader(config, reload, pipeline, model.spec, supervised, canary)
    with outputs.running(), recorder, supervised:
        ending = conduct(pipeline, reloader)
        if ending.error is not None:
            recorder.error(ending.error)
    report(config, ending.error, pipeline.stats(), summary, pipeline.backend_remarks, energy)
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
    pipeline, summary, outputs = _compose(config, source, model, Policy.LOSSLESS, extra)
    with outputs.running():
        ending = conduct(pipeline)
    report(config, ending.error, pipeline.stats(), summary, pipeline.backend_remarks, energy)
    if golden:
        log.info("%s", golden.check(stopped=ending.stopped))
    if decided:
        log.info("%s", decided.verdict())
    return 0


def _compose(
    config: Config,
    source: FrameSource,
    model: Model,
    policy: Policy,
    extra: Sequence[Sink],
    *,
    supervised: Supervised | None = None,
    canary: KnownPicture | None = None,
    note: Note = note_nothing,
) -> tuple[Pipeline, SummarySink, Outputs]:
    refuse_own_inputs(config, model, policy)
    make_backend, make_ladder = with_ladder(config, model, policy)
    summary = SummarySink()
    outputs = Outputs(
        config,
        policy,
        stats=lambda: pipeline.stats(),
        engine=lambda: pipeline.backend_description,
    )
    last = [] if supervised is None else [supervised]  # counts once every output has taken it
    pipeline = Pipeline(
        source,
        make_backend,
        [summary, *extra, *outputs.sinks, *last],
        labels=model.spec.labels,
        policy=policy,
        max_age_ms=config.max_age_ms,
        max_frames=config.max_frames,
        # the source's own time-out comes first; this one is for a driver that never returns
        stall_s=config.read_timeout_s * 1.5,
        canary=canary,
        note=note,
        make_ladder=make_ladder,
    )
    if supervised is not None:
        supervised.watch(pipeline.stats)
    if canary is not None:
        canary.on_gpu = lambda: not pipeline.backend_description.startswith("cpu")
    return pipeline, summary, outputs


def _label(config: Config) -> str:
    return mask_credentials(config.source or "")
