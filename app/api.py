"""The public Python API: ``Detector`` for single frames, ``stream`` for cameras and recordings.

    from kestrel_vision import Detector, stream

    with Detector("kestrel") as detect:
        found = detect(frame_bgr)
    for result in stream("rtsp://host/stream"):
        print(result.labels, result.detections.xyxy)

All faults that a user can cure are KestrelErrors, whose text names the cure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any, overload

from .analytics.tracker import Tracker as Tracker
from .analytics.zones import Line as Line, Zone as Zone
from .config import Config, Engine, Precision, make_config
from .core.detections import Detections, Result, label_of
from .core.errors import (
    ConfigError,
    KestrelError,
)
from .core.events import Event
from .core.frame import Frame, bgr_pixels
from .core.stats import PipelineStats
from .pipeline.handoff import Policy
from .sinks.adapters import ResultMailbox

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .core.interfaces import Slot
    from .pipeline.pipeline import Pipeline

WAIT_S = 0.1  # how soon the end of a pipeline is noticed


class Detector:
    """Finds objects in single frames.

    ``model`` is a name on the shelf or the path of an .onnx or .toml file; None is the default
    model. ``engine``, ``precision`` and ``score`` are those of the command line: "auto" measures
    the engines that this machine has and keeps the answer in the user's cache. ``score`` (0.001..1)
    is the lowest score reported, ``iou`` (0..1) the overlap above which non-maximum suppression
    drops a box; None takes the model's own.

    Thread: make it, call it and close it on one thread; the context of a GPU belongs to that.
    Several detectors may live at once, each on a thread of its own. With an engine of the CPU,
    OpenCV's own threads are switched off in this process and threads take turns more often
    (sys.setswitchinterval), as the workers are the parallelism. The same goes for ``stream``.

    Raises ConfigError for a setting that means nothing, ModelError for a model that is unknown or
    damaged (weights that are missing are fetched first), DeviceError for a GPU that fails.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        engine: Engine = "auto",
        precision: Precision = "auto",
        score: float | None = None,
        iou: float | None = None,
    ) -> None:
        from .runtime.engines import backend_factory, choose_model

        if model is not None and not isinstance(model, str | PathLike):
            raise ConfigError(
                f"model is a {type(model).__name__}; name one of the shelf, or the path of an "
                ".onnx or .toml file"
            )
        model = None if model is None else str(model)
        # one worker with all cores: a frame alone is done soonest so
        config = _config(
            workers=1, model=model, engine=engine, precision=precision, score=score, iou=iou
        )
        found = choose_model(config)
        self.model_name = found.spec.name
        self.labels: Sequence[str] = found.spec.labels
        self._life = ExitStack()
        make = backend_factory(config, found, Policy.LOSSLESS)
        backend = self._life.enter_context(make(lambda: None))
        self._slots: Sequence[Slot] = backend.slots
        self.description = backend.description

    @overload
    def __call__(self, frames: NDArray[np.uint8]) -> Detections: ...

    @overload
    def __call__(self, frames: Sequence[NDArray[np.uint8]]) -> list[Detections]: ...

    def __call__(
        self, frames: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]
    ) -> Detections | list[Detections]:
        """The detections of one frame, or those of each in a list.

        A frame is (H, W, 3) uint8, BGR as OpenCV reads it, of any size. Boxes are in its pixels.
        Raises ConfigError for an array of another kind, and where the detector is closed.
        """
        if not self._slots:
            raise ConfigError("the detector is closed; make a new one")
        if isinstance(frames, Sequence):
            return self._all(frames)
        return self._all([frames])[0]

    def _all(self, pixels: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        frames = [_frame(each, index) for index, each in enumerate(pixels)]
        found: list[Detections] = []
        running: deque[Slot] = deque()
        try:
            for frame in frames:
                if len(running) == len(self._slots):
                    found.append(running.popleft().collect()[0][0])
                slot = self._slots[frame.index % len(self._slots)]
                slot.enqueue([frame])
                running.append(slot)
            while running:
                found.append(running.popleft().collect()[0][0])
        finally:
            for slot in running:  # after a fault: a slot must be idle before the next call
                with suppress(KestrelError):
                    slot.collect()
        return found

    def names(self, detections: Detections) -> list[str]:
        """The label of each detection."""
        return [label_of(self.labels, int(number)) for number in detections.class_ids]

    def close(self) -> None:
        """Let go of the engine; idempotent."""
        self._slots = ()
        self._life.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _frame(pixels: NDArray[np.uint8], index: int) -> Frame:
    import numpy as np

    if pixels is None:
        raise ConfigError(
            "a frame must be (H, W, 3) uint8 BGR, is None: cv2.imread gives that for a file that "
            "is not there or that it cannot read"
        )
    shape, dtype = getattr(pixels, "shape", None), getattr(pixels, "dtype", None)
    if shape is None or len(shape) != 3 or shape[2] != 3 or dtype != np.uint8 or 0 in shape:
        raise ConfigError(
            f"a frame must be (H, W, 3) uint8 BGR, as cv2.imread gives it, is {shape} {dtype}"
        )
    return Frame(np.ascontiguousarray(pixels), index, captured_ns=0)


def _table(shape: Zone | Line) -> dict[str, Any]:
    """As a configuration file has it."""
    return {key: value for key, value in asdict(shape).items() if value is not None}


def _config(**given: Any) -> Config:
    return make_config({key: value for key, value in given.items() if value is not None})


@dataclass(frozen=True, slots=True)
class StreamResult:
    """One processed frame.

    ``index`` counts the frames of the source from 0, also those that were dropped. ``captured_ns``
    is on the clock of time.monotonic_ns(); ``media_ns`` is the position in a recording, None when
    live. ``age_ms``: from capture until the boxes were ready. ``stages_ms``: where that time went.
    ``stats``: counts and rates of the stream so far; its percentiles are in ``Stream.stats()``.
    ``events``: with ``track``, what happened since the result before, such as "appear".
    """

    detections: Detections
    labels: Sequence[str]  # of each detection
    index: int
    captured_ns: int
    media_ns: int | None
    age_ms: float
    stages_ms: Mapping[str, float]
    stats: PipelineStats
    events: Sequence[Event]
    raw: Frame  # as the source gave it; see ``frame``

    @property
    def frame(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 BGR. Yours to keep; where the source gives another format (planes of a
        recording, a GPU engine with a camera), it is converted at the first access."""
        return bgr_pixels(self.raw)


class Stream:
    """A source that is being processed; made by ``stream``. Iterate once, or use ``with``.

    Capture and inference run on threads of their own from the first step of the iteration on. They
    end with it: after the last frame, at ``break``, at an error, and with ``close``. Iterate and
    close on one thread; ``stats`` may be called on any.
    """

    def __init__(self, pipeline: Pipeline, mailbox: ResultMailbox) -> None:
        self._pipeline, self._mailbox = pipeline, mailbox
        self._started = self._closed = False

    def __iter__(self) -> Iterator[StreamResult]:
        if self._started or self._closed:
            raise ConfigError("a stream is read once; call stream() again")
        self._started = True
        self._pipeline.start()
        try:
            while True:
                over = self._pipeline.wait(0)  # asked first: what came before the end is still read
                if (result := self._mailbox.take(0 if over else WAIT_S)) is not None:
                    yield self._told(result)
                elif over:
                    break
            self._pipeline.join()  # raises what ended it
        finally:
            self.close()

    def stats(self) -> PipelineStats:
        """Counts, drops by reason, rates, and ages and stages in ms as (p50, p95, p99)."""
        return self._with_unread(self._pipeline.stats())

    def _with_unread(self, stats: PipelineStats) -> PipelineStats:
        unread = self._mailbox.unread
        return replace(stats, dropped={**stats.dropped, "unread": unread}) if unread else stats

    def close(self) -> None:
        """End capture and inference; idempotent. What ended the stream is not raised here."""
        if self._closed:
            return
        self._closed = True
        self._mailbox.leave()
        self._pipeline.stop()
        if self._started:
            with suppress(KestrelError):  # raised by the iteration, or it was left before
                self._pipeline.join()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _told(self, result: Result) -> StreamResult:
        names = [label_of(self._mailbox.labels, int(n)) for n in result.detections.class_ids]
        return StreamResult(
            result.detections,
            names,
            result.frame.index,
            result.frame.captured_ns,
            result.frame.media_ns,
            result.age_ns / 1e6,
            {name: value_ns / 1e6 for name, value_ns in result.stages_ns.items()},
            self._with_unread(self._pipeline.counts()),
            result.events,
            result.frame,
        )


def stream(
    source: str,
    *,
    model: str | None = None,
    engine: Engine = "auto",
    precision: Precision = "auto",
    score: float | None = None,
    iou: float | None = None,
    max_age_ms: float | None = None,
    max_frames: int | None = None,
    reconnect: bool = True,
    track: bool = False,
    zones: Sequence[Zone] = (),
    lines: Sequence[Line] = (),
) -> Stream:
    """Detections of a camera, a stream or a recording, frame by frame.

    ``source`` is what ``--source`` takes: "camera:0", "rtsp://…", "clip.mp4", a folder of pictures,
    "sample:" (the bundled clip), …  Of a live source the newest frame wins: what there is no time
    for, here or in the caller's loop, is dropped; ``max_age_ms`` also drops frames that waited
    longer before inference. It is opened again when it is lost, unless ``reconnect`` is False. Of
    a recording every frame comes, in order, as fast as the loop takes it.

    With ``track``, ``detections.track_ids`` says which object each is, -1 for none yet, and
    ``events`` what happened to them; ``zones`` and ``lines``, of which these also tell, need tracks
    and switch them on. What happens at the very end, after the last result, is told
    nowhere.

    The other arguments are those of Detector; ``max_frames`` ends after so many frames. Raises
    ConfigError, ModelError or SourceError here for what can be known already, and during the
    iteration for what happens later.
    """
    from .runtime.build import RunPlan, build
    from .runtime.engines import choose_model
    from .runtime.inputs import make_inputs
    from .sources.uri import is_recording

    config = _config(
        **{"source": source, "model": model, "engine": engine, "precision": precision},
        **{"score": score, "iou": iou, "max_age_ms": max_age_ms},
        **{"max_frames": max_frames, "reconnect": reconnect, "track.on": track or None},
        **{"zone": tuple(map(_table, zones)), "line": tuple(map(_table, lines))},
    )
    lossless = is_recording(source)
    if lossless and max_age_ms is not None:
        raise ConfigError("max_age_ms is for live sources: nothing of a recording is dropped")
    policy = Policy.LOSSLESS if lossless else Policy.LATEST
    mailbox = ResultMailbox(lossless=lossless)
    plan = RunPlan(
        config=config,
        policy=policy,
        model=choose_model(config),
        inputs=make_inputs(config, policy),
        sinks=[mailbox],
        reports=False,
    )
    return Stream(build(plan).pipeline, mailbox)
