"""The degradation policy of a run and the networks that it falls back to."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod

from ..config import Config
from ..core.errors import ConfigError, ModelError
from ..core.interfaces import BackendFactory
from ..models.manifest import Model
from ..models.store import find_model, list_models, locate
from ..pipeline.degrade import DegradationPolicy, Network, Thermal, parse_ladder
from ..pipeline.handoff import Policy
from .engines import backend_factory

MakeLadder = Callable[[Callable[[str], None]], DegradationPolicy]


def with_ladder(
    config: Config, model: Model, policy: Policy
) -> tuple[BackendFactory, MakeLadder | None]:
    """The engine, with a network for each step of the ladder, and what makes the ladder.

    Raises ConfigError or ModelError for a step that could never be taken. What only this moment
    forbids (weights that cannot be fetched, a GPU that is full) is left out later, with a warning.
    """
    own = backend_factory(config, model, policy)
    if not config.ladder or config.max_age_ms is None or policy is not Policy.LATEST:
        return own, None
    steps = parse_ladder(config.ladder)
    make = partial(DegradationPolicy, steps, budget_ms=config.max_age_ms, hot=Thermal())
    networks = _networks(config)
    if not networks:
        return own, lambda on_step: make(on_step=on_step)
    from ..inference.degraded import Fallback, FallbackBackend, NetworkChoice, matching_classes

    choice = NetworkChoice()
    others = {}
    for network in networks:
        labels = _located(config, model, network).spec.labels
        class_ids, _ = matching_classes(labels, model.spec.labels)
        others[network] = Fallback(partial(_build, config, model, network, policy), class_ids)
    return (
        lambda wake: FallbackBackend(own, others, choice, wake),
        lambda on_step: make(on_step=on_step, use=choice.use, missing=choice.missing),
    )


def check_ladder(config: Config, model: Model) -> None:
    """For ``--check``: also whether the networks run at the sizes asked for. Fetches nothing."""
    from ..models.onnx_edit import at_input_size

    for network in _networks(config):
        located = _located(config, model, network)
        size_wh = network.size_wh
        if size_wh is None or not located.weights.is_file():
            continue
        try:
            at_input_size(located.spec, located.weights, size_wh)
        except ModelError as fault:
            able = ", ".join(_able(size_wh)) or "none"
            raise ModelError(
                f"ladder, {network.name!r}: {fault}. Of the models here these do: {able}"
            ) from fault


def _networks(config: Config) -> list[Network]:
    found = dict.fromkeys(step.network for step in parse_ladder(config.ladder))
    return [network for network in found if network != Network()]


def _located(config: Config, model: Model, network: Network) -> Model:
    """Its model, not fetched; raises ConfigError where it cannot stand in for the run's own."""
    from ..inference.degraded import matching_classes

    located = model if network.model is None else locate(network.model)
    _, lacking = matching_classes(located.spec.labels, model.spec.labels)
    if lacking:
        raise ConfigError(
            f"ladder, {network.name!r}: {located.spec.name} does not know "
            f"{', '.join(lacking[:5])}{' …' * (len(lacking) > 5)}, which {model.spec.name} finds; "
            "choose a model with the same labels or more"
        )
    own_wh = located.spec.input.size_wh
    if network.size_wh is not None and prod(network.size_wh) >= prod(own_wh):
        raise ConfigError(
            f"ladder, {network.name!r}: spares nothing, as the input of {located.spec.name} is "
            "{}x{}".format(*own_wh)
        )
    if network.size_wh is not None and located.spec.input.fit:
        _refuse_a_longer_side(config, network, own_wh)
    return located


def _refuse_a_longer_side(config: Config, network: Network, own_wh: tuple[int, int]) -> None:
    """Of an input that is cut to its frames the longer side decides, not the product of both."""
    above_wh = own_wh
    for each in _networks(config):
        if each == network:
            break
        if each.model == network.model and each.size_wh is not None:
            above_wh = each.size_wh
    if any(side > above for side, above in zip(network.size_wh or (), above_wh, strict=True)):
        raise ConfigError(
            f"ladder, {network.name!r}: may cost more than "
            "{}x{} above it, as only what a frame needs is computed; ".format(*above_wh)
            + "no side may be longer than there"
        )


def _build(config: Config, model: Model, network: Network, policy: Policy) -> BackendFactory:
    """On the pipeline thread; may fetch weights. A score that was asked for is every model's."""
    found = model if network.model is None else find_model(network.model)
    if network.size_wh is not None:
        from ..models.onnx_edit import at_input_size

        spec, weights = at_input_size(found.spec, found.weights, network.size_wh)
        found = Model(spec, weights, None)
    return backend_factory(config, found, policy)


def _able(size_wh: tuple[int, int]) -> list[str]:
    """The shelf's models, of those whose weights are here, that take this input size."""
    from ..models.onnx_edit import at_input_size

    able = []
    for model in list_models():
        if model.weights.is_file() and prod(model.spec.input.size_wh) > prod(size_wh):
            try:
                at_input_size(model.spec, model.weights, size_wh)
            except ModelError:
                continue
            able.append(model.spec.name)
    return able
