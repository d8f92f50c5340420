"""The analytics of a run: its stage for each source, and what a configuration may ask of it."""

from __future__ import annotations

from collections.abc import Sequence

from ..analytics.tables import one_of
from ..config import Config, parse_sources
from ..core.errors import ConfigError
from ..core.interfaces import Analyser
from ..pipeline.handoff import Policy


def make_analyser(config: Config, policy: Policy, name: str = "") -> Analyser | None:
    """For the source with this name; None where nothing is tracked. Raises ConfigError."""
    if not config.tracks:
        return None
    from ..analytics.analytics import AnalyticsOptions
    from ..analytics.stage import AnalyticsStage

    return AnalyticsStage(AnalyticsOptions.of(config, name), replay=policy is Policy.LOSSLESS)


def check_tracking(config: Config, labels: Sequence[str]) -> None:
    """Raise ConfigError for labels, zones, lines, masks and rules that do not fit model or run."""
    for label in config.events.labels:
        one_of(label, labels, "labels in [events]")
    if not config.tracks:
        return
    from ..analytics.analytics import AnalyticsOptions

    outputs = {
        **{"mqtt": config.mqtt.url, "webhook": config.webhook.url},
        "clip": config.clips.path,
    }
    for name in [each.name for each in parse_sources(config.sources)] or [""]:
        options = AnalyticsOptions.of(config, name)
        options.check(labels, actions=outputs)
        for rule in options.rules:
            for action in rule.then:
                if outputs[action] is None:
                    flag = "--clips" if action == "clip" else f"--{action}"
                    raise ConfigError(
                        f"then in [[rule]] {rule.name} names {action!r}, which this run does not "
                        f"have; add {flag}, or take it out of the rule"
                    )
