"""``run`` with a window: the controller behind it, and snapshots."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..config import ENGINES, Config
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
from ..pipeline.handoff import Note, Policy, note_nothing
from ..pipeline.player import Opening
from ..session.engine_switch import Prepared
from ..session.figures import no_power
from ..session.recording import RecordingSink
from ..session.session import Session
from ..session.state import Catalogue, Choice, Offer, SessionState, Tell
from ..sinks.adapters import ResultMailbox
from ..sinks.drawing import draw_result
from ..sinks.json_lines import ResultEncoder, cure, quoted
from ..sinks.video import VideoFileSink
from ..sources.camera import list_cameras
from ..sources.uri import is_recording, make_source
from .filters import RunFilters
from .inputs import endurance_of, privacy_of, source_options
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


class WindowController:
    """A run as the window sees it (``gui.ports.RunController``): every method returns at once.

    ``prepare`` finds the model of a configuration and how to run it; it may take its time.
    ``outputs`` are those of the command line; ``sinks`` are others that get every result, and are
    opened once; ``note`` and ``power`` see Session.
    ``packets``: for outputs that copy those of the source.
    ``loop``: every recording begins again at its end, not only the bundled clip. ``shapes``,
    ``filters``: zones and lines, and which detections are reported; both may be changed.
    ``clock``: of the times of events. ``open_source``: in place of what the URI names.
    """

    def __init__(
        self,
        config: Config,
        *,
        prepare: Callable[[Config], Prepared],
        sinks: Sequence[Sink] = (),
        outputs: Sequence[Sink] = (),
        note: Note = note_nothing,
        power: Callable[[], PowerReading] = no_power,
        loop: bool = False,
        packets: PacketFan | None = None,
        shapes: RunShapes | None = None,
        filters: RunFilters | None = None,
        clock: Clock | None = None,
        open_source: Callable[[], FrameSource] | None = None,
    ) -> None:
        self._config, self._packets = config, packets
        self._open_source = open_source
        self.shapes = shapes or RunShapes(config, Policy.LATEST, always=True)
        self.filters = filters or RunFilters(config, lambda: self.session.refilter())
        # a run with an output or a limit is a job: it ends with its recording, and what the window
        # remembers changes nothing in it
        self.has_outputs = has_outputs(config)
        self._stays = stays = not (self.has_outputs or config.max_frames)
        names = ("model", "engine", "score", "iou")
        default = Config()
        self.given = frozenset(
            name for name in names if not stays or getattr(config, name) != getattr(default, name)
        )
        self._latest = ResultMailbox()
        self._recording = RecordingSink(VideoFileSink, self._tell)
        self._snapshots = Snapshots(self._tell)

        def prepare_choice(choice: Choice, score: float | None, iou: float | None) -> Prepared:
            changes: dict[str, Any] = {"model": choice.model, "engine": choice.engine}
            if choice.engine != config.engine:  # another may not have the precision asked for
                changes["precision"] = "auto"
            return prepare(replace(config, score=score, iou=iou, **changes))

        self.session = Session(
            self._open,
            prepare_choice,
            choice=Choice(config.model, config.engine),
            config=config,
            sinks=[self._latest, *sinks, *outputs],
            recording=self._recording,
            stay=stays,
            loops=lambda uri: loop or (stays and uri == SAMPLE),
            note=note,
            power=power,
            analyser=self.shapes.analyser(clock=clock),
            privacy=privacy_of(config),
            filter=self.filters.make(),
        )
        self.state: Callable[[], SessionState] = self.session.state
        self.take: Callable[[], tuple[Result, Sequence[str]] | None] = self._latest.take_labelled
        sources = self.session.sources
        self.show_source, self.reopen = sources.show, sources.reopen
        self.pause, self.step, self.seek = sources.pause, sources.step, sources.seek
        self.choose, self.cancel = self.session.choose, self.session.cancel
        self.set_thresholds = self.session.set_thresholds
        self.record = self._recording.switch
        self._catalogue = Catalogue(engines=tuple(Offer(name, name) for name in ENGINES))
        self._looking: threading.Thread | None = None

    def hide(self, labels: frozenset[str]) -> None:
        """See gui.ports."""
        self._recording.hidden = labels

    def snapshot(self, stem: str, shown: tuple[Result, Sequence[str]], model: str) -> None:
        """See gui.ports."""
        result, labels = shown
        source = self.session.info_of(result.frame.index)
        assert source is not None, "a result has a source"
        self._snapshots.save(Snapshot(Path(stem), result, labels, source, model))

    def save_shapes(self, path: str) -> None:
        """See gui.ports; on a thread, as a disk may be slow."""

        def save() -> None:
            try:
                file = self.shapes.save(Path(path) if path else None)
            except ConfigError as error:
                self._tell(str(error), "error")
            else:
                self._tell(f"Saved zones and lines in {file}", "info")

        threading.Thread(target=save, name="zones", daemon=True).start()

    def catalogue(self) -> Catalogue:
        """See gui.ports."""
        return self._catalogue

    def refresh(self) -> None:
        """See gui.ports; on a thread, as drivers may block."""
        if self._looking is None or not self._looking.is_alive():
            self._looking = threading.Thread(target=self._look, name="catalogue", daemon=True)
            self._looking.start()

    def _look(self) -> None:
        models = tuple(_model_offer(model) for model in list_models())
        self._catalogue = replace(self._catalogue, models=models)
        self._catalogue = replace(self._catalogue, cameras=_camera_offers())

    def _open(self, uri: str) -> Opening:
        if self._open_source is not None:
            return Opening(self._open_source(), mask_credentials(uri), False)
        config = self._config
        endurance = endurance_of(config)
        if endurance is not None and self._stays:
            # at a desk somebody reads the banner, plugs the camera in or chooses another source
            endurance = replace(endurance, wait=True)
        source = make_source(
            uri,
            realtime=True,
            isolate=config.isolate if uri == config.source else None,
            options=source_options(config),
            endurance=endurance,
            packets=self._packets,
        )
        return Opening(source, mask_credentials(uri), is_recording(uri))

    def _tell(self, text: str, severity: Any, path: str = "") -> None:
        self.session.tell(text, severity, path)


def run_desktop(
    controller: WindowController,
    config: Config,
    uri: str,
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

        controller.session.start(uri)
        try:
            run_window(controller, interrupted=interrupted, on_display_lost=on_display_lost)
        finally:
            end()
        return heard.stop


def _model_offer(model: Model) -> Offer:
    spec = model.spec
    classes = spec.labels[0] if len(spec.labels) == 1 else f"{len(spec.labels)} classes"
    width, height = spec.input.size_wh
    facts = [f"{classes}, {width} × {height}"]
    if (size := weights_bytes(model)) is not None:
        facts.append(f"{size / 1e6:.1f} MB")
    if precision := spec.accuracy.get("coco_ap"):
        facts.append(f"COCO AP {precision}")
    facts += [spec.licence] * bool(spec.licence)
    refused = why_not_here(model)
    if not refused and not model.weights.is_file():
        facts.append("to be downloaded")
    return Offer(spec.name, model.ref, " · ".join(facts), refused or "")


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
