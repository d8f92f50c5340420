"""``--check``: whether a configuration would run, as far as can be said without running it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from ..config import Config, parse_sources
from ..core.credentials import mask_credentials
from ..core.errors import ConfigError, KestrelError, ModelError
from ..core.package import COMMAND
from ..core.stats import Meter
from ..models.manifest import Model
from ..models.store import list_models, locate, sha256_fault
from ..ops.flight import read_trace
from ..pipeline.handoff import Policy
from ..runtime.degradation import check_ladder
from ..runtime.engines import backend_factory
from ..runtime.inputs import make_input
from ..runtime.outputs import Outputs, refuse_own_inputs
from ..runtime.run import read_golden, refuse_unfit, wants_window
from ..runtime.tracking import check_tracking
from ..sinks.video import why_no_encoder

log = logging.getLogger(__name__)


def check(config: Config, policy: Policy) -> int:
    """Opens no camera and fetches nothing. Every fault is told; exit code 2 if there is one."""
    faults = 0
    model: Model | None = None

    def holds(step: Callable[[], object]) -> bool:
        nonlocal faults
        try:
            step()
        except KestrelError as fault:
            faults += 1
            log.error("%s", fault)
            return False
        return True

    def find() -> None:
        nonlocal model
        model = _model(config)

    if holds(lambda: refuse_unfit(config, policy)):
        for step in _sources(config, policy):
            holds(step)
    for name, path in (
        ("--json", config.json),
        ("--events", config.events.path),
        ("--record", config.record.path),
    ):
        holds(lambda name=name, path=path: _output(name, path))  # type: ignore[misc]
    holds(lambda: _outputs(config, policy))
    if policy is Policy.LATEST:
        holds(lambda: wants_window(config))
    elif config.trace is not None:
        trace = Path(config.trace)
        holds(lambda: read_trace(trace))
    if holds(find) and model is not None:
        holds(lambda: _engine(config, model, policy))
    holds(lambda: refuse_own_inputs(config, model, policy))
    if faults:
        return ConfigError.exit_code
    uris = [each.uri for each in parse_sources(config.sources)] or [config.source or ""]
    source = ", ".join(map(mask_credentials, uris)) or "the first camera, or sample:"
    print(f"sound: {source}, {config.model or 'the default model'}, engine {config.engine}")
    return 0


def _sources(config: Config, policy: Policy) -> Iterator[Callable[[], object]]:
    named = parse_sources(config.sources)
    for uri in [each.uri for each in named] if config.source is None else [config.source]:
        one = replace(config, source=uri, sources=(), devices=())
        yield lambda one=one: make_input(one, policy)  # type: ignore[misc]


def _model(config: Config) -> Model:
    model = locate(config.model) if config.model is not None else _default()
    if not model.weights.is_file():
        log.warning(
            "model %s: its weights are not here yet; `%s models fetch %s` gets them",
            *(model.spec.name, COMMAND, model.ref),
        )
    elif fault := sha256_fault(model.spec, model.weights):
        raise ModelError(f"{model.weights}: {fault}; fetch it anew")
    return model


def _engine(config: Config, model: Model, policy: Policy) -> None:
    backend_factory(config, model, policy)
    check_tracking(config, model.spec.labels)
    check_ladder(config, model)
    if policy is Policy.LOSSLESS:
        read_golden(config, model)


def _default() -> Model:
    found = [model for model in list_models() if model.spec.default]
    if not found:
        raise ModelError("no model is the default one; name one with --model")
    return found[0]


def _outputs(config: Config, policy: Policy) -> None:
    """Made and not started."""
    names = [each.name for each in parse_sources(config.sources)] or [""]
    Outputs(config, policy, stats=Meter().snapshot, engine=str, names=names)
    if (config.record.path or config.clips.path) and (missing := why_no_encoder()):
        raise ConfigError(f"cannot record: {missing}")


def _output(name: str, path: str | None) -> None:
    if path is None or path == "-":
        return
    folder = Path(path).parent
    if not folder.is_dir():
        raise ConfigError(f"{name} {path}: the folder does not exist; make it first")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{name} {path}: no permission to write there")
