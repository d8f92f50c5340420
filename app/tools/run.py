"""`run` and `replay`: the composition root of a run, and what it says at its end."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

from app.config import Config
from app.errors import ConfigError
from app.handoff import Policy
from app.interfaces import BackendFactory, FrameSource, Sink
from app.pipeline import Pipeline
from app.shelf import Model, default_model, find_model
from app.sinks.golden import GoldenSink
from app.sinks.json_lines import JsonLinesSink
from app.sinks.latest import LatestSink
from app.sinks.progress import ProgressSink
from app.sinks.summary import SummarySink
from app.sinks.video_file import VideoFileSink
from app.sources.discover import first_camera
from app.sources.uri import SourceOptions, make_source
from app.stats import PipelineStats

log = logging.getLogger(__name__)


def run_live(config: Config) -> int:
    """Newest frame wins; a window if there is a display, else headless."""
    latest = None if config.headless or not _window_possible() else LatestSink()
    source, model = _source(config, Policy.LATEST), choose_model(config)
    extra = [latest] if latest else []
    pipeline, summary = _compose(config, source, model, Policy.LATEST, extra)
    with _stop_on_signals(pipeline.stop):
        pipeline.start()
        if latest:
            _show(pipeline, latest)
        return _finish(config, pipeline, summary)


def run_replay(config: Config) -> int:
    """Every frame, reproducibly; with ``--expect`` also the verdict."""
    if config.max_age_ms is not None:
        raise ConfigError("replay drops nothing, so max_age_ms has no meaning there; use run")
    source, model = _source(config, Policy.LOSSLESS), choose_model(config)
    golden = None
    if config.expect is not None:
        threshold = model.spec.score if config.score is None else config.score
        whole = config.max_frames is None
        golden = GoldenSink(config.expect, threshold=threshold, whole=whole)
    extra: list[Sink] = [ProgressSink()]
    extra += [golden] if golden else []
    pipeline, summary = _compose(config, source, model, Policy.LOSSLESS, extra)
    with _stop_on_signals(pipeline.stop):
        pipeline.start()
        code = _finish(config, pipeline, summary)
    if golden:
        log.info("%s", golden.check())
    return code


def choose_model(config: Config) -> Model:
    """The model asked for, or the default; one log line says which."""
    if config.model is not None:
        return find_model(config.model)
    model = default_model()
    log.info("model %s (--model chooses another)", model.spec.name)
    return model


def backend_factory(config: Config, model: Model, policy: Policy) -> BackendFactory:
    """The engine asked for; ``auto`` is the CPU until another is there."""
    if config.engine not in ("auto", "cpu"):
        raise ConfigError(
            f"engine {config.engine!r} is not in this version; use --engine cpu (or auto)"
        )
    import cv2

    from app.backends.cpu import WORKERS, CpuBackend

    cv2.setNumThreads(1)  # the workers are the parallelism; cv2's own pool would fight them
    # A worker that comes back from inference waits at most so long for the interpreter; with
    # Python's 5 ms the slowest hundredth of frames pays that several times over.
    sys.setswitchinterval(0.0005)
    spec = model.spec
    return lambda wake: CpuBackend(
        spec,
        model.weights,
        wake=wake,
        score=spec.score if config.score is None else config.score,
        iou=spec.iou if config.iou is None else config.iou,
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


def _compose(
    config: Config, source: FrameSource, model: Model, policy: Policy, extra: Sequence[Sink]
) -> tuple[Pipeline, SummarySink]:
    summary = SummarySink()
    sinks: list[Sink] = [summary, *extra]
    if config.json is not None:
        sinks.append(JsonLinesSink(config.json))
    if config.record is not None:
        sinks.append(VideoFileSink(config.record))
    pipeline = Pipeline(
        source,
        backend_factory(config, model, policy),
        sinks,
        labels=model.spec.labels,
        policy=policy,
        max_age_ms=config.max_age_ms,
        max_frames=config.max_frames,
        # the source's own time-out comes first; this one is for a driver that never returns
        stall_s=config.read_timeout_s * 1.5,
    )
    return pipeline, summary


def _choose_source(config: Config) -> str:
    if config.source is not None:
        return config.source
    camera = first_camera()
    if camera is not None:
        log.info("source %s, the first camera (--source chooses another)", camera)
        return camera
    log.info("source sample:, the bundled clip, as there is no camera (--source chooses another)")
    return "sample:"


def _window_possible() -> bool:
    from app.display import find_display

    found = find_display()
    if not found.usable:
        log.info("headless, as %s", found.reason)
        return False
    try:
        from app.gui.qt_env import prepare_qt

        prepare_qt()
    except (ImportError, ConfigError) as error:
        log.info("headless, as no window can be opened: %s", error)
        return False
    return True


def _show(pipeline: Pipeline, latest: LatestSink) -> None:
    from app.gui.window import run_window

    def hud() -> str:
        stats = pipeline.stats()
        dropped = sum(stats.dropped.values())
        return (
            f"{stats.fps:.1f} FPS   age {stats.age_ms[0]:.0f} / {stats.age_ms[1]:.0f} ms   "
            f"dropped {dropped}   {pipeline.backend_description}"
        )

    run_window(
        latest,
        labels=pipeline.labels,
        title="Kestrel",
        hud=hud,
        is_running=lambda: not pipeline.wait(0),
        request_stop=pipeline.stop,
        hint="Opening the source and the model…",
    )


@contextmanager
def _stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM stop in order; a second one takes the short way."""

    def handle(number: int, frame: FrameType | None) -> None:
        log.info("stopping")
        stop()
        for each in before:
            signal.signal(each, signal.SIG_DFL)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _finish(config: Config, pipeline: Pipeline, summary: SummarySink) -> int:
    try:
        while not pipeline.wait():
            pass
    finally:
        pipeline.stop()
    stats = pipeline.join()
    out = sys.stderr if config.json == "-" else sys.stdout
    _print_summary(stats, summary, out)
    return 0


def _print_summary(stats: PipelineStats, summary: SummarySink, out: TextIO) -> None:
    dropped = ", ".join(f"{n} {reason}" for reason, n in sorted(stats.dropped.items())) or "none"
    counts = f"{stats.processed} processed, {stats.captured} captured"
    out.write(f"frames   {counts}; dropped: {dropped}\n")
    if stats.processed:
        p50, p95, p99 = stats.age_ms
        out.write(f"FPS      {stats.overall_fps:.1f}\n")
        out.write(f"age      p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms\n")
    for i, line in enumerate(summary.lines()):
        out.write(f"{'seen' if i == 0 else '':8} {line}\n")
