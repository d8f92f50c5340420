"""Kestrel: a replay as the application runs it, JSON lines to a file."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from app.config import Config, Engine, Precision
from app.core.detections import Result
from app.core.errors import ConfigError, DeviceError
from app.core.interfaces import Sink
from app.models.manifest import Model
from app.pipeline.handoff import Policy
from app.pipeline.pipeline import Pipeline
from app.runtime.engines import backend_factory
from app.runtime.inputs import make_input
from app.sinks.json_lines import JsonLinesSink
from scripts.bench_peers.contract import Box, Clock, NotHere, Run


class _Ticker(Clock, Sink):
    """The clock as the last sink."""

    def emit(self, result: Result) -> None:
        """After the line has been written."""
        self.tick()


def run(clip: str, model: Model, *, engine: Engine, precision: Precision = "auto") -> Run:
    """As with ``--engine`` and ``--precision``."""
    config = Config(source=clip, engine=engine, precision=precision, headless=True)
    ticker = _Ticker()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "lines.jsonl"
        try:
            pipeline = Pipeline(
                make_input(config, Policy.LOSSLESS),
                backend_factory(config, model, Policy.LOSSLESS),
                [JsonLinesSink(str(out)), ticker],
                labels=model.spec.labels,
                policy=Policy.LOSSLESS,
            )
            pipeline.start()
            while not pipeline.wait():
                pass
            pipeline.join()
        except (ConfigError, DeviceError) as fault:
            raise NotHere(str(fault)) from fault
        lines = [json.loads(line) for line in out.read_text().splitlines()]
    frames = [
        [Box(found["class_id"], found["score"], *found["box"]) for found in line["detections"]]
        for line in lines
    ]
    return ticker.run(frames, engine=pipeline.backend_description)
