"""`run` and `replay`: the composition root of a run, and what it says at its end."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NamedTuple, TextIO

from app.config import Config
from app.errors import ConfigError, KestrelError
from app.handoff import Policy
from app.interfaces import BackendFactory, FrameSource, Sink
from app.pipeline import Pipeline
from app.session.engine import Prepared
from app.session.outputs import KeptSink
from app.shelf import Model, default_model, find_model
from app.sinks.golden import GoldenSink
from app.sinks.json_lines import JsonLinesSink
from app.sinks.progress import ProgressSink
from app.sinks.summary import SummarySink
from app.sinks.video_file import VideoFileSink
from app.sources.discover import first_camera
from app.sources.uri import SourceOptions, make_source, mask_credentials
from app.stats import PipelineStats
from app.tools.clashes import refuse_clashes

log = logging.getLogger(__name__)


def run_live(config: Config) -> int:
    """Newest frame wins; a window if there is a display, else headless."""
    if _wants_window(config):
        return _run_desktop(config)
    source, model = _source(config, Policy.LATEST), choose_model(config)
    pipeline, summary = _compose(config, source, model, Policy.LATEST, [])
    ending = conduct(pipeline)
    _report(config, ending.error, pipeline.stats(), summary)
    return 0


def run_replay(config: Config) -> int:
    """Every frame, reproducibly; with ``--expect`` also the verdict."""
    if config.max_age_ms is not None:
        raise ConfigError("replay drops nothing, so max_age_ms has no meaning there; use run")
    if (config.source or "").split(":")[0] in ("camera", "rtsp", "rtsps"):
        raise ConfigError(f"replay is for recordings; use run --source {_label(config)}")
    source, model = _source(config, Policy.LOSSLESS), choose_model(config)
    golden = None
    if config.expect is not None:
        threshold = model.spec.score if config.score is None else config.score
        whole = config.max_frames is None
        golden = GoldenSink(config.expect, threshold=threshold, whole=whole)
    extra: list[Sink] = [ProgressSink()]
    extra += [golden] if golden else []
    pipeline, summary = _compose(config, source, model, Policy.LOSSLESS, extra)
    ending = conduct(pipeline)
    _report(config, ending.error, pipeline.stats(), summary)
    if golden:
        log.info("%s", golden.check(stopped=ending.stopped))
    return 0


class Ending(NamedTuple):
    """How a run ended: by a signal, or with what error."""

    stopped: bool
    error: BaseException | None


def conduct(pipeline: Pipeline) -> Ending:
    """Start, wait for the end or a signal, stop, join."""
    stopped = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal stopped  # only a note: no lock may be taken in here
        if stopped:
            os._exit(128 + number)  # asked twice: at once
        stopped = True

    def ended() -> bool:
        if stopped:
            pipeline.stop()
        return pipeline.wait(0.1)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        pipeline.start()
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


def backend_factory(config: Config, model: Model, policy: Policy) -> BackendFactory:
    """The engine asked for; ``auto`` is the CPU until it can measure."""
    spec = model.spec
    score = spec.score if config.score is None else config.score
    iou = spec.iou if config.iou is None else config.iou
    if config.engine == "cuda":
        from app.backends.cuda import CudaBackend

        return lambda wake: CudaBackend(spec, model.weights, wake=wake, score=score, iou=iou)
    if config.engine not in ("auto", "cpu"):
        raise ConfigError(
            f"engine {config.engine!r} is not in this version; use --engine cpu or cuda"
        )
    import cv2

    from app.backends.cpu import WORKERS, CpuBackend

    cv2.setNumThreads(1)  # the workers are the parallelism; cv2's own pool would fight them
    # A worker that comes back from inference waits at most so long for the interpreter; with
    # Python's 5 ms the slowest hundredth of frames pays that several times over.
    sys.setswitchinterval(0.0005)
    return lambda wake: CpuBackend(
        spec,
        model.weights,
        wake=wake,
        score=score,
        iou=iou,
        workers=config.workers or WORKERS,
        threads=config.threads,
        spare_slots=1 if policy is Policy.LOSSLESS else 0,
    )


def _source(config: Config, policy: Policy) -> FrameSource:
    return make_source(
        _choose_source(config),
        realtime=policy is Policy.LATEST or config.realtime,
        isolate=config.isolate,
        options=SourceOptions(
            open_timeout_s=config.open_timeout_s, read_timeout_s=config.read_timeout_s
        ),
    )


def _outputs(config: Config, model: Model | None) -> list[Sink]:
    """The outputs that were asked for; none of them may be an input."""
    refuse_clashes(
        outputs={"--json": config.json, "--record": config.record},
        inputs={
            "the source": config.source,
            "--expect": config.expect,
            "the model": str(model.weights) if model else None,
            "the model's manifest": str(model.manifest) if model and model.manifest else None,
        },
    )
    outputs: list[Sink] = []
    if config.json is not None:
        outputs.append(JsonLinesSink(config.json))
    if config.record is not None:
        outputs.append(VideoFileSink(config.record))
    return outputs


def _compose(
    config: Config, source: FrameSource, model: Model, policy: Policy, extra: Sequence[Sink]
) -> tuple[Pipeline, SummarySink]:
    summary = SummarySink()
    pipeline = Pipeline(
        source,
        backend_factory(config, model, policy),
        [summary, *extra, *_outputs(config, model)],
        labels=model.spec.labels,
        policy=policy,
        max_age_ms=config.max_age_ms,
        max_frames=config.max_frames,
        # the source's own time-out comes first; this one is for a driver that never returns
        stall_s=config.read_timeout_s * 1.5,
    )
    return pipeline, summary


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
    outputs = _outputs(config, model)
    summary = SummarySink()
    desk = Desk(config, prepare=prepare_engine, sinks=[KeptSink(summary)], outputs=outputs)
    stopped = run_desktop(desk, config, uri)
    log.debug("stopped by a signal" if stopped else "window closed")
    error, stats = desk.session.error, desk.session.totals()
    if stats is not None:
        _report(config, error, stats, summary)
    elif error is not None:
        raise error
    return 0


def _report(
    config: Config, error: BaseException | None, stats: PipelineStats, summary: SummarySink
) -> None:
    """Say what was seen, also when the run ended by an error; then raise that."""
    if stats.processed or error is None:
        _print_summary(stats, summary, sys.stderr if config.json == "-" else sys.stdout)
    if error is not None:
        raise error


def _print_summary(stats: PipelineStats, summary: SummarySink, out: TextIO) -> None:
    dropped = ", ".join(f"{n} {reason}" for reason, n in sorted(stats.dropped.items())) or "none"
    counts = f"{stats.processed} processed, {stats.captured} captured"
    lines = [f"frames   {counts}; dropped: {dropped}"]
    if stats.processed:
        p50, p95, p99 = stats.age_ms
        lines.append(f"FPS      {stats.overall_fps:.1f}")
        lines.append(f"age      p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms")
    for i, line in enumerate(summary.lines()):
        lines.append(f"{'seen' if i == 0 else '':8} {line}")
    print("\n".join(lines), file=out)
