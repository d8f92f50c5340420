"""Sources that come and go while a run goes on, and what each is checked by and made of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from ..config import Config, parse_sources
from ..core.errors import ConfigError, KestrelError
from ..core.stats import OutputMeter
from ..models.manifest import ModelSpec
from ..ops.flight import FlightRecorder
from ..pipeline.capture import StreamSpec
from ..pipeline.handoff import Policy
from ..pipeline.pipeline import Pipeline
from .clashes import is_folder
from .filters import check_filters
from .inputs import NamedInput, check_privacy, make_inputs, make_substream
from .outputs import Outputs
from .service import make_recorder
from .tracking import check_tracking

log = logging.getLogger(__name__)

CLOSE_S = 15.0  # for a source and its outputs, of which each has its own limit


def checked(config: Config, spec: ModelSpec, *, acts: bool = True) -> None:
    """Raise ConfigError for tables that this model, or this run, does not fit; see tracking."""
    check_tracking(config, spec.labels, acts=acts)
    check_privacy(config, spec.labels)
    check_filters(config, spec.labels, spec.name)


class RunSources(AbstractContextManager["RunSources"]):
    """Exchanges sources of a run that goes on, each with all its outputs.

    A source is also made anew where other parts of it are private: so no picture of before is left
    in any output, and packets are not copied where something is hidden. ``make``: what is made of
    a source, its outputs and its flight recorder. Left after the run.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        outputs: Outputs,
        spec: ModelSpec,
        make: Callable[[NamedInput, Config, FlightRecorder], StreamSpec],
    ) -> None:
        self._pipeline, self._outputs, self._spec = pipeline, outputs, spec
        self._make = make
        self._around: dict[str, ExitStack] = {}  # of sources that were added

    def __exit__(self, *_: object) -> None:
        for each in self._around.values():
            each.close()

    def refused(self, old: Config, new: Config) -> set[str]:
        """The keys of which a change needs a restart."""
        refused = set[str]()
        if not (old.sources and new.sources):
            refused.add("sources")
        if new.record.path is not None and not is_folder(new.record.path):
            refused |= {"privacy", "blur_faces"}  # one file holds one recording
        return refused

    def planned(self, old: Config, new: Config) -> Callable[[], None]:
        """What makes the sources those of ``new``; raises ConfigError, and nothing has changed."""
        before, after = _made_of(old), _made_of(new)
        gone = [name for name in before if after.get(name) != before[name]]
        come = [name for name in after if before.get(name) != after[name]]
        if not (gone or come):
            return lambda: None
        checked(new, self._spec)
        inputs = make_inputs(new, Policy.LATEST, only=come)
        for name in come:
            make_substream(new, Policy.LATEST, name, lambda: OutputMeter("record-source"))

        def exchange() -> None:
            with self._pipeline.held():
                streams = {name: self._pipeline.stream(name) for name in gone}
                for stream in streams.values():
                    self._pipeline.remove(stream)
                for name, stream in streams.items():
                    if not self._pipeline.removed(stream, CLOSE_S):
                        raise ConfigError(f"source {name} does not close; restart the run")
                    self._drop(name, returns=name in come)
                faults = [fault for made in inputs if (fault := self._add(made, new))]
            if faults:
                raise ConfigError("; ".join(faults))

        return exchange

    def _add(self, made: NamedInput, config: Config) -> str | None:
        """Why it does not run, where it does not."""
        name = made.name
        recorder = make_recorder(config, self._spec.name, name)
        recorder.watch(lambda: self._pipeline.state)
        self._around[name] = around = ExitStack()
        around.enter_context(recorder)
        try:
            self._outputs.add(name, config, made.packets)
            self._pipeline.add(self._make(made, config, recorder))
        except KestrelError as fault:
            log.error("source %s: %s", name, fault)
            self._drop(name)
            return f"source {name}: {fault}"
        return None

    def _drop(self, name: str, *, returns: bool = False) -> None:
        self._outputs.drop(name, returns=returns)
        if around := self._around.pop(name, None):
            around.close()


def _made_of(config: Config) -> Mapping[str, Any]:
    """By name, all that a source and its outputs are made of and that may change."""
    named = parse_sources(config.sources)
    uris: dict[str, str | None] = {each.name: each.uri for each in named} or {"": config.source}
    return {
        name: (
            uri,
            config.blur_faces,
            [row for row in config.privacy if row.get("source", name) == name],
        )
        for name, uri in uris.items()
    }
