"""The analytics of a run: its stage for each source, and what a configuration may ask of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..analytics.tables import one_of
from ..config import Config, parse_sources
from ..core.detections import Result
from ..core.errors import ConfigError
from ..core.frame import SourceInfo
from ..core.interfaces import Analyser
from ..ops.flight import RecordedDropsSource
from ..pipeline.handoff import Policy

if TYPE_CHECKING:
    from ..analytics.stage import AnalyticsStage, Clock

ACTIONS = ("mqtt", "webhook", "clip", "notify", "snapshot")  # that ``then`` may name


def make_analyser(
    config: Config,
    policy: Policy,
    name: str = "",
    *,
    always: bool = False,
    clock: Clock | None = None,
) -> AnalyticsStage | None:
    """For the source with this name; None where nobody asks for events, unless ``always``.

    ``clock``: see ``AnalyticsStage``. Raises ConfigError.
    """
    if not (config.tells_events or always):
        return None
    from ..analytics.analytics import AnalyticsOptions
    from ..analytics.events import FileNames, Which
    from ..analytics.stage import AnalyticsStage

    ruled = ruled_actions(config)

    def named(action: str, folder: str | None) -> Which:
        return "none" if folder is None else "ruled" if action in ruled else "all"

    return AnalyticsStage(
        AnalyticsOptions.of(config, name),
        replay=policy is Policy.LOSSLESS,
        tracks=config.tracks,
        clock=clock,
        names=FileNames(
            snapshots=named("snapshot", config.events.snapshots),
            clips=named("clip", config.clips.path),
            after_s=config.clips.after_s,
            max_s=config.clips.max_s,
            folder=f"{name}/" if name else "",
        ),
    )


def ruled_actions(config: Config) -> set[str]:
    """The outputs that rules name, and which get nothing but what these send."""
    return {action for rule in config.rule for action in rule.get("then", ())}


def shape_names(config: Config, source: str) -> tuple[list[str], list[str]]:
    """The zones and the lines of a source."""

    def of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
        return [str(row.get("name")) for row in rows if row.get("source", source) == source]

    return of(config.zone), of(config.line)


def counted_labels(config: Config) -> list[str]:
    """Those that events, zones, lines and rules name; people where nothing is named."""
    rows = (*config.zone, *config.line, *config.rule)
    named = [*config.events.labels, *(label for row in rows for label in row.get("labels", ()))]
    return list(dict.fromkeys(named)) or ["person"]


def check_tracking(config: Config, labels: Sequence[str], *, acts: bool = True) -> None:
    """Raise ConfigError for zones, lines, masks and rules that this model or run does not fit.

    ``acts``: what rules call for is done, so that the outputs for it must be there.
    """
    if acts and config.notify.url is not None and "notify" not in ruled_actions(config):
        raise ConfigError(
            '--notify sends what rules tell; add a [[rule]] with then = ["notify"], or leave it out'
        )
    for label in config.events.labels:
        one_of(label, labels, "labels in [events]")
    if not config.tracks:
        return
    from ..analytics.analytics import AnalyticsOptions

    outputs = {
        "mqtt": (config.mqtt.url, "--mqtt"),
        "webhook": (config.webhook.url, "--webhook"),
        "clip": (config.clips.path, "--clips"),
        "notify": (config.notify.url, "--notify"),
        "snapshot": (config.events.snapshots, "--snapshots"),
    }
    for name in [each.name for each in parse_sources(config.sources)] or [""]:
        options = AnalyticsOptions.of(config, name)
        options.check(labels, actions=ACTIONS)
        for rule in options.rules if acts else ():
            for action in rule.then:
                value, flag = outputs[action]
                if value is None:
                    raise ConfigError(
                        f"then in [[rule]] {rule.name} names {action!r}, which this run does not "
                        f"have; add {flag}, or take it out of the rule"
                    )


class RecordedTimes:
    """An analyser (see core.interfaces) that sees the frames of a trace as its run saw them."""

    def __init__(self, analyser: Analyser, source: RecordedDropsSource) -> None:
        self._analyser, self._source = analyser, source
        self.follow, self.end = analyser.follow, analyser.end

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self._analyser.open(self._source.as_recorded(source), labels)

    def update(self, result: Result) -> Result:
        frame = result.frame
        seen = self._analyser.update(replace(result, frame=self._source.at_its_time(frame)))
        return replace(seen, frame=frame)
