"""Whether a configuration would run, as far as can be said without running it.

For ``--check``, and for what the settings page is about to write.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..config import Config, parse_sources
from ..core.errors import ConfigError, KestrelError, ModelError
from ..core.interfaces import GPU_ENGINES
from ..core.package import COMMAND
from ..core.stats import Meter
from ..models.manifest import Model
from ..models.store import list_models, locate, weights_fault
from ..ops.flight import read_trace
from ..pipeline.handoff import Policy
from ..sinks.video import why_no_encoder
from .clashes import is_folder, refuse_own_inputs
from .degradation import check_ladder
from .engines import backend_factory
from .filters import check_filters
from .inputs import check_privacy, make_input
from .outputs import Outputs
from .run import read_golden, refuse_unfit, wants_window
from .tracking import check_tracking

log = logging.getLogger(__name__)

_OF_ENGINE = ("model", "engine", "precision", "workers", "threads", "slots", "transfer", "batch")


def faults_of(
    config: Config, policy: Policy, *, running: Config | None = None
) -> list[KestrelError]:
    """All that speaks against it. Opens no camera and fetches nothing.

    ``running``: a run with this one goes on meanwhile, which holds its port and has opened its
    window; its engine is not opened again where the other is to have the same.
    """
    faults: list[KestrelError] = []

    @contextmanager
    def step() -> Iterator[None]:
        try:
            yield
        except KestrelError as fault:
            faults.append(fault)
        except OSError:  # a name that the system cannot have, which was told already
            if not faults:
                raise

    uris = [each.uri for each in parse_sources(config.sources)]
    with step():
        refuse_unfit(config, policy)
    if not faults:
        for uri in uris if config.source is None else [config.source]:
            with step():
                own = replace(config, source=uri, sources=(), record_sources=(), devices=())
                make_input(own, policy)
    for flag, path, is_dir in _written(config, policy):
        with step():
            _check_writable(flag, path, is_dir=is_dir)
    with step():
        _make_outputs(config, policy, listens=running is not None)
    with step():
        if policy is Policy.LOSSLESS and config.trace is not None:
            read_trace(Path(config.trace))
        elif policy is Policy.LATEST and running is None:
            wants_window(config)
    model: Model | None = None
    with step():
        model = _find_model(config)
    if model is not None:
        if running is None or any(getattr(config, n) != getattr(running, n) for n in _OF_ENGINE):
            with step():
                _check_engine(config, model, policy)
        with step():
            check_tracking(config, model.spec.labels)
        with step():
            check_privacy(config, model.spec.labels)
        with step():
            check_filters(config, model.spec.labels, model.spec.name)
        with step():
            check_ladder(config, model)
        with step():
            if policy is Policy.LOSSLESS:
                read_golden(config, model)
    with step():
        refuse_own_inputs(config, model, policy)
    return faults


def _find_model(config: Config) -> Model:
    defaults = [model for model in list_models() if model.spec.default]
    if config.model is None and not defaults:
        raise ModelError("no model is the default one; name one with --model")
    model = defaults[0] if config.model is None else locate(config.model)
    if not model.weights.is_file():
        log.warning(
            "model %s: its weights are not here yet; `%s models fetch %s` gets them",
            *(model.spec.name, COMMAND, model.ref),
        )
    elif fault := weights_fault(model):
        raise ModelError(f"{model.weights}: {fault}; fetch it anew")
    return model


def _check_engine(config: Config, model: Model, policy: Policy) -> None:
    """Whether the engine is there; one of the CPU is opened, which reads the weights."""
    make = backend_factory(config, model, policy)
    if config.precision == "bf16":  # also where auto would choose, or the weights are not here yet
        from ..inference.openvino import prove_bf16

        prove_bf16()
    if config.engine in GPU_ENGINES:
        from ..cuda.context import find_gpu

        find_gpu()
    elif model.weights.is_file():
        if config.engine == "auto":  # which would measure for seconds
            make = backend_factory(Config(engine="cpu", workers=1), model, policy)
        with make(lambda: None):
            pass


def _make_outputs(config: Config, policy: Policy, *, listens: bool) -> None:
    """Made and not started; ``listens``: a run that goes on holds the port."""
    names = [each.name for each in parse_sources(config.sources)] or [""]
    outputs = Outputs(config, policy, stats=Meter().snapshot, engine=str, names=names)
    if not listens:
        outputs.check()
    if (config.record.path or config.clips.path) and (missing := why_no_encoder()):
        raise ConfigError(f"cannot record: {missing}")


def _written(config: Config, policy: Policy) -> Iterator[tuple[str, Path, bool]]:
    """Flag and path of each file, or folder, that a run would make."""
    record = config.record.path
    trace = config.trace if policy is Policy.LATEST else None
    for flag, path in (("--json", config.json), ("--events", config.events.path)):
        if path is not None and path != "-":
            yield flag, Path(path), False
    for flag, path in (("--record", record), ("--trace", trace)):
        if path is not None:
            yield flag, Path(path), flag == "--record" and is_folder(path)
    folders = {
        "--clips": config.clips.path,
        "--snapshots": config.events.snapshots,
        "--store": config.store.path,
    }
    for flag, folder in folders.items():
        if folder is not None:
            yield flag, Path(folder), True


def _check_writable(flag: str, path: Path, *, is_dir: bool) -> None:
    """Raise ConfigError where the file, or the folder with all above it, could not be made."""
    try:
        found = path.stat() if path.exists() else None
        folder = path.absolute() if is_dir else path.absolute().parent
        while is_dir and not folder.exists():
            folder = folder.parent
    except (OSError, ValueError) as error:  # too long a name, a zero byte
        raise ConfigError(f"{flag} names no file that can be: {error}") from error
    if not folder.exists():
        raise ConfigError(f"{flag} {path}: the folder does not exist; make it first")
    if not folder.is_dir():
        raise ConfigError(f"{flag} {path}: {folder} is no folder; name another one")
    if found is not None and not is_dir:
        if stat.S_ISDIR(found.st_mode):
            raise ConfigError(f"{flag} {path}: it is a folder; name a file in it")
        if flag == "--record" and not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"{flag} {path}: a video needs a regular file; name another one")
    if not os.access(folder if found is None else path, os.W_OK):
        raise ConfigError(f"{flag} {path}: no permission to write there")
