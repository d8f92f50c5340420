"""``--check``: whether a configuration would run, as far as can be said without running it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from ..config import Config, parse_sources
from ..core.credentials import mask_credentials
from ..core.errors import ConfigError, KestrelError, ModelError
from ..core.package import COMMAND
from ..models.manifest import Model
from ..models.store import list_models, locate, sha256_fault
from ..pipeline.handoff import Policy
from ..runtime.build import backend_factory, check_ladder
from ..sources.uri import make_source

log = logging.getLogger(__name__)


def check(config: Config, policy: Policy) -> int:
    """Opens no camera and fetches nothing. Every fault is told; exit code 2 if there is one."""
    faults = 0

    def holds(step: Callable[[], object]) -> None:
        nonlocal faults
        try:
            step()
        except KestrelError as fault:
            faults += 1
            log.error("%s", fault)

    named = parse_sources(config.sources)
    uris = [each.uri for each in named] if config.source is None else [config.source]
    for uri in uris:
        holds(lambda uri=uri: make_source(uri, realtime=policy is Policy.LATEST))  # type: ignore[misc]
    source = ", ".join(map(mask_credentials, uris)) or "the first camera, or sample:"
    for name, path in (("--json", config.json), ("--record", config.record.path)):
        holds(lambda name=name, path=path: _output(name, path))  # type: ignore[misc]
    holds(lambda: _model(config, policy))
    if faults:
        return ConfigError.exit_code
    model = config.model or "the default model"
    print(f"sound: {source}, {model}, engine {config.engine}")
    return 0


def _model(config: Config, policy: Policy) -> None:
    model = locate(config.model) if config.model is not None else _default()
    if not model.weights.is_file():
        log.warning(
            "model %s: its weights are not here yet; `%s models fetch %s` gets them",
            *(model.spec.name, COMMAND, model.ref),
        )
    elif fault := sha256_fault(model.spec, model.weights):
        raise ModelError(f"{model.weights}: {fault}; fetch it anew")
    backend_factory(config, model, policy)
    check_ladder(config, model)


def _default() -> Model:
    found = [model for model in list_models() if model.spec.default]
    if not found:
        raise ModelError("no model is the default one; name one with --model")
    return found[0]


def _output(name: str, path: str | None) -> None:
    if path is None or path == "-":
        return
    folder = Path(path).parent
    if not folder.is_dir():
        raise ConfigError(f"{name} {path}: the folder does not exist; make it first")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{name} {path}: no permission to write there")
