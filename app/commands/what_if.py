"""``replay --what-if``: which events another model, threshold, zone or limit would have told."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..analytics.what_if import OF_SOURCE, EventChange, Row, compare
from ..config import Config, EventOptions
from ..core.detections import Result
from ..core.errors import ConfigError
from ..core.events import Event, Fired
from ..core.frame import SourceInfo
from ..core.text import printable
from ..ops.flight import RecordedDropsSource, Trace, read_trace
from ..pipeline.handoff import Policy
from ..runtime.build import RunPlan, build
from ..runtime.engines import choose_model
from ..runtime.inputs import NamedInput, make_input
from ..runtime.outputs import without_outputs
from ..runtime.run import refuse_unfit
from ..sinks.console import ProgressSink

log = logging.getLogger(__name__)


class EventRows:
    """A sink that keeps events, and rules that fire, as their JSON objects."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Nothing to open."""

    def emit(self, result: Result) -> None:
        """Keep what the frame brought."""
        self.happened(result.events, result.fired)

    def happened(self, events: Sequence[Event], fired: Sequence[Fired]) -> None:
        """See interfaces.TakesEvents."""
        self.rows += [event.as_json() for event in events]
        self.rows += [{"rule": rule, **event.as_json()} for rule, _, event in fired]

    def close(self) -> None:
        """The rows stay."""


def run_what_if(config: Config, *, before: Path | None) -> int:
    """Replay with this configuration and nothing but ``--events`` written, and list the changes.

    What was before are the events of ``--trace``, or those of the file ``before`` (of --events),
    which knows of no rules. Raises KestrelError.
    """
    refuse_unfit(config, Policy.LOSSLESS)
    trace = None if config.trace is None else read_trace(Path(config.trace))
    olds = _read_events(before) if before is not None else _events_of(trace)
    tried = replace(
        without_outputs(config),
        track=replace(config.track, on=True),
        events=EventOptions(path=config.events.path, labels=config.events.labels),
        max_age_ms=None,  # decided by the source
        zone=config.zone,
        line=config.line,
        mask=config.mask,
        rule=config.rule,
    )
    source, model = make_input(tried, Policy.LOSSLESS), choose_model(tried)
    decided = None
    if trace is not None:
        decided = RecordedDropsSource(source, trace, max_age_ms=config.max_age_ms)
    sink = EventRows()
    run = build(
        RunPlan(
            config=tried,
            policy=Policy.LOSSLESS,
            model=model,
            inputs=[NamedInput("", decided or source)],
            sinks=[ProgressSink(), sink],
            trace=decided,
            reports=False,
            acts=False,
        )
    )
    ending = run.finish()
    if ending.error is not None:
        raise ending.error
    if ending.stopped:
        log.warning("stopped before the end: later events are told as gone")
    news = sink.rows if before is None else [row for row in sink.rows if "rule" not in row]
    changes, same = compare(olds, news)
    for change in changes:
        print(line(change))
    counts = {kind: sum(change.kind == kind for change in changes) for kind in _KINDS}
    print(f"{', '.join(f'{count} {kind}' for kind, count in counts.items())}; {same} as before")
    return 0


_KINDS = ("new", "gone", "different")


def line(change: EventChange) -> str:
    """ "gone       2026-11-29T22:01:03.120Z  enter door  person  track 4"."""
    row = change.row
    place = row.get("zone") or row.get("line") or ""
    what = [row.get("type"), place, row.get("direction"), row.get("label")]
    if "rule" in row:
        what = ["rule", row["rule"], "by", *what]
    said = " ".join(printable(str(word)) for word in what if word)
    track = f"  track {row['track_id']}" if row.get("track_id") is not None else ""
    how = f": {change.how}" if change.how else ""
    return f"{change.kind:9}  {_when(row)}  {said}{track}{how}"


def _when(row: Row) -> str:
    """The time of day where it is known, else that in the recording."""
    time = str(row.get("time", ""))
    if time.startswith("1970") and row.get("media_ms") is not None:
        return f"{row['media_ms'] / 1e3:10.3f} s"
    return printable(time)


def _events_of(trace: Trace | None) -> list[Row]:
    if trace is None:
        raise ConfigError(
            "--what-if compares with the events of a run; add its --trace FILE, or --before FILE "
            "with the --events of an earlier replay"
        )
    rows = [event[3] for event in trace.events if event[0] in ("event", "fired")]
    if not trace.header.get("tracks") and all(row.get("type") in OF_SOURCE for row in rows):
        raise ConfigError(
            "the trace has no events, as nothing was tracked in that run; add --before FILE with "
            "the --events of a replay"
        )
    return rows


def _read_events(file: Path) -> list[Row]:
    try:
        rows: list[Any] = [json.loads(each) for each in file.read_text("utf-8").splitlines()]
    except (OSError, ValueError) as fault:
        raise ConfigError(f"cannot read --before {file}: {fault}") from fault
    if not all(isinstance(row, Mapping) and isinstance(row.get("type"), str) for row in rows):
        raise ConfigError(f"--before {file} has lines that are no events; name a file of --events")
    return rows
