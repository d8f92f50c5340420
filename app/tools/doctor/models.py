"""Which models are on the shelf, and are their weights there and whole?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from app.errors import ModelError
from app.shelf import Model, list_models
from app.shelf.fetch import mirror_file, sha256_fault
from app.tools.doctor.finding import Finding, Section, error, warning
from app.tools.doctor.probe import Probe

State = Literal["ready", "in the mirror", "to be fetched", "missing", "damaged", "unreadable"]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One manifest. "to be fetched": absent, but its manifest names an address."""

    name: str
    default: bool
    state: State
    weights: str


def gather(models: Sequence[Model]) -> list[ModelFacts]:
    """Compares every checksum."""
    return [ModelFacts(m.spec.name, m.spec.default, _state(m), str(m.weights)) for m in models]


def _state(model: Model) -> State:
    if model.weights.is_file():
        try:
            return "damaged" if sha256_fault(model.spec, model.weights) else "ready"
        except ModelError:
            return "unreadable"
    mirrored = mirror_file(model.spec)
    if mirrored is not None:
        return "in the mirror" if mirrored.is_file() else "missing"
    return "to be fetched" if model.spec.url else "missing"


def check_default(models: Sequence[ModelFacts]) -> Finding | None:
    """Plain runs need it."""
    default = next((model for model in models if model.default), None)
    if default is None:
        return error("no model is the default one", "git checkout models/, or always give --model")
    if default.state in ("missing", "damaged", "unreadable"):
        return error(
            f"the default model {default.name} is {default.state} ({default.weights})",
            f"git checkout {default.weights}, or python -m app models fetch {default.name}",
        )
    return None


def check_others(models: Sequence[ModelFacts]) -> list[Finding]:
    """Those that are told wrong; one that was never fetched is not wrong."""
    return [
        warning(
            f"model {model.name}: its weights are {model.state} ({model.weights})",
            f"python -m app models fetch {model.name}, or put the file there",
        )
        for model in models
        if not model.default and model.state in ("missing", "damaged", "unreadable")
    ]


def look(probe: Probe) -> Section:
    """The subject."""
    models = gather(list_models())
    by_state: dict[str, list[str]] = {}
    for model in models:
        by_state.setdefault(model.state, []).append(model.name + " (default)" * model.default)
    lines = [f"{state}: {', '.join(names)}" for state, names in by_state.items()] or ["none"]
    default = check_default(models)
    findings = ([default] if default else []) + check_others(models)
    return Section("models", lines, {m.name: asdict(m) for m in models}, findings)
