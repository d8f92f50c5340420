"""Zones and lines of a run that may be changed while it runs: by the window, by the page."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Config, Table, parse_sources
from ..core.errors import ConfigError
from ..core.interfaces import Analyser
from ..pipeline.handoff import Policy
from .tracking import make_analyser

if TYPE_CHECKING:
    from ..analytics.stage import AnalyticsStage, Clock

KINDS = ("zone", "line")
SHAPES = (*KINDS, "mask", "rule")


class RunShapes:
    """See core.interfaces.LiveShapes. Makes the analysers of a run, and changes them.

    ``always``: there is an analyser even where the configuration asks for no events.
    """

    def __init__(
        self, config: Config, policy: Policy, *, file: Path | None = None, always: bool = False
    ) -> None:
        self._config, self._policy, self._file, self._always = config, policy, file, always
        self._stages: dict[str, AnalyticsStage] = {}
        self._lock = threading.Lock()

    @property
    def file(self) -> Path | None:
        return self._file

    def analyser(self, name: str = "", clock: Clock | None = None) -> Analyser | None:
        """Of the source with this name; see ``make_analyser``."""
        stage = make_analyser(self._config, self._policy, name, always=self._always, clock=clock)
        if stage is not None:
            self._stages[name] = stage
        return stage

    def rows(self, kind: str) -> Sequence[Table]:
        rows: Sequence[Table] = getattr(self._config, kind)
        return rows

    def planned(self, config: Config, keys: Collection[str]) -> Callable[[], None]:
        """What lets ``keys``, of ``SHAPES`` and sources, be as in ``config`` from now on.

        Raises ConfigError for what is about sources that this run does not have.
        """
        taken = {key: getattr(config, key) for key in (*SHAPES, "sources") if key in keys}
        if not taken:
            return lambda: None
        from ..analytics.analytics import AnalyticsOptions

        made = replace(self._config, **taken)
        names = [each.name for each in parse_sources(made.sources)]
        kept = [name for name in self._stages if "sources" not in taken or name in names]
        options = {name: AnalyticsOptions.of(made, name) for name in kept}

        def reshape() -> None:
            with self._lock:
                self._config = replace(self._config, **taken)
                self._stages = {name: self._stages[name] for name in kept}
                for name, stage in self._stages.items():
                    stage.reshape(options[name])

        return reshape

    def read(self, source: str = "") -> dict[str, list[dict[str, Any]]]:
        rows = {kind: getattr(self._config, kind) for kind in KINDS}
        return {
            kind: [
                {key: value for key, value in row.items() if key != "source"}
                for row in rows[kind]
                if row.get("source", source) == source
            ]
            for kind in KINDS
        }

    def write(self, tables: Mapping[str, Any], source: str = "") -> None:
        """See core.interfaces. A row that several sources share changes for all of them."""
        from ..analytics.analytics import AnalyticsOptions

        if unknown := sorted(tables.keys() - set(KINDS)):
            raise ConfigError(f"{unknown[0]!r} is not known here; send {' and '.join(KINDS)}")
        AnalyticsOptions.from_tables(tables)  # before anything is made of it
        with self._lock:
            changed: dict[str, Any] = {
                kind: self._merged(kind, tables.get(kind, []), source) for kind in KINDS
            }
            config = replace(self._config, **changed)
            options = {name: AnalyticsOptions.of(config, name) for name in self._stages}
            for name, stage in self._stages.items():
                stage.check(options[name])
            for name, stage in self._stages.items():
                stage.reshape(options[name])
            self._config = config

    def save(self, file: Path | None = None) -> Path:
        from ..session.config_file import save_tables

        file = file or self._file
        if file is None:
            raise ConfigError(
                "this run has no file to keep zones in, they last until its end; start it with "
                "--config FILE"
            )
        save_tables(file, {kind: getattr(self._config, kind) for kind in KINDS})
        return file

    def _merged(self, kind: str, rows: list[Table], source: str) -> tuple[Table, ...]:
        """The rows of all sources with ``rows`` for those of one, each still of whom it was."""
        before: tuple[Table, ...] = getattr(self._config, kind)
        mine = [row for row in before if row.get("source", source) == source]
        shared = {row["name"] for row in mine if "source" not in row}
        several = len(self._stages) > 1
        made = [
            {**row, "source": source} if several and row["name"] not in shared else dict(row)
            for row in rows
        ]
        return (*(row for row in before if row not in mine), *made)
