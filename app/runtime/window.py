"""``run`` with a window: the controller behind it, and snapshots."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..config import ENGINES, Config, NamedSource
from ..core.credentials import mask_credentials
from ..core.detections import Result
from ..core.errors import ConfigError
from ..core.frame import SourceInfo, bgr_pixels
from ..core.interfaces import FrameSource, Sink
from ..core.packets import PacketFan
from ..models.manifest import Model
from ..models.store import list_models, locate, weights_bytes, why_not_here
from ..ops.power import PowerReading
from ..ops.signals import noting
from ..pipeline.capture import StreamSpec
from ..pipeline.handoff import Note, Policy, note_nothing
from ..pipeline.player import Opening
from ..session.engine_switch import Prepared
from ..session.figures import no_power
from ..session.recording import RecordingSink
from ..session.session import Session, SessionSource
from ..session.state import Catalogue, Choice, Offer, SessionState, Tell
from ..sinks.adapters import ResultMailbox
from ..sinks.drawing import draw_result
from ..sinks.json_lines import ResultEncoder, cure, quoted
from ..sinks.video import VideoFileSink
from ..sources.camera import list_cameras
from ..sources.uri import is_recording, make_source
from .engines import why_no_engine
from .filters import RunFilters
from .inputs import config_of_source, endurance_of, privacy_of, source_options
from .outputs import has_outputs
from .zones import RunShapes

if TYPE_CHECKING:
    from ..analytics.stage import Clock

log = logging.getLogger(__name__)


class Snapshot(NamedTuple):
    """What is saved: a result, what it is of, and the name of the model that made it."""

    stem: Path
    result: Result
    labels: Sequence[str]
    source: SourceInfo
    model: str


class Snapshots:
    """Saves on threads of their own, so that a slow disk holds up nobody."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def save(self, shot: Snapshot) -> None:
        """STEM.png, STEM_boxes.png, STEM.json; returns at once."""
        threading.Thread(target=self._save, args=(shot,), name="snapshot", daemon=True).start()

    def _save(self, shot: Snapshot) -> None:
        stem = shot.stem
        try:
            write_snapshot(shot)
        except OSError as error:
            self._tell(f"cannot save {stem.name}: {cure(error, stem)}", "error", "")
        else:
            text = f"Saved {stem.name}.png, _boxes.png and .json in {stem.parent}"
            self._tell(text, "info", str(stem.parent / f"{stem.name}.png"))


def write_snapshot(shot: Snapshot) -> None:
    """The three files; raises OSError."""
    stem, result, labels, source, model = shot
    stem.parent.mkdir(parents=True, exist_ok=True)
    pixels = bgr_pixels(result.frame)
    _write_png(stem.with_name(f"{stem.name}.png"), pixels)
    drawn = pixels.copy()  # the frame belongs to others too
    draw_result(drawn, result, labels)
    _write_png(stem.with_name(f"{stem.name}_boxes.png"), drawn)
    encode = ResultEncoder()
    encode.open(source, labels)
    text = f'{{"model": {quoted(model)}, {encode(result)[1:]}\n'
    stem.with_name(f"{stem.name}.json").write_text(text, "utf-8")


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    # not imwrite, which cannot say what went wrong
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


CLOSE_S = 1.5  # of the 2 s within which everything has ended after the window is closed
SAMPLE = "sample:"


class WindowSource(NamedTuple):
    """A source of a run with a window: its name among others, its URI, and who takes its results.

    ``note`` hears what becomes of each frame; ``packets``: for outputs that copy those of the
    source; ``clock``: of the times of events. ``make``: in place of what the URI means.
    """

    uri: str
    name: str = ""
    sinks: Sequence[Sink] = ()
    note: Note = note_nothing
    packets: PacketFan | None = None
    clock: Clock | None = None
    make: Callable[[], FrameSource] | None = None


