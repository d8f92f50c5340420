"""`run` and `replay`: the composition root of a run, and what it says at its end."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import NamedTuple, TextIO

from app.config import Config
from app.credentials import mask_credentials
from app.errors import ConfigError, KestrelError
from app.flight import DecidedSource, read_trace
from app.handoff import Note, Policy, note_nothing
from app.interfaces import FrameSource, Sink
from app.ladder import Ladder, parse_ladder
from app.pipeline import Pipeline
from app.power import EnergySink
from app.service import KnownPicture, Notifier, Supervised
from app.session.engine import Prepared
from app.session.outputs import KeptSink
from app.shelf import Model, default_model, find_model
from app.sinks.golden import GoldenSink
from app.sinks.progress import ProgressSink
from app.sinks.summary import SummarySink
from app.sources.discover import first_camera
from app.sources.lasting import Endurance
from app.sources.uri import SourceOptions, make_source
from app.stats import PipelineStats
from app.thermal import Thermal
from app.tools.clashes import refuse_clashes
from app.tools.engines import backend_factory
from app.tools.outputs import Outputs, is_folder
from app.tools.supervision import Reloader, make_canary, make_recorder

log = logging.getLogger(__name__)


def run_live(config: Config, *, reload: Callable[[], Config] | None = None) -> int:
    """Newest frame wins; a window if there is a display, else headless.

    ``reload`` reads the configuration again, on SIGHUP.
    """
    if _wants_window(config):
        return _run_desktop(config)
    source, model = _source(config, Policy.LATEST), choose_model(config)
    energy, supervised = EnergySink(), Supervised(Notifier())
    canary = make_canary(config, model.spec, supervised)
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
    _report(config, ending.error, pipeline.stats(), summary, pipeline.backend_remarks, energy)
    return 0


def run_replay(config: Config) -> int:
    """Every frame, reproducibly; with ``--expect`` also the verdict."""
    if config.max_age_ms is not None and config.trace is None:
        raise ConfigError("replay drops nothing, so max_age_ms has no meaning there; use run")
    if (config.source or "").split(":")[0] in ("camera", "csi", "gst", "rtsp", "rtsps"):
        raise ConfigError(f"replay is for recordings; use run --source {_label(config)}")
    source, model = _source(config, Policy.LOSSLESS), choose_model(config)
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
    _report(config, ending.error, pipeline.stats(), summary, pipeline.backend_remarks, energy)
    if golden:
        log.info("%s", golden.check(stopped=ending.stopped))
    if decided:
        log.info("%s", decided.verdict())
    return 0


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
    stopped = hung_up = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal stopped  # only a note: no lock may be taken in here
        if stopped:
            os._exit(128 + number)  # asked twice: at once
        stopped = True

    def hang_up(number: int, frame: FrameType | None) -> None:
        nonlocal hung_up
        hung_up = True

    def ended() -> bool:
        nonlocal hung_up
        if stopped:
            pipeline.stop()
        if hung_up and reload:
            hung_up = False
            reload()
        return pipeline.wait(0 if beside else 0.1)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    if reload is not None and not os.isatty(0):
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, hang_up)
    try:
        pipeline.start()
        if beside:
            beside(lambda: not ended())
            pipeline.stop()
        while not stopped and not ended():
            pass
        pipeline.stop()
        pipeline.join()
        return Ending(stopped, None)
    except KestrelError as error:
        return Ending(stopped, error)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def choose_model(config: Config) -> Model:
    """The model asked for, or the default; one log line says which."""
    if config.model is not None:
        return find_model(config.model)
    model = default_model()
    log.info("model %s (--model chooses another)", model.spec.name)
    return model


def _source(config: Config, policy: Policy) -> FrameSource:
    return make_source(
        _choose_source(config),
        realtime=policy is Policy.LATEST or config.realtime,
        isolate=config.isolate,
        options=SourceOptions(
            open_timeout_s=config.open_timeout_s,
            read_timeout_s=config.read_timeout_s,
            raw=config.engine in ("cuda", "ort-cuda", "ort-tensorrt"),
            rtsp_transport=config.rtsp_transport,
        ),
        endurance=_endurance(config) if policy is Policy.LATEST and config.reconnect else None,
    )


def _endurance(config: Config) -> Endurance:
    """How long a live source may be silent, frozen or away."""
    return Endurance(
        open_s=config.open_timeout_s + 2,  # its own time-out comes first, and says more
        stall_s=min(2.0, config.read_timeout_s / 2),
        silent_s=config.read_timeout_s,
        freeze_s=config.freeze_s or None,
        retry_s=config.retry_s,
        wait=config.wait,
    )


def _refuse_clashes(config: Config, model: Model | None, policy: Policy) -> None:
    """No output may be an input."""
    record = config.record.path
    if record is not None and is_folder(record):
        record = None  # names there are new ones
    refuse_clashes(
        outputs={
            "--json": config.json,
            "--record": record,
            "--trace": config.trace if policy is Policy.LATEST else None,
        },
        inputs={
            "the source": config.source,
            "--expect": config.expect,
            "the trace": config.trace if policy is Policy.LOSSLESS else None,
            "the model": str(model.weights) if model else None,
            "the model's manifest": str(model.manifest) if model and model.manifest else None,
        },
    )


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
    _refuse_clashes(config, model, policy)
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
        backend_factory(config, model, policy),
        [summary, *extra, *outputs.sinks, *last],
        labels=model.spec.labels,
        policy=policy,
        max_age_ms=config.max_age_ms,
        max_frames=config.max_frames,
        # the source's own time-out comes first; this one is for a driver that never returns
        stall_s=config.read_timeout_s * 1.5,
        canary=canary,
        note=note,
        make_ladder=_ladder(config) if policy is Policy.LATEST else None,
    )
    if supervised is not None:
        supervised.watch(pipeline.stats)
    if canary is not None:
        canary.on_gpu = lambda: not pipeline.backend_description.startswith("cpu")
    return pipeline, summary, outputs


def _ladder(config: Config) -> Callable[[Callable[[str], None]], Ladder] | None:
    if not config.ladder or config.max_age_ms is None:
        return None
    steps, budget_ms = parse_ladder(config.ladder), config.max_age_ms
    return lambda on_step: Ladder(steps, budget_ms=budget_ms, on_step=on_step, hot=Thermal())


def _label(config: Config) -> str:
    return mask_credentials(config.source or "")


def _choose_source(config: Config) -> str:
    if config.source is not None:
        return config.source
    camera = first_camera()
    if camera is not None:
        log.info("source %s, the first camera (--source chooses another)", camera)
        return camera
    log.info("source sample:, the bundled clip, as there is no camera (--source chooses another)")
    return "sample:"


def _wants_window(config: Config) -> bool:
    """Whether there will be a window; with ``--window`` ConfigError says why there cannot be."""
    if config.headless:
        return False
    from app.display import find_display

    found = find_display()
    if not found.usable and not config.window:
        log.info("headless, as %s", found.reason)
        return False
    try:
        from app.gui.qt_env import prepare_qt

        prepare_qt()
    except ImportError as error:
        if config.window:
            raise ConfigError(
                f"cannot open a window: {error}; install PyQt5, or use --headless"
            ) from error
        log.info("headless, as no window can be opened: %s", error)
        return False
    except ConfigError as error:
        if config.window:
            raise
        log.info("headless, as no window can be opened: %s", error)
        return False
    return True


def prepare_engine(config: Config) -> Prepared:
    """Find the configuration's model, fetched and verified, and how to run it; may take long."""
    model = choose_model(config)
    spec = model.spec
    score = spec.score if config.score is None else config.score
    iou = spec.iou if config.iou is None else config.iou
    factory = backend_factory(config, model, Policy.LATEST)
    return Prepared(factory, spec.name, spec.labels, score, iou, spec.score, spec.iou)


