"""When does `run` open a window, and what is put together behind it?"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any

from app.config import Config
from app.errors import ConfigError
from app.handoff import Policy
from app.power import EnergySink
from app.service import Notifier, Supervised
from app.session.engine import Prepared
from app.shelf import Model, list_models, locate
from app.sinks.summary import SummarySink
from app.tools.closing import report
from app.tools.inputs import choose_model, choose_source
from app.tools.laddered import with_ladder
from app.tools.outputs import Outputs, refuse_own_inputs
from app.tools.supervision import Reloader, make_canary, make_recorder

log = logging.getLogger(__name__)


def wants_window(config: Config) -> bool:
    """Whether there will be a window.

    ConfigError says why there cannot be one, where one was asked for: by ``--window``, or by an
    environment that names a display. Where nothing speaks of a display, a run is headless.
    """
    if config.headless:
        return False
    from app.display import find_display

    found = find_display()
    if not found.usable and not (config.window or found.named):
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
    return True


def prepare_engine(config: Config, supervised: Supervised | None = None) -> Prepared:
    """Find the configuration's model, fetched and verified, and how to run it; may take long."""
    model = choose_model(config)
    spec = model.spec
    score = spec.score if config.score is None else config.score
    iou = spec.iou if config.iou is None else config.iou
    factory, make_ladder = with_ladder(config, model, Policy.LATEST)
    inferred = supervised.inferred if supervised is not None else lambda: None
    canary = make_canary(config, model, inferred)
    limits = (score, iou, spec.score, spec.iou)
    return Prepared(factory, spec.name, spec.labels, *limits, canary, make_ladder)


def run_windowed(config: Config, *, reload: Callable[[], Config] | None = None) -> int:
    """Until the window is closed, or the run has ended; with all that a headless run has."""
    from app.tools.desktop import Desk, run_desktop

    uri = choose_source(config)
    if config.model is not None:
        model: Model | None = locate(config.model)
    else:
        model = next((each for each in list_models() if each.spec.default), None)
    refuse_own_inputs(config, model, Policy.LATEST)
    summary, energy, supervised = SummarySink(), EnergySink(), Supervised(Notifier())
    recorder = make_recorder(config, model.spec.name if model else "")
    outputs = Outputs(
        config,
        Policy.LATEST,
        stats=lambda: desk.session.stats(),
        engine=lambda: desk.session.state().engine_text,
    )
    desk = Desk(
        config,
        prepare=partial(prepare_engine, supervised=supervised),
        sinks=[summary, energy, recorder],
        outputs=[*outputs.sinks, supervised],  # which counts once every output has taken it
        note=recorder.note,
        power=energy.reading,
    )
    session = desk.session
    supervised.watch(session.stats)
    recorder.watch(session.run_state)
    reloader = None
    if reload is not None and model is not None:
        reloader = Reloader(config, reload, session, model.spec, supervised)
    with ExitStack() as around:
        parts: tuple[AbstractContextManager[Any], ...] = (outputs.running(), recorder, supervised)
        for each in parts:
            around.enter_context(each)
        stopped = run_desktop(desk, config, uri, reload=reloader, end_rest=around.close)
        if session.error is not None:
            recorder.error(session.error)
    log.debug("stopped by a signal" if stopped else "window closed")
    if session.has_run():
        report(config, session.error, session.stats(), {"": summary}, session.remarks, energy)
    elif session.error is not None:
        raise session.error
    return 0
