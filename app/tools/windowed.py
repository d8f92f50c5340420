"""When does `run` open a window, and what is put together behind it?"""

from __future__ import annotations

import logging

from app.config import Config
from app.errors import ConfigError
from app.handoff import Policy
from app.session.engine import Prepared
from app.session.outputs import KeptSink
from app.shelf import Model, list_models, locate
from app.sinks.summary import SummarySink
from app.tools.closing import report
from app.tools.engines import backend_factory
from app.tools.inputs import choose_model, choose_source
from app.tools.outputs import Outputs, refuse_own_inputs

log = logging.getLogger(__name__)


def wants_window(config: Config) -> bool:
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


def run_windowed(config: Config) -> int:
    """Until the window is closed, or the run has ended."""
    from app.tools.desktop import Desk, run_desktop

    uri = choose_source(config)
    if config.model is not None:
        model: Model | None = locate(config.model)
    else:
        model = next((each for each in list_models() if each.spec.default), None)
    refuse_own_inputs(config, model, Policy.LATEST)
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
        report(config, error, stats, {"": summary}, ())
    elif error is not None:
        raise error
    return 0