def _run_desktop(config: Config) -> int:
    from app.shelf import list_models, locate
    from app.tools.desktop import Desk, run_desktop

    uri = _choose_source(config)
    if config.model is not None:
        model: Model | None = locate(config.model)
    else:
        model = next((each for each in list_models() if each.spec.default), None)
    _refuse_clashes(config, model, Policy.LATEST)
    summary = SummarySink()
    outputs = Outputs(
        config,
        Policy.LATEST,
        stats=lambda: desk.session.stats(),
        engine=lambda: desk.session.state().engine_text,
    )
    desk = Desk(config, prepare=prepare_engine, sinks=[KeptSink(summary)], outputs=outputs.sinks)
    with outputs.running():
        stopped = run_desktop(desk, config, uri)
    log.debug("stopped by a signal" if stopped else "window closed")
    error, stats = desk.session.error, desk.session.totals()
    if stats is not None:
        _report(config, error, stats, summary, ())
    elif error is not None:
        raise error
    return 0


def _report(
    config: Config,
    error: BaseException | None,
    stats: PipelineStats,
    summary: SummarySink,
    remarks: Sequence[str],
    energy: EnergySink | None = None,
) -> None:
    """Say what was seen, also when the run ended by an error; then raise that."""
    if stats.processed or error is None:
        out = sys.stderr if config.json == "-" else sys.stdout
        _print_summary(stats, summary, remarks, energy, out)
    if error is not None:
        raise error


def _print_summary(
    stats: PipelineStats,
    summary: SummarySink,
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
    for i, line in enumerate(summary.lines()):
        lines.append(f"{'seen' if i == 0 else '':8} {line}")
    print("\n".join(lines), file=out)
