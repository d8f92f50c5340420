"""The files of a clip: JSON lines, events and Parquet, the same bytes wherever they are made.

Tracks and events are a function of detections and times (``analytics``), so a clip that was cut
is tracked once, over all of its parts.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

from ..config import Config
from ..core.detections import Result, label_of
from ..core.events import Event, Fired
from ..core.filters import BaseThresholds
from ..core.frame import SourceInfo
from ..core.interfaces import Sink
from ..core.states import SourceStatus
from ..core.stats import Meter
from ..models.manifest import ModelSpec
from ..pipeline.handoff import Policy
from ..pipeline.sink_group import SinkGroup
from ..runtime.engines import reported, thresholds
from ..runtime.filters import RunFilters
from ..runtime.outputs import without_outputs
from ..runtime.tracking import make_analyser
from ..sinks.json_lines import ResultEncoder, quoted
from .found import Found, joined

log = logging.getLogger(__name__)

LINES, EVENTS, PARQUET = "detections.jsonl", "events.jsonl", "detections.parquet"
GROUP = 65_536  # rows of Parquet that are written, and read, at a time


def file_names() -> tuple[str, ...]:
    """Of the files of a clip; without pyarrow there is no Parquet."""
    parquet = importlib.util.find_spec("pyarrow") is not None
    return (LINES, EVENTS, PARQUET) if parquet else (LINES, EVENTS)


def archive_config(config: Config) -> Config:
    """What of a configuration an archive uses: one network a worker, tracks, no other outputs."""
    on = config.track.on is not False
    return replace(
        without_outputs(config),
        source=None,
        sources=(),
        devices=(),
        max_age_ms=None,
        workers=1,
        threads=config.threads or 1,
        track=replace(config.track, on=on),
        events=type(config.events)(labels=config.events.labels),
        zone=config.zone,
        line=config.line,
        mask=config.mask,
    )


def write_results(
    config: Config, spec: ModelSpec, name: str, parts: Sequence[Found], out: Mapping[str, BinaryIO]
) -> int:
    """Filter, track and write the frames of the clip ``name``; returns how many there are.

    ``out``: an open file for each of ``file_names``. In the order of a replay: filters, analytics,
    outputs.
    """
    info = replace(parts[0].info, name=name)
    filters = RunFilters(config, lambda: None).make()
    score, iou = thresholds(config, spec)
    filters.base = BaseThresholds(score, iou, reported(config, spec)["score"])
    sinks: list[Sink] = [_ClipLines(out[LINES], out[EVENTS])]
    if PARQUET in out:
        sinks.append(_ClipParquet(out[PARQUET]))
    group = SinkGroup(
        sinks,
        Meter(),
        info_of=lambda index: info,
        analyser=make_analyser(config, Policy.LOSSLESS),
        filter=filters,
        status=lambda: SourceStatus("ended"),
    )
    count = 0
    faults: list[BaseException] = []
    try:
        group.open(info, spec.labels)
        for frame, found in joined(parts):
            group.emit(Result(frame, found, age_ns=0))
            count += 1
    finally:
        group.close(faults.append)
    for fault in faults:
        raise fault
    return count


class _ClipLines:
    """As --json and --events write them, but for times: those in the recording, since 1970."""

    def __init__(self, lines: BinaryIO, events: BinaryIO) -> None:
        self._lines, self._events = lines, events
        self._line = ResultEncoder(wall_offset_ns=lambda: 0)

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self._line.open(source, labels)

    def emit(self, result: Result) -> None:
        self._lines.write(f"{self._line(result)}\n".encode())
        self.happened(result.events, result.fired)

    def happened(self, events: Sequence[Event], fired: Sequence[Fired]) -> None:
        self._events.writelines(f"{quoted(each.as_json())}\n".encode() for each in events)

    def close(self) -> None:
        """The files are whoever's opened them."""


class _ClipParquet:
    """A row a detection. All that a writer could choose by itself is fixed here."""

    def __init__(self, out: BinaryIO) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._pa = pa
        self._schema = pa.schema(
            [
                *(("clip", pa.string()), ("frame", pa.int64()), ("media_ms", pa.float64())),
                *(("label", pa.string()), ("class_id", pa.int32()), ("score", pa.float32())),
                *((side, pa.float32()) for side in ("x0", "y0", "x1", "y1")),
                *(("track_id", pa.int64()), ("zones", pa.list_(pa.string()))),
            ]
        )
        self._writer = pq.ParquetWriter(
            *(out, self._schema),
            version="2.6",
            compression="zstd",
            compression_level=3,
            use_dictionary=["clip", "label"],
            write_statistics=True,
            store_schema=False,
        )
        self._rows: list[tuple[Any, ...]] = []

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self._name, self._labels = source.name, labels

    def emit(self, result: Result) -> None:
        found, frame = result.detections, result.frame
        tracks = [-1] * len(found) if found.track_ids is None else found.track_ids.tolist()
        zones = result.zones or [()] * len(found)
        media_ms = round((frame.media_ns or 0) / 1e6, 3)
        self._rows += (
            (
                *(self._name, frame.index, media_ms, label_of(self._labels, class_id), class_id),
                *(score, *box, track_id if track_id >= 0 else None, list(within)),
            )
            for class_id, score, box, track_id, within in zip(
                found.class_ids.tolist(),
                found.scores.tolist(),
                found.xyxy.tolist(),
                tracks,
                zones,
                strict=True,
            )
        )
        while len(self._rows) >= GROUP:
            self._write(self._rows[:GROUP])
            del self._rows[:GROUP]

    def close(self) -> None:
        self._write(self._rows)
        self._writer.close()

    def _write(self, rows: Sequence[tuple[Any, ...]]) -> None:
        columns = zip(*rows, strict=True) if rows else [()] * len(self._schema)
        arrays = [
            self._pa.array(list(column), field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        self._writer.write_table(self._pa.Table.from_arrays(arrays, schema=self._schema), GROUP)
