"""``rules test``: which rules would have fired in a recording."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..config import Config, EventOptions, Table
from ..core.detections import Result, printable
from ..core.errors import ConfigError
from ..core.events import Event, Fired
from ..core.frame import SourceInfo
from ..pipeline.handoff import Policy
from ..runtime.build import RunPlan, build
from ..runtime.engines import choose_model
from ..runtime.inputs import NamedInput, make_input
from ..runtime.outputs import without_outputs
from ..runtime.run import refuse_unfit


class FiredSink:
    """Keeps what fires, as rows for the report."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Nothing to open."""

    def emit(self, result: Result) -> None:
        """Keep what the frame set off."""
        self.happened(result.events, result.fired)

    def happened(self, events: Sequence[Event], fired: Sequence[Fired]) -> None:
        """See interfaces.TakesEvents."""
        for rule, then, event in fired:
            told = {key: value for key, value in event.as_json().items() if key != "source"}
            self.rows.append({"rule": rule, "then": list(then), **told})

    def close(self) -> None:
        """The rows stay."""


def run_rules_test(config: Config, *, name: str | None, as_json: bool) -> int:
    """Replay the clip with the tables of the file, do nothing, and tell what would have been done.

    ``name``: the source among several that the clip stands for. Raises KestrelError.
    """
    refuse_unfit(replace(config, max_age_ms=None), Policy.LOSSLESS)
    tried = replace(
        without_outputs(config),
        track=replace(config.track, on=None),
        events=EventOptions(labels=config.events.labels),
        max_age_ms=None,
        zone=_of_source(config.zone, name),
        line=_of_source(config.line, name),
        mask=_of_source(config.mask, name),
        rule=_of_source(config.rule, name),
    )
    if not tried.rule:
        raise ConfigError("there is no [[rule]] to test; add one to the file of --config")
    sink = FiredSink()
    run = build(
        RunPlan(
            config=tried,
            policy=Policy.LOSSLESS,
            model=choose_model(tried),
            inputs=[NamedInput("", make_input(tried, Policy.LOSSLESS))],
            sinks=[sink],
            reports=False,
            acts=False,
        )
    )
    ending = run.finish()
    if ending.error is not None:
        raise ending.error
    counts = Counter(row["rule"] for row in sink.rows)
    totals = {rule["name"]: counts[rule["name"]] for rule in tried.rule}
    if as_json:
        print(json.dumps({"fired": sink.rows, "counts": totals}, indent=1))
        return 0
    for row in sink.rows:
        print(_line(row))
    for rule, count in totals.items():
        print(f"{printable(rule)}: fired {count} time{'s' * (count != 1)}")
    return 0


def _of_source(rows: Sequence[Table], name: str | None) -> tuple[Table, ...]:
    if name is None:
        return tuple(rows)
    mine = [row for row in rows if row.get("source", name) == name]
    return tuple({k: value for k, value in row.items() if k != "source"} for row in mine)


def _line(row: Mapping[str, Any]) -> str:
    """ "  12.480 s  night  track 7  person enter door  -> webhook, clip"."""
    place = row.get("zone") or row.get("line") or ""
    what = [row.get("label", ""), row["type"], place, row.get("direction", "")]
    track = f"track {row['track_id']}" if row.get("track_id") is not None else ""
    said = " ".join(printable(str(word)) for word in what if word)
    at_s = (row.get("media_ms") or 0) / 1e3
    return f"{at_s:10.3f} s  {row['rule']}  {track}  {said}  -> {', '.join(row['then'])}"
