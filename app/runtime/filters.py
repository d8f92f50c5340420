"""The filters of a run, source by source, which may be changed while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..config import Config, parse_sources
from ..core.errors import ConfigError
from ..core.filters import DetectionFilter, Filters

FILTERS = ("class_scores", "classes", "min_box", "max_box", "max_detections", "agnostic_nms")


def filters_of(config: Config, source: str = "") -> Filters:
    """For the source with this name; a ``[[filter]]`` stands over the keys of the whole run.

    Raises ConfigError.
    """
    made = Filters().changed({key: getattr(config, key) for key in FILTERS}, "")
    names = [each.name for each in parse_sources(config.sources)]
    for number, row in enumerate(config.filter, 1):
        of = row.get("source", source)
        if "source" in row and of not in names:
            raise ConfigError(
                f"[[filter]] {number}: source is {of!r}; it may be {', '.join(names) or 'left out'}"
            )
        if of == source:
            table = {key: value for key, value in row.items() if key != "source"}
            made = made.changed(table, f"[[filter]] {number}: ")
    return made


def all_filters(config: Config) -> list[Filters]:
    names = [each.name for each in parse_sources(config.sources)] or [""]
    return [filters_of(config, name) for name in names]


class RunFilters:
    """See core.interfaces.LiveFilters. Makes the filters of a run, and changes them.

    ``changed`` is called after a change, so that the engine reports what they need.
    """

    def __init__(self, config: Config, changed: Callable[[], None]) -> None:
        self._config, self._changed = config, changed
        self._made: dict[str, DetectionFilter] = {}

    def make(self, name: str = "") -> DetectionFilter:
        made = self._made[name] = DetectionFilter(filters_of(self._config, name))
        return made

    def read(self, source: str = "") -> dict[str, Any]:
        return self._made[source].filters.table()

    def write(self, table: Mapping[str, Any], source: str = "") -> None:
        made = self._made[source]
        if "score" in table:
            raise ConfigError("score: write LABEL=SCORE into class_scores; of all it is the run's")
        filters = made.filters.changed(table)
        if made.labels:
            filters.check(made.labels, "the model")
        made.filters = filters
        self._changed()

    def reload(self, config: Config) -> None:
        """What this configuration says, from the next frame on; raises ConfigError."""
        names = [each.name for each in parse_sources(config.sources)] or [""]
        filters = {name: filters_of(config, name) for name in self._made if name in names}
        self._config = config
        self._made = {name: self._made[name] for name in filters}
        for name, made in self._made.items():
            made.filters = filters[name]
        self._changed()


def check_filters(config: Config, labels: Sequence[str], model: str) -> None:
    """Raise ConfigError for names that the model does not have."""
    for filters in all_filters(config):
        filters.check(labels, model)
