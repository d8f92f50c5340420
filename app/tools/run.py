"""`run` and `replay`: the composition root of a run, and what it says at its end."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import NamedTuple, TextIO

from app.config import Config
from app.errors import ConfigError, KestrelError
from app.handoff import Policy
from app.interfaces import FrameSource, Sink
from app.ladder import Ladder, parse_ladder
from app.pipeline import Pipeline
from app.shelf import Model, default_model, find_model
from app.sinks.golden import GoldenSink
from app.sinks.json_lines import JsonLinesSink
from app.sinks.latest import LatestSink
from app.sinks.progress import ProgressSink
from app.sinks.summary import SummarySink
from app.sinks.video_file import VideoFileSink
from app.sources.discover import first_camera
from app.sources.lasting import Endurance
from app.sources.uri import SourceOptions, make_source, mask_credentials
from app.stats import PipelineStats
from app.thermal import Thermal
from app.tools.clashes import refuse_clashes
from app.tools.engines import backend_factory

log = logging.getLogger(__name__)


def run_live(config: Config) -> int:
    """Newest frame wins; a window if there is a display, else headless."""
    latest = None if config.headless or not _window_possible() else LatestSink()
    source, model = _source(config, Policy.LATEST), choose_model(config)
    extra = [latest] if latest else []
    pipeline, summary = _compose(config, source, model, Policy.LATEST, extra)
    show = partial(_show, pipeline, latest) if latest else None
    _report(config, conduct(pipeline, show), pipeline, summary)
    return 0


def run_replay(config: Config) -> int:
    """Every frame, reproducibly; with ``--expect`` also the verdict."""
    if config.max_age_ms is not None:
        raise ConfigError("replay drops nothing, so max_age_ms has no meaning there; use run")
    if (config.source or "").split(":")[0] in ("camera", "csi", "gst", "rtsp", "rtsps"):
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
    _report(config, ending, pipeline, summary)
    if golden:
        log.info("%s", golden.check(stopped=ending.stopped))
    return 0


class Ending(NamedTuple):
    """How a run ended: by a signal, or with what error."""

    stopped: bool
    error: BaseException | None


def conduct(pipeline: Pipeline, show: Callable[[Callable[[], bool]], None] | None = None) -> Ending:
    """Start, wait for the end or a signal, stop, join. ``show`` waits instead, with a window."""
    stopped = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal stopped  # only a note: no lock may be taken in here
        if stopped:
            os._exit(128 + number)  # asked twice: at once
        stopped = True

    def ended() -> bool:
        if stopped:
            pipeline.stop()
        return pipeline.wait(0 if show else 0.1)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        pipeline.start()
        try:
            if show:
                show(lambda: not ended())
                pipeline.stop()
            while not stopped and not ended():
                pass
        except BaseException as error:  # of the window; what was recorded is still finished
            pipeline.fail(error)
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


def _compose(
    config: Config, source: FrameSource, model: Model, policy: Policy, extra: Sequence[Sink]
) -> tuple[Pipeline, SummarySink]:
    refuse_clashes(
        outputs={"--json": config.json, "--record": config.record},
        inputs={
            "the source": config.source,
            "--expect": config.expect,
            "the model": str(model.weights),
            "the model's manifest": str(model.manifest) if model.manifest else None,
        },
    )
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
        make_ladder=_ladder(config) if policy is Policy.LATEST else None,
    )
    return pipeline, summary


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


def _show(pipeline: Pipeline, latest: LatestSink, is_running: Callable[[], bool]) -> None:
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
        is_running=is_running,
        request_stop=pipeline.stop,
        hint="Opening the source and the model…",
    )


def _report(config: Config, ending: Ending, pipeline: Pipeline, summary: SummarySink) -> None:
    """Say what was seen, also when the run ended by an error; then raise that."""
    stats = pipeline.stats()
    if stats.processed or ending.error is None:
        out = sys.stderr if config.json == "-" else sys.stdout
        _print_summary(stats, summary, pipeline.backend_remarks, out)
    if ending.error is not None:
        raise ending.error


def _print_summary(
    stats: PipelineStats, summary: SummarySink, remarks: Sequence[str], out: TextIO
) -> None:
    dropped = ", ".join(f"{n} {reason}" for reason, n in sorted(stats.dropped.items())) or "none"
    counts = f"{stats.processed} processed, {stats.captured} captured"
    lines = [f"frames   {counts}; dropped: {dropped}"]
    if stats.processed:
        p50, p95, p99 = stats.age_ms
        lines.append(f"FPS      {stats.overall_fps:.1f}")
        lines.append(f"age      p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms")
    lines += [f"{'engine' if i == 0 else '':8} {line}" for i, line in enumerate(remarks)]
    if stats.events:
        happened = ", ".join(f"{n} {event}" for event, n in sorted(stats.events.items()))
        lines.append(f"events   {happened}")
    for i, line in enumerate(summary.lines()):
        lines.append(f"{'seen' if i == 0 else '':8} {line}")
    print("\n".join(lines), file=out)