class WindowController:
    """A run as its window sees it; ``views`` are its sources, as ``gui.ports`` wants them.

    ``prepare`` finds the model of a configuration and how to run it; it may take its time.
    ``power``: see Session. ``loop``: every recording begins again at its end, not only the bundled
    clip. ``shapes``, ``filters``: zones and lines, and which detections are reported; both may be
    changed.
    """

    def __init__(
        self,
        config: Config,
        sources: Sequence[WindowSource],
        *,
        prepare: Callable[[Config], Prepared],
        power: Callable[[], PowerReading] = no_power,
        loop: bool = False,
        shapes: RunShapes | None = None,
        filters: RunFilters | None = None,
    ) -> None:
        self.sources = sources
        self.shapes = shapes or RunShapes(config, Policy.LATEST, always=True)
        self.filters = filters or RunFilters(config, lambda: self.session.refilter())
        # a run with an output or a limit is a job: it ends with its recordings, and what the window
        # remembers changes nothing in it
        self.has_outputs = has_outputs(config)
        stays = not (self.has_outputs or config.max_frames)
        names = ("model", "engine", "score", "iou")
        default = Config()
        self.given = frozenset(
            name for name in names if not stays or getattr(config, name) != getattr(default, name)
        )
        self.snapshots = Snapshots(self.tell)

        def prepare_choice(choice: Choice, score: float | None, iou: float | None) -> Prepared:
            changes: dict[str, Any] = {"model": choice.model, "engine": choice.engine}
            if choice.engine != config.engine:  # another may not have the precision asked for
                changes["precision"] = "auto"
            return prepare(replace(config, score=score, iou=iou, **changes))

        opens = [partial(_open, config, each, stays) for each in sources]
        self.views = [SourceView(self, number) for number in range(len(sources))]
        self.session = Session(
            [
                SessionSource(
                    make,
                    StreamSpec(
                        None,
                        [view.latest, *each.sinks],
                        each.name,
                        each.note,
                        self.shapes.analyser(each.name, clock=each.clock),
                        privacy_of(config, each.name),
                        self.filters.make(each.name),
                    ),
                    view.recording,
                )
                for make, view, each in zip(opens, self.views, sources, strict=True)
            ],
            prepare_choice,
            choice=Choice(config.model, config.engine),
            config=config,
            stay=stays,
            loops=lambda uri: loop or (stays and uri == SAMPLE),
            power=power,
        )
        self._catalogue = Catalogue(engines=tuple(Offer(name, name) for name in ENGINES))
        self._looking: threading.Thread | None = None
        for view in self.views:
            view.connect()

    def save_shapes(self, path: str) -> None:
        """See gui.ports; on a thread, as a disk may be slow."""

        def save() -> None:
            try:
                file = self.shapes.save(Path(path) if path else None)
            except ConfigError as error:
                self.tell(str(error), "error")
            else:
                self.tell(f"Saved zones and lines in {file}", "info")

        threading.Thread(target=save, name="zones", daemon=True).start()

    def catalogue(self) -> Catalogue:
        return self._catalogue

    def refresh(self) -> None:
        """See gui.ports; on a thread, as drivers may block."""
        if self._looking is None or not self._looking.is_alive():
            self._looking = threading.Thread(target=self._look, name="catalogue", daemon=True)
            self._looking.start()

    def _look(self) -> None:
        models = tuple(_model_offer(model) for model in list_models())
        self._catalogue = replace(self._catalogue, models=models)
        engines = (Offer(name, name, refused=why_no_engine(name) or "") for name in ENGINES)
        self._catalogue = replace(self._catalogue, engines=tuple(engines))
        self._catalogue = replace(self._catalogue, cameras=_camera_offers())

    def tell(self, text: str, severity: Any, path: str = "") -> None:
        self.session.tell(text, severity, path)


class SourceView:
    """A source of a run, and what all of its window may ask for (``gui.ports.RunController``).

    Every method returns at once.
    """

    def __init__(self, run: WindowController, number: int) -> None:
        self._run, self._number = run, number
        self.name = run.sources[number].name
        self.latest = ResultMailbox()
        self.recording = RecordingSink(VideoFileSink, run.tell)
        self.given, self.has_outputs = run.given, run.has_outputs
        self.shapes, self.filters = run.shapes, run.filters
        self.save_shapes, self.catalogue = run.save_shapes, run.catalogue
        self.refresh = run.refresh
        self.take: Callable[[], tuple[Result, Sequence[str]] | None] = self.latest.take_labelled
        self.record = self.recording.switch

    def connect(self) -> None:
        """Once there is a session."""
        session, source = self._run.session, self._run.session.sources[self._number]
        self.state: Callable[[], SessionState] = partial(session.state, self._number)
        self.show_source, self.reopen = source.show, source.reopen
        self.pause, self.step, self.seek = source.pause, source.step, source.seek
        self.set_speed, self.set_loop = source.set_speed, source.set_loop
        self.choose, self.cancel = session.choose, session.cancel
        self.set_thresholds = session.set_thresholds

    def hide(self, labels: frozenset[str]) -> None:
        self.recording.hidden = labels

    def snapshot(self, stem: str, shown: tuple[Result, Sequence[str]], model: str) -> None:
        result, labels = shown
        source = self._run.session.pipeline.info_of(result.frame.index, self._number)
        assert source is not None, "a result has a source"
        self._run.snapshots.save(Snapshot(Path(stem), result, labels, source, model))


def _open(config: Config, own: WindowSource, stays: bool, uri: str) -> Opening:
    """What ``uri`` means in the place of this source."""
    if own.make is not None:
        return Opening(own.make(), mask_credentials(uri), False)
    endurance = endurance_of(config)
    if endurance is not None and (stays or own.name):
        # at a desk somebody reads the banner, plugs the camera in or chooses another source; and
        # of several sources one that is not there yet holds up no other
        endurance = replace(endurance, wait=True)
    masked = config_of_source(config, NamedSource(own.name, uri))
    source = make_source(
        uri,
        realtime=True,
        isolate=config.isolate if uri == own.uri else None,
        options=source_options(masked),
        endurance=endurance,
        packets=own.packets,
    )
    return Opening(source, mask_credentials(uri), is_recording(uri))


def run_desktop(
    controller: WindowController,
    config: Config,
    *,
    reload: Callable[[], None] | None = None,
    end_rest: Callable[[], None] = lambda: None,
) -> bool:
    """Show the window until it is closed or the run has ended; whether a signal ended it.

    Raises at once what cannot be cured in the window: a file or a model that is not there.
    ``reload`` is called on SIGHUP, which without it stops the run. A display that goes away ends
    the process here, with exit code 2, once the run and ``end_rest`` have ended: Qt knows no way
    back from it.
    """
    from ..gui.window import run_window

    uris = [each.uri for each in controller.sources]
    for uri in uris:
        make_source(uri, realtime=True)
    if config.model is not None:
        locate(config.model)
    with noting(hang_ups=reload is not None) as heard:

        def interrupted() -> bool:
            if heard.hang_up and reload is not None:
                heard.hang_up = False
                reload()
            return heard.stop

        def end() -> None:
            controller.session.stop()
            if not controller.session.join(CLOSE_S):
                log.warning("not everything ended in time; leaving it behind")

        def on_display_lost(told: str) -> None:
            log.error("%s The run ends with it; use --headless for one that needs no display", told)
            try:
                end()
                end_rest()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(ConfigError.exit_code)

        controller.session.start(*uris)
        try:
            run_window(
                controller.views,
                interrupted=interrupted,
                on_display_lost=on_display_lost,
                language=config.language,
            )
        finally:
            end()
        return heard.stop


def _model_offer(model: Model) -> Offer:
    spec = model.spec
    count, (width, height) = len(spec.labels), spec.input.size_wh
    facts = [*spec.labels] if count == 1 else []
    facts.append(f"{width} × {height}")
    if (size := weights_bytes(model)) is not None:
        facts.append(f"{size / 1e6:.1f} MB")
    if precision := spec.accuracy.get("coco_ap"):
        facts.append(f"COCO AP {precision}")
    facts += [spec.licence] * bool(spec.licence)
    refused = why_not_here(model)
    return Offer(
        spec.name,
        model.ref,
        " · ".join(facts),
        classes=count if count > 1 else 0,
        to_fetch=not refused and not model.weights.is_file(),
        refused=refused or "",
    )


def _camera_offers() -> tuple[Offer, ...]:
    offers = []
    for camera in list_cameras():
        modes = tuple(
            Offer(
                f"{mode.wh_px[0]} × {mode.wh_px[1]}  {mode.fourcc}"
                + (f"  {mode.fps:g} FPS" if mode.fps else ""),
                f"{camera.uri}?{mode.query}",
            )
            for mode in camera.modes
        )
        offers.append(Offer(camera.name, camera.uri, more=modes))
    return tuple(offers)
